//! The roles Tanist works through, each with the least rights.

use crate::config::quote::literal;
use crate::secrets::Secrets;

/// Owns everything; only the agent, through the socket, and the operator.
pub const SUPERUSER: &str = "postgres";
/// Streams and takes base backups.
pub const REPLICATION: &str = "tanist_replication";
/// Reads files for `pg_rewind`.
pub const REWIND: &str = "tanist_rewind";
/// Reads statistics.
pub const MONITOR: &str = "tanist_monitor";

/// The functions that `pg_rewind` calls on its source (its documentation, "Notes").
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// Statements that make the roles or bring them up to date; may be run again.
/// They hold SCRAM verifiers, not passwords, so a statement log gives nothing away.
#[must_use]
pub fn statements(secrets: &Secrets) -> Vec<String> {
    let roles = [
        (REPLICATION, "LOGIN REPLICATION", &secrets.replication),
        (REWIND, "LOGIN", &secrets.rewind),
        (MONITOR, "LOGIN", &secrets.monitor),
    ];
    let mut all = vec!["SET log_statement = 'none'".to_string()];
    for (name, rights, password) in roles {
        all.push(format!(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN CREATE ROLE {name}; END IF; END $$"
        ));
        all.push(format!("ALTER ROLE {name} {rights} PASSWORD {}", literal(&password.verifier())));
    }
    all.push(format!("GRANT pg_monitor TO {MONITOR}"));
    all.extend(
        REWIND_FUNCTIONS.iter().map(|f| format!("GRANT EXECUTE ON FUNCTION pg_catalog.{f} TO {REWIND}")),
    );
    all
}
