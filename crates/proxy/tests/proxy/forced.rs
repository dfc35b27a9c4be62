//! Databases whose clients are all one user at the server.

use crate::stage::{Stage, connect, said, table, told};

const LINES: &str = r#"
admin.users = ["boss"]
[[database]]
name = "shop"
dbname = "postgres"
user = "app"
password = "hush"
pool_size = 1
[[database]]
name = "wrong"
dbname = "postgres"
user = "app"
password = "guessed"
[[database]]
name = "*"
"#;

#[test]
fn clients_share_the_pool_of_the_user_that_they_are_at_the_server() {
    told(async {
        let stage = Stage::open(LINES, |_| {}).await;
        let direct = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
        direct.batch_execute("create role app login password 'hush'").await.unwrap();
        // That one must prove itself, the others need not.
        let rules = "host all app all scram-sha-256\nhost all all all trust\n";
        std::fs::write(stage.file("pgdata/pg_hba.conf"), rules).unwrap();
        direct.batch_execute("select pg_reload_conf()").await.unwrap();
        let refuses = "select 1 from pg_hba_file_rules where user_name = '{app}'";
        assert_eq!(table(&direct, refuses).await.rows.len(), 1);
        let mut pids = Vec::new();
        for user in ["one", "two"] {
            let client = stage.client(user, "shop").await;
            let row = table(&client, "select current_user, pg_backend_pid()").await.rows.remove(0);
            assert_eq!(row[0].as_deref(), Some("app"));
            pids.push(row[1].clone());
        }
        assert_eq!(pids[0], pids[1], "they have one connection");
        let refused = connect(stage.port, "one", "wrong").await.err().unwrap();
        assert_eq!(said(&refused).0, "28P01");
        // Nobody is told the password.
        let boss = stage.console("boss").await;
        for show in ["config", "databases", "users", "clients", "servers"] {
            let shown = table(&boss, &format!("show {show}")).await;
            assert!(!format!("{:?}", shown.rows).contains("hush"), "{show}");
        }
    });
}

#[test]
fn a_file_with_a_password_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.toml");
    let text = "auth.kind = \"trust\"\n[[server]]\naddress = \"db:5432\"\n[[database]]\nname = \"a\"\nuser = \"b\"\npassword = \"c\"\n";
    std::fs::write(&path, text).unwrap();
    for (mode, right) in [(0o600, true), (0o640, false), (0o604, false), (0o400, true)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = proxy::Config::load(&path).map_err(|e| e.to_string());
        assert_eq!(loaded.is_ok(), right, "{mode:o}");
        if let Err(said) = loaded {
            assert!(said.contains("0600") && said.contains("TAN0002"), "{said}");
        }
    }
}
