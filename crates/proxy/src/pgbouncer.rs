//! PgBouncer's configuration in our terms: its file goes in, our TOML comes out.
//!
//! Its defaults are written down where ours differ, so that nothing changes
//! unsaid: without a `pool_mode` it is session. What means nothing here is named in a
//! warning; what would be less safe, or answer clients otherwise, is an error.
//! All errors are told at once.

use std::path::Path;

use api::host_config::ConfigError as FileError;
use toml::{Table, Value};

use crate::config::ConfigError;

pub mod auth;
pub mod database;
pub mod doors;
pub mod ini;
pub mod peers;
pub mod settings;

/// A configuration of PgBouncer, in ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Our configuration.
    pub toml: String,
    /// What was left out, and why that does no harm.
    pub warnings: Vec<String>,
}

/// What is being made.
#[derive(Debug, Default)]
pub struct Draft {
    /// Our configuration.
    pub table: Table,
    /// What was left out.
    pub warnings: Vec<String>,
    /// What can't be left out.
    pub errors: Vec<String>,
}

impl Draft {
    /// Sets a key of a section; the empty section is the top.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) {
        if section.is_empty() {
            self.table.insert(key.to_string(), value.into());
            return;
        }
        let place = self.table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(table) = place {
            table.insert(key.to_string(), value.into());
        }
    }

    /// Adds an entry to a list of tables.
    pub fn push(&mut self, list: &str, entry: Table) {
        let place = self.table.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(entries) = place {
            entries.push(Value::Table(entry));
        }
    }

    /// Something means nothing here.
    pub fn warn(&mut self, words: impl Into<String>) {
        self.warnings.push(words.into());
    }

    /// Something can't be left out.
    pub fn fail(&mut self, words: impl Into<String>) {
        self.errors.push(words.into());
    }
}

