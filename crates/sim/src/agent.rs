//! An agent's shell and its guard, as `crates/agent` and `tanist run` are: what
//! turns the loop, what is looked at and when, and who is killed for silence.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster::command::{Kind, MemberState};
use cluster::report::{Leading, Report, ServerReport, ServerState, StandbyProgress};
use cluster::state::Phase;
use cluster::{Durability, MemberId, Term, Time};
use failover::Event;
use failover::pace::Pace;
use failover::speech::STALL_LIMIT;
use failover::suspicion::LATE_MAX;

use crate::clock::{Us, ms, us};
use crate::law::Moment;
use crate::mutation::Env;
use crate::network::At;
use crate::server::Process;
use crate::wal::Wal;
use crate::world::{What, World};

/// A turn that begins this much late is counted as lateness (`agent::run::LATE`).
const LATE: Duration = Duration::from_millis(100);
/// A leader that is silent for so long is looked at (`agent::run::LOOK_AFTER`).
const LOOK_AFTER: Duration = Duration::from_millis(180);
/// Between two looks at it (`agent::watchers::LOOK`).
const LOOK: Duration = Duration::from_millis(50);
/// Between two probes while nothing moves, and while something does.
const PROBE: (Us, Us) = (ms(750), ms(100));
/// A leader whose WAL is silent for so long (`agent::run::LOOK_AFTER_WAL`).
const LOOK_AFTER_WAL: Duration = Duration::from_millis(2600);
/// Between two looks at that (`agent::run::LOOK_AGAIN`).
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Between two reads of the store by a leader that needs them.
const READ: Us = ms(400);
/// From an agent's death to the next one's first turn.
const AGENT_STARTS: Us = ms(150);

impl World {
    /// An agent begins: it knows what is on disk, and looks at its server.
    pub(crate) fn start_agent(&mut self, at: At) {
        let now = self.hosts[at].clock.local(self.now);
        let host = &mut self.hosts[at];
        (host.agent.turned, host.agent.tick) = (now, Duration::ZERO);
        host.guard.heard = now;
        if self.store.group.is_some() {
            self.raft_start(at);
        }
        let sure = !self.chancy || self.rng.chance(500);
        let known = self.store.known_at_start(at, sure);
        if known.exists() && self.store.group.is_none() {
            let life = self.hosts[at].agent.life;
            self.tell(at, life, Event::State(known));
        }
        self.probe_in(at, ms(20));
        self.after(ms(5), What::Learn(at));
        self.turn_in(at, Duration::from_millis(30));
        self.guard_in(at, ms(50));
    }

    /// A guard starts an agent in place of the one that died.
    pub(crate) fn agent_starts(&mut self, at: At, life: u32) {
        let host = &self.hosts[at];
        if host.agent.life == life && !host.agent.runs && host.up {
            if !host.guards() {
                return self.after(ms(50), What::AgentStarts(at, life));
            }
            let now = self.hosts[at].clock.local(self.now);
            if self.is(Env::VowsForgotten) {
                self.hosts[at].vows.promise = Term(0);
            }
            self.hosts[at].restart_agent(now);
            self.note(Some(at), || "agent starts".into());
            self.start_agent(at);
        }
    }

    /// The agent's process ends; the guard starts another.
    pub(crate) fn kill_agent(&mut self, at: At) {
        let host = &mut self.hosts[at];
        if !host.agent.runs {
            return;
        }
        host.agent.runs = false;
        host.agent.deed = None;
        host.agent.inbox.clear();
        let life = host.agent.life;
        let pause = self.span(ms(60), AGENT_STARTS + ms(50));
        self.after(pause, What::AgentStarts(at, life));
    }

    /// Something for the agent's process: now, or when it runs again.
    pub(crate) fn tell(&mut self, at: At, life: u32, event: Event) {
        let host = &mut self.hosts[at];
        if host.agent.life != life || !host.agent.runs || !host.up {
            return;
        }
        if host.is_awake() {
            self.loop_once(at, event);
        } else {
            host.agent.inbox.push_back(event);
        }
    }

    /// A report comes in.
    pub(crate) fn hear(&mut self, at: At, report: &Rc<Report>) {
        let life = self.hosts[at].agent.life;
        self.tell(at, life, Event::Heard(Box::new((**report).clone())));
    }

