//! A configuration that changes while the proxy runs.

use std::fs;

use crate::stage::{
    PATIENCE, Postgres, connect, free_port, refused, run_proxy_of, said, table, told, wait_until,
};

#[test]
fn set_and_reload_change_what_counts() {
    told(async {
        let (postgres, port) = (Postgres::start(), free_port());
        let file = postgres.dir.path().join("proxy.toml");
        let write = |lines: &str| {
            let text = format!(
                "listen = [\"127.0.0.1:{port}\"]\nauth.kind = \"trust\"\nadmin.users = [\"boss\"]\n{lines}\n\
                 [[server]]\naddress = \"127.0.0.1:{}\"\n",
                postgres.port
            );
            fs::write(&file, text).unwrap();
        };
        let shop = |more: &str| format!("[[database]]\nname = \"shop\"\n{more}\n");
        write(&shop("dbname = \"postgres\"\npool_size = 1"));
        let _proxy = run_proxy_of(proxy::Config::load(&file).unwrap());
        let begun = std::time::Instant::now();
        while connect(port, "postgres", "shop").await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "nobody comes in");
        }
        let boss = connect(port, "boss", "pgbouncer").await.unwrap();
        let client = connect(port, "postgres", "shop").await.unwrap();
        let name = "select current_database()";
        assert_eq!(table(&client, name).await.rows, [[Some("postgres".to_string())]]);
        // What is set counts at once, for those as well that are in.
        boss.batch_execute("set query_timeout = 0.2").await.unwrap();
        assert_eq!(refused(&client, "select pg_sleep(600)").await.0, "57014");
        let config = table(&boss, "show config").await;
        assert_eq!(config.find("key", "query_timeout", "value").unwrap(), "0.2");
        assert_eq!(config.find("key", "query_timeout", "changeable").unwrap(), "yes");
        boss.batch_execute("set pool_mode = 'session'").await.unwrap();
        assert_eq!(refused(&boss, "set pool_mode = often").await.0, "22023");
        assert_eq!(refused(&boss, "set listen_port = 1").await.0, "0A000");
        // What is read anew takes its place, and connections go where they lead now.
        let client = connect(port, "postgres", "shop").await.unwrap();
        boss.batch_execute("set max_user_client_connections = 1").await.unwrap();
        let (code, words) = said(&connect(port, "postgres", "shop").await.err().unwrap());
        assert_eq!(
            (code.as_str(), words.contains("max_user_client_connections")),
            ("53300", true),
            "{words}"
        );
        boss.batch_execute("set max_user_client_connections = 0").await.unwrap();
        write(&format!(
            "{}[[database]]\nname = \"new\"\ndbname = \"postgres\"\n",
            shop("dbname = \"template1\"")
        ));
        assert_eq!(said(&connect(port, "postgres", "new").await.err().unwrap()).0, "3D000");
        boss.batch_execute("reload").await.unwrap();
        connect(port, "postgres", "new").await.unwrap();
        let other = connect(port, "postgres", "shop").await.unwrap();
        assert_eq!(table(&other, name).await.rows, [[Some("template1".to_string())]]);
        assert_eq!(table(&other, "select 1 from pg_sleep(0.5)").await.rows.len(), 1);
        drop(client);
        let pools =
            wait_until(&boss, "show pools", |t| t.number("database", "shop", "pool_size") == 20).await;
        assert_eq!(pools.find("database", "shop", "pool_mode").unwrap(), "transaction");
        // A file that is not right changes nothing.
        write("nonsense = 1");
        let (code, words) = refused(&boss, "reload").await;
        assert_eq!((code.as_str(), words.contains("nonsense")), ("F0000", true), "{words}");
        connect(port, "postgres", "new").await.unwrap();
    });
}
