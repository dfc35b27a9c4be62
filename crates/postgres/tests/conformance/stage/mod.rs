//! Servers for the tests of conformance: a primary and its standbys, all copies of one
//! directory that `initdb` made, of the version that `TANIST_CONFORMANCE_BIN` names.
//!
//! Never waits for a while where it can wait for a condition; what must *not* happen is
//! watched for `A_WHILE`.

pub mod process;
pub mod receiver;
pub mod relay;
pub mod session;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use cluster::Lsn;
use postgres::RunAs;

use crate::real::{Server, bin15, run, run_ok, scratch, wait_until};
use session::Session;

/// How long something is watched that must not happen: many times what it takes where it does.
pub const A_WHILE: Duration = Duration::from_millis(1200);

/// The programs under test.
fn bin() -> PathBuf {
    std::env::var_os("TANIST_CONFORMANCE_BIN").map_or_else(bin15, PathBuf::from)
}

/// What `initdb` made, once for all tests that run at a time.
struct Template {
    dir: tempfile::TempDir,
}

static TEMPLATE: Mutex<Weak<Template>> = Mutex::new(Weak::new());

fn template() -> Arc<Template> {
    let mut known = TEMPLATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    known.upgrade().unwrap_or_else(|| {
        let dir = scratch();
        let server = Server::initdb(&bin(), dir.path(), "template", 1);
        forget_templates(&server);
        let made = Arc::new(Template { dir });
        *known = Arc::downgrade(&made);
        made
    })
}

/// Two of three databases, which nobody here asks: a third of the files remains to be copied.
fn forget_templates(server: &Server) {
    let mut single = Command::new(server.bin.join("postgres"));
    single.arg("--single").arg("-D").arg(&server.pgdata).arg("postgres");
    RunAs::for_server().unwrap().apply(&mut single);
    single.current_dir("/").env("LC_ALL", "C").stdin(Stdio::piped());
    single.stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = single.spawn().unwrap();
    let statements =
        "update pg_database set datistemplate = false\ndrop database template0\ndrop database template1\n";
    running.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
    assert!(running.wait().unwrap().success());
}

/// Where one test takes place. Servers must be dropped before it.
pub struct Stage {
    dir: tempfile::TempDir,
    template: Arc<Template>,
}

impl Stage {
    pub fn new() -> Stage {
        Stage { dir: scratch(), template: template() }
    }

    /// A copy of the template that does not run, with settings of its own.
    pub fn server(&self, name: &str, settings: &str) -> Server {
        let server = Server::at(&bin(), self.dir.path(), name);
        let made = self.template.dir.path().join("template/pgdata");
        run_ok(Command::new("cp").args(["-a", "--reflink=auto"]).arg(made).arg(&server.dir));
        server.configure();
        // Nobody loses power here, and a crashed server need not sync its directory first.
        add_settings(&server, &format!("fsync = off\n{settings}"));
        server
    }

    /// A server that runs read-write, with a table `t(v text)`.
    pub fn primary(&self, name: &str, settings: &str) -> Server {
        let mut server = self.server(name, settings);
        server.start();
        Session::open(&server).sql("set synchronous_commit = local; create table t(v text)");
        server
    }

    /// One that streams from `upstream` under its own name.
    pub fn standby(&self, name: &str, upstream: &Server, settings: &str) -> Server {
        let mut server = self.server(name, settings);
        server.start_standby(Some(&conninfo(upstream, name)));
        wait_until_streams(upstream, name);
        server
    }

    /// A copy of a server that is down, under another name.
    pub fn copy(&self, of: &Server, name: &str) -> Server {
        let server = Server::at(&of.bin, self.dir.path(), name);
        run_ok(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&of.pgdata).arg(&server.dir));
        let conf = fs::read_to_string(server.pgdata.join("postgresql.conf")).unwrap();
        let (theirs, ours) = (of.dir.to_str().unwrap(), server.dir.to_str().unwrap());
        fs::write(server.pgdata.join("postgresql.conf"), conf.replace(theirs, ours)).unwrap();
        server
    }

    /// An empty folder that servers may use.
    pub fn folder(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        RunAs::for_server().unwrap().own(&dir).unwrap();
        dir
    }
}

/// Takes effect at the next start, or reload.
pub fn add_settings(server: &Server, settings: &str) {
    let conf = fs::OpenOptions::new().append(true).open(server.pgdata.join("postgresql.conf"));
    writeln!(conf.unwrap(), "{settings}").unwrap();
}

/// How `name` reaches `upstream`.
pub fn conninfo(upstream: &Server, name: &str) -> String {
    format!("{} application_name={name}", upstream.conninfo())
}

pub fn wait_until_streams(upstream: &Server, name: &str) {
    let eye = Session::open(upstream);
    let asked = format!(
        "select count(*) from pg_stat_replication where application_name = '{name}' and state = 'streaming'"
    );
    wait_until("a standby to stream", || eye.sql(&asked) == "1");
}

/// Changes a setting, and returns when every process has been told: C-7.
pub fn set(server: &Server, name: &str, value: &str) {
    let session = Session::open(server);
    session.sql(&format!("alter system set {name} = '{value}'"));
    session.sql("select pg_reload_conf()");
    wait_until("a new session to see the setting", || {
        Session::open(server).sql(&format!("show {name}")) == value
    });
    Session::open(server);
}

/// Watches for `A_WHILE` that something stays as it is.
pub fn wait_until_sure(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < A_WHILE {
        assert!(holds(), "not so after {} ms: {what}", begun.elapsed().as_millis());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What `server` has on disk for good.
pub fn flushed(server: &Server) -> Lsn {
    Session::open(server).sql("select pg_current_wal_flush_lsn()").parse().unwrap()
}

/// `standby` has replayed all that `primary` has flushed by now.
pub fn wait_until_caught_up(primary: &Server, standby: &Server) {
    let goal = flushed(primary);
    let eye = Session::open(standby);
    wait_until("a standby to catch up", || {
        eye.sql("select pg_last_wal_replay_lsn()").parse::<Lsn>().unwrap() >= goal
    });
}

/// Runs a server that is expected to refuse, and gives what it says.
pub fn refusal(server: &Server) -> String {
    let (ok, _, said) = run(Command::new(server.bin.join("postgres")).arg("-D").arg(&server.pgdata));
    assert!(!ok, "it was expected to refuse: {said}");
    said
}
