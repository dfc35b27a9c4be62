//! Replication through the proxy: PostgreSQL's own programs, and what the console tells of them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::follow::{NAMES, Shop};
use crate::stage::{
    PATIENCE, Postgres, Stage, as_server, connect, free_port, run_proxy, said, table, told, wait_until,
};

const LINES: &str = r#"
admin.users = ["boss"]
[[database]]
name = "one"
dbname = "postgres"
pool_size = 1
[[database]]
name = "*"
"#;

async fn stage() -> Stage {
    Stage::open(LINES, |_| {}).await
}

/// One of PostgreSQL's programs, which connects to the proxy.
fn program(stage: &Stage, name: &str) -> Command {
    let mut command = as_server(name);
    command.args(["-h", "127.0.0.1", "-p", &stage.port.to_string(), "-U", "postgres", "--no-password"]);
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// A client that asked for replication, behind its greeting.
async fn replicating(port: u16, database: &str, what: &str) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let pairs = ["user", "postgres", "database", database, "replication", what, "application_name", "copier"];
    let mut body = b"\0\x03\0\0".to_vec();
    pairs.iter().for_each(|text| body.extend(text.bytes().chain([0])));
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    socket.write_all(&[length.as_slice(), &body].concat()).await.unwrap();
    read_until(&mut socket, b"Z\0\0\0\x05I").await;
    socket
}

async fn read_until(socket: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    let reads = async {
        while !seen.ends_with(end) {
            seen.push(socket.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, reads).await.unwrap();
    seen
}

async fn ask(socket: &mut TcpStream, text: &str, end: &[u8]) -> String {
    let length = u32::try_from(text.len() + 5).unwrap().to_be_bytes();
    socket.write_all(&[b"Q", length.as_slice(), text.as_bytes(), b"\0"].concat()).await.unwrap();
    String::from_utf8_lossy(&read_until(socket, end).await).into_owned()
}

const READY: &[u8] = b"Z\0\0\0\x05I";

#[test]
fn a_base_backup_and_its_wal_come_through() {
    told(async {
        let stage = stage().await;
        let copy = stage.file("copy");
        let mut backup = program(&stage, "pg_basebackup");
        let out =
            backup.args(["--checkpoint=fast", "--wal-method=stream", "-D"]).arg(&copy).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let verified = as_server("pg_verifybackup").arg(&copy).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        // Nothing of it is left in a pool, whatever its name was.
        let boss = stage.console("boss").await;
        wait_until(&boss, "show servers", |t| t.find("replication", "physical", "id").is_none()).await;
    });
}

#[test]
fn wal_is_received_and_the_console_tells() {
    told(async {
        let stage = stage().await;
        let boss = stage.console("boss").await;
        let client = stage.client("postgres", "postgres").await;
        client.batch_execute("select pg_create_physical_replication_slot('kept', true)").await.unwrap();
        let folder = stage.file("wal");
        std::fs::create_dir(&folder).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&folder, open).unwrap();
        let mut receive = program(&stage, "pg_receivewal");
        let mut child = receive.args(["--slot=kept", "--no-loop", "-D"]).arg(&folder).spawn().unwrap();
        let streams = |t: &crate::stage::Table| t.find("replication", "physical", "state").is_some();
        wait_until(&boss, "show servers", streams).await;
        let clients = wait_until(&boss, "show clients", streams).await;
        let of = |column| clients.find("replication", "physical", column).unwrap();
        assert_eq!((of("application_name"), of("state")), ("pg_receivewal".into(), "active".into()));
        // What is written arrives, and is confirmed to the server.
        client.batch_execute("create table a(n int); select pg_switch_wal()").await.unwrap();
        let flushed = "select 1 from pg_stat_replication where flush_lsn >= pg_current_wal_lsn() \
                       - pg_size_bytes('16MB') and application_name = 'pg_receivewal'";
        wait_until(&client, flushed, |t| t.rows.len() == 1).await;
        boss.batch_execute(&format!("kill_client {}", of("id"))).await.unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it goes on");
        }
        wait_until(&boss, "show servers", |t| !streams(t)).await;
    });
}

#[test]
fn changes_are_decoded() {
    told(async {
        let stage = stage().await;
        let client = stage.client("postgres", "postgres").await;
        client.batch_execute("create table a(n int)").await.unwrap();
        let made = "select pg_create_logical_replication_slot('decoded', 'test_decoding')";
        client.batch_execute(made).await.unwrap();
        let mut receive = program(&stage, "pg_recvlogical");
        receive.args(["-d", "postgres", "--slot=decoded", "--start", "--no-loop", "-f", "-"]);
        let mut child = receive.stdout(Stdio::piped()).spawn().unwrap();
        client.batch_execute("insert into a values (7)").await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find(|l| l.as_ref().is_ok_and(|l| l.starts_with("table public.a: INSERT")));
        assert_eq!(line.unwrap().unwrap(), "table public.a: INSERT: n[integer]:7");
        let _ = child.kill();
        child.wait().unwrap();
    });
}

