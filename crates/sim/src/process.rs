//! A server's processes: they start, read their settings again, and die.

use cluster::report::ServerState;

use crate::clock::{Us, ms};
use crate::law::Moment;
use crate::mutation::Env;
use crate::network::At;
use crate::server::{Names, Process, Waiter};
use crate::stream::READ_FIRST;
use crate::world::{What, World};

/// Longest that a busy machine keeps a postmaster from signalling all its children.
const HELD_UP: Us = ms(120);
/// Longest that a session goes on after its postmaster was killed (measured: 1.28 s).
const ORPHAN_LIMIT: Us = ms(1300);

impl World {
    /// The guard starts the postmaster; `Ready` follows.
    pub(crate) fn start_server(&mut self, at: At) {
        let writes_signal = !self.is(Env::NoStandbySignal);
        let prepared = if self.is(Env::EmptyNames) {
            Names::Set(cluster::Rule::leader_only())
        } else {
            Names::Placeholder
        };
        let aside = !self.is(Env::HalfStreamedStays);
        let s = &mut self.hosts[at].server;
        s.signal_file |= writes_signal;
        s.names = prepared;
        if aside {
            s.wal.half_streamed = None;
        }
        s.life += 1;
        s.state = ServerState::Starting;
        let life = s.life;
        let recovery = self.span(ms(40), ms(250));
        self.after(recovery, What::Ready(at, life));
    }

    /// Recovery has read everything there is.
    pub(crate) fn ready(&mut self, at: At, life: u32) {
        let host = &self.hosts[at];
        if host.server.life != life || host.server.state != ServerState::Starting {
            return;
        }
        if host.paused {
            return self.after(ms(50), What::Ready(at, life));
        }
        if host.disk.full {
            return self.kill_server(at);
        }
        self.hosts[at].server.recover();
        if !self.hosts[at].server.signal_file {
            self.hosts[at].server.state = ServerState::Primary;
        }
        self.judge(&Moment::Started { at });
        self.after(ms(2), What::Receive(at, life));
        self.again(at);
    }

    /// SIGHUP to the postmaster, which reads its file and signals its children.
    pub(crate) fn sighup(&mut self, at: At) {
        let s = &mut self.hosts[at].server;
        if !s.runs() || s.state == ServerState::Starting {
            return;
        }
        if s.stopped.contains(&Process::Postmaster) {
            s.hup_pending = true;
            return;
        }
        s.hup_pending = false;
        s.names_live = s.names.clone();
        s.signalling = true;
        let life = s.life;
        let held_up = self.chancy && self.rng.chance(self.store.slow_reload);
        let delay = if held_up { self.rng.below(HELD_UP) } else { self.span(ms(1), ms(12)) };
        // One child after the other: between two of them the postmaster may lose its processor.
        let senders: Vec<u64> = self.hosts[at].server.senders.values().copied().collect();
        for id in senders {
            let signalled = if self.chancy { self.rng.below(delay) } else { 0 };
            self.after(signalled, What::SenderSignalled(id));
        }
        self.after(delay, What::Signalled(at, life));
    }

    /// A walsender is signalled, and acts on it at its own moment, but before its next reply.
    pub(crate) fn sender_signalled(&mut self, id: u64) {
        let still = self.chancy && self.rng.chance(self.store.slow_reload);
        if self.streams.contains_key(&id) {
            let runs = self.now + self.reload_delay();
            let s = self.streams.get_mut(&id).expect("just seen");
            s.reload = true;
            if still {
                s.still_until = Some(runs);
            }
            self.at(runs + READ_FIRST, What::SenderReloads(id));
        }
    }

    /// Every child has been signalled.
    pub(crate) fn signalled(&mut self, at: At, life: u32) {
        if self.hosts[at].server.life != life {
            return;
        }
        self.hosts[at].server.signalling = false;
        let delay = self.reload_delay();
        self.after(delay, What::CheckpointerReloads(at, life));
        let delay = self.reload_delay();
        self.after(delay, What::StartupReloads(at, life));
    }

    /// How long a process takes to act on SIGHUP; some are not scheduled for a while.
    fn reload_delay(&mut self) -> Us {
        if !self.chancy {
            return ms(1);
        }
        let late = self.rng.below(1000) < self.store.slow_reload;
        self.rng.below(if late { ms(900) } else { ms(25) })
    }

