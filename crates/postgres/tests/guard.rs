//! The guard, as a process among processes: what it must never do, and what
//! nobody may make it do.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

mod guarded;

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use guarded::{Guarded, Setup, install_agent, lives, skipped, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use postgres::guard::protocol::{Answer, Ask, Event, Fault};
use postgres::guard::{FIRST_WORD, SILENCE, cgroup::Cgroup, sys};

/// A postmaster with one child in the data directory.
const SERVER: &str = "sleep 1000 & echo $! > child; wait";
/// One whose child leaves the directory, the session and its parent.
const RUNAWAY: &str = "(cd / && setsid sleep 1000 & echo $! > runaway); sleep 1000";

fn pid_in(guarded: &Guarded, file: &str) -> i32 {
    let path = guarded.pgdata().join(file);
    let read = || std::fs::read_to_string(&path).ok()?.trim().parse().ok();
    wait_until(file, || read().is_some());
    read().unwrap()
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn refused(answer: &Answer) -> String {
    match answer {
        Answer::Failed(why) => why.clone(),
        other @ (Answer::Done | Answer::Started(_) | Answer::Status(_)) => panic!("not refused: {other:?}"),
    }
}

/// Not a test: guard and agent are this binary, started again.
#[test]
fn in_a_role() {
    guarded::play_role();
}

#[test]
fn a_second_guard_is_refused_and_harms_nobody() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    let child = pid_in(&guarded, "child");
    let (well, said) = guarded.run_another();
    assert!(!well && said.contains("TAN0502") && said.contains(&format!("pid {}", guarded.pid())), "{said}");
    assert!(lives(postmaster) && lives(child), "the first guard's server was harmed");
    // The socket is still the first one's.
    guarded.call_as_a_stranger(&Ask::Status);
    assert!(lives(guarded.process.id().cast_signed()));
}

#[test]
fn only_the_guards_own_agent_is_heard() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    assert_eq!(guarded.call_as_a_stranger(&Ask::Kill), "", "a stranger was answered");
    assert_eq!(agent.status().postmaster, Some(postmaster));
    assert!(guarded.log().contains("was turned away"));
}

#[test]
fn a_request_that_is_not_known_is_answered_in_its_turn() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    assert!(refused(&agent.ask_raw(r#"{"of-the-future":{}}"#)).contains("does not know"));
    assert_eq!(agent.status().postmaster, None);
}

/// Each answer has its request's number, also the refusal of one that is not known;
/// a request without a number, of an older agent, is answered in its turn.
#[test]
fn a_numbered_request_is_answered_by_its_number() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    agent.say(r#"{"number":7,"ask":"hello"}"#);
    agent.say(r#"{"number":3,"ask":{"of-the-future":{}},"of-the-future":1}"#);
    agent.say(r#"{"number":9,"ask":{"signal":{"signal":2}}}"#);
    assert_eq!(agent.hear(), Event::Numbered { number: 7, answer: Answer::Done });
    let failed = |event: Event| match event {
        Event::Numbered { number, answer } => (number, refused(&answer)),
        other @ (Event::Answer(_) | Event::PostmasterEnded { .. } | Event::DeadlineFired) => {
            panic!("{other:?}")
        }
    };
    let (number, why) = failed(agent.hear());
    assert!(number == 3 && why.contains("does not know"), "{number}: {why}");
    let (number, why) = failed(agent.hear());
    assert!(number == 9 && why.contains("no postmaster"), "{number}: {why}");
    assert_eq!(agent.status().postmaster, None);
}

#[test]
fn a_silent_agent_is_replaced_before_and_after_its_first_word() {
    let guarded = Guarded::start(Setup::default());
    let first = guarded.agent();
    // It never says a word.
    let mut second = guarded.agent();
    assert!(!lives(first.pid) && second.pid != first.pid);
    // The guard says which patience ended: one that is starting has more of it.
    assert!(guarded.log().contains(&format!("silent for {FIRST_WORD:?}")), "{}", guarded.log());
    assert!(
        !guarded.log().contains(&format!("silent for {SILENCE:?}")),
        "an agent that is starting was killed"
    );
    second.status();
    let third = guarded.agent();
    assert!(!lives(second.pid) && third.pid != second.pid);
}

#[test]
fn a_guard_that_was_held_up_blames_nobody() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    agent.status();
    let began = Instant::now();
    kill(guarded.pid(), Signal::SIGSTOP).unwrap();
    wait_until("more time than an agent may be silent", || began.elapsed() > SILENCE * 2);
    kill(guarded.pid(), Signal::SIGCONT).unwrap();
    agent.status();
    assert!(lives(agent.pid) && !guarded.log().contains("silent"));
}

#[test]
fn an_agent_that_dies_is_replaced_with_all_it_ran_and_the_server_stays() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), RUNAWAY);
    let runaway = pid_in(&guarded, "runaway");
    assert!(lives(agent.program));
    install_agent(guarded.dir.path(), "second");
    signal(agent.pid, Signal::SIGKILL);
    let mut next = guarded.agent();
    assert!(!lives(agent.program), "a program of the dead agent still runs beside the next one");
    assert_eq!(next.status().postmaster, Some(postmaster));
    let versions = std::fs::read_to_string(guarded.dir.path().join("versions")).unwrap();
    assert_eq!(versions, "first\nsecond\n", "the agent's new program was not taken");
    // Without a cgroup nobody can tell that this one was the server's.
    assert!(lives(runaway) || Cgroup::make(guarded.dir.path()).is_err());
}

