//! Who may come in, and by which door: unix sockets, rules, ways of proving, balancers, cancels over two proxies.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::{Client, Error, NoTls};

use crate::stage::{Stage, connect, connect_with, said, table, told, wait_until};

/// A client by unix socket.
async fn by_socket(dir: &Path, port: u16, user: &str, database: &str) -> Result<Client, Error> {
    let how = format!("host={} port={port} user={user} dbname={database} password=secret", dir.display());
    let (client, connection) = tokio_postgres::connect(&how, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

const SLEEPERS: &str =
    "select state from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";

/// Until then a cancel would find nothing to cancel.
async fn wait_until_it_sleeps(stage: &Stage) {
    let server = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
    wait_until(&server, SLEEPERS, |t| !t.rows.is_empty()).await;
}

async fn wait_until_none_sleeps(stage: &Stage) {
    let server = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
    wait_until(&server, SLEEPERS, |t| t.rows.is_empty()).await;
}

/// The user that this test runs as.
fn own_name() -> String {
    let out = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_string()
}

#[test]
fn clients_come_by_unix_socket_and_the_server_is_reached_by_one() {
    told(async {
        let lines = "admin.users = [\"boss\"]\nunix_socket = { dir = \"DIR\", port = 7, mode = \"0700\" }\n";
        let stage = Stage::open_by_socket(lines, |_| {}).await;
        let client = by_socket(stage.dir(), 7, "postgres", "postgres").await.unwrap();
        let peer =
            table(&client, "select client_addr is null from pg_stat_activity where pid = pg_backend_pid()")
                .await;
        assert_eq!(peer.rows[0][0].as_deref(), Some("t"), "the server is reached by its socket");
        let path = stage.file(".s.PGSQL.7");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let boss = stage.console("boss").await;
        let clients = table(&boss, "show clients").await;
        assert_eq!(clients.find("database", "postgres", "addr").as_deref(), Some("unix"));
        // Cancels take the same way.
        let cancel = client.cancel_token();
        let waits = tokio::spawn(async move { client.simple_query("select pg_sleep(60)").await });
        wait_until_it_sleeps(&stage).await;
        cancel.cancel_query(NoTls).await.unwrap();
        assert_eq!(said(&waits.await.unwrap().unwrap_err()).0, "57014");
        // Nobody may take a socket that is in use, and nobody has.
        let taken = proxy::Config::parse(
            &format!(
                "listen = []\nauth.kind = \"trust\"\nunix_socket = {{ dir = \"{}\", port = 7 }}\n[[server]]\naddress = \"db:1\"\n",
                stage.dir().display()
            ),
            Path::new("second.toml"),
        );
        let why = proxy::run(taken.unwrap()).await.unwrap_err().to_string();
        assert!(why.contains("TAN0801") && why.contains("another proxy listens there"), "{why}");
        by_socket(stage.dir(), 7, "postgres", "postgres").await.unwrap();
    });
}

#[test]
fn a_socket_goes_with_its_proxy() {
    told(async {
        let lines = "admin.users = [\"boss\"]\nunix_socket.dir = \"DIR\"\n";
        let mut stage = Stage::open(lines, |_| {}).await;
        let path = stage.file(&format!(".s.PGSQL.{}", stage.port));
        assert!(path.exists());
        let boss = stage.console("boss").await;
        let _ = boss.simple_query("shutdown").await;
        stage.wait_until_ended().await;
        assert!(!path.exists());
    });
}

const RULES: &str = "# who may come in\n\
    local  all      all                      peer map=own\n\
    host   pgbouncer,postgres  boss  127.0.0.0 255.0.0.0  trust\n\
    host   \"postgres\"  plain , again  samehost  password\n\
    host   all      old           127.0.0.1/32  md5\n\
    host   all      scram         all           scram-sha-256\n\
    host   sameuser all           all           trust\n\
    host   all      banned        all           reject\n\
    host   all      banned        all           trust\n";

fn rules(dir: &Path) {
    std::fs::write(dir.join("hba.conf"), RULES).unwrap();
    std::fs::write(dir.join("ident.conf"), format!("own {} postgres\n", own_name())).unwrap();
    let users = "\"plain\" \"secret\"\n\"again\" \"md5a0e4c3a1e1ab1aa1a1a1a1a1a1a1a1a1\"\n\"old\" \"secret\"\n\
        \"scram\" \"secret\"\n\"empty\" \"\"\n";
    std::fs::write(dir.join("users"), users).unwrap();
}

#[test]
fn the_first_rule_that_fits_decides() {
    told(async {
        let lines = "auth.kind = \"file\"\nauth.file = \"DIR/users\"\nauth.hba_file = \"DIR/hba.conf\"\n\
            auth.ident_file = \"DIR/ident.conf\"\nunix_socket.dir = \"DIR\"\nadmin.users = [\"boss\"]\n";
        let stage = Stage::open(lines, rules).await;
        let boss = stage.client("boss", "pgbouncer").await;
        let server = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
        for user in ["plain", "old", "scram", "banned", "empty"] {
            server.batch_execute(&format!("create role {user} login")).await.unwrap();
        }
        for user in ["plain", "old", "scram"] {
            stage.client(user, "postgres").await.simple_query("select 1").await.unwrap();
            let wrong = connect_with(stage.port, user, "postgres", "wrong").await.err().unwrap();
            let words = format!("password authentication failed for user \"{user}\" ");
            assert_eq!(said(&wrong), ("28P01".to_string(), words));
        }
        let refused = async |user: &str, database: &str| {
            let (code, words) = said(&connect(stage.port, user, database).await.err().unwrap());
            assert_eq!(code, "28000", "{user} {database}: {words}");
            words
        };
        let words = refused("banned", "postgres").await;
        let tail = "for host \"127.0.0.1\", user \"banned\", database \"postgres\", no encryption ";
        assert_eq!(words, format!("pg_hba.conf rejects connection {tail}"));
        let words = refused("nobody", "template1").await;
        let tail = "for host \"127.0.0.1\", user \"nobody\", database \"template1\", no encryption ";
        assert_eq!(words, format!("no pg_hba.conf entry {tail}"));
        // All databases are not replication: the log of changes is a thing of its own.
        let mut socket = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
        let body = b"\0\x03\0\0user\0scram\0replication\0true\0\0";
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        socket.write_all(&[length.as_slice(), body].concat()).await.unwrap();
        let words = String::from_utf8_lossy(&answer(&mut socket).await).into_owned();
        assert!(words.contains("no pg_hba.conf entry"), "{words}");
        // By unix socket: the process is mapped to one user and no other.
        let socket = async |user: &str| by_socket(stage.dir(), stage.port, user, "postgres").await;
        socket("postgres").await.unwrap().simple_query("select 1").await.unwrap();
        let words = said(&socket("plain").await.err().unwrap());
        assert_eq!(words, ("28000".into(), "Peer authentication failed for user \"plain\" ".into()));
        // Rules are read anew, or not at all.
        std::fs::write(stage.file("hba.conf"), format!("{RULES}host all nobody all trust\n")).unwrap();
        refused("nobody", "postgres").await;
        boss.simple_query("reload").await.unwrap();
        let missing = connect(stage.port, "nobody", "postgres").await.err().unwrap();
        assert_eq!(said(&missing).1, "role \"nobody\" does not exist ");
        std::fs::write(stage.file("hba.conf"), "host all all all sspi\n").unwrap();
        assert_eq!(crate::stage::refused(&boss, "reload").await.0, "F0000");
        stage.client("plain", "postgres").await.simple_query("select 1").await.unwrap();
    });
}

#[test]
fn secrets_come_from_a_query() {
    told(async {
        let lines = "auth.kind = \"query\"\nauth.query_user = \"asker\"\nauth.method = \"md5\"\n\
            auth.file = \"DIR/users\"\nadmin.users = [\"asker\"]\n\
            [[database]]\nname = \"postgres\"\n\
            [[database]]\nname = \"odd\"\ndbname = \"postgres\"\n\
            query = \"select rolname, rolpassword from pg_authid where rolname = $1 or rolname = 'clerk'\"\n\
            [[database]]\nname = \"other\"\ndbname = \"postgres\"\n\
            query = \"select 'boss', rolpassword from pg_authid where rolname = $1\"\n\
            [[database]]\nname = \"slow\"\ndbname = \"postgres\"\n\
            query = \"select $1, pg_sleep(60)::text\"\n";
        let users = |dir: &Path| std::fs::write(dir.join("users"), "\"asker\" \"ask\"\n").unwrap();
        let stage = Stage::open(lines, users).await;
        let server = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
        let roles = "create role asker login superuser password 'ask'; create role clerk login password 'secret';\
            create role \"O'Brien$1\" login password 'secret'; create role nologin password 'secret';\
            create role bare login; create role late login password 'secret' valid until '2001-01-01';\
            set password_encryption = 'md5'; create role old login password 'secret'";
        server.batch_execute(roles).await.unwrap();
        for user in ["clerk", "old"] {
            stage.client(user, "postgres").await.simple_query("select 1").await.unwrap();
        }
        // A name is a parameter, whatever it says.
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(stage.port)
            .user("O'Brien$1")
            .dbname("postgres")
            .password("secret")
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client.simple_query("select 1").await.unwrap();
        for user in ["nobody", "nologin", "bare", "late", "' or true --"] {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(stage.port).dbname("postgres").password("secret").user(user);
            let error = config.connect(NoTls).await.err().unwrap();
            let words = format!("password authentication failed for user \"{user}\" ");
            assert_eq!(said(&error), ("28P01".to_string(), words));
        }
        // What could mean several is no answer.
        for database in ["odd", "other"] {
            let error = connect(stage.port, "old", database).await.err().unwrap();
            assert_eq!(
                said(&error),
                ("57P03".into(), "user \"old\" can't be looked up now ".into()),
                "{database}"
            );
        }
        // A password that was changed counts at once: who fails by the old one is asked for anew.
        server.batch_execute("alter role clerk password 'new'").await.unwrap();
        let _ = connect_with(stage.port, "clerk", "postgres", "new").await;
        connect_with(stage.port, "clerk", "postgres", "new").await.unwrap();
        let error = connect(stage.port, "clerk", "postgres").await.err().unwrap();
        assert_eq!(said(&error).0, "28P01");
        // A server that does not answer keeps nobody waiting for long, and nobody else at all.
        let slow = tokio::spawn(async move { connect(stage.port, "old", "slow").await.map(drop) });
        connect_with(stage.port, "clerk", "postgres", "new").await.unwrap();
        assert_eq!(said(&slow.await.unwrap().unwrap_err()).0, "57P03");
    });
}

#[test]
fn what_a_client_left_in_a_connection_does_not_reach_the_query() {
    told(async {
        let lines = "auth.kind = \"query\"\nauth.query_user = \"asker\"\nauth.file = \"DIR/users\"\n\
            auth.query = \"select rolname, rolpassword from credentials where rolname = $1\"\npool.size = 1\n";
        let users = |dir: &Path| std::fs::write(dir.join("users"), "\"asker\" \"ask\"\n").unwrap();
        let stage = Stage::open(lines, users).await;
        let server = connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
        let setup = "create role asker login superuser; create role clerk login;\
            create table credentials (rolname text, rolpassword text);\
            insert into credentials values ('clerk', 'secret');\
            create schema trap; create table trap.credentials (rolname text, rolpassword text);\
            insert into trap.credentials values ('clerk', 'trapped')";
        server.batch_execute(setup).await.unwrap();
        let asker = connect_with(stage.port, "asker", "postgres", "ask").await.unwrap();
        asker.batch_execute("set search_path = trap").await.unwrap();
        connect(stage.port, "clerk", "postgres").await.unwrap();
        let error = connect_with(stage.port, "clerk", "postgres", "trapped").await.err().unwrap();
        assert_eq!(said(&error).0, "28P01");
        let path = table(&asker, "show search_path").await;
        assert_eq!(path.rows[0][0].as_deref(), Some("trap"), "and the client has its own back");
    });
}

/// A startup packet.
fn startup(user: &str, database: &str) -> Vec<u8> {
    let body = [b"\0\x03\0\0user\0", user.as_bytes(), b"\0database\0", database.as_bytes(), b"\0\0"].concat();
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [length.as_slice(), &body].concat()
}

/// What is said until the other end closes, or is ready for a query.
async fn answer(socket: &mut TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"Z\0\0\0\x05I") {
        match socket.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => break,
        }
    }
    seen
}

