//! A PostgreSQL with a proxy before it, both on ports of their own, both gone with the test.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

/// Generous: what is waited for takes well under a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A port that nobody has now, below those that connections are given as their own: one of these would be anybody's
/// before it is listened on.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let ports = 10_000..32_000_u32;
    let count = ports.end - ports.start;
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..count {
        let turn = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(ports.start + turn % count).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free between 10000 and 32000");
}

/// PostgreSQL refuses to run as root.
pub fn as_server(program: &str) -> Command {
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let path = format!("{BIN}/{program}");
    if !root {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command
}

fn run_ok(command: &mut Command) {
    let out = command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A PostgreSQL that trusts whoever comes.
pub struct Postgres {
    pub dir: tempfile::TempDir,
    pub port: u16,
    child: Child,
}

impl Postgres {
    pub fn start() -> Postgres {
        let dir = folder();
        let pgdata = dir.path().join("pgdata");
        let flags = ["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"];
        run_ok(as_server("initdb").args(flags).arg("-D").arg(&pgdata));
        Postgres::serve(dir)
    }

    /// A standby of `leader`, streaming from it.
    pub fn follow(leader: &Postgres) -> Postgres {
        let dir = folder();
        let from = ["-h", "127.0.0.1", "-U", "postgres", "-p", &leader.port.to_string()].map(str::to_string);
        let mut copy = as_server("pg_basebackup");
        run_ok(
            copy.args(from)
                .args(["-R", "-X", "stream", "-c", "fast"])
                .arg("-D")
                .arg(dir.path().join("pgdata")),
        );
        Postgres::serve(dir)
    }

    fn serve(dir: tempfile::TempDir) -> Postgres {
        let pgdata = dir.path().join("pgdata");
        let port = free_port();
        let mut command = as_server("postgres");
        command
            .arg("-D")
            .arg(&pgdata)
            .args(["-p", &port.to_string(), "-k"])
            .arg(dir.path())
            .args(["-c", "fsync=off"]);
        command.args(["-c", "shared_buffers=16MB", "-c", "listen_addresses=127.0.0.1"]).current_dir("/");
        command.args(["-c", "wal_level=logical", "-c", "wal_keep_size=64MB"]);
        command.args(["-c", "log_statement=all", "-c", "log_line_prefix="]);
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Postgres { dir, port, child }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All that it has logged: every statement among it.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// A client of its own, as soon as it lets one in.
    pub async fn wait_until_client(&self) -> Client {
        let begun = Instant::now();
        loop {
            match connect(self.port, "postgres", "postgres").await {
                Ok(client) => return client,
                Err(why) => assert!(begun.elapsed() < PATIENCE, "no answer: {why}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One that PostgreSQL's user may write to.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("tanist-proxy-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pgdata = self.dir.path().join("pgdata");
        let _ = as_server("pg_ctl").args(["stop", "-m", "immediate", "-D"]).arg(pgdata).output();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// More than one, so that what clients of different threads share is met by every test.
pub const THREADS: usize = 3;
/// A proxy in a thread of its own.
pub fn run_proxy(text: &str) -> std::thread::JoinHandle<Result<(), proxy::run::RunError>> {
    run_proxy_of(proxy::Config::parse(text, Path::new("test.toml")).unwrap())
}

/// The same, of a configuration that was read.
pub fn run_proxy_of(config: proxy::Config) -> std::thread::JoinHandle<Result<(), proxy::run::RunError>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(proxy::run(config))
    })
}

/// Both.
pub struct Stage {
    pub postgres: Postgres,
    pub port: u16,
    pub metrics: u16,
    proxy: Option<std::thread::JoinHandle<Result<(), proxy::run::RunError>>>,
}

impl Stage {
    /// A proxy with these lines in its configuration; `DIR` stands for a folder of the test's own.
    pub async fn open(lines: &str, prepare: impl Fn(&Path)) -> Stage {
        Stage::before(Postgres::start(), lines, prepare, "127.0.0.1").await
    }

    /// The same, with the server reached by its unix socket.
    pub async fn open_by_socket(lines: &str, prepare: impl Fn(&Path)) -> Stage {
        Stage::before(Postgres::start(), lines, prepare, "DIR").await
    }

    async fn before(postgres: Postgres, lines: &str, prepare: impl Fn(&Path), host: &str) -> Stage {
        prepare(postgres.dir.path());
        let (port, metrics) = (free_port(), free_port());
        let trust = if lines.contains("auth.") { "" } else { "auth.kind = \"trust\"\n" };
        let text = format!(
            "listen = [\"127.0.0.1:{port}\"]\nthreads = {THREADS}\n{trust}{lines}\n\
             [metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\
             [[server]]\naddress = \"{host}:{}\"\n",
            postgres.port
        );
        let text = text.replace("DIR", postgres.dir.path().to_str().unwrap());
        let stage = Stage { postgres, port, metrics, proxy: Some(run_proxy(&text)) };
        stage.wait_until_up().await;
        stage
    }

    async fn wait_until_up(&self) {
        for port in [self.postgres.port, self.port] {
            let begun = Instant::now();
            while connect(port, "postgres", "postgres").await.is_err() {
                let refused =
                    connect(port, "postgres", "postgres").await.err().and_then(|e| e.code().cloned());
                if port == self.port
                    && refused.is_some_and(|c| ["28P01", "3D000", "28000", "57P03"].contains(&c.code()))
                {
                    return; // it is up, and knows them not
                }
                assert!(begun.elapsed() < PATIENCE, "nobody listens on port {port}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// A client of the proxy.
    pub async fn client(&self, user: &str, database: &str) -> Client {
        connect(self.port, user, database).await.unwrap()
    }

    /// The console.
    pub async fn console(&self, user: &str) -> Client {
        self.client(user, "pgbouncer").await
    }

    /// The console as bare bytes, behind its greeting.
    pub async fn raw_console(&self, user: &str) -> TcpStream {
        self.raw(user, "pgbouncer").await
    }

    /// A client as bare bytes, behind its greeting.
    pub async fn raw(&self, user: &str, database: &str) -> TcpStream {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let names = [b"\0\x03\0\0user\0", user.as_bytes(), b"\0database\0", database.as_bytes()];
        let body = [names.concat().as_slice(), b"\0\0"].concat();
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        socket.write_all(&[length.as_slice(), &body].concat()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"Z\0\0\0\x05I") {
            seen.push(socket.read_u8().await.unwrap());
        }
        socket
    }

    /// All that a client is told after its login if it asks for this and then nothing more.
    pub async fn last_words(&self, user: &str, database: &str, text: &str) -> String {
        let mut socket = self.raw(user, database).await;
        let length = u32::try_from(text.len() + 5).unwrap().to_be_bytes();
        socket.write_all(&[b"Q", length.as_slice(), text.as_bytes(), b"\0"].concat()).await.unwrap();
        let mut said = Vec::new();
        tokio::time::timeout(PATIENCE, socket.read_to_end(&mut said)).await.unwrap().unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits until the proxy has ended by itself.
    pub async fn wait_until_ended(&mut self) {
        let begun = Instant::now();
        let proxy = self.proxy.take().unwrap();
        while !proxy.is_finished() {
            assert!(begun.elapsed() < PATIENCE, "the proxy goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy.join().unwrap().unwrap();
    }

    /// The test's own folder; the server's socket is there as well.
    pub fn dir(&self) -> &Path {
        self.postgres.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.postgres.dir.path().join(name)
    }
}

/// A connection without a password, or with `tanist` as one.
pub async fn connect(port: u16, user: &str, database: &str) -> Result<Client, Error> {
    connect_with(port, user, database, "secret").await
}

pub async fn connect_with(port: u16, user: &str, database: &str, password: &str) -> Result<Client, Error> {
    let how = format!(
        "host=127.0.0.1 port={port} user={user} dbname={database} password={password} application_name=till"
    );
    let (client, connection) = tokio_postgres::connect(&how, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A table as it was shown: names of columns, and rows of texts.
#[derive(Debug, Default)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// The field of the first row whose `key` is `is`.
    pub fn find(&self, key: &str, is: &str, column: &str) -> Option<String> {
        let at = |name: &str| self.columns.iter().position(|c| c == name).unwrap();
        let row = self.rows.iter().find(|row| row[at(key)].as_deref() == Some(is))?;
        row[at(column)].clone()
    }

    pub fn number(&self, key: &str, is: &str, column: &str) -> u64 {
        self.find(key, is, column).unwrap_or_else(|| panic!("no {is} in {self:?}")).parse().unwrap()
    }
}

pub async fn table(client: &Client, text: &str) -> Table {
    let mut table = Table::default();
    for message in client.simple_query(text).await.unwrap_or_else(|e| panic!("{text}: {e:?}")) {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                table.columns = columns.iter().map(|c| c.name().to_string()).collect();
            }
            SimpleQueryMessage::Row(row) => {
                table.rows.push((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect());
            }
            _ => {}
        }
    }
    table
}

/// The SQLSTATE that a command fails with, and what else is said.
pub async fn refused(client: &Client, text: &str) -> (String, String) {
    let error = client.simple_query(text).await.err().unwrap_or_else(|| panic!("{text} was done"));
    said(&error)
}

pub fn said(error: &Error) -> (String, String) {
    let Some(db) = error.as_db_error() else { return (String::new(), error.to_string()) };
    (db.code().code().to_string(), format!("{} {}", db.message(), db.detail().unwrap_or_default()))
}

/// Looks until a table is as it should be.
pub async fn wait_until(console: &Client, text: &str, holds: impl Fn(&Table) -> bool) -> Table {
    let begun = Instant::now();
    loop {
        let now = table(console, text).await;
        if holds(&now) {
            return now;
        }
        assert!(begun.elapsed() < PATIENCE, "{text}: {now:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Looks until there is what is looked for; `else_` says what is wrong if it never comes.
pub async fn wait_until_some<T>(else_: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{else_}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Looks until a client is gone.
pub async fn wait_until_closed(client: &Client) {
    let begun = Instant::now();
    while !client.is_closed() {
        assert!(begun.elapsed() < PATIENCE, "the client is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn told(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(story);
}
