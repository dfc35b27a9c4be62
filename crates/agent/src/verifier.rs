//! Tells a proxy what our server knows of a user that wants to come in.
//!
//! Any server of the cluster will do, a standby as well: so clients can come in
//! while nobody leads. Our own roles are nobody's to be through a proxy.

use api::HostConfig;
use api::verifier::Known;
use bytes::Bytes;
use postgres::config::quote::literal;
use postgres::sql::{Sql, text};

/// Longest name of a user (PostgreSQL's `NAMEDATALEN` less one).
const NAME_BYTES_MAX: usize = 63;
/// What the names of our own roles begin with.
const OURS: &str = "tanist_";

/// The answer to a question for `body`, a user's name.
pub async fn answer(config: &HostConfig, body: &[u8]) -> Bytes {
    let name = std::str::from_utf8(body).ok().filter(|n| n.len() <= NAME_BYTES_MAX && !n.starts_with(OURS));
    let known = match (name, &config.postgres) {
        (None, _) => Known::Nobody,
        (Some(_), None) => Known::NotNow,
        (Some(name), Some(server)) => look(config, server.port, name).await.unwrap_or(Known::NotNow),
    };
    known.to_bytes().into()
}

async fn look(config: &HostConfig, port: u16, name: &str) -> postgres::Result<Known> {
    let sql = Sql::connect(&crate::start::server_dir(config)?, port).await?;
    let question = format!(
        "SELECT rolpassword AS verifier FROM pg_authid WHERE rolname = {} AND rolcanlogin \
         AND rolpassword LIKE 'SCRAM-SHA-256$%' AND (rolvaliduntil IS NULL OR rolvaliduntil > now())",
        literal(name)
    );
    let rows = sql.rows("read a verifier", &question).await?;
    let verifier = rows.first().and_then(|row| text(row, "verifier"));
    Ok(verifier.map_or(Known::Nobody, |v| Known::Scram(v.to_string())))
}