    /// The agent runs again after it was stopped: all that came in, late.
    pub(crate) fn thaw_agent(&mut self, at: At) {
        while self.hosts[at].is_awake() {
            let Some(event) = self.hosts[at].agent.inbox.pop_front() else { break };
            self.loop_once(at, event);
        }
        if self.hosts[at].is_awake() {
            self.turn_in(at, Duration::ZERO);
            self.again(at);
            let (life, deed) =
                (self.hosts[at].agent.life, self.hosts[at].agent.deed.as_ref().map(|d| d.number));
            if let Some(number) = deed {
                self.after(0, What::Deed(at, life, number));
            }
        }
    }

    /// The loop's timer.
    pub(crate) fn turn(&mut self, at: At, turn: u64) {
        let host = &self.hosts[at];
        if host.agent.turn != turn || !host.is_awake() {
            return;
        }
        let now = host.clock.local(self.now);
        let due = host.agent.turned + host.agent.tick;
        if now < due {
            return self.turn_in(at, due.since(now));
        }
        self.loop_once(at, Event::Tick);
    }

    fn turn_in(&mut self, at: At, delay: Duration) {
        self.hosts[at].agent.turn += 1;
        let turn = self.hosts[at].agent.turn;
        self.after(us(delay), What::Turn(at, turn));
    }

    /// One turn of the loop (`Agent::run`).
    fn loop_once(&mut self, at: At, event: Event) {
        let host = &mut self.hosts[at];
        let now = host.clock.local(self.now);
        let (gap, tick) = (now.since(host.agent.turned), host.agent.tick);
        host.agent.turned = now;
        if gap > tick + LATE {
            host.ghost.late_until = now + gap.saturating_sub(tick).min(LATE_MAX);
        }
        if gap > tick + LATE && !self.is(Env::LatenessIgnored) {
            self.feed(at, Event::Late(gap.saturating_sub(tick)));
        }
        self.feed(at, event);
        if !self.hosts[at].is_awake() {
            return;
        }
        self.breathe(at);
        self.publish(at, false);
        let tick = self.pace(at).next_turn();
        self.hosts[at].agent.tick = tick;
        self.turn_in(at, tick);
    }

    fn pace(&self, at: At) -> Pace {
        let host = &self.hosts[at];
        let now = host.clock.local(self.now);
        let state = self.seen_by(at);
        Pace {
            beat: Duration::from_millis(state.settings.timing.heartbeat_ms),
            silent: now.since(host.agent.spoke),
            led: now.since(host.agent.led),
            leads: state.ctl.leader.as_ref().is_some_and(|l| l.node == host.name),
            phase: state.ctl.phase,
        }
    }

    fn feed(&mut self, at: At, event: Event) {
        let host = &mut self.hosts[at];
        let (now, wall) = (host.clock.local(self.now), host.clock.wall_ms(self.now));
        if let Event::Heard(report) = &event {
            let state = host.agent.controller.view(now, wall).state;
            if state.ctl.leader.as_ref() == Some(&report.member) {
                host.agent.led = now;
            }
        }
        let effects = host.agent.controller.step(now, wall, event);
        let rule = host.agent.controller.rule();
        self.mark(rule);
        if let Some(term) = effects.promise {
            self.promise(at, term);
        }
        if let Some(action) = effects.perform {
            self.begin(at, action);
        }
        if let Some(change) = effects.submit {
            self.submit(at, change);
        }
        if effects.speak {
            self.speak(at);
        }
        self.give_leases(at, effects.leases);
    }

    /// A bare promise is written by the loop itself, which waits for the disk.
    fn promise(&mut self, at: At, term: Term) {
        let host = &mut self.hosts[at];
        host.vows.promise = host.vows.promise.max(term);
        let vows = Box::new(host.vows.clone());
        let (stalled, life) = (host.disk.stalled_until, host.agent.life);
        if stalled > self.now {
            host.agent.stopped = true;
            let over = crate::fault::Over::AgentGoesOn(at, life);
            self.at(stalled, What::Over(self.calms, Box::new(over)));
        }
        self.tell(at, life, Event::Vows(vows));
    }

