//! Certificates that are read anew while clients are there.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cluster::NodeId;
use peers::certs::Authority;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::stage::{Stage, refused, told};

/// Takes every certificate and keeps it.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<u8>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().unwrap() = cert.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection in TLS, and the certificate that the proxy shows now.
pub async fn dial(port: u16) -> (TlsStream<TcpStream>, Vec<u8>) {
    let seen = Arc::new(Seen::default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(seen.clone()).with_no_client_auth();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(&wire::start::ask::SSL_REQUEST_PACKET).await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'S');
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tls.connect("localhost".try_into().unwrap(), socket).await.unwrap();
    let cert = seen.0.lock().unwrap().clone();
    assert!(!cert.is_empty());
    (stream, cert)
}

async fn shown(port: u16) -> Vec<u8> {
    dial(port).await.1
}

fn issue(dir: &Path) {
    let authority = Authority::create("shop").unwrap();
    authority.issue_to_proxy(&NodeId::new("proxy-1").unwrap()).unwrap().save_as(dir, "proxy").unwrap();
}

#[test]
fn certificates_are_read_anew_or_not_at_all() {
    let lines = "tls.cert = \"DIR/proxy.crt\"\ntls.key = \"DIR/proxy.key\"\nadmin.users = [\"boss\"]\n";
    told(async {
        let stage = Stage::open(lines, issue).await;
        let boss = stage.console("boss").await;
        let first = shown(stage.port).await;
        boss.simple_query("reload").await.unwrap();
        assert_eq!(shown(stage.port).await, first);
        issue(stage.postgres.dir.path());
        assert_eq!(shown(stage.port).await, first);
        boss.simple_query("reload").await.unwrap();
        let second = shown(stage.port).await;
        assert_ne!(second, first);
        // A key that is not the certificate's.
        let key = stage.file("proxy.key");
        let good = fs::read(&key).unwrap();
        issue(stage.postgres.dir.path());
        fs::write(&key, good).unwrap();
        assert_eq!(refused(&boss, "reload").await.0, "F0000");
        assert_eq!(shown(stage.port).await, second);
        boss.simple_query("show clients").await.unwrap();
    });
}