#[test]
fn balancers_are_believed_and_nobody_else() {
    told(async {
        let (trusted, other) = (crate::stage::free_port(), crate::stage::free_port());
        let lines = format!(
            "auth.kind = \"trust\"\nadmin.users = [\"boss\"]\n\
             [[hba]]\ntype = \"host\"\naddress = \"203.0.113.0/24\"\nmethod = \"trust\"\n\
             [[hba]]\ntype = \"host\"\nuser = \"postgres,boss\"\naddress = \"samehost\"\nmethod = \"trust\"\n\
             [[listener]]\naddress = \"127.0.0.1:{trusted}\"\nproxy_protocol = true\nbalancers = [\"127.0.0.0/8\"]\n\
             [[listener]]\naddress = \"127.0.0.1:{other}\"\nproxy_protocol = true\nbalancers = [\"192.0.2.0/24\"]\n"
        );
        let stage = Stage::open(&lines, |_| {}).await;
        let v2 = [
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
            &[203, 0, 113, 7, 198, 51, 100, 1, 0x10, 0x92, 0x18, 0x38],
        ]
        .concat();
        let boss = stage.console("boss").await;
        for header in [b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 6200\r\n".to_vec(), v2] {
            let mut socket = TcpStream::connect(("127.0.0.1", trusted)).await.unwrap();
            // The client's first bytes come with the header, and are kept.
            socket.write_all(&[header, startup("postgres", "postgres")].concat()).await.unwrap();
            assert!(answer(&mut socket).await.ends_with(b"Z\0\0\0\x05I"));
            let clients = table(&boss, "show clients").await;
            assert_eq!(clients.find("addr", "203.0.113.7", "port").as_deref(), Some("4242"));
        }
        // The rules see the address that was told: this one is of nowhere, and told to be of this host.
        for told in ["198.51.100.9", "127.0.0.1"] {
            let header = format!("PROXY TCP4 {told} 198.51.100.1 1 2\r\n").into_bytes();
            let mut socket = TcpStream::connect(("127.0.0.1", trusted)).await.unwrap();
            socket.write_all(&[header, startup("postgres", "postgres")].concat()).await.unwrap();
            let said = String::from_utf8_lossy(&answer(&mut socket).await).into_owned();
            assert!(said.contains(&format!("no pg_hba.conf entry for host \"{told}\"")), "{said}");
        }
        // From a balancer there must be one that is understood.
        let closed = [startup("postgres", "postgres"), b"PROXY TCP4 nonsense\r\n".to_vec()];
        for bytes in closed {
            let mut socket = TcpStream::connect(("127.0.0.1", trusted)).await.unwrap();
            socket.write_all(&bytes).await.unwrap();
            assert_eq!(answer(&mut socket).await, b"", "{bytes:?}");
        }
        // Who is none comes in as itself, and its header is no startup packet.
        let mut socket = TcpStream::connect(("127.0.0.1", other)).await.unwrap();
        socket.write_all(&startup("postgres", "postgres")).await.unwrap();
        assert!(answer(&mut socket).await.ends_with(b"Z\0\0\0\x05I"));
        let mut socket = TcpStream::connect(("127.0.0.1", other)).await.unwrap();
        socket.write_all(b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 6200\r\n").await.unwrap();
        let said = String::from_utf8_lossy(&answer(&mut socket).await).into_owned();
        assert!(said.contains("invalid length of startup packet"), "{said}");
    });
}

#[test]
fn a_cancel_key_is_right_to_the_byte() {
    told(async {
        for lines in ["", "peer_id = 3\n"] {
            let stage = Stage::open(lines, |_| {}).await;
            let mut client = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
            client.write_all(&startup("postgres", "postgres")).await.unwrap();
            let greeting = answer(&mut client).await;
            let at = greeting.windows(5).position(|w| w == b"K\0\0\0\x0c").unwrap() + 5;
            let pid = u32::from_be_bytes(greeting[at..at + 4].try_into().unwrap());
            let secret = &greeting[at + 4..at + 8];
            for tail in [&b"\0"[..], b"\x01", b"\x02", b"0000", b"tanist"] {
                let mut cancel = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
                let mut bytes = Vec::new();
                wire::start::ask::cancel(pid, &[secret, tail].concat(), &mut bytes);
                cancel.write_all(&bytes).await.unwrap();
                assert_eq!(answer(&mut cancel).await, b"");
            }
            let page = crate::metrics::ask(stage.metrics, "GET /metrics HTTP/1.0\r\n\r\n").await;
            assert!(page.contains("tanist_proxy_cancels_total 0\n"), "{page}");
        }
    });
}

#[test]
fn nothing_may_stand_behind_a_request_for_encryption() {
    told(async {
        let stage = Stage::open("", |_| {}).await;
        for (code, name) in [(0x2f, "SSL"), (0x30, "GSSAPI encryption")] {
            let request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, code];
            let mut client = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
            client.write_all(&[&request[..], &startup("postgres", "postgres")].concat()).await.unwrap();
            let said = String::from_utf8_lossy(&answer(&mut client).await).into_owned();
            assert!(said.contains(&format!("received unencrypted data after {name} request")), "{said}");
            // Behind the answer it is right.
            let mut client = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
            client.write_all(&request).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'N');
            client.write_all(&startup("postgres", "postgres")).await.unwrap();
            assert!(answer(&mut client).await.ends_with(b"Z\0\0\0\x05I"));
        }
    });
}