    /// Heartbeat, guard, and looks at what is silent (`Agent::breathe`).
    fn breathe(&mut self, at: At) {
        let now = self.hosts[at].clock.local(self.now);
        let pace = self.pace(at);
        if pace.must_speak() {
            self.speak(at);
        }
        let quiet = self.hosts[at].agent.controller.leader_server_silent(now);
        if !pace.leads && pace.led > LOOK_AFTER {
            self.look_at_leader(at, now, LOOK);
        } else if quiet.is_some_and(|d| d > LOOK_AFTER_WAL) {
            self.look_at_leader(at, now, LOOK_AGAIN);
        }
        if self.needs_read(at, pace.leads) {
            self.hosts[at].agent.reading = true;
            self.begin_read(at);
        }
        self.arm(at, now);
        self.watch_disk(at, now);
    }

    /// `agent::disk_watch`: a leader's byte that is not on disk for too long.
    fn watch_disk(&mut self, at: At, now: Time) {
        let leads = self.pace(at).leads;
        let hangs = self.hosts[at].disk.stalled_until > self.now && leads;
        let agent = &mut self.hosts[at].agent;
        agent.writes_since = hangs.then(|| agent.writes_since.unwrap_or(now));
        let stalled = agent.writes_since.is_some_and(|since| now.since(since) >= STALL_LIMIT);
        if stalled != agent.stalled {
            agent.stalled = stalled;
            let life = agent.life;
            self.note(Some(at), || format!("its disk {}", if stalled { "hangs" } else { "works again" }));
            self.tell(at, life, Event::Stalled(stalled));
        }
    }

    fn look_at_leader(&mut self, at: At, now: Time, pause: Duration) {
        if now.since(self.hosts[at].agent.looked) < pause {
            return;
        }
        self.hosts[at].agent.looked = now;
        self.probe_in(at, ms(2));
        let leader = self.seen_by(at).ctl.leader.clone();
        let Some(up) = leader.and_then(|l| self.places.get(&l.node).copied()).filter(|up| *up != at) else {
            return;
        };
        let host = &self.hosts[up];
        let answers = host.up && !host.paused && host.server.works(Process::Postmaster);
        if answers && self.network.connects(at, up) {
            let delay = self.network.delay(&mut self.rng) + self.network.delay(&mut self.rng);
            let life = self.hosts[at].agent.life;
            self.after(delay, What::Alive(at, life));
        }
    }

    fn needs_read(&self, at: At, leads: bool) -> bool {
        let host = &self.hosts[at];
        let view = host.agent.controller.view(host.clock.local(self.now), 0);
        let asynchronous = view.state.rules.iter().any(|r| r.mode == Durability::Async);
        leads && !host.agent.reading && (asynchronous || !failover::fencing::has_grants(&view))
    }

    /// A linearizable read is answered; the next may begin a while later.
    pub(crate) fn read(&mut self, at: At, life: u32, began: Us, term: Term) {
        if self.hosts[at].agent.life != life {
            return;
        }
        self.hosts[at].agent.reading = false;
        // An answer needs only the way to here.
        let arrives = self.store.group.is_some() || self.network.passes(self.store.leader, at);
        if began == 0 || !arrives {
            return;
        }
        let from = if self.is(Env::LeaseFromReply) { self.now } else { began };
        let started = self.hosts[at].clock.local(from);
        self.hosts[at].agent.reading = true;
        self.after(READ, What::Read(at, life, 0, Term(0)));
        self.tell(at, life, Event::StoreRead(started, term));
    }

    /// Sends our report to everybody.
    pub(crate) fn speak(&mut self, at: At) {
        let now = self.hosts[at].clock.local(self.now);
        self.hosts[at].agent.spoke = now;
        let Some(report) = self.hosts[at].agent.controller.next_report(now) else { return };
        self.judge(&Moment::Spoke { at, misses: report.misses.is_some() });
        let report = Rc::new(report);
        self.remember_said(at, &report);
        for to in 0..self.hosts.len() {
            if to == at || !self.network.passes(at, to) || !self.hosts[to].up {
                continue;
            }
            for delay in self.network.word(at, to, &mut self.rng).into_iter().flatten() {
                self.after(delay, What::Word(to, report.clone()));
            }
        }
    }

    /// Looks at the own server at once: something happened.
    pub(crate) fn again(&mut self, at: At) {
        self.probe_in(at, ms(3));
    }

    fn probe_in(&mut self, at: At, delay: Us) {
        self.hosts[at].agent.probe += 1;
        let probe = self.hosts[at].agent.probe;
        self.after(delay, What::Probe(at, probe));
    }

