//! Databases with names and limits of their own.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stage::{Stage, connect, said, table, told, wait_until};

const LINES: &str = r#"
admin.users = ["boss"]
[[database]]
name = "shop"
dbname = "postgres"
pool_size = 1
[[database]]
name = "small"
dbname = "template1"
max_connections = 1
[[database]]
name = "kept"
dbname = "postgres"
mode = "session"
[[database]]
name = "narrow"
dbname = "postgres"
max_clients = 1
[[database]]
name = "warm"
dbname = "postgres"
min_pool_size = 3
[[database]]
name = "brief"
dbname = "postgres"
lifetime_s = 0.2
[[user]]
name = "postgres"
max_clients = 100
"#;

#[test]
fn databases_have_names_and_limits() {
    told(async {
        let stage = Stage::open(&format!("clients_max = 50\n{LINES}"), |_| {}).await;
        let boss = stage.console("boss").await;
        let shop = stage.client("postgres", "shop").await;
        let name = table(&shop, "select current_database()").await;
        assert_eq!(name.rows, [[Some("postgres".to_string())]]);
        let error = connect(stage.port, "postgres", "template1").await.err().unwrap();
        assert_eq!(said(&error).0, "3D000");
        // One connection, so the second waits.
        let other = stage.client("postgres", "shop").await;
        shop.batch_execute("begin").await.unwrap();
        let waiting = tokio::spawn(async move { other.simple_query("select 1").await });
        wait_until(&boss, "show pools", |t| t.number("database", "shop", "cl_waiting") == 1).await;
        shop.batch_execute("commit").await.unwrap();
        waiting.await.unwrap().unwrap();
        // Of all users together: the idle connection of one makes room for the other's.
        shop.batch_execute("create role clerk login").await.unwrap();
        let one = stage.client("postgres", "small").await;
        one.simple_query("select 1").await.unwrap();
        let two = stage.client("clerk", "small").await;
        two.simple_query("select 1").await.unwrap();
        let databases = table(&boss, "show databases").await;
        assert_eq!(databases.number("name", "small", "current_connections"), 1);
        assert_eq!(databases.find("name", "shop", "database").unwrap(), "postgres");
        assert_eq!(databases.find("name", "kept", "pool_mode").unwrap(), "session");
        // In session mode a client keeps its server.
        let kept = stage.client("postgres", "kept").await;
        let pid = table(&kept, "select pg_backend_pid()").await.rows;
        assert_eq!(table(&kept, "select pg_backend_pid()").await.rows, pid);
        assert_eq!(table(&boss, "show pools").await.number("database", "kept", "sv_active"), 1);
        // And what only that client could know is gone with it.
        shop.batch_execute(
            "create function hides() returns void language plpgsql as \
             $$ begin perform set_config('app.tenant', 'mine', false); end $$",
        )
        .await
        .unwrap();
        kept.simple_query("select hides()").await.unwrap();
        drop(kept);
        wait_until(&boss, "show pools", |t| t.number("database", "kept", "sv_idle") == 1).await;
        let next = stage.client("postgres", "kept").await;
        assert_eq!(table(&next, "select pg_backend_pid()").await.rows, pid);
        let left = table(&next, "select current_setting('app.tenant', true)").await;
        assert!(left.rows != [[Some("mine".to_string())]], "{left:?}");
        let narrow = stage.client("postgres", "narrow").await;
        let error = connect(stage.port, "postgres", "narrow").await.err().unwrap();
        assert_eq!(said(&error).0, "53300");
        // Who leaves makes room.
        drop(narrow);
        wait_until(&boss, "show databases", |t| {
            t.number("name", "narrow", "current_client_connections") == 0
        })
        .await;
        stage.client("postgres", "narrow").await.simple_query("select 1").await.unwrap();
    });
}

