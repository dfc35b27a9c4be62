//! Who we are and whom we believe: certificates turned into TLS settings.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cluster::NodeId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::certs::{NODE_SUFFIX, PROXY_SUFFIX};
use crate::error::PeersError;

/// Whose a certificate is, and so what its bearer may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A node: it is believed as an agent.
    Node(NodeId),
    /// A proxy: it may subscribe, and no more.
    Proxy(NodeId),
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bearer::Node(name) => write!(f, "node '{name}'"),
            Bearer::Proxy(name) => write!(f, "proxy '{name}'"),
        }
    }
}

/// Our certificate, and the authority we believe.
#[derive(Clone)]
pub struct Identity {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    bearer: Bearer,
}

impl Identity {
    /// Reads certificates and key.
    ///
    /// # Errors
    /// `File` or `Material`, in one sentence.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Identity, PeersError> {
        let mut roots = RootCertStore::empty();
        for root in chain(ca)? {
            roots.add(root).map_err(material)?;
        }
        let own = chain(certificate)?;
        let bearer = own.first().and_then(bearer_of).ok_or_else(|| PeersError::File {
            path: certificate.to_owned(),
            why: "it names no node and no proxy of a Tanist cluster".into(),
        })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(material)?
            .with_client_cert_verifier(verifier.build().map_err(material)?)
            .with_single_cert(own.clone(), read_key(key)?)
            .map_err(material)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(material)?
            .with_root_certificates(roots)
            .with_client_auth_cert(own, read_key(key)?)
            .map_err(material)?;
        Ok(Identity { server: Arc::new(server), client: Arc::new(client), bearer })
    }

    /// For TLS to the cluster's servers, which have certificates of the same authority.
    #[must_use]
    pub fn connector(&self) -> tokio_rustls::TlsConnector {
        tokio_rustls::TlsConnector::from(self.client.clone())
    }

    /// Whom our certificate names.
    #[must_use]
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }
}

fn material(why: impl ToString) -> PeersError {
    PeersError::Material(why.to_string())
}

fn file(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> PeersError {
    let path = path.to_owned();
    move |e| PeersError::File { path, why: e.to_string() }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PeersError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(file(path))?.collect();
    let all = all.map_err(file(path))?;
    if all.is_empty() {
        return Err(PeersError::File { path: path.to_owned(), why: "it holds no certificate".into() });
    }
    Ok(all)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PeersError> {
    PrivateKeyDer::from_pem_file(path).map_err(file(path))
}

/// Whom a certificate names. One that named both would be a proxy's: that may less.
pub(crate) fn bearer_of(certificate: &CertificateDer<'_>) -> Option<Bearer> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let named = |suffix: &str| {
        names.value.general_names.iter().find_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(dns) => NodeId::new(dns.strip_suffix(suffix)?).ok(),
            _ => None,
        })
    };
    named(PROXY_SUFFIX).map(Bearer::Proxy).or_else(|| named(NODE_SUFFIX).map(Bearer::Node))
}

/// The node that a certificate names; none where it is a proxy's.
pub(crate) fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    match bearer_of(certificate)? {
        Bearer::Node(node) => Some(node),
        Bearer::Proxy(_) => None,
    }
}