#[test]
fn it_counts_against_limits_and_is_cancelled_like_any_other() {
    told(async {
        let stage = stage().await;
        let boss = stage.console("boss").await;
        // An idle connection makes room.
        let client = stage.client("postgres", "one").await;
        client.simple_query("select 1").await.unwrap();
        let mut copier = replicating(stage.port, "one", "database").await;
        assert!(ask(&mut copier, "IDENTIFY_SYSTEM", READY).await.contains("IDENTIFY_SYSTEM"));
        let name = ask(&mut copier, "SHOW application_name", READY).await;
        assert!(name.contains("copier"), "{name}");
        let servers = table(&boss, "show servers").await;
        let of_one = servers.rows.iter().filter(|r| r.contains(&Some("one".to_string()))).count();
        assert_eq!(of_one, 1, "{servers:?}");
        assert_eq!(servers.find("database", "one", "replication").unwrap(), "logical");
        // The pool has one place: others wait until it is free again.
        let waiting = tokio::spawn(async move { client.simple_query("select 2").await.map(|_| client) });
        wait_until(&boss, "show pools", |t| t.number("database", "one", "cl_waiting") == 1).await;
        drop(copier);
        let client = waiting.await.unwrap().unwrap();
        drop(client);
        // A cancel reaches its server.
        let mut socket = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
        let body = b"\0\x03\0\0user\0postgres\0database\0one\0replication\0database\0\0";
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        socket.write_all(&[length.as_slice(), body].concat()).await.unwrap();
        let greeting = read_until(&mut socket, READY).await;
        let key = greeting.windows(5).position(|w| w == b"K\0\0\0\x0c").unwrap();
        let cancel = [b"\0\0\0\x10\x04\xd2\x16\x2e", &greeting[key + 5..key + 13]].concat();
        socket.write_all(b"Q\0\0\0\x19select pg_sleep(600)\0").await.unwrap();
        let running = "select 1 from pg_stat_activity where query = 'select pg_sleep(600)'";
        let look = stage.client("postgres", "postgres").await;
        wait_until(&look, running, |t| t.rows.len() == 1).await;
        TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap().write_all(&cancel).await.unwrap();
        let answer = String::from_utf8_lossy(&read_until(&mut socket, READY).await).into_owned();
        assert!(answer.contains("57014"), "{answer}");
    });
}

#[test]
fn who_may_not_replicate_is_told_as_the_server_says_it() {
    told(async {
        let stage = stage().await;
        let client = stage.client("postgres", "postgres").await;
        client.batch_execute("create role clerk login").await.unwrap();
        let out = as_server("pg_receivewal")
            .args(["-h", "127.0.0.1", "-p", &stage.port.to_string(), "-U", "clerk", "--no-loop", "-D", "/"])
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(words.contains("must be superuser or replication role"), "{words}");
        // And an ordinary client of the same name comes in.
        let clerk = connect(stage.port, "clerk", "postgres").await.unwrap();
        let error = clerk.simple_query("select * from pg_authid").await.err().unwrap();
        assert_eq!(said(&error).0, "42501");
    });
}

#[test]
fn a_stream_ends_when_another_leads() {
    let shop = Shop::open();
    shop.identity("proxy-1");
    let (postgres, port) = (Postgres::start(), free_port());
    let here = format!("127.0.0.1:{}", postgres.port);
    let dir = shop.dir.path().display();
    run_proxy(&format!(
        "listen = [\"127.0.0.1:{port}\"]\nauth.kind = \"trust\"\n[cluster]\nagents = [\"{}\"]\n\
         ca = \"{dir}/ca.crt\"\ncert = \"{dir}/proxy-1.crt\"\nkey = \"{dir}/proxy-1.key\"\n",
        shop.agents[0].address
    ));
    told(async {
        let leads = |routes: &mut api::routes::Routes| routes.members[0].postgres.clone_from(&here);
        let first = shop.say(&NAMES, 4, "n1", leads);
        let begun = Instant::now();
        while connect(port, "postgres", "postgres").await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "nobody comes in");
        }
        let mut copier = replicating(port, "postgres", "database").await;
        assert!(ask(&mut copier, "IDENTIFY_SYSTEM", READY).await.contains("postgres"));
        // Its server is still there, whoever speaks of it: only another leader ends it.
        drop(first);
        assert!(ask(&mut copier, "IDENTIFY_SYSTEM", READY).await.contains("postgres"));
        let _second = shop.say(&NAMES, 5, "n2", leads);
        let mut last = Vec::new();
        tokio::time::timeout(PATIENCE, copier.read_to_end(&mut last)).await.unwrap().unwrap();
        let last = String::from_utf8_lossy(&last).into_owned();
        assert!(last.contains("57P01") && last.contains("another server leads"), "{last}");
    });
}
