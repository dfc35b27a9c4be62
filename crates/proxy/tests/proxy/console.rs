//! The console as PgBouncer's users know it.

use std::fs;

use tokio::io::AsyncWriteExt as _;

use crate::metrics::ask;
use crate::stage::{
    Stage, Table, connect, connect_with, refused, said, table, told, wait_until, wait_until_closed,
};

const ADMINS: &str = "admin.users = [\"boss\"]\nadmin.stats_users = [\"watcher\"]\n";
const IMPATIENT: &str =
    "admin.users = [\"boss\"]\nadmin.stats_users = [\"watcher\"]\nadmin.pause_timeout_s = 0.3\n";

async fn stage(lines: &str) -> Stage {
    Stage::open(lines, |_| {}).await
}

#[test]
fn only_who_is_named_comes_in_and_watchers_change_nothing() {
    told(async {
        let stage = stage(ADMINS).await;
        for database in ["pgbouncer", "tanist"] {
            let error = connect(stage.port, "postgres", database).await.err().unwrap();
            let (code, words) = said(&error);
            assert_eq!(code, "28000", "{words}");
            assert!(words.contains("admin.users"), "{words}");
        }
        let watcher = stage.console("watcher").await;
        assert!(!table(&watcher, "show pools").await.columns.is_empty());
        for text in [
            "pause",
            "resume",
            "kill postgres",
            "kill_client 1",
            "reload",
            "shutdown",
            "disable postgres",
            "enable postgres",
            "reconnect",
            "wait_close",
            "show prepared",
        ] {
            assert_eq!(refused(&watcher, text).await.0, "42501", "{text}");
        }
        // And it is still there.
        let boss = stage.console("boss").await;
        for bad in ["selct 1", "show everything", "pause a b c", "show pools; show lists"] {
            assert_eq!(refused(&boss, bad).await.0, "42601", "{bad}");
        }
        assert_eq!(table(&boss, "select 1").await.rows, [[Some("1".to_string())]]);
    });
}

/// PgBouncer 1.25's columns, which exporters look for by their names, and some by their places.
const THEIRS: [(&str, &str); 11] = [
    (
        "pools",
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active \
      sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode \
      load_balance_hosts",
    ),
    (
        "clients",
        "type user database replication state addr port local_addr local_port connect_time request_time \
      wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id",
    ),
    (
        "servers",
        "type user database replication state addr port local_addr local_port connect_time request_time \
      wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id",
    ),
    (
        "databases",
        "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime \
      pool_mode load_balance_hosts max_connections current_connections max_client_connections \
      current_client_connections paused disabled",
    ),
    (
        "users",
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
      max_user_client_connections current_client_connections",
    ),
    ("lists", "list items"),
    ("config", "key value default changeable"),
    ("mem", "name size used free memtotal"),
    ("state", "key value"),
    ("totals", "name value"),
    (
        "stats",
        "database total_server_assignment_count total_xact_count total_query_count total_received total_sent \
      total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count \
      total_bind_count",
    ),
];

#[test]
fn tables_have_the_columns_of_pgbouncer_and_tell_what_is() {
    told(async {
        let stage = stage(ADMINS).await;
        let boss = stage.console("boss").await;
        let mut client = stage.client("postgres", "postgres").await;
        let transaction = client.transaction().await.unwrap();
        let prepared = transaction.prepare("select $1::int").await.unwrap();
        transaction.query_one(&prepared, &[&7]).await.unwrap();
        for (show, columns) in THEIRS {
            let shown = table(&boss, &format!("SHOW {show};")).await;
            let columns: Vec<&str> = columns.split_whitespace().collect();
            assert_eq!(shown.columns[..columns.len()], columns, "{show}");
            assert!(!shown.rows.is_empty(), "{show}");
        }
        let pools = table(&boss, "show pools").await;
        let pool = |column| pools.number("user", "postgres", column);
        assert_eq!((pool("cl_active"), pool("sv_active"), pool("sv_idle"), pool("pool_size")), (1, 1, 0, 20));
        let clients = table(&boss, "show clients").await;
        let of = |column| clients.find("user", "postgres", column).unwrap();
        assert_eq!(
            (of("state"), of("application_name"), of("addr")),
            ("active".into(), "till".into(), "127.0.0.1".into())
        );
        // PgBouncer's administrators are clients as well, of a database of their own.
        let admin = |column| clients.find("database", "pgbouncer", column).unwrap();
        assert_eq!(
            (admin("user"), admin("state"), admin("application_name"), admin("link")),
            ("boss".into(), "active".into(), "till".into(), String::new())
        );
        assert_eq!(admin("ptr"), format!("c{}", admin("id")));
        let servers = table(&boss, "show servers").await;
        let server = |column| servers.find("user", "postgres", column).unwrap();
        assert_eq!(
            (server("state"), server("ptr"), server("link")),
            ("active".into(), of("link"), of("ptr"))
        );
        assert_eq!((server("role"), server("port")), ("primary".into(), stage.postgres.port.to_string()));
        let pid: i32 = transaction.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        assert_eq!(server("remote_pid"), pid.to_string());
        let shelf = table(&boss, "show prepared").await;
        assert!(shelf.find("query", "select $1::int", "name").is_some(), "{shelf:?}");
        transaction.commit().await.unwrap();
        wait_until(&boss, "show pools", |t| t.number("user", "postgres", "sv_idle") == 1).await;
        let other = stage.console("watcher").await;
        let idle = table(&other, "show clients").await;
        assert_eq!(idle.rows.len(), 3);
        drop(boss);
        let gone = |t: &Table| t.find("user", "boss", "state").is_none();
        wait_until(&other, "show clients", gone).await;
        assert_eq!(idle.find("user", "postgres", "state").unwrap(), "idle");
    });
}

