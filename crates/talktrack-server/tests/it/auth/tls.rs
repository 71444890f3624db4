//! Outgoing TLS: a server that publishes keys, and a server that receives a replayed conversation, must prove their
//! identity.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Publisher, SigningKey, admits, knock, new_key, serve_with};
use crate::harness::Home;

/// A self-signed certificate for this machine, with an acceptor that presents it.
struct Certificate {
    pem: String,
    acceptor: TlsAcceptor,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self { pem: made.cert.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

#[tokio::test]
async fn published_keys_count_only_from_whoever_proves_to_be_the_project() {
    let home = Home::new();
    let certificate = Certificate::new();
    let stranger = Certificate::new();
    let trusted = home.write("own.pem", &certificate.pem);
    let other = home.write("other.pem", &stranger.pem);
    let key = SigningKey::ecdsa("key");
    let project = Publisher::over_tls(&[&key], certificate.acceptor).await;
    let server = serve_with(&home, &[("SUPABASE_URL", &project.url()), ("SSL_CERT_FILE", &trusted)]).await;
    admits(&server, &project.token(&key)).await;
    server.stop().await;
    let server = serve_with(&home, &[("SUPABASE_URL", &project.url()), ("SSL_CERT_FILE", &other)]).await;
    knock(&server, "", &project.token(&key)).await.problem(503, "internal");
    server.logged("invalid peer certificate").await;
}

#[tokio::test]
async fn the_client_speaks_tls_to_whoever_proves_their_name() {
    let home = Home::new();
    let certificate = Certificate::new();
    let trusted = home.write("own.pem", &certificate.pem);
    let key = new_key(&home, "agent", "write").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}", listener.local_addr().unwrap().port());
    // A TLS proxy in front of the server, as in production.
    let address = server.address;
    let proxy = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = certificate.acceptor.clone();
            tokio::spawn(async move {
                let mut outside = acceptor.accept(stream).await?;
                let mut inside = TcpStream::connect(address).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    let line = r#"{"type":"session.start","session_id":"00000000-0000-4000-8000-000000000001","user_id":"00000000-0000-4000-8000-000000000002"}"#;
    let said = r#"{"type":"message","session_id":"00000000-0000-4000-8000-000000000001","role":"user","content":"hidden"}"#;
    let file = home.write("talk.jsonl", format!("{line}\n{said}\n"));
    let run = async |roots: &str| {
        let mut command = home.command(&["client", "--url", &url, "--file", &file, "--token", &key.key]);
        command.env("SSL_CERT_FILE", roots);
        crate::harness::Output::of(command).await
    };
    run(&trusted).await.succeeded();
    let other = home.write("other.pem", Certificate::new().pem);
    let refused = run(&other).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("cannot connect to wss://"), "{refused:?}");
    proxy.abort();
}
