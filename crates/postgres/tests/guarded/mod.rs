//! A real guard in a process of its own, an agent that does what a test says,
//! and a server that is a shell script.
//!
//! Guard and agent are the test's own binary, started again in a role. The
//! agent carries lines between the guard's socket and the test's, so the test
//! speaks as the agent. Everything is ended by pid when the test is over.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;
use postgres::RunAs;
use postgres::guard::cgroup::Cgroup;
use postgres::guard::protocol::{Answer, Ask, Event, Start, Status};
use postgres::guard::{self, GuardConfig, tree};

/// Generous: what is waited for takes well under a second on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How a guard is started.
#[derive(Clone, Copy, Default)]
pub struct Setup {
    pub allow_drills: bool,
    /// With a proxy beside the agent: a script that writes its pid to `proxy.pid` and stays.
    pub proxy: bool,
    /// In a mount namespace without the cgroup file system; needs root.
    pub hide_cgroup: bool,
}

/// A guard and its directory.
pub struct Guarded {
    pub dir: tempfile::TempDir,
    pub process: Child,
    control: UnixListener,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
        wait_until_over(&mut self.process);
        // A guard that was killed left it for the next one.
        let _ = Cgroup::make(self.dir.path()).map(|c| c.remove());
    }
}

/// As `wait_until`, for the end of a test that may be failing already.
fn wait_until_over(process: &mut Child) {
    let began = Instant::now();
    while matches!(process.try_wait(), Ok(None)) && began.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = process.kill();
}

/// Waits until it holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says that a test can't run here; with `TANIST_REQUIRE_ALL=1` it must.
pub fn skipped(name: &str, why: &str) {
    assert!(std::env::var("TANIST_REQUIRE_ALL").is_err(), "{name} can't be skipped: {why}");
    // The harness would keep what `eprintln!` says to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}

/// One that is past its last instruction has no working directory any more,
/// a moment before it is a zombie.
pub fn lives(pid: i32) -> bool {
    tree::state_of(pid).is_some_and(|s| s != 'Z' && s != 'X')
        && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}

/// The guard blocks its signals in its one thread; below the harness there are
/// two, so the other must have them blocked as well.
fn role(role: &str, dir: &Path) -> Command {
    let mut command = Command::new("/usr/bin/env");
    command.arg("--block-signal=CHLD,TERM,INT,QUIT,HUP").arg(std::env::current_exe().unwrap());
    command.args(["--exact", "in_a_role", "--nocapture", "--test-threads=1"]);
    command.env("TANIST_TEST_ROLE", role).env("TANIST_TEST_DIR", dir);
    command
}

/// What the test's binary does instead of testing, when it is told to.
pub fn play_role() {
    let Ok(role) = std::env::var("TANIST_TEST_ROLE") else { return };
    let dir = PathBuf::from(std::env::var("TANIST_TEST_DIR").unwrap());
    if role == "agent" {
        play_agent(&dir);
    } else {
        play_guard(&dir);
    }
}

fn play_guard(dir: &Path) -> ! {
    if std::env::var("TANIST_TEST_HIDE").is_ok() {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        // Ours alone: nothing that is done here is seen outside.
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        for line in mounts.lines().filter(|l| l.contains(" - cgroup2 ")) {
            umount2(line.split(' ').nth(4).unwrap(), MntFlags::MNT_DETACH).unwrap();
        }
    }
    let config = GuardConfig {
        dir: dir.to_owned(),
        socket: dir.join("guard.sock"),
        pgdata: dir.join("pgdata"),
        agent: vec![dir.join("agent").display().to_string()],
        proxy: std::env::var("TANIST_TEST_PROXY").map(|program| vec![program]).unwrap_or_default(),
        allow_drills: std::env::var("TANIST_TEST_DRILLS").is_ok(),
    };
    let ended = guard::run(config);
    if let Err(why) = &ended {
        eprintln!("error {why}");
    }
    std::process::exit(i32::from(ended.is_err()));
}

/// Carries lines both ways, and runs a program as an agent would.
fn play_agent(dir: &Path) -> ! {
    let mut test = UnixStream::connect(dir.join("control.sock")).unwrap();
    let mut guard = UnixStream::connect(dir.join("guard.sock")).unwrap();
    // Longer than any wait; where a drill kills agent and guard, nobody ends it.
    let program = Command::new("sleep").arg("200").spawn().unwrap();
    writeln!(test, "{}", program.id()).unwrap();
    let (mut from_test, mut to_guard) = (test.try_clone().unwrap(), guard.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_test, &mut to_guard);
        std::process::exit(0);
    });
    let _ = std::io::copy(&mut guard, &mut test);
    std::process::exit(0);
}