#[test]
fn the_deadline_kills_everything_of_the_server() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    let child = pid_in(&guarded, "child");
    agent.ask(&Ask::Arm { deadline_ms: Some(sys::boottime_ms() + 100) });
    agent.wait_until("the deadline", |_, news| news.contains(&Event::DeadlineFired));
    assert!(!lives(postmaster) && !lives(child));
    assert!(agent.status().postmaster.is_none());
}

/// Without a descriptor to look with when the deadline passes, the guard can't tell what
/// lives: it goes on until it sees that nothing does, whatever the agent arms meanwhile,
/// and only then says so.
#[test]
fn the_deadline_holds_until_nothing_is_left() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    agent.start_server(&guarded.pgdata(), SERVER);
    let child = pid_in(&guarded, "child");
    let descriptors = |most: &str| {
        let mut prlimit = std::process::Command::new("prlimit");
        let done = prlimit.args(["--pid", &guarded.pid().to_string(), &format!("--nofile={most}:")]).status();
        assert!(done.unwrap().success());
    };
    descriptors("3");
    agent.ask(&Ask::Arm { deadline_ms: Some(sys::boottime_ms()) });
    agent.wait_until("the postmaster's end", |status, _| status.postmaster.is_none());
    agent.ask(&Ask::Arm { deadline_ms: None });
    assert!(lives(child), "what the guard can't see it can't have killed");
    assert!(!agent.news.contains(&Event::DeadlineFired), "a deadline was told with the server alive");
    descriptors("1024");
    agent.wait_until("the deadline", |_, news| news.contains(&Event::DeadlineFired));
    assert!(!lives(child));
    // The next one is not struck for it.
    let next = agent.start_server(&guarded.pgdata(), SERVER);
    agent.ask(&Ask::Arm { deadline_ms: None });
    assert_eq!((agent.status().postmaster, lives(next)), (Some(next), true));
}

#[test]
fn the_deadline_holds_while_the_server_is_stopped_in_order() {
    let mut guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    agent.start_server(&guarded.pgdata(), "trap '' INT; echo 1 > ready; sleep 1000 & wait; sleep 1000");
    pid_in(&guarded, "ready");
    agent.ask(&Ask::Arm { deadline_ms: Some(sys::boottime_ms() + 500) });
    kill(guarded.pid(), Signal::SIGTERM).unwrap();
    wait_until("the guard's end", || guarded.process.try_wait().unwrap().is_some());
    assert!(guarded.log().contains("deadline has passed"), "{}", guarded.log());
}

