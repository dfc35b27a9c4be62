//! Real servers for the tests of WAL, rewind and clone: as small as they can be,
//! reached through unix sockets, with fsync on, killed by pid and removed at the end.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod hands;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster::{Lsn, Timeline};
use postgres::RunAs;

/// Generous: what is waited for here takes well under a second on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A server and its directory.
pub struct Server {
    pub bin: PathBuf,
    pub dir: PathBuf,
    pub pgdata: PathBuf,
    pub port: u16,
    running: Option<Child>,
}

/// PostgreSQL 15 of the distribution, and what `TANIST_TEST_PG_BINS` names (colon between).
pub fn all_bins() -> Vec<PathBuf> {
    let more = std::env::var("TANIST_TEST_PG_BINS").unwrap_or_default();
    let more: Vec<PathBuf> = more.split(':').filter(|b| !b.is_empty()).map(PathBuf::from).collect();
    [vec![bin15()], more].concat()
}

pub fn bin15() -> PathBuf {
    PathBuf::from("/usr/lib/postgresql/15/bin")
}

/// A directory that the server's user may enter and the test removes.
pub fn scratch() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("tanist-test-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    RunAs::for_server().unwrap().own(dir.path()).unwrap();
    dir
}

pub fn run(command: &mut Command) -> (bool, String, String) {
    RunAs::for_server().unwrap().apply(command);
    let out = command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    (out.status.success(), text(out.stdout), text(out.stderr))
}

pub fn run_ok(command: &mut Command) -> String {
    let (ok, out, err) = run(command);
    assert!(ok, "{command:?}: {out}{err}");
    out
}

pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Start of the last record that `pg_waldump` finds from `start` on, if any.
pub fn waldump_last(bin: &Path, pg_wal: &Path, timeline: Timeline, start: Lsn) -> Option<Lsn> {
    let mut command = Command::new(bin.join("pg_waldump"));
    command.arg("-p").arg(pg_wal).args(["-t", &timeline.to_string(), "-s", &start.to_string()]);
    let (_, out, _) = run(&mut command);
    let lsn = out.lines().rev().find_map(|l| l.split("lsn: ").nth(1)?.split(',').next());
    lsn.map(|l| l.trim().parse().unwrap())
}

/// A directory with nothing but what the scanner reads.
pub fn copy_wal(server: &Server, to: &Path) -> PathBuf {
    let pgdata = to.join("copy");
    run_ok(Command::new("rm").arg("-rf").arg(&pgdata));
    run_ok(Command::new("mkdir").arg("-p").arg(pgdata.join("global")));
    run_ok(Command::new("cp").arg("-r").arg(server.pgdata.join("pg_wal")).arg(&pgdata));
    run_ok(Command::new("cp").arg(server.pgdata.join("global/pg_control")).arg(pgdata.join("global")));
    pgdata
}

impl Server {
    pub fn initdb(bin: &Path, dir: &Path, name: &str, segment_mb: u32) -> Server {
        let server = Server::at(bin, dir, name);
        run_ok(
            Command::new(bin.join("initdb"))
                .args(["-A", "trust", "-U", "postgres", "-k", "--no-sync", "-E", "UTF8", "--locale=C"])
                .arg(format!("--wal-segsize={segment_mb}"))
                .arg("-D")
                .arg(&server.pgdata),
        );
        server.configure();
        server
    }

    /// A server in `<dir>/<name>/pgdata`, whatever is there.
    pub fn at(bin: &Path, dir: &Path, name: &str) -> Server {
        let dir = dir.join(name);
        if !dir.exists() {
            fs::create_dir(&dir).unwrap();
            RunAs::for_server().unwrap().own(&dir).unwrap();
        }
        let pgdata = dir.join("pgdata");
        Server { bin: bin.to_path_buf(), pgdata, dir, port: 5432, running: None }
    }