fn install_proxy(dir: &Path) -> PathBuf {
    let program = dir.join("proxy");
    let script = format!("#!/bin/sh\necho $$ > {}/pgdata/proxy.pid\nexec sleep 1000\n", dir.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

impl Guarded {
    /// Starts a guard; its log goes to a file.
    pub fn start(setup: Setup) -> Guarded {
        let log = |dir: &Path| std::fs::File::create(dir.join("log")).unwrap().into();
        Guarded::start_logging_to(setup, log)
    }

    pub fn start_logging_to(setup: Setup, log: impl FnOnce(&Path) -> Stdio) -> Guarded {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pgdata")).unwrap();
        std::fs::write(dir.path().join("pgdata/standby.signal"), "").unwrap();
        let control = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        control.set_nonblocking(true).unwrap();
        install_agent(dir.path(), "first");
        let mut command = role("guard", dir.path());
        if setup.allow_drills {
            command.env("TANIST_TEST_DRILLS", "1");
        }
        if setup.proxy {
            command.env("TANIST_TEST_PROXY", install_proxy(dir.path()));
        }
        if setup.hide_cgroup {
            command.env("TANIST_TEST_HIDE", "1");
        }
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(dir.path())).spawn().unwrap();
        Guarded { dir, process, control }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    pub fn pgdata(&self) -> PathBuf {
        self.dir.path().join("pgdata")
    }

    /// All that the guard has said until now. A thread of its own writes it, so that
    /// what was said last is there only after a while: a stranger's call says one more
    /// line, which comes after all of it.
    pub fn log(&self) -> String {
        let read = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let turned_away = || read().matches("was turned away").count();
        let before = turned_away();
        // One that has ended has written its last lines before.
        if UnixStream::connect(self.dir.path().join("guard.sock")).is_ok() {
            wait_until("the guard's log", || turned_away() > before);
        }
        read()
    }

    /// A second guard of the same directory, run to its end: whether it went well, and what it said.
    pub fn run_another(&self) -> (bool, String) {
        let output = role("guard", self.dir.path()).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The next agent that the guard starts.
    pub fn agent(&self) -> Agent {
        let mut came = None;
        wait_until("an agent", || {
            came = self.control.accept().ok();
            came.is_some()
        });
        let (stream, _) = came.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let pid = getsockopt(&stream, PeerCredentials).unwrap().pid();
        let mut lines = BufReader::new(stream);
        let mut program = String::new();
        lines.read_line(&mut program).unwrap();
        Agent { pid, program: program.trim().parse().unwrap(), lines, news: Vec::new() }
    }

    /// A stranger's call: what it was told before the guard hung up.
    pub fn call_as_a_stranger(&self, ask: &Ask) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("guard.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may have hung up before.
        let _ = stream.write_all(format!("{}\n", serde_json::to_string(ask).unwrap()).as_bytes());
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said
    }
}

/// Puts the agent's program in its place, replacing what is there.
pub fn install_agent(dir: &Path, version: &str) {
    let me = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\necho {version} >> {dir}/versions\nTANIST_TEST_ROLE=agent exec {me} --exact in_a_role --nocapture --test-threads=1\n",
        dir = dir.display(),
        me = me.display()
    );
    let fresh = dir.join("agent.new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(fresh, dir.join("agent")).unwrap();
}

/// The agent that the guard has started, spoken through by the test.
pub struct Agent {
    pub pid: i32,
    /// A program that it runs.
    pub program: i32,
    lines: BufReader<UnixStream>,
    pub news: Vec<Event>,
}

impl Agent {
    pub fn ask(&mut self, ask: &Ask) -> Answer {
        self.ask_raw(&serde_json::to_string(ask).unwrap())
    }

    pub fn say(&mut self, line: &str) {
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn ask_raw(&mut self, line: &str) -> Answer {
        self.say(line);
        loop {
            match self.hear() {
                Event::Answer(answer) => return answer,
                event @ Event::Numbered { .. } => panic!("nobody gave a number: {event:?}"),
                event @ (Event::PostmasterEnded { .. } | Event::DeadlineFired) => self.news.push(event),
            }
        }
    }

    /// What the guard says to it next.
    pub fn hear(&mut self) -> Event {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("the guard said {line:?}: {e}"))
    }

    pub fn status(&mut self) -> Status {
        match self.ask(&Ask::Status) {
            Answer::Status(status) => status,
            other @ (Answer::Done | Answer::Started(_) | Answer::Failed(_)) => panic!("{other:?}"),
        }
    }

    /// Starts a server whose postmaster is this shell script, run in the data directory.
    pub fn start_server(&mut self, pgdata: &Path, script: &str) -> i32 {
        let script = format!("cd {}; {script}", pgdata.display());
        let argv = ["/bin/sh", "-c", &script].map(ToString::to_string).to_vec();
        let log = pgdata.join("../server.log");
        let env = vec![("PATH".to_string(), "/usr/bin:/bin".to_string())];
        match self.ask(&Ask::Start(Start { argv, env, log, run_as: RunAs::current() })) {
            Answer::Started(pid) => pid,
            other @ (Answer::Done | Answer::Status(_) | Answer::Failed(_)) => panic!("{other:?}"),
        }
    }

    /// Waits, speaking all the while, so that the guard does not miss us.
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&Status, &[Event]) -> bool) {
        wait_until(what, || {
            let status = self.status();
            holds(&status, &self.news)
        });
    }
}