#[test]
fn what_the_server_forked_dies_with_it_wherever_it_went() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), RUNAWAY);
    let runaway = pid_in(&guarded, "runaway");
    // The guard has it already, so this finds the same one.
    let Ok(cgroup) = Cgroup::make(guarded.dir.path()) else {
        return skipped(
            "what_the_server_forked_dies_with_it_wherever_it_went",
            "no cgroup v2 may be made here",
        );
    };
    assert!(cgroup.pids().contains(&postmaster) && cgroup.pids().contains(&runaway));
    assert!(!cgroup.pids().contains(&agent.pid));
    // Nobody has to ask: orphans of a postmaster that is gone may still acknowledge.
    signal(postmaster, Signal::SIGKILL);
    let ended = |e: &Event| matches!(e, Event::PostmasterEnded { pid, .. } if *pid == postmaster);
    agent.wait_until("word of it", |_, news| news.iter().any(ended));
    assert!(!lives(runaway) && !cgroup.is_populated());
    agent.start_server(&guarded.pgdata(), RUNAWAY);
    assert_eq!(agent.ask(&Ask::Kill), Answer::Done);
    assert!(!cgroup.is_populated());
    let dir = cgroup.dir().to_owned();
    drop(guarded);
    assert!(!dir.exists(), "the guard left its cgroup behind");
}

#[test]
fn without_a_cgroup_the_directory_tells_also_when_it_is_gone() {
    if !geteuid().is_root() {
        return skipped(
            "without_a_cgroup_the_directory_tells_also_when_it_is_gone",
            "it takes root to hide cgroups",
        );
    }
    let guarded = Guarded::start(Setup { hide_cgroup: true, ..Setup::default() });
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    let child = pid_in(&guarded, "child");
    assert_eq!(guarded.log().matches("no cgroup for the server").count(), 1, "{}", guarded.log());
    std::fs::remove_dir_all(guarded.pgdata()).unwrap();
    assert_eq!(agent.ask(&Ask::Kill), Answer::Done);
    assert!(!lives(postmaster) && !lives(child), "a removed directory hid the server");
}

#[test]
fn a_log_that_takes_nothing_ends_nobody() {
    let check = |what: &str, log: &dyn Fn(&Path) -> Stdio| {
        let guarded = Guarded::start_logging_to(Setup::default(), log);
        let mut agent = guarded.agent();
        let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
        signal(agent.pid, Signal::SIGKILL);
        // The guard has something to say now.
        let mut next = guarded.agent();
        assert_eq!(next.status().postmaster, Some(postmaster), "{what}");
    };
    check("a full disk", &|_| std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into());
    check("nobody reads any more", &|_| std::io::pipe().unwrap().1.into());
    let full = std::io::pipe().unwrap();
    let size =
        std::fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap().trim().parse::<usize>().unwrap();
    fill(&full.1, size);
    check("a reader that stands still", &|_| full.1.try_clone().unwrap().into());
}

/// A file system in a file, which can be frozen; thawed and unmounted when dropped.
struct Disk(tempfile::TempDir);

fn ran(program: &str, arguments: &[&str], path: &Path) -> bool {
    std::process::Command::new(program).args(arguments).arg(path).output().is_ok_and(|o| o.status.success())
}

impl Disk {
    fn make() -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        std::fs::create_dir(dir.path().join("at")).unwrap();
        assert!(ran("mkfs.ext4", &["-q", "-F"], &image), "mkfs.ext4");
        let image = image.display().to_string();
        assert!(ran("mount", &["-o", "loop", &image], &dir.path().join("at")), "mount");
        Disk(dir)
    }

    fn at(&self) -> std::path::PathBuf {
        self.0.path().join("at")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = ran("fsfreeze", &["--unfreeze"], &self.at());
        let _ = ran("umount", &["-l"], &self.at());
    }
}

/// Found by the fault matrix: the guard said that it would kill before it did,
/// and stood still in that until the disk went on.
#[test]
fn a_log_whose_disk_hangs_delays_no_deadline() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("a log whose disk hangs", "it takes root to mount a disk");
    }
    let disk = Disk::make();
    let at = disk.at();
    let log = |_: &Path| std::fs::File::create(at.join("log")).unwrap().into();
    let guarded = Guarded::start_logging_to(Setup::default(), log);
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    assert!(ran("fsfreeze", &["--freeze"], &at), "fsfreeze");
    agent.ask(&Ask::Arm { deadline_ms: Some(sys::boottime_ms() + 100) });
    agent.wait_until("the deadline", |_, news| news.contains(&Event::DeadlineFired));
    assert!(!lives(postmaster));
    // And it goes on: an agent that dies is replaced, which is said, too.
    signal(agent.pid, Signal::SIGKILL);
    assert!(guarded.agent().status().postmaster.is_none());
    drop(disk);
}