    pub fn configure(&self) {
        let conf = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nwal_level = replica\nmax_wal_senders = 10\n\
             hot_standby = on\nwal_log_hints = on\nwal_retrieve_retry_interval = '100ms'\nmax_wal_size = '1GB'\n\
             checkpoint_timeout = '1h'\nshared_buffers = '16MB'\nautovacuum = off\nlog_min_messages = info\n\
             restart_after_crash = off\nwal_keep_{} = 64\n",
            self.dir.display(),
            if self.major() < 13 { "segments" } else { "size" },
        );
        fs::write(self.pgdata.join("postgresql.conf"), conf).unwrap();
    }

    pub fn major(&self) -> u32 {
        fs::read_to_string(self.pgdata.join("PG_VERSION")).unwrap().trim().parse().unwrap()
    }

    pub fn start(&mut self) {
        self.spawn();
        wait_until("the server to take connections", || self.try_sql("select 1").is_ok());
    }

    /// Without waiting for anything.
    pub fn spawn(&mut self) {
        assert!(self.running.is_none());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new(self.bin.join("postgres"));
        command.arg("-D").arg(&self.pgdata).env("LC_ALL", "C");
        command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        RunAs::for_server().unwrap().apply(&mut command);
        self.running = Some(command.spawn().unwrap());
    }

    pub fn pid(&self) -> i32 {
        self.running.as_ref().unwrap().id() as i32
    }

    /// As a standby of `upstream`, or of nobody.
    pub fn start_standby(&mut self, upstream: Option<&str>) {
        self.make_standby(upstream);
        self.start();
    }

    pub fn make_standby(&self, upstream: Option<&str>) {
        let conninfo = upstream.unwrap_or_default();
        if self.major() < 12 {
            let conf = format!(
                "standby_mode = on\nrecovery_target_timeline = latest\nprimary_conninfo = '{conninfo}'\n"
            );
            fs::write(self.pgdata.join("recovery.conf"), conf).unwrap();
            RunAs::for_server().unwrap().own(&self.pgdata.join("recovery.conf")).unwrap();
            return;
        }
        fs::write(self.pgdata.join("standby.signal"), "").unwrap();
        RunAs::for_server().unwrap().own(&self.pgdata.join("standby.signal")).unwrap();
        fs::write(self.pgdata.join("postgresql.auto.conf"), format!("primary_conninfo = '{conninfo}'\n"))
            .unwrap();
    }

    pub fn conninfo(&self) -> String {
        format!("host={} port={} user=postgres", self.dir.display(), self.port)
    }

    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let own = self.bin.join("psql");
        let mut psql = Command::new(if own.exists() { own } else { bin15().join("psql") });
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(self.conninfo() + " dbname=postgres");
        let (ok, out, err) = run(psql.arg("-c").arg(sql));
        if ok { Ok(out.trim().to_string()) } else { Err(err) }
    }

    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub fn lsn(&self, function: &str) -> Lsn {
        self.sql(&format!("select coalesce({function}, '0/0')")).parse().unwrap()
    }

    pub fn replayed(&self) -> Lsn {
        self.lsn("pg_last_wal_replay_lsn()")
    }

    pub fn stop_fast(&mut self) {
        self.stop_by(nix::sys::signal::Signal::SIGINT);
    }

    /// Immediate shutdown: all processes end at once and nothing is written.
    pub fn crash(&mut self) {
        self.stop_by(nix::sys::signal::Signal::SIGQUIT);
    }

    fn stop_by(&mut self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
        self.wait_until_ended();
    }

    /// For its postmaster to end, and reaps it.
    pub fn wait_until_ended(&mut self) {
        let mut child = self.running.take().unwrap();
        wait_until("the server to end", || child.try_wait().unwrap().is_some());
    }

    pub fn promote(&self) {
        run_ok(Command::new(self.bin.join("pg_ctl")).arg("promote").arg("-D").arg(&self.pgdata));
        wait_until("promotion", || self.sql("select pg_is_in_recovery()") == "f");
    }

    pub fn pgdata_text(&self, name: &str) -> String {
        fs::read_to_string(self.pgdata.join(name)).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Records of many sizes and kinds, switches among them.
    pub fn load(&self, rounds: u32) {
        self.sql(
            "create table if not exists t(id serial primary key, v text); \
             create table if not exists big(v text); alter table big alter v set storage external",
        );
        for i in 0..rounds {
            self.sql(&format!(
                "insert into t(v) select repeat('x', (g * 37 + {i}) % 1500) from generate_series(1, 1500) g; \
                 update t set v = v || 'y' where id % 7 = {i} % 7; \
                 insert into big select repeat(md5(g::text), 3000) from generate_series(1, 3) g; \
                 select pg_logical_emit_message(true, 'test', repeat('m', 13 * {i}))",
            ));
            if i % 3 == 2 {
                self.sql("select pg_switch_wal()");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.is_some() && !std::thread::panicking() {
            self.crash();
        } else if let Some(child) = &mut self.running {
            eprintln!(
                "log of {}:\n{}",
                self.dir.display(),
                fs::read_to_string(self.dir.join("log")).unwrap_or_default()
            );
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(child.id() as i32),
                nix::sys::signal::Signal::SIGQUIT,
            );
            let _ = child.wait();
        }
    }
}
