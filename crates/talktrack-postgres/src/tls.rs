//! TLS connections to the database, with the certificate checks that libpq's `sslmode` asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ALL_VERSIONS, SupportedProtocolVersion, version};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The protocol's name in the handshake, which a server demands if TLS is not negotiated first.
const ALPN: &[u8] = b"postgresql";

/// How a connection is encrypted, and what is verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    pub(super) trust: Trust,
    pub(super) roots: Roots,
    pub(super) versions: Versions,
    /// True if the handshake names the host.
    pub(super) has_sni: bool,
    /// True if the connection begins with the handshake.
    pub(super) is_direct: bool,
}

/// The root certificates to trust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Roots {
    #[default]
    System,
    File(PathBuf),
}

/// The versions of TLS to speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Versions {
    #[default]
    All,
    UpTo12,
    From13,
}

impl Versions {
    fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::All => ALL_VERSIONS.to_vec(),
            Self::UpTo12 => vec![&version::TLS12],
            Self::From13 => vec![&version::TLS13],
        }
    }
}

/// What the server's certificate must prove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: the connection is encrypted against listeners only, as with `sslmode=require`.
    #[default]
    Anyone,
    /// A chain to a trusted root (`verify-ca`).
    Chain,
    /// A chain to a trusted root, and the server's name (`verify-full`).
    ChainAndName,
}

/// Creates TLS connections. Reads the root certificates.
///
/// # Errors
/// Says which certificates cannot be read.
pub(super) fn build_connector(options: &TlsOptions) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&options.versions.supported())
        .map_err(|error| error.to_string())?;
    let lenient = |chain| Arc::new(LenientVerifier { provider: Arc::clone(&provider), chain });
    let mut config = match options.trust {
        Trust::ChainAndName => builder.with_root_certificates(load_roots(&options.roots)?),
        Trust::Chain => {
            let roots = Arc::new(load_roots(&options.roots)?);
            let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            let chain = chain.map_err(|error| error.to_string())?;
            builder.dangerous().with_custom_certificate_verifier(lenient(Some(chain)))
        }
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(lenient(None)),
    }
    .with_no_client_auth();
    config.enable_sni = options.has_sni;
    if options.is_direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

fn load_roots(roots_of: &Roots) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match roots_of {
        Roots::File(path) => load_certificates(path)?,
        Roots::System => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err("no root certificates to trust; name a file with sslrootcert=PATH".into());
    }
    Ok(roots)
}

fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates
        .map_err(|error| format!("cannot read the certificates in sslrootcert {}: {error}", path.display()))
}

/// Accepts a certificate for any server name: with a chain to a trusted root, or without any check, because
/// `require` asks for encryption but does not name the server to trust.
#[derive(Debug)]
struct LenientVerifier {
    provider: Arc<CryptoProvider>,
    /// Verifies the chain, if that is required.
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for LenientVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
