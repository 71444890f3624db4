//! TLS to other servers, which must prove their name to a root certificate that this system trusts.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// Why there is no TLS configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// This system trusts no root certificate.
    #[error("no root certificates to trust: install ca-certificates, or name a file with SSL_CERT_FILE")]
    NoRootCertificates,
    /// The crypto provider does not support the versions of TLS that are safe.
    #[error("{0}")]
    Unsupported(String),
}

/// Returns the TLS configuration. The root certificates are read again at each call, from `SSL_CERT_FILE` or the
/// system.
///
/// This is for talktrack's own programs, and not covered by semver: its type belongs to `rustls`.
///
/// # Errors
/// Says what is missing.
#[doc(hidden)]
pub fn client_config() -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoRootCertificates);
    }
    config_with_roots(roots)
}

/// Makes a TLS configuration without root certificates, for a client that only uses plain HTTP.
pub(crate) fn no_tls() -> Result<Arc<ClientConfig>, TlsError> {
    config_with_roots(RootCertStore::empty())
}

fn config_with_roots(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Unsupported(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