    /// `watchers::probe`.
    pub(crate) fn probe(&mut self, at: At, probe: u64) {
        let host = &self.hosts[at];
        if host.agent.probe != probe || !host.is_awake() || host.kind == Kind::Witness {
            return;
        }
        let life = host.agent.life;
        let s = &host.server;
        let heard = s.receiver.is_some().then(|| Duration::from_micros(self.now.saturating_sub(s.heard_at)));
        let hung = s.runs() && s.stopped.contains(&Process::Postmaster);
        let pause = if self.is_moving(at) { PROBE.1 } else { PROBE.0 };
        self.probe_in(at, pause);
        if let Some(ago) = heard {
            self.tell(at, life, Event::LeaderAlive(ago));
        }
        self.tell(at, life, Event::Hung(hung));
        let seen = self.seen(at);
        self.tell(at, life, seen);
    }

    fn is_moving(&self, at: At) -> bool {
        let state = self.seen_by(at);
        let s = &self.hosts[at].server;
        let settled = s.is_primary() || self.streams_in(at) == Some(state.ctl.term);
        let voter =
            |m: &cluster::command::Member| matches!(m.state, MemberState::Voter | MemberState::Removed);
        !settled
            || state.ctl.phase != Phase::Open
            || state.rules.len() > 1
            || !state.members.values().all(voter)
    }

    /// The term whose leader's WAL comes in.
    fn streams_in(&self, at: At) -> Option<Term> {
        let receiver = self.hosts[at].server.receiver.as_ref()?;
        self.streams.get(&receiver.stream).map(|s| s.term)
    }

    /// What a probe of the own server says.
    pub(crate) fn seen(&self, at: At) -> Event {
        let s = &self.hosts[at].server;
        let hung = s.runs() && s.stopped.contains(&Process::Postmaster);
        let known =
            matches!(s.state, ServerState::Primary | ServerState::Standby | ServerState::Down) && !hung;
        let mut report = ServerReport { state: s.state, ..ServerReport::default() };
        if hung {
            report.lineage = s.wal.lineage.clone();
        } else if known {
            report.sysid = s.sysid;
            report.version = 150_000;
            report.lineage = self.lineage(at);
            report.end = if s.is_primary() { Wal::lsn(s.wal.flushed) } else { s.wal.end() };
            report.replay = Wal::lsn(s.replayed);
            report.streaming = self.streams_in(at);
            report.replay_paused = s.replay_paused;
        }
        let leading = (s.is_primary() && !hung).then(|| Box::new(self.leading(at)));
        Event::Probed(Box::new(report), leading)
    }

    /// While nothing streams, the log itself tells whose it is.
    fn lineage(&self, at: At) -> cluster::Lineage {
        let s = &self.hosts[at].server;
        if s.receiver.is_some() || s.is_primary() { s.wal.lineage.clone() } else { s.wal.log_lineage() }
    }

    fn leading(&self, at: At) -> Leading {
        let s = &self.hosts[at].server;
        let row = |(member, id): (&MemberId, &u64)| {
            let stream = self.streams.get(id)?;
            let flush = Wal::lsn(stream.flush);
            Some(StandbyProgress {
                member: member.clone(),
                streaming: stream.flush >= stream.sent || stream.flush > 0,
                sent: Wal::lsn(stream.sent),
                write: flush,
                flush,
                replay: flush,
                reply_age_ms: self.now.saturating_sub(stream.replied_at) / 1000,
                replay_lag_ms: 0,
            })
        };
        let standbys = s.senders.iter().filter_map(row).collect();
        let waiters = u32::try_from(s.waiting.len()).unwrap_or(u32::MAX);
        Leading { end: Wal::lsn(s.wal.flushed), standbys, waiters, ..Leading::default() }
    }

    /// Takes up the seat that is agreed for it, durably.
    pub(crate) fn adopt_seat(&mut self, at: At, state: &Arc<cluster::ClusterState>) {
        let host = &mut self.hosts[at];
        let Some(id) = state.member_id(&host.name).filter(|id| id.incarnation > 0) else { return };
        // What a member begins with may be from before its present life.
        if host.vows.member.as_ref().is_none_or(|old| old.incarnation < id.incarnation) {
            host.vows.member = Some(id);
            let (life, vows) = (host.agent.life, Box::new(host.vows.clone()));
            self.tell(at, life, Event::Vows(vows));
        }
    }
}
