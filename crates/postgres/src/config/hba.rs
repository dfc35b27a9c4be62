//! Who may connect, as whom, from where.
//!
//! SCRAM everywhere and `trust` nowhere: the cut of an ack path rests on a
//! walreceiver that can't authenticate without the term's credential (C-5).
//! The agent itself comes through the unix socket as `postgres`, known by its
//! operating-system user: that user can read the files anyway, and a probe each
//! half second should not cost a SCRAM exchange.
//!
//! Never reads the operator's own rules: they would have to be the same on
//! every member, which is for the cluster's settings to grow.

use crate::os_user::RunAs;
use crate::roles::{MONITOR, REPLICATION, REWIND, SUPERUSER};

/// Names of the operating-system users that are `postgres` through the socket:
/// the agent's and the server's. Empty when neither has a name.
#[must_use]
pub fn local_users(server: RunAs) -> Vec<String> {
    let mut names: Vec<String> = [RunAs::current(), server].iter().filter_map(RunAs::name).collect();
    names.sort();
    names.dedup();
    names
}

/// The text of `pg_ident.conf`.
#[must_use]
pub fn map(local_users: &[String]) -> String {
    let mut text = String::from("# Written by Tanist: edits are lost.\n");
    for user in local_users {
        text.push_str(&format!("tanist  \"{user}\"  {SUPERUSER}\n"));
    }
    text
}

/// The text of `pg_hba.conf`. `encrypted`: only TLS from other hosts.
#[must_use]
pub fn rules(encrypted: bool, local_users_nameless: bool) -> String {
    let host = if encrypted { "hostssl" } else { "host" };
    let own = if local_users_nameless { "scram-sha-256" } else { "peer map=tanist" };
    let scram = "scram-sha-256";
    let lines = [
        format!("local    all          {SUPERUSER}  {own}"),
        format!("local    replication  {SUPERUSER}  {own}"),
        format!("local    postgres     {MONITOR}  {scram}"),
        format!("local    all          {REPLICATION},{REWIND},{MONITOR}  reject"),
        format!("local    all          all  {scram}"),
        format!("{host}  replication  {REPLICATION}  all  {scram}"),
        format!("{host}  postgres     {REWIND},{MONITOR}  all  {scram}"),
        format!("{host}  all          {REPLICATION},{REWIND},{MONITOR}  all  reject"),
        format!("{host}  all          all  all  {scram}"),
    ];
    format!("# Written by Tanist: edits are lost. First match wins.\n{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_trusted_and_beyond_the_host_everything_is_encrypted() {
        for (encrypted, nameless) in [(false, false), (true, false), (true, true)] {
            let text = rules(encrypted, nameless);
            let methods = text.lines().filter(|l| !l.starts_with('#'));
            for line in methods {
                assert!(!line.contains("trust") && !line.contains("md5"), "{line}");
                assert!(!encrypted || !line.starts_with("host "), "{line}");
                assert!(
                    ["scram-sha-256", "reject", "peer map=tanist"].iter().any(|m| line.ends_with(m)),
                    "{line}"
                );
            }
        }
        assert_eq!(map(&["root".to_string()]).lines().last().unwrap(), "tanist  \"root\"  postgres");
    }
}
