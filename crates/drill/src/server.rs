//! How the load reaches servers: a URL as libpq takes it, for tokio-postgres.
//!
//! libpq's `sslrootcert` and `sslmode=verify-full` are taken out and done here
//! with rustls; `tcp_user_timeout` counts milliseconds in libpq and seconds in
//! tokio-postgres. The host that did last is tried first; where it does not do,
//! or takes long, all others at once: one that stands still must not hide from
//! us that another serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Longest until a host has answered, its greeting and all: a frozen postmaster
/// still has its kernel accept connections.
const GREETING_LIMIT: Duration = Duration::from_secs(3);
/// How long the one that did last is tried alone.
const HEAD_START: Duration = Duration::from_millis(300);
/// Between two tries of somebody who waits for a server.
const AGAIN: Duration = Duration::from_millis(100);

/// Where to connect, and how.
#[derive(Clone)]
pub(crate) struct Server {
    /// One for each host of the URL.
    hosts: Vec<Config>,
    /// Which of them did last.
    last: Arc<AtomicUsize>,
    tls: Option<MakeRustlsConnect>,
}

impl Server {
    /// Understands `url`.
    ///
    /// # Errors
    /// What is wrong with it, or with the CA's file.
    pub(crate) fn new(url: &str) -> Result<Server, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut kept = Vec::new();
        let (mut ca, mut user_timeout) = (None, None);
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            match pair.split_once('=') {
                Some(("sslrootcert", path)) => ca = Some(path),
                Some(("sslmode", "verify-full" | "verify-ca")) => kept.push("sslmode=require"),
                Some(("tcp_user_timeout", ms)) => user_timeout = ms.parse().ok().map(Duration::from_millis),
                Some(_) | None => kept.push(pair),
            }
        }
        let (before, hosts, after) = parts(base);
        let mut all = Vec::new();
        for host in hosts.split(',') {
            let plain = format!("{before}{host}{after}?{}", kept.join("&"));
            let mut config: Config = plain.parse().map_err(|e: tokio_postgres::Error| e.to_string())?;
            if let Some(timeout) = user_timeout {
                config.tcp_user_timeout(timeout);
            }
            all.push(config);
        }
        let tls = ca.map(trusting).transpose()?;
        Ok(Server { hosts: all, last: Arc::default(), tls })
    }

    /// Connects to the first host that answers as the URL wants it; the task of a
    /// connection ends with it.
    pub(crate) async fn connect(&self) -> Option<Client> {
        let mut tries = JoinSet::new();
        let last = self.last.load(Ordering::Relaxed);
        self.try_host(&mut tries, last);
        // Nobody has failed for good before the others were tried too.
        let first = tokio::time::timeout(HEAD_START, tries.join_next()).await;
        let mut done = first.ok().flatten();
        let others = (0..self.hosts.len()).filter(|i| *i != last);
        if !matches!(done, Some(Ok((_, Some(_))))) {
            others.for_each(|i| self.try_host(&mut tries, i));
            done = None;
        }
        loop {
            match done {
                Some(Ok((i, Some(client)))) => {
                    self.last.store(i, Ordering::Relaxed);
                    return Some(client);
                }
                Some(_) | None => done = Some(tries.join_next().await?),
            }
        }
    }

    fn try_host(&self, tries: &mut JoinSet<(usize, Option<Client>)>, i: usize) {
        let Some(config) = self.hosts.get(i).cloned() else { return };
        let tls = self.tls.clone();
        tries.spawn(async move {
            let client = tokio::time::timeout(GREETING_LIMIT, one(config, tls)).await;
            (i, client.ok().flatten())
        });
    }

    /// Connects within `limit`.
    ///
    /// # Errors
    /// That nobody answered.
    pub(crate) async fn reach(&self, limit: Duration) -> Result<Client, String> {
        let began = Instant::now();
        loop {
            if let Some(client) = self.connect().await {
                return Ok(client);
            }
            if began.elapsed() > limit {
                return Err(format!("no server answered as it should within {limit:?}"));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn one(config: Config, tls: Option<MakeRustlsConnect>) -> Option<Client> {
    // The error of a connection is the one that the next statement gets.
    match tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls).await.ok()?;
            tokio::spawn(async move { drop(connection.await) });
            Some(client)
        }
        None => {
            let (client, connection) = config.connect(NoTls).await.ok()?;
            tokio::spawn(async move { drop(connection.await) });
            Some(client)
        }
    }
}

/// What stands before the hosts of a URL, the hosts, and what stands behind them.
fn parts(base: &str) -> (&str, &str, &str) {
    let scheme = base.find("://").map_or(0, |i| i + 3);
    let end = base[scheme..].find('/').map_or(base.len(), |i| scheme + i);
    let start = base[scheme..end].rfind('@').map_or(scheme, |i| scheme + i + 1);
    (&base[..start], &base[start..end], &base[end..])
}

/// TLS that trusts the CA in the file `path` and nobody else.
fn trusting(path: &str) -> Result<MakeRustlsConnect, String> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(path).map_err(|e| format!("{path}: {e}"))?;
    roots.add(ca).map_err(|e| format!("{path}: {e}"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_libpqs_means_the_same_here() {
        let url = "postgresql://u:p@10.0.0.1:1,10.0.0.2:2/db?target_session_attrs=read-write&connect_timeout=2&tcp_user_timeout=2000&keepalives_idle=1&keepalives_interval=1";
        let server = Server::new(url).unwrap();
        let ports: Vec<&[u16]> = server.hosts.iter().map(Config::get_ports).collect();
        assert_eq!(ports, [[1], [2]]);
        for host in &server.hosts {
            assert_eq!(host.get_tcp_user_timeout(), Some(&Duration::from_secs(2)));
            assert_eq!((host.get_user(), host.get_dbname()), (Some("u"), Some("db")));
        }
        assert!(server.tls.is_none());
        assert!(Server::new("postgresql://u@h/db?sslmode=verify-full&sslrootcert=/nonexistent").is_err());
    }
}
