//! TLS towards clients: our certificate, and whose of theirs we believe.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

use crate::certificate;
use crate::run::RunError;

/// Certificates for clients, PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// The certificate and those above it.
    pub cert: PathBuf,
    /// Its key, mode 0600.
    pub key: PathBuf,
    /// Clients must speak TLS.
    #[serde(default)]
    pub required: bool,
    /// Who signs the certificates of clients; without it they are not asked for any.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether they must show one.
    #[serde(default)]
    pub verify: Verify,
}

/// Whether clients must show a certificate. One that is shown must be good, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// They may.
    #[default]
    Optional,
    /// They must, so they must speak TLS as well.
    Required,
}

impl ClientTls {
    /// What can't be.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        match (self.verify, &self.client_ca) {
            (Verify::Required, None) => {
                Err("tls.verify is \"required\" and tls.client_ca is missing".to_string())
            }
            (Verify::Required, Some(_)) | (Verify::Optional, _) => Ok(()),
        }
    }

    /// Whether who speaks no TLS is sent away.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required || self.verify == Verify::Required
    }
}

/// TLS towards clients, ready for use.
#[derive(Clone)]
pub struct FrontTls {
    /// Takes connections.
    pub acceptor: TlsAcceptor,
    /// What SCRAM-SHA-256-PLUS binds to; `None` if our certificate can't be bound to.
    pub end_point: Option<Arc<[u8]>>,
}

impl FrontTls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(tls: &ClientTls) -> Result<FrontTls, RunError> {
        let certs = chain(&tls.cert)?;
        let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| wrong(&tls.key, &e))?;
        let end_point = certs.first().and_then(certificate::end_point).map(Arc::from);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions();
        let builder = builder.map_err(|e| wrong(&tls.cert, &e))?;
        let builder = match &tls.client_ca {
            Some(ca) => builder.with_client_cert_verifier(verifier(ca, tls.verify, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(certs, key).map_err(|e| wrong(&tls.cert, &e))?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(FrontTls { acceptor: TlsAcceptor::from(Arc::new(config)), end_point })
    }
}

fn verifier(
    ca: &Path,
    verify: Verify,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, RunError> {
    let mut roots = RootCertStore::empty();
    for root in chain(ca)? {
        roots.add(root).map_err(|e| wrong(ca, &e))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match verify {
        Verify::Optional => builder.allow_unauthenticated(),
        Verify::Required => builder,
    };
    builder.build().map_err(|e| wrong(ca, &e))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, RunError> {
    let certs = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certs = certs.map_err(|e| wrong(path, &e))?;
    if certs.is_empty() { Err(wrong(path, &"it holds no certificate")) } else { Ok(certs) }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> RunError {
    RunError::File(format!("'{}': {why}", path.display()))
}
