//! The server, as the guard holds it: a postmaster that is its child, and
//! everything that belongs to it, known by three signs.
//!
//! | sign | finds | misses |
//! |---|---|---|
//! | cgroup | whatever the server forked, wherever it went | what an earlier guard started elsewhere |
//! | working directory | orphaned backends, also an earlier guard's | a directory that was moved since |
//! | child of ours | the postmaster itself | the rest |
//!
//! Never decides whether the server should run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::log::say;
use super::protocol::Start;
use super::{sys, tree};

/// Longest that dying may take; a process in uninterruptible sleep takes longer.
pub const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at what is left. Nobody is reaped meanwhile: the guard's
/// loop must see its own children end.
const LOOK: Duration = Duration::from_millis(1);

pub(super) struct Server {
    pgdata: PathBuf,
    cgroup: Option<Cgroup>,
    postmaster: Option<i32>,
}

impl Server {
    /// With a cgroup in which the host lets us put it.
    pub fn new(pgdata: &Path, dir: &Path) -> Server {
        let cgroup = Cgroup::make(dir);
        match &cgroup {
            Ok(c) => say!("the server gets the cgroup {}", c.dir().display()),
            Err(why) => say!("no cgroup for the server, its processes are known by their directory: {why}"),
        }
        Server { pgdata: pgdata.to_owned(), cgroup: cgroup.ok(), postmaster: None }
    }

    pub fn postmaster(&self) -> Option<i32> {
        self.postmaster
    }

    /// Whether `pid` was the postmaster, which has ended.
    pub fn is_over(&mut self, pid: i32) -> bool {
        self.postmaster.take_if(|p| *p == pid).is_some()
    }

    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = self.postmaster.ok_or("no postmaster is running")?;
        kill(Pid::from_raw(pid), signal).map_err(|e| e.to_string())
    }

    /// Whether anything of it lives.
    pub fn is_alive(&self) -> bool {
        !self.pids().is_empty() || self.cgroup.as_ref().is_some_and(Cgroup::is_populated)
    }

    /// Whether nothing of it lives, and that can be told.
    pub fn is_gone(&self) -> bool {
        !self.is_alive() && (self.cgroup.is_some() || tree::can_see())
    }

    /// Everything of it that lives.
    pub fn pids(&self) -> Vec<i32> {
        let mut all = tree::pids(&self.pgdata);
        all.extend(self.cgroup.iter().flat_map(Cgroup::pids));
        all.extend(self.postmaster.filter(|p| tree::state_of(*p).is_some_and(|s| s != 'Z' && s != 'X')));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// One blow at everything that is there now.
    pub fn strike(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        // Also what the cgroup has killed: before Linux 5.14 it kills nobody.
        for pid in self.pids().into_iter().chain(self.postmaster) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Kills it all, again and again until nothing is left.
    ///
    /// # Errors
    /// What would not die, or that it can't be told.
    pub fn kill(&self) -> Result<(), String> {
        let began = Instant::now();
        self.strike();
        while self.is_alive() {
            if began.elapsed() > KILL_LIMIT {
                let left = self.pids();
                return Err(format!("processes {left:?} of the server live on {KILL_LIMIT:?} after SIGKILL"));
            }
            std::thread::sleep(LOOK);
            self.strike();
        }
        if !self.is_gone() {
            return Err("/proc can't be read, so nobody can tell what is left of the server".to_string());
        }
        Ok(())
    }

    /// Belt and braces: never in a way that opens the server read-write, and
    /// never beside processes of an earlier life.
    pub fn start(&mut self, start: &Start) -> Result<i32, String> {
        if self.postmaster.is_some() {
            return Err("a postmaster is running".into());
        }
        let recovers = ["standby.signal", "recovery.conf"].iter().any(|f| self.pgdata.join(f).exists());
        if !recovers {
            return Err("without standby.signal the server would open read-write by itself".into());
        }
        self.kill()?;
        tree::remove_stale_pid_file(&self.pgdata);
        let door = self.cgroup.as_ref().and_then(|c| c.door().ok());
        let pid = sys::spawn_postmaster(start, door).map_err(|e| e.to_string())?;
        self.postmaster = Some(pid);
        self.see_it_inside(pid);
        Ok(pid)
    }

    /// A kernel before 5.15 asks whether the server's user may enter, not whether we may.
    fn see_it_inside(&mut self, pid: i32) {
        let Some(cgroup) = &self.cgroup else { return };
        if cgroup.pids().contains(&pid) || tree::state_of(pid).is_none_or(|s| s == 'Z') {
            return;
        }
        if let Err(why) = cgroup.admit(pid) {
            say!("the server can't be put into its cgroup, so it is known by its directory: {why}");
            cgroup.remove();
            self.cgroup = None;
        }
    }

    /// The cgroup goes with the guard, if nothing is left in it.
    pub fn leave(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
    }
}