/// Writes to a pipe until it takes no more.
fn fill(pipe: &std::io::PipeWriter, most: usize) {
    use std::io::Write;
    use std::os::fd::AsFd;
    let mut written = 0;
    let takes = || {
        let mut fds = [nix::poll::PollFd::new(pipe.as_fd(), nix::poll::PollFlags::POLLOUT)];
        nix::poll::poll(&mut fds, 0u8).unwrap() > 0
    };
    while takes() {
        assert!(written <= most, "the pipe never fills");
        written += pipe.try_clone().unwrap().write(&[b'.'; 4096]).unwrap();
    }
}

#[test]
fn the_server_runs_as_any_other_process_does() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    let of = |pid: i32, field: usize| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after = stat.rsplit_once(')').unwrap().1.to_string();
        after.split_whitespace().nth(field - 3).unwrap().to_string()
    };
    // proc(5): field 19 is the nice level, 41 the scheduling policy; 0 is everybody's.
    assert_eq!((of(postmaster, 19), of(postmaster, 41)), ("0".into(), "0".into()));
    assert_eq!(of(agent.pid, 41), "0", "the agent runs in real time");
    let oom = std::fs::read_to_string(format!("/proc/{postmaster}/oom_score_adj")).unwrap();
    assert!(!oom.starts_with('-'), "the server is spared when memory runs out: {oom}");
}

#[test]
fn faults_are_refused_where_drills_are_not_allowed() {
    let guarded = Guarded::start(Setup::default());
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    for fault in [Fault::FreezeAgent, Fault::KillPostmaster, Fault::KillNode] {
        assert!(refused(&agent.ask(&Ask::Fault { fault, ms: 100 })).starts_with("TAN0503"));
    }
    assert_eq!(agent.status().postmaster, Some(postmaster));
}

#[test]
fn faults_happen_last_and_end_where_drills_are_allowed() {
    let mut guarded = Guarded::start(Setup { allow_drills: true, ..Setup::default() });
    let mut agent = guarded.agent();
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    let state = |pid| postgres::guard::tree::state_of(pid);
    assert!(refused(&agent.ask(&Ask::Fault { fault: Fault::KillNode, ms: 3_600_000 })).contains("at most"));
    assert_eq!(agent.ask(&Ask::Fault { fault: Fault::FreezePostmaster, ms: 200 }), Answer::Done);
    agent.wait_until("it to stand still", |_, _| state(postmaster) == Some('T'));
    agent.wait_until("it to go on", |_, _| state(postmaster) != Some('T'));
    assert_eq!(agent.ask(&Ask::Fault { fault: Fault::FreezeAgent, ms: 200 }), Answer::Done);
    wait_until("it to stand still", || state(agent.pid) == Some('T'));
    wait_until("it to go on", || state(agent.pid) != Some('T'));
    assert_eq!(agent.ask(&Ask::Fault { fault: Fault::KillPostmaster, ms: 0 }), Answer::Done);
    agent.wait_until("its end", |s, _| s.postmaster.is_none());
    let postmaster = agent.start_server(&guarded.pgdata(), SERVER);
    assert_eq!(agent.ask(&Ask::Fault { fault: Fault::KillAgent, ms: 0 }), Answer::Done);
    let mut next = guarded.agent();
    assert_eq!(next.status().postmaster, Some(postmaster));
    assert_eq!(next.ask(&Ask::Fault { fault: Fault::KillNode, ms: 0 }), Answer::Done);
    wait_until("the guard's end", || guarded.process.try_wait().unwrap().is_some());
    wait_until("everybody's end", || !lives(postmaster) && !lives(next.pid));
}

#[test]
fn a_proxy_outlives_agents_and_is_started_again_when_it_dies() {
    let guarded = Guarded::start(Setup { proxy: true, ..Setup::default() });
    let agent = guarded.agent();
    let proxy = pid_in(&guarded, "proxy.pid");
    wait_until("the proxy", || lives(proxy));
    drop(agent);
    let _next = guarded.agent();
    assert!(lives(proxy), "the end of an agent ended the proxy");
    signal(proxy, Signal::SIGKILL);
    wait_until("another proxy", || pid_in(&guarded, "proxy.pid") != proxy);
    let another = pid_in(&guarded, "proxy.pid");
    wait_until("the other proxy", || lives(another));
    signal(guarded.pid().as_raw(), Signal::SIGTERM);
    wait_until("the end of the proxy", || !lives(another));
}
