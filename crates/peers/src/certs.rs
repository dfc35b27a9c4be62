//! The cluster's own certificate authority and the certificates it gives out.
//!
//! A node certificate carries two names: `NODE.node.tanist`, which says who it
//! is, and `peer.tanist`, which every node has, so that a connection can be made
//! to an address before it is known who is there. A proxy's carries one name,
//! `PROXY.proxy.tanist`, and is good for a client only: no agent takes it for an
//! agent, and nobody who connects finds one there.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cluster::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::error::PeersError;

/// The name that every node certificate has.
pub const COMMON_NAME: &str = "peer.tanist";
/// What follows the node's own name.
pub const NODE_SUFFIX: &str = ".node.tanist";
/// What follows a proxy's own name.
pub const PROXY_SUFFIX: &str = ".proxy.tanist";

/// A certificate authority: its certificate and key, both PEM.
#[derive(Clone)]
pub struct Authority {
    certificate: String,
    key: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key; keep it in a file of mode 0600.
    pub key: String,
}

fn failed(why: impl ToString) -> PeersError {
    PeersError::Material(why.to_string())
}

impl Authority {
    /// Makes a new authority for `cluster`.
    ///
    /// # Errors
    /// When the library can't make one.
    pub fn create(cluster: &str) -> Result<Authority, PeersError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, format!("tanist {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Authority { certificate, key: key.serialize_pem() })
    }

    /// Its certificate, PEM: what every node must have.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Gives `node` a certificate, also good for a server at `hosts`.
    ///
    /// # Errors
    /// When the library can't make one.
    pub fn issue(&self, node: &NodeId, hosts: &[String]) -> Result<Issued, PeersError> {
        let mut names = vec![format!("{node}{NODE_SUFFIX}"), COMMON_NAME.to_string()];
        names.extend(hosts.iter().cloned());
        let uses = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(node, names, uses)
    }

    /// Gives `proxy` a certificate with which it may subscribe to agents, and no more.
    ///
    /// # Errors
    /// When the library can't make one.
    pub fn issue_to_proxy(&self, proxy: &NodeId) -> Result<Issued, PeersError> {
        let names = vec![format!("{proxy}{PROXY_SUFFIX}")];
        self.sign(proxy, names, vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign(
        &self,
        who: &NodeId,
        names: Vec<String>,
        uses: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<Issued, PeersError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, who.to_string());
        params.extended_key_usages = uses;
        let own = KeyPair::from_pem(&self.key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, own).map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }

    /// Writes `ca.crt` (readable) and `ca.key` (0600) into `dir`.
    ///
    /// # Errors
    /// `File`.
    pub fn save(&self, dir: &Path) -> Result<(), PeersError> {
        write(&dir.join("ca.crt"), &self.certificate, 0o644)?;
        write(&dir.join("ca.key"), &self.key, 0o600)
    }

    /// Reads what `save` wrote.
    ///
    /// # Errors
    /// `File`.
    pub fn load(dir: &Path) -> Result<Authority, PeersError> {
        Ok(Authority { certificate: read(&dir.join("ca.crt"))?, key: read(&dir.join("ca.key"))? })
    }
}

impl Issued {
    /// Writes `node.crt` and `node.key` (0600) into `dir`.
    ///
    /// # Errors
    /// `File`.
    pub fn save(&self, dir: &Path) -> Result<(), PeersError> {
        self.save_as(dir, "node")
    }

    /// Writes `NAME.crt` and `NAME.key` (0600) into `dir`.
    ///
    /// # Errors
    /// `File`.
    pub fn save_as(&self, dir: &Path, name: &str) -> Result<(), PeersError> {
        write(&dir.join(format!("{name}.crt")), &self.certificate, 0o644)?;
        write(&dir.join(format!("{name}.key")), &self.key, 0o600)
    }
}

fn read(path: &Path) -> Result<String, PeersError> {
    fs::read_to_string(path).map_err(|e| PeersError::File { path: path.to_owned(), why: e.to_string() })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PeersError> {
    let file = |e: std::io::Error| PeersError::File { path: path.to_owned(), why: e.to_string() };
    let mut out =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(file)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(file)
}

/// Whether `host` is an address rather than a name; both may stand in a certificate.
#[must_use]
pub fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}
