//! The section [peers]: other proxies that a cancel may be for.

use toml::{Table, Value};

use super::Draft;
use super::ini::{File, connection};
use crate::cancel_key::PEER_MAX;

/// Translates it.
pub fn translate(file: &File, draft: &mut Draft) {
    let own = draft.table.get("peer_id").and_then(Value::as_integer).unwrap_or(0);
    let none = own == 0;
    for entry in file.of("peers") {
        let id = match entry.key.parse::<i64>() {
            Ok(id) if (1..=i64::from(PEER_MAX)).contains(&id) => id,
            _ => {
                draft.fail(format!("[peers] {}: a peer's number is from 1 to {PEER_MAX} here", entry.key));
                continue;
            }
        };
        let pairs = connection(&entry.value).unwrap_or_else(|why| {
            draft.fail(format!("peer {id}: {why}"));
            Vec::new()
        });
        let of = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        let host = of("host").unwrap_or("127.0.0.1");
        let port = of("port").unwrap_or("6432");
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        // PgBouncer's own entry may be there, so that all have the same list.
        if id != own && !none {
            let id = ("id".to_string(), Value::from(id));
            draft.push("peer", Table::from_iter([id, ("address".to_string(), Value::from(address))]));
        }
    }
    if own > i64::from(PEER_MAX) {
        draft.fail(format!("peer_id = {own}: a peer's number is from 1 to {PEER_MAX} here"));
    }
    if none && file.of("peers").next().is_some() {
        draft.warn("[peers]: without a peer_id nothing is passed on");
    }
}