#[test]
fn pools_are_kept_warm_and_their_connections_grow_old() {
    told(async {
        let stage = Stage::open(LINES, |_| {}).await;
        let boss = stage.console("boss").await;
        let warm = stage.client("postgres", "warm").await;
        warm.simple_query("select 1").await.unwrap();
        wait_until(&boss, "show pools", |t| t.number("database", "warm", "sv_idle") == 3).await;
        let shown = table(&boss, "show databases").await;
        assert_eq!(shown.number("name", "warm", "min_pool_size"), 3);
        // One that rests is closed for its age, and so is one that is in use, once it is free.
        let brief = stage.client("postgres", "brief").await;
        let pid = table(&brief, "select pg_backend_pid()").await.rows;
        wait_until(&boss, "show pools", |t| t.number("database", "brief", "sv_idle") == 0).await;
        let next = table(&brief, "select pg_backend_pid(), pg_sleep(0.3)").await.rows;
        assert_ne!(next[0][0], pid[0][0]);
        assert_ne!(table(&brief, "select pg_backend_pid()").await.rows[0][0], next[0][0]);
    });
}

#[test]
fn whoever_waits_for_long_is_told_so_each_time() {
    told(async {
        let lines = format!("hold.notify_s = 0.2\n{LINES}");
        let stage = Stage::open(&lines, |_| {}).await;
        let (holder, boss) = (stage.client("postgres", "shop").await, stage.console("boss").await);
        let mut waiting = stage.raw("postgres", "shop").await;
        for _ in 0..2 {
            holder.batch_execute("begin").await.unwrap();
            waiting.write_all(b"Q\0\0\0\x0dselect 1\0").await.unwrap();
            let mut said = Vec::new();
            while !String::from_utf8_lossy(&said).contains("all are in use") {
                said.push(waiting.read_u8().await.unwrap());
            }
            assert_eq!(table(&boss, "show pools").await.number("database", "shop", "cl_waiting"), 1);
            holder.batch_execute("commit").await.unwrap();
            // Once, and then what it asked for.
            let mut rest = Vec::new();
            while !rest.ends_with(b"Z\0\0\0\x05I") {
                rest.push(waiting.read_u8().await.unwrap());
            }
            let rest = String::from_utf8_lossy(&rest).into_owned();
            assert!(rest.contains("SELECT 1") && !rest.contains("all are in use"), "{rest}");
        }
    });
}

#[test]
fn a_reserve_is_for_those_who_have_waited_for_long() {
    told(async {
        let lines = "admin.users = [\"boss\"]\nhold.timeout_s = 3\npool.reserve_timeout_s = 0.4\n\
            [[database]]\nname = \"shop\"\ndbname = \"postgres\"\npool_size = 1\nreserve_pool_size = 1\n\
            [[database]]\nname = \"plain\"\ndbname = \"postgres\"\npool_size = 1\n\
            [[user]]\nname = \"clerk\"\nreserve_pool_size = 2\n";
        let stage = Stage::open(lines, |_| {}).await;
        let boss = stage.console("boss").await;
        let databases = table(&boss, "show databases").await;
        assert_eq!(databases.number("name", "shop", "reserve_pool_size"), 1);
        assert_eq!(databases.number("name", "plain", "reserve_pool_size"), 0);
        let users = table(&boss, "show users").await;
        assert_eq!(users.find("name", "clerk", "reserve_pool_size").unwrap(), "2");
        let open = async |database| {
            let client = stage.client("postgres", database).await;
            client.batch_execute("begin").await.map(|()| client)
        };
        let first = open("shop").await.unwrap();
        let begun = std::time::Instant::now();
        let second = open("shop").await.unwrap();
        assert!(begun.elapsed().as_secs_f64() >= 0.4, "it did not wait");
        // There is no more than the reserve, and none where it is not asked for.
        assert_eq!(said(&open("shop").await.err().unwrap()).0, "57P03");
        let plain = open("plain").await.unwrap();
        assert_eq!(said(&open("plain").await.err().unwrap()).0, "57P03");
        let pools = table(&boss, "show pools").await;
        assert_eq!(pools.number("database", "shop", "sv_active"), 2);
        // What is there is used by whoever comes.
        for client in [first, second, plain] {
            client.batch_execute("commit").await.unwrap();
        }
        wait_until(&boss, "show pools", |t| t.number("database", "shop", "sv_idle") == 2).await;
        boss.batch_execute("set reserve_pool_size = 3").await.unwrap();
        let config = table(&boss, "show config").await;
        assert_eq!(config.find("key", "reserve_pool_size", "value").unwrap(), "3");
        assert_eq!(config.find("key", "reserve_pool_timeout", "value").unwrap(), "0.4");
        let _one = open("plain").await.unwrap();
        let _two = open("plain").await.unwrap();
    });
}