#[test]
fn what_was_done_is_counted() {
    told(async {
        let stage = stage(ADMINS).await;
        let boss = stage.console("boss").await;
        let client = stage.client("postgres", "postgres").await;
        let before = table(&boss, "show stats").await;
        for _ in 0..10 {
            client.simple_query("select 1").await.unwrap();
        }
        client.batch_execute("begin; select 1").await.unwrap();
        client.batch_execute("select 2").await.unwrap();
        client.batch_execute("commit").await.unwrap();
        let text = "x".repeat(100_000);
        client.simple_query(&format!("select '{text}'")).await.unwrap();
        let after = table(&boss, "show stats").await;
        let more = |column| {
            after.number("database", "postgres", column) - before.number("database", "postgres", column)
        };
        assert_eq!(more("total_query_count"), 14);
        assert_eq!(more("total_xact_count"), 12);
        // The last of them may have been counted before its server was given back.
        assert_eq!(more("total_server_assignment_count"), 12);
        for bytes in ["total_received", "total_sent"] {
            assert!((100_000..110_000).contains(&more(bytes)), "{bytes}: {}", more(bytes));
        }
        let prepared = client.prepare("select 3").await.unwrap();
        client.query_one(&prepared, &[]).await.unwrap();
        client.query_one(&prepared, &[]).await.unwrap();
        let last = table(&boss, "show stats_totals").await;
        let number = |column| last.number("database", "postgres", column);
        assert_eq!(
            (number("client_parse_count"), number("server_parse_count"), number("bind_count")),
            (1, 1, 2)
        );
    });
}