    /// The startup process reads `primary_conninfo` again. It ends the walreceiver
    /// of before only when it next runs out of WAL: not while replay is paused.
    pub(crate) fn reload_startup(&mut self, at: At, life: u32) {
        let host = &self.hosts[at];
        if host.server.life != life || host.server.state != ServerState::Standby {
            return;
        }
        if host.paused || host.server.stopped.contains(&Process::Startup) {
            return self.after(ms(40), What::StartupReloads(at, life));
        }
        let s = &mut self.hosts[at].server;
        let changed = s.upstream_live != s.upstream;
        s.upstream_live = s.upstream;
        if s.replay_paused {
            if changed || s.restart_owed {
                s.restart_owed = true;
                self.after(ms(60), What::StartupReloads(at, life));
            }
            return;
        }
        let owed = changed || s.restart_owed;
        s.restart_owed = false;
        if owed && s.receiver.is_some() {
            self.end_receiver(at);
        } else if owed {
            self.after(ms(2), What::Receive(at, life));
        }
    }

    /// A fast shutdown goes on though the agent that asked for it has died.
    pub(crate) fn shut_down(&mut self, at: At, life: u32) {
        let host = &self.hosts[at];
        if host.server.life != life || !host.server.shutting_down {
            return;
        }
        let deed = host.agent.deed.as_ref().map(|d| &d.action);
        let asked = host.agent.runs && matches!(deed, Some(cluster::Action::HandOver { .. }));
        let held = [Process::Postmaster, Process::Backend, Process::Checkpointer, Process::Walsender];
        let stuck = host.paused || held.iter().any(|p| host.server.stopped.contains(p));
        if asked || stuck {
            return self.after(ms(100), What::ShutDown(at, life));
        }
        self.kill_server(at);
    }

    /// The whole tree is dead: postmaster, children, orphans.
    pub(crate) fn kill_server(&mut self, at: At) {
        if !self.hosts[at].server.runs() && self.hosts[at].server.orphans == 0 {
            return;
        }
        self.drop_streams(at);
        self.hosts[at].server.vanish();
        self.hosts[at].server.orphans = 0;
        self.clients_lose(at);
        self.end_backends(at, false);
        self.again(at);
    }

    /// Only the postmaster is killed. Busy sessions outlive it for a while: those
    /// that wait for nobody acknowledge what they have flushed.
    pub(crate) fn kill_postmaster(&mut self, at: At) {
        if !self.hosts[at].server.runs() {
            return;
        }
        let s = &self.hosts[at].server;
        let busy: Vec<Waiter> = if s.is_primary() && !s.defined {
            s.flushing.iter().filter(|w| w.conn.is_none()).copied().collect()
        } else {
            Vec::new()
        };
        self.kill_server(at);
        if !busy.is_empty() {
            let life = self.hosts[at].server.life;
            self.hosts[at].server.orphans = life;
            let delay = self.span(ms(5), ORPHAN_LIMIT);
            self.after(delay, What::Orphans(at, life, busy));
        }
    }

    /// What those sessions say, if nobody has killed them meanwhile.
    pub(crate) fn orphans(&mut self, at: At, life: u32, waiters: Vec<Waiter>) {
        if self.hosts[at].server.orphans != life {
            return;
        }
        let host = &self.hosts[at];
        if host.paused || host.disk.stalled_until > self.now {
            return self.after(ms(50), What::Orphans(at, life, waiters));
        }
        self.hosts[at].server.orphans = 0;
        for waiter in waiters {
            // Each has flushed its own commit first.
            let wal = &mut self.hosts[at].server.wal;
            wal.flushed = wal.flushed.max(waiter.count);
            self.mark("server: an orphan acknowledges");
            self.acknowledge(at, waiter);
        }
    }

    /// A fast shutdown ends every session: what waits is closed without a word.
    pub(crate) fn close_sessions(&mut self, at: At) {
        self.hosts[at].server.waiting.clear();
        self.hosts[at].server.flushing.clear();
        self.clients_lose(at);
        self.end_backends(at, true);
    }

    /// A signal lets processes run again.
    pub(crate) fn thaw_processes(&mut self, at: At) {
        self.hosts[at].server.stopped.clear();
        if self.hosts[at].server.hup_pending {
            self.sighup(at);
        }
        self.thaw_waiting(at);
    }
}

impl World {
    /// A host that was paused runs again: what was on its way goes on.
    pub(crate) fn thaw_waiting(&mut self, at: At) {
        self.replay(at);
        self.pump_all(at);
        if let Some(id) = self.hosts[at].server.receiver.as_ref().map(|r| r.stream) {
            self.reply(id);
        }
    }
}
