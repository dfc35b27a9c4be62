//! What a database has run on its new connections is what its clients find there, whatever others have set.

use tokio_postgres::Client;

use crate::stage::{Stage, connect, said, table, told, wait_until};

const LINES: &str = r#"
admin.users = ["boss"]
hold.timeout_s = 1
[[database]]
name = "shop"
dbname = "postgres"
pool_size = 1
connect_query = "SET work_mem = '7MB'; SET app.kind = 'shop'"
[[database]]
name = "kept"
dbname = "postgres"
mode = "session"
pool_size = 1
connect_query = "SET work_mem = '7MB'; SET app.kind = 'shop'"
[[database]]
name = "wrong"
dbname = "postgres"
connect_query = "SELECT nonsense"
[[database]]
name = "open"
dbname = "postgres"
connect_query = "BEGIN"
"#;

async fn finds(client: &Client, work_mem: &str, kind: &str) {
    let text = "SELECT current_setting('work_mem'), current_setting('app.kind')";
    let found = table(client, text).await.rows;
    assert_eq!(found, [[Some(work_mem.to_string()), Some(kind.to_string())]]);
}

#[test]
fn it_is_what_clients_find_whatever_others_have_set() {
    told(async {
        let stage = Stage::open(LINES, |_| {}).await;
        let (one, two) = (stage.client("postgres", "shop").await, stage.client("postgres", "shop").await);
        finds(&one, "7MB", "shop").await;
        one.batch_execute("SET work_mem = '9MB'").await.unwrap();
        finds(&two, "7MB", "shop").await;
        finds(&one, "9MB", "shop").await;
        one.batch_execute("RESET work_mem").await.unwrap();
        finds(&one, "7MB", "shop").await;
        one.batch_execute("SET app.kind = 'own'; SET jit = off").await.unwrap();
        finds(&two, "7MB", "shop").await;
        finds(&one, "7MB", "own").await;
        // One of an application's own is empty then, as with PostgreSQL.
        one.batch_execute("DISCARD ALL").await.unwrap();
        finds(&one, "7MB", "").await;
        finds(&two, "7MB", "shop").await;
        let runs = || stage.postgres.log().matches("SET app.kind = 'shop'").count();
        assert_eq!(runs(), 1, "once on each connection");
        let boss = stage.console("boss").await;
        boss.batch_execute("RECONNECT shop").await.unwrap();
        finds(&two, "7MB", "shop").await;
        assert_eq!(runs(), 2);
    });
}

#[test]
fn a_connection_that_was_washed_has_it_again() {
    told(async {
        let stage = Stage::open(LINES, |_| {}).await;
        let boss = stage.console("boss").await;
        let first = stage.client("postgres", "kept").await;
        let pid = table(&first, "SELECT pg_backend_pid()").await.rows;
        first.batch_execute("SET work_mem = '9MB'; RESET app.kind").await.unwrap();
        finds(&first, "9MB", "").await;
        drop(first);
        wait_until(&boss, "show pools", |t| t.number("database", "kept", "sv_idle") == 1).await;
        let second = stage.client("postgres", "kept").await;
        assert_eq!(table(&second, "SELECT pg_backend_pid()").await.rows, pid);
        finds(&second, "7MB", "shop").await;
    });
}

#[test]
fn one_that_fails_lets_nobody_in() {
    told(async {
        let stage = Stage::open(LINES, |_| {}).await;
        let (code, words) = said(&connect(stage.port, "postgres", "wrong").await.err().unwrap());
        assert!(code != "00000" && words.contains("connect_query: column \"nonsense\""), "{code} {words}");
        assert!(
            connect(stage.port, "postgres", "open").await.is_err(),
            "its clients would be in a transaction"
        );
        stage.client("postgres", "shop").await.batch_execute("SELECT 1").await.unwrap();
    });
}