#[test]
fn a_cancel_reaches_the_proxy_that_it_is_for() {
    told(async {
        let (one, two) = (crate::stage::free_port(), crate::stage::free_port());
        let peers = |own: u8, port: u16| {
            format!(
                "peer_id = {own}\nadmin.users = [\"boss\"]\n\
                 [[listener]]\naddress = \"127.0.0.1:{port}\"\n\
                 [[peer]]\nid = 1\naddress = \"127.0.0.1:{one}\"\n[[peer]]\nid = 2\naddress = \"127.0.0.1:{two}\"\n"
            )
        };
        let first = Stage::open(&peers(1, one), |_| {}).await;
        let second = Stage::open(&peers(2, two), |_| {}).await;
        let (boss, other) = (first.console("boss").await, second.console("boss").await);
        let client = first.client("postgres", "postgres").await;
        let id = table(&boss, "show clients").await.number("database", "postgres", "id");
        let sleeps = tokio::spawn(async move { client.simple_query("select pg_sleep(60)").await });
        wait_until_it_sleeps(&first).await;
        // A stranger's guess is passed on and changes nothing; a length that nobody hands out is not.
        for secret in [&[0_u8; 4][..], &[0; 5], &[0; 256]] {
            let mut socket = TcpStream::connect(("127.0.0.1", second.port)).await.unwrap();
            let mut bytes = Vec::new();
            wire::start::ask::cancel(u32::try_from(id).unwrap(), secret, &mut bytes);
            socket.write_all(&bytes).await.unwrap();
            assert_eq!(answer(&mut socket).await, b"");
        }
        assert!(!sleeps.is_finished());
        assert_eq!(proxy::cancel_key::Owner::of(u32::try_from(id).unwrap()).peer, 1);
        boss.simple_query(&format!("kill_client {id}")).await.unwrap();
        assert!(sleeps.await.unwrap().is_err());
        wait_until_none_sleeps(&first).await;
        // The real one, sent to the other proxy.
        let mut socket = TcpStream::connect(("127.0.0.1", first.port)).await.unwrap();
        socket.write_all(&startup("postgres", "postgres")).await.unwrap();
        let greeting = answer(&mut socket).await;
        let at = greeting.windows(5).position(|w| w == b"K\0\0\0\x0c").unwrap() + 5;
        let pid = u32::from_be_bytes(greeting[at..at + 4].try_into().unwrap());
        let mut query = Vec::new();
        wire::front::query(&mut query, b"select pg_sleep(60)");
        socket.write_all(&query).await.unwrap();
        wait_until_it_sleeps(&first).await;
        let mut cancel = TcpStream::connect(("127.0.0.1", second.port)).await.unwrap();
        let mut bytes = Vec::new();
        wire::start::ask::cancel(pid, &greeting[at + 4..at + 8], &mut bytes);
        cancel.write_all(&bytes).await.unwrap();
        let said = String::from_utf8_lossy(&answer(&mut socket).await).into_owned();
        assert!(said.contains("57014"), "{said}");
        other.simple_query("show clients").await.unwrap();
    });
}