/// Reads a file of PgBouncer's.
///
/// # Errors
/// `Unreadable`, `Wrong` for what PgBouncer would not take either, `Foreign` for what can't be done here.
pub fn import(path: &Path) -> Result<Import, ConfigError> {
    let file = ini::read(path)?;
    let mut draft = Draft::default();
    settings::translate(&file, &mut draft);
    database::translate(&file, &mut draft);
    peers::translate(&file, &mut draft);
    for section in file.sections() {
        match section {
            "pgbouncer" | "databases" | "users" | "peers" => {}
            other => draft.fail(format!("[{other}] is no section of PgBouncer's")),
        }
    }
    if !draft.errors.is_empty() {
        return Err(ConfigError::Foreign { path: path.to_owned(), why: draft.errors.join("; ") });
    }
    let body = toml::to_string(&draft.table).map_err(|e| FileError::wrong(path, e.to_string()))?;
    let left_out: String = draft.warnings.iter().map(|w| format!("# Left out: {w}\n")).collect();
    let toml = format!("# Made from {}.\n{left_out}\n{body}", path.display());
    // What comes out must be taken in again: a slip here is told now and not at the start.
    crate::config::Config::parse(&toml, path)?;
    Ok(Import { toml, warnings: draft.warnings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AuthKind, Config, PoolMode};
    use crate::hba::Method;
    use std::time::Duration;

    fn imported(text: &str) -> Result<(Config, Vec<String>), String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("pgbouncer.ini");
        std::fs::write(&path, text).expect("a file");
        std::fs::write(dir.path().join("more.ini"), "[pgbouncer]\nmax_client_conn = 7\n").expect("a file");
        let import = import(&path).map_err(|e| e.to_string())?;
        let config = Config::load(&path).map_err(|e| e.to_string())?;
        Ok((config, import.warnings))
    }

    const LEAST: &str =
        "[databases]\n* = host=db port=5433\n[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_type = trust\n";

    #[test]
    fn defaults_are_those_of_pgbouncer() {
        let (config, _) = imported(LEAST).expect("it is right");
        assert_eq!(config.listen, ["127.0.0.1:6432"]);
        assert_eq!(config.servers[0].address, "db:5433");
        assert_eq!((config.pool.mode, config.pool.size, config.clients_max), (PoolMode::Session, 20, 100));
        assert_eq!(config.hold.timeout, Duration::from_secs(120));
        assert!(config.admin.users.is_empty() && config.has_database("any"));
    }

    #[test]
    fn a_whole_file_is_understood() {
        let text = "; ours\n# yours\n[databases]\nshop = host=10.0.0.1 dbname='my shop' pool_size=5 pool_mode=session min_pool_size=2 server_lifetime=9 reserve_pool=4 connect_query='set jit = ''off'''\n\
            \"odd \"\"name\"\"\" = host=10.0.0.1 max_db_connections=9\n\
            [users]\nclerk = max_user_connections=3 max_user_client_connections=30 query_timeout=2.5 pool_mode=statement pool_size=2 reserve_pool_size=1\n\
            [pgbouncer]\nlisten_addr = 127.0.0.1, ::1\nlisten_port = 7000\nauth_type = scram-sha-256\n\
            auth_file = /etc/userlist.txt\npool_mode = transaction\ndefault_pool_size = 33\nreserve_pool_size = 6\nreserve_pool_timeout = 0.5\n\
            max_client_conn = 5000\nmax_prepared_statements = 99\nserver_idle_timeout = 1.5\n\
            server_lifetime = 0\nquery_wait_timeout = 10\nclient_tls_sslmode = require\n\
            client_tls_cert_file = /etc/a.crt\nclient_tls_key_file = /etc/a.key\nadmin_users = boss, root\n\
            stats_users = watcher\nignore_startup_parameters = extra_float_digits\nlogfile = /var/log/p.log\n\
            max_user_connections = 50\nidle_transaction_timeout = 7\nserver_connect_timeout = 0\n";
        let (config, warnings) = imported(text).expect("it is right");
        assert_eq!(config.listen, ["127.0.0.1:7000", "[::1]:7000"]);
        assert_eq!((config.auth.kind, config.pool.mode), (AuthKind::File, PoolMode::Transaction));
        assert_eq!((config.pool.size, config.clients_max, config.pool.prepared_max), (33, 5000, 99));
        assert_eq!(
            (config.pool.idle_timeout, config.pool.lifetime),
            (Some(Duration::from_millis(1500)), None)
        );
        assert!(config.tls.as_ref().is_some_and(|t| t.required));
        assert_eq!(
            (config.admin.users.join(","), config.admin.stats_users.join(",")),
            ("boss,root".into(), "watcher".into())
        );
        let shop = config.database("shop");
        assert_eq!(
            (shop.dbname("shop"), shop.size(&config), shop.mode(&config)),
            ("my shop", 5, PoolMode::Session)
        );
        assert_eq!(config.connect_query("shop"), Some("set jit = 'off'"));
        assert_eq!(config.connections_of_database("odd \"name\""), 9);
        assert_eq!((config.connections_of_user("clerk"), config.clients_of_user("clerk")), (3, 30));
        assert_eq!(config.connections_of_user("another"), 50);
        assert_eq!(
            (config.mode("shop", "clerk"), config.pool_size("shop", "clerk")),
            (PoolMode::Statement, 2)
        );
        assert_eq!((config.mode("shop", "x"), config.pool_size("shop", "x")), (PoolMode::Session, 5));
        let nine = crate::age::Age { lifetime: Some(Duration::from_secs(9)), least: 2 };
        assert_eq!((config.age("shop"), config.age("else").lifetime), (nine, None));
        let half = Some(Duration::from_millis(500));
        for (database, user, size) in [("shop", "x", 4), ("shop", "clerk", 1), ("else", "x", 6)] {
            assert_eq!(config.reserve(database, user), crate::reserve::Reserve { size, after: half });
        }
        let of_clerk = config.timeouts("shop", "clerk");
        assert_eq!(of_clerk.query, Some(Duration::from_millis(2500)));
        assert_eq!(of_clerk.idle_transaction, Some(Duration::from_secs(7)));
        assert_eq!(config.timeouts("shop", "another").query, None);
        assert_eq!(config.timeouts.server_connect, Duration::from_secs(86_400));
        assert_eq!(config.timeouts.cancel, Duration::from_secs(10));
        for key in ["ignore_startup_parameters", "logfile", "server_connect_timeout"] {
            assert!(warnings.iter().any(|w| w.starts_with(key)), "{key}: {warnings:?}");
        }
    }

    #[test]
    fn what_would_be_less_safe_is_refused_and_said() {
        for (more, why) in [
            ("auth_type = hba\n", "needs auth_hba_file"),
            ("auth_type = pam\n", "auth_type = pam"),
            ("auth_type = cert\n", "client_tls_sslmode = verify-full"),
            ("auth_type = any\n", "auth_type = any"),
            ("auth_type = md5\n", "auth_file is missing"),
            (
                "client_tls_sslmode = verify-full\nclient_tls_cert_file=/a\nclient_tls_key_file=/b\n",
                "client_tls_ca_file",
            ),
            ("client_tls_sslmode = maybe\n", "client_tls_sslmode = maybe"),
            ("unix_socket_dir = @abstract\n", "without a file"),
            ("peer_id = 300\n", "from 1 to 255"),
            ("peer_id = 1\n[peers]\n300 = host=a\n", "from 1 to 255"),
            ("client_tls_sslmode = require\n", "client_tls_cert_file"),
            ("server_tls_sslmode = verify-ca\n", "server_tls_sslmode = verify-ca"),
            ("nonsense = 1\n", "nonsense is no setting"),
            ("max_client_conn = many\n", "max_client_conn = many"),
            ("[databases]\nb = host=other\n", "other:5432"),
            ("[databases]\nb = dbname=b\n", "has no host"),
            ("[databases]\nb = host=@tmp\n", "without a file"),
            ("[databases]\nb = host=db,db2 port=5433\n", "several hosts"),
            ("[databases]\nb = host=db port=5433 datestyle=ISO\n", "datestyle="),
            ("[databases]\nb = host=db port=5433 colour=red\n", "colour"),
            ("[databases]\nb = host=db port\n", "port"),
            ("[users]\nu = pool_mode=often\n", "pool_mode"),
            ("[else]\na = b\n", "[else]"),
        ] {
            let said = imported(&format!("{LEAST}{more}")).expect_err(more);
            assert!(said.contains(why) && said.contains("pgbouncer.ini"), "{more}: {said}");
        }
        let said =
            imported("[databases]\n* = host=db\n[pgbouncer]\nauth_type = trust\n").expect_err("no address");
        assert!(said.contains("listen_addr"), "{said}");
    }

    #[test]
    fn doors_and_proofs_are_understood() {
        let text = "[databases]\nshop = host=/run/postgresql port=5433 auth_user=asker auth_dbname=till\n\
            till = host=/run/postgresql port=5433\n[peers]\n1 = host=10.0.0.1\n2 = host=/run/two port=7000\n\
            [pgbouncer]\npeer_id = 1\nso_reuseport = 1\nunix_socket_dir = /run/pgbouncer\nunix_socket_mode = 0770\n\
            unix_socket_group = app\nlisten_port = 7000\nauth_type = md5\nauth_query = SELECT * FROM f($1)\n\
            client_tls_sslmode = allow\nclient_tls_ca_file = /etc/ca.crt\nclient_tls_cert_file = /etc/a.crt\n\
            client_tls_key_file = /etc/a.key\n";
        let (config, _) = imported(text).expect("it is right");
        assert!(config.listen.is_empty() && config.reuse_port);
        let socket = config.unix_socket.as_ref().expect("it has one");
        assert_eq!(socket.paths(&config)[0].0.to_str(), Some("/run/pgbouncer/.s.PGSQL.7000"));
        assert_eq!((socket.mode.as_str(), socket.group.as_deref()), ("0770", Some("app")));
        assert_eq!(config.servers[0].address, "/run/postgresql:5433");
        assert_eq!((config.peer_id, config.peers.len(), config.peers[0].id), (1, 1, 2));
        assert_eq!(config.peers[0].address, "/run/two:7000");
        assert_eq!((config.auth.kind, config.auth.method()), (AuthKind::Query, Method::Md5));
        let plan = config.lookup("shop").expect("it is looked up");
        assert_eq!((plan.user, plan.database, plan.query), ("asker", "till", "SELECT * FROM f($1)"));
        assert_eq!(config.lookup("till"), None);
        let tls = config.tls.as_ref().expect("it has TLS");
        assert!(tls.client_ca.is_some() && !tls.is_required());
    }

    #[test]
    fn included_files_count_and_lines_that_are_none_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let more = dir.path().join("more.ini");
        std::fs::write(&more, "[pgbouncer]\nmax_client_conn = 7\n").expect("a file");
        let (config, _) = imported(&format!("{LEAST}%include {}\n", more.display())).expect("it is right");
        assert_eq!(config.clients_max, 7);
        std::fs::write(&more, format!("%include {}\n", more.display())).expect("a file");
        let said = imported(&format!("%include {}\n", more.display())).expect_err("a circle");
        assert!(said.contains("included too deep"), "{said}");
        for (bad, line) in
            [("[pgbouncer\n", "line 1"), ("[pgbouncer]\nno equals sign\n", "line 2"), ("a = b\n", "line 1")]
        {
            let said = imported(bad).expect_err(bad);
            assert!(said.contains(line), "{bad}: {said}");
        }
    }
}