#[test]
fn a_pause_waits_for_transactions_and_resume_wakes_everybody() {
    told(async {
        let stage = stage(ADMINS).await;
        let (boss, other) = (stage.console("boss").await, stage.console("boss").await);
        let client = stage.client("postgres", "postgres").await;
        client.batch_execute("begin").await.unwrap();
        let pausing = tokio::spawn(async move { boss.simple_query("PAUSE").await.map(|_| boss) });
        wait_until(&other, "show state", |t| t.find("key", "paused", "value").unwrap() == "yes").await;
        // The transaction goes on, and others wait.
        let late = stage.client("postgres", "postgres").await;
        let waiting = tokio::spawn(async move { late.simple_query("select 1").await });
        wait_until(&other, "show pools", |t| t.number("user", "postgres", "cl_waiting") == 1).await;
        client.batch_execute("select 1").await.unwrap();
        assert!(!pausing.is_finished() && !waiting.is_finished());
        client.batch_execute("commit").await.unwrap();
        let boss = pausing.await.unwrap().unwrap();
        let servers = table(&boss, "show servers").await;
        assert_eq!(servers.rows.len(), 0, "{servers:?}");
        assert_eq!(refused(&boss, "pause").await.0, "55000");
        assert!(!waiting.is_finished());
        boss.simple_query("resume").await.unwrap();
        waiting.await.unwrap().unwrap();
        client.simple_query("select 1").await.unwrap();
        assert_eq!(refused(&boss, "resume").await.0, "55000");
        // One database alone.
        boss.simple_query("pause postgres").await.unwrap();
        stage.client("postgres", "template1").await.simple_query("select 1").await.unwrap();
        let waiting = tokio::spawn(async move { client.simple_query("select 1").await });
        wait_until(&boss, "show pools", |t| t.number("database", "postgres", "cl_waiting") == 1).await;
        boss.simple_query("resume postgres").await.unwrap();
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn a_pause_can_be_cancelled_and_ends_with_who_asked_for_it() {
    told(async {
        let stage = stage(ADMINS).await;
        let (boss, other) = (stage.console("boss").await, stage.console("boss").await);
        let client = stage.client("postgres", "postgres").await;
        client.batch_execute("begin").await.unwrap();
        let is = |word: &'static str| {
            move |t: &crate::stage::Table| t.find("key", "paused", "value").unwrap() == word
        };
        // A cancel that comes too early is for nothing.
        boss.cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap();
        // Whoever sends one that way is not told when it has arrived.
        let arrived = "tanist_proxy_cancels_total 1\n";
        while !ask(stage.metrics, "GET /metrics HTTP/1.0\r\n\r\n").await.contains(arrived) {}
        let token = boss.cancel_token();
        let pausing = tokio::spawn(async move { boss.simple_query("pause").await.map(|_| boss) });
        wait_until(&other, "show state", is("yes")).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        let error = pausing.await.unwrap().err().unwrap();
        assert_eq!(said(&error).0, "57014");
        wait_until(&other, "show state", is("no")).await;
        // Who asked for it hangs up.
        let mut raw = stage.raw_console("boss").await;
        raw.write_all(b"Q\0\0\0\x0apause\0").await.unwrap();
        wait_until(&other, "show state", is("yes")).await;
        drop(raw);
        wait_until(&other, "show state", is("no")).await;
        client.batch_execute("commit").await.unwrap();
        client.batch_execute("select 1").await.unwrap();
    });
}

#[test]
fn a_pause_that_takes_too_long_names_who_holds_on_and_is_undone() {
    told(async {
        let stage = stage(IMPATIENT).await;
        let boss = stage.console("boss").await;
        let client = stage.client("postgres", "postgres").await;
        client.batch_execute("listen news").await.unwrap();
        let (code, words) = refused(&boss, "pause").await;
        assert_eq!(code, "55006", "{words}");
        assert!(
            words.contains("postgres@postgres") && words.contains("listens for notifications"),
            "{words}"
        );
        let pins = table(&boss, "show pins").await;
        assert_eq!(pins.find("user", "postgres", "pins").unwrap(), "listens for notifications");
        client.batch_execute("select 1").await.unwrap();
        stage.client("postgres", "postgres").await.simple_query("select 1").await.unwrap();
        boss.simple_query("reconnect").await.unwrap();
        assert_eq!(refused(&boss, "wait_close").await.0, "55006");
        client.batch_execute("unlisten *").await.unwrap();
        drop(client);
        boss.simple_query("wait_close").await.unwrap();
    });
}

#[test]
fn clients_are_ended_and_kept_out() {
    told(async {
        let stage = stage(ADMINS).await;
        let boss = stage.console("boss").await;
        let (one, two) =
            (stage.client("postgres", "postgres").await, stage.client("postgres", "template1").await);
        let clients = table(&boss, "show clients").await;
        let id = clients.find("database", "template1", "id").unwrap();
        boss.simple_query(&format!("kill_client {id}")).await.unwrap();
        wait_until_closed(&two).await;
        assert_eq!(refused(&boss, &format!("kill_client {id}")).await.0, "22023");
        one.simple_query("select 1").await.unwrap();
        boss.simple_query("disable postgres").await.unwrap();
        let error = connect(stage.port, "postgres", "postgres").await.err().unwrap();
        assert_eq!(said(&error).0, "55000");
        one.simple_query("select 1").await.unwrap();
        boss.simple_query("enable postgres").await.unwrap();
        let three = stage.client("postgres", "postgres").await;
        three.batch_execute("begin").await.unwrap();
        boss.simple_query("KILL postgres").await.unwrap();
        wait_until_closed(&one).await;
        wait_until_closed(&three).await;
        wait_until(&boss, "show servers", |t| t.find("database", "postgres", "id").is_none()).await;
        boss.simple_query("resume postgres").await.unwrap();
        stage.client("postgres", "postgres").await.simple_query("select 1").await.unwrap();
    });
}

#[test]
fn connections_are_made_anew_without_anybody_noticing() {
    told(async {
        let stage = stage(ADMINS).await;
        let boss = stage.console("boss").await;
        let client = stage.client("postgres", "postgres").await;
        client.batch_execute("begin").await.unwrap();
        let before = table(&boss, "show servers").await.find("user", "postgres", "id").unwrap();
        boss.simple_query("reconnect postgres").await.unwrap();
        assert_eq!(table(&boss, "show servers").await.number("user", "postgres", "close_needed"), 1);
        let waiting = tokio::spawn(async move { boss.simple_query("wait_close").await.map(|_| boss) });
        client.batch_execute("commit").await.unwrap();
        let boss = waiting.await.unwrap().unwrap();
        client.batch_execute("select 1").await.unwrap();
        assert_ne!(table(&boss, "show servers").await.find("user", "postgres", "id").unwrap(), before);
    });
}

#[test]
fn passwords_are_read_anew_or_not_at_all() {
    let lines = format!("auth.kind = \"file\"\nauth.file = \"DIR/users\"\n{ADMINS}");
    told(async {
        let both = "\"boss\" \"secret\"\n\"postgres\" \"secret\"\n";
        let stage = Stage::open(&lines, |dir| fs::write(dir.join("users"), both).unwrap()).await;
        let boss = stage.console("boss").await;
        let client = stage.client("postgres", "postgres").await;
        fs::write(stage.file("users"), "\"boss\" \"secret\"\n\"postgres\" \"other\"\n").unwrap();
        connect(stage.port, "postgres", "postgres").await.unwrap();
        boss.simple_query("reload").await.unwrap();
        let error = connect(stage.port, "postgres", "postgres").await.err().unwrap();
        assert_eq!(said(&error).0, "28P01");
        connect_with(stage.port, "postgres", "postgres", "other").await.unwrap();
        for bad in ["\"boss\" \"secret\"\nnonsense\n", "\"postgres\" \"SCRAM-SHA-256$4096:short\"\n"] {
            fs::write(stage.file("users"), bad).unwrap();
            let (code, words) = refused(&boss, "reload").await;
            assert_eq!(code, "F0000");
            assert!(words.contains("users"), "{words}");
            connect_with(stage.port, "postgres", "postgres", "other").await.unwrap();
        }
        client.simple_query("select 1").await.unwrap();
        // Who is no administrator learns nothing by a wrong password.
        let error = connect_with(stage.port, "postgres", "pgbouncer", "wrong").await.err().unwrap();
        assert_eq!(said(&error).0, "28P01");
        let error = connect_with(stage.port, "postgres", "pgbouncer", "other").await.err().unwrap();
        assert_eq!(said(&error).0, "28000");
    });
}

#[test]
fn drivers_that_know_only_the_extended_protocol_are_served() {
    told(async {
        let stage = stage(ADMINS).await;
        let boss = stage.console("boss").await;
        let rows = boss.query("SHOW LISTS", &[]).await.unwrap();
        let items: i32 = rows.iter().find(|r| r.get::<_, &str>(0) == "consoles").unwrap().get(1);
        assert_eq!(items, 1);
        let routes = boss.query_one("show routes", &[]).await.unwrap();
        assert_eq!(routes.get::<_, i64>("term"), 0);
        assert_eq!(routes.get::<_, &str>("primary"), format!("127.0.0.1:{}", stage.postgres.port));
        boss.execute("pause", &[]).await.unwrap();
        boss.execute("resume", &[]).await.unwrap();
        let error = boss.execute("resume", &[]).await.unwrap_err();
        assert_eq!(said(&error).0, "55000");
        assert_eq!(said(&boss.prepare("show nothing").await.err().unwrap()).0, "42601");
        boss.batch_execute("begin").await.unwrap();
        assert_eq!(boss.query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    });
}

#[test]
fn it_ends_at_once_or_with_the_last_client() {
    told(async {
        let mut stage = stage(ADMINS).await;
        let client = stage.client("postgres", "postgres").await;
        stage.console("boss").await.simple_query("shutdown").await.unwrap();
        wait_until_closed(&client).await;
        stage.wait_until_ended().await;
    });
    told(async {
        let mut stage = stage(ADMINS).await;
        let client = stage.client("postgres", "postgres").await;
        stage.console("boss").await.simple_query("shutdown wait_for_clients").await.unwrap();
        client.simple_query("select 1").await.unwrap();
        assert!(connect(stage.port, "postgres", "postgres").await.is_err());
        client.simple_query("select 1").await.unwrap();
        drop(client);
        stage.wait_until_ended().await;
    });
}
