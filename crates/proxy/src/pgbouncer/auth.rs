//! How PgBouncer's clients prove themselves.

use super::Draft;
use super::doors::Get;
use super::ini::{File, connection};

/// PgBouncer's own query, where its file names none.
const QUERY_THEIRS: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin";

/// Translates `auth_type` and what belongs to it.
pub fn translate(file: &File, get: &Get<'_>, draft: &mut Draft) {
    let kind = get("auth_type").unwrap_or("md5");
    let method = match kind {
        "trust" => {
            draft.warn("auth_type = trust: every name is believed, also one that auth_file does not have");
            None
        }
        "md5" | "cert" | "scram-sha-256" => Some(kind),
        "plain" => Some("password"),
        "hba" => Some("hba"),
        other => {
            return draft.fail(format!(
                "auth_type = {other} can't be done: trust, plain, md5, scram-sha-256, cert and hba can"
            ));
        }
    };
    if kind == "cert" && !matches!(get("client_tls_sslmode"), Some("verify-ca" | "verify-full")) {
        draft.fail("auth_type = cert needs client_tls_sslmode = verify-full");
    }
    match (kind, get("auth_hba_file")) {
        ("hba", Some(rules)) => {
            draft.set("auth", "hba_file", rules);
            if let Some(maps) = get("auth_ident_file") {
                draft.set("auth", "ident_file", maps);
            }
        }
        ("hba", None) => draft.fail("auth_type = hba needs auth_hba_file"),
        (_, Some(_)) => draft.warn("auth_hba_file: it counts with auth_type = hba only"),
        (_, None) => {}
    }
    if let Some(file) = get("auth_file") {
        draft.set("auth", "file", file);
    }
    if let Some(method) = method.filter(|m| *m != "hba") {
        draft.set("auth", "method", method);
    }
    // Who is trusted, or known by a certificate, needs no secret of his own. Whether rules ask for one is seen when
    // they are read.
    let asks = match kind {
        "trust" | "cert" => false,
        "hba" => get("auth_file").is_some() || asks_a_server(file, get),
        _ => true,
    };
    match asks && asks_a_server(file, get) {
        true => {
            draft.set("auth", "kind", "query");
            draft.set("auth", "query", get("auth_query").unwrap_or(QUERY_THEIRS));
            for (key, ours) in [("auth_user", "query_user"), ("auth_dbname", "query_database")] {
                if let Some(value) = get(key) {
                    draft.set("auth", ours, value);
                }
            }
        }
        false if !asks => draft.set("auth", "kind", "trust"),
        false => {
            draft.set("auth", "kind", "file");
            if get("auth_file").is_none() {
                draft.fail("auth_file is missing, and so is auth_user");
            }
        }
    }
}

/// Whether users that are not in the file are looked up.
fn asks_a_server(file: &File, get: &Get<'_>) -> bool {
    let of_database =
        |value: &str| connection(value).is_ok_and(|pairs| pairs.iter().any(|(key, _)| key == "auth_user"));
    get("auth_user").is_some() || file.of("databases").any(|e| of_database(&e.value))
}

/// Whether the file's databases may have their own way of looking users up.
pub fn looks_up(draft: &Draft) -> bool {
    let kind = draft.table.get("auth").and_then(|auth| auth.get("kind"));
    kind.and_then(toml::Value::as_str) == Some("query")
}
