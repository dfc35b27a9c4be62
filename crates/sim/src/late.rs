//! Late states: a world that has lived for a while, made at once.
//!
//! Walks from the beginning hardly ever come to a state that is several terms old
//! with a leader's unacknowledged tail on a disk somewhere (protocol section 5).
//! Every step here is a command that `apply` accepts, with disks to match.

use std::collections::{BTreeMap, BTreeSet};

use cluster::command::{Ballot, Change, Evidence, Kind, MemberState, Registration, Trigger};
use cluster::local::Promoting;
use cluster::report::ServerState;
use cluster::{Durability, MemberId, NodeId, Position, Rule, Settings, Term, Timeline};
use failover::rules::next_towards;

use crate::fault::join;
use crate::network::At;
use crate::server::Names;
use crate::story::Line;
use crate::world::{What, World};

/// Makes the state that `late TERMS [tail] [changing | revoking | elected]` names.
///
/// # Errors
/// That the line is wrong, or the store refused a step.
pub fn begin(world: &mut World, settings: &Settings, line: &Line) -> Result<(), String> {
    let terms: u64 = line.word(1).parse().map_err(|_| "late TERMS")?;
    let has = |word: &str| line.words.iter().any(|w| w == word);
    let mut late = Late { world, leader: 0, term: Term(1) };
    late.claim(settings)?;
    for n in 2..=terms {
        let tail = n == terms && has("tail");
        late.change_leader(tail)?;
    }
    late.half_way(has("changing"), has("revoking"), has("elected"))?;
    late.start();
    Ok(())
}

struct Late<'a> {
    world: &'a mut World,
    leader: At,
    term: Term,
}

impl Late<'_> {
    fn ask(&mut self, at: At, change: Change) -> Result<(), String> {
        let by = self.world.hosts[at].name.clone();
        self.world.ask(&by, change).map_err(|e| e.to_string())
    }

    fn data(&self) -> Vec<At> {
        (0..self.world.hosts.len()).filter(|at| self.world.hosts[*at].kind.keeps_wal()).collect()
    }

    fn electable(&self, old: At) -> Vec<At> {
        self.data().into_iter().filter(|at| *at != old && self.world.hosts[*at].kind == Kind::Data).collect()
    }

    fn id(&self, at: At) -> MemberId {
        MemberId::new(self.world.hosts[at].name.clone(), 1)
    }

    fn record(&mut self) -> u32 {
        self.world.next_record += 1;
        self.world.next_record
    }

    fn claim(&mut self, settings: &Settings) -> Result<(), String> {
        let register = |kind| Registration { kind, ..Registration::default() };
        let members: BTreeMap<NodeId, Registration> =
            self.world.hosts.iter().map(|n| (n.name.clone(), register(n.kind))).collect();
        let claim = Change::Claim { cluster: "late".into(), settings: settings.clone(), members };
        let first = self.record();
        self.world.hosts[0].server.initdb(7, first);
        self.ask(0, claim)?;
        for at in 1..self.world.hosts.len() {
            let name = self.world.hosts[at].name.clone();
            join(self.world, &name)?;
        }
        for at in 0..self.world.hosts.len() {
            self.world.hosts[at].vows.member = Some(self.id(at));
            self.world.hosts[at].vows.promise = Term(1);
        }
        self.open(0, Term(1), Timeline(2))?;
        for at in self.data().into_iter().filter(|at| *at != 0) {
            self.follow(at, 0);
            for state in [MemberState::Catchup, MemberState::Voter] {
                let (member, attached) = (self.id(at), Term(1));
                self.ask(at, Change::SetMemberState { member, state, attached })?;
            }
        }
        let standbys: BTreeSet<MemberId> =
            self.data().into_iter().filter(|at| *at != 0).map(|at| self.id(at)).collect();
        if settings.durability == Durability::Async {
            return Ok(());
        }
        let acks = settings.acks.min(standbys.len() as u32);
        self.rule(&Rule::new(standbys, acks).map_err(|e| e.to_string())?)
    }

    /// Promotes, and opens the term.
    fn open(&mut self, at: At, term: Term, tli: Timeline) -> Result<(), String> {
        let rule = self.world.truth.newest_rule().cloned().ok_or("no rule")?;
        let id = self.record();
        let host = &mut self.world.hosts[at];
        let next_xid = host.server.wal.next_xid();
        let switch_lsn = host.server.wal.end();
        host.server.promote(tli, id);
        host.server.signal_file = true;
        host.server.checkpointed = tli;
        host.server.names = Names::Set(rule.rule.clone());
        host.server.names_live = host.server.names.clone();
        host.server.defined = !rule.rule.is_leader_only();
        host.vows.promise = term;
        host.vows.promoting = Some(Promoting { term, next_xid });
        host.vows.sysid = 7;
        self.world.judge(&crate::law::Moment::Promoted { at, term });
        self.world.hosts[at].ghost.promoted.push(term);
        self.world.hosts[at].ghost.leads = term;
        // Its standbys have the beginning of its timeline.
        let standbys: Vec<At> =
            rule.rule.standbys().iter().filter_map(|m| self.world.places.get(&m.node).copied()).collect();
        for standby in standbys {
            self.follow(standby, at);
        }
        let (timeline, sub) = (tli, rule.sub);
        self.ask(at, Change::Opened { term, sysid: 7, timeline, switch_lsn, next_xid, sub })?;
        (self.leader, self.term) = (at, term);
        Ok(())
    }

    /// A standby that has all that its leader has.
    fn follow(&mut self, at: At, leader: At) {
        let term = self.world.hosts[leader].ghost.leads;
        let (wal, checkpointed) =
            (self.world.hosts[leader].server.wal.clone(), self.world.hosts[leader].server.checkpointed);
        let host = &mut self.world.hosts[at];
        host.server.state = ServerState::Standby;
        host.server.sysid = 7;
        host.server.checkpointed = checkpointed;
        host.server.wal = wal;
        host.server.wal.sync();
        host.server.replayed = host.server.wal.records.len();
        (host.server.names, host.server.names_live) = (Names::Placeholder, Names::Placeholder);
        (host.server.defined, host.server.signal_file) = (true, true);
        host.server.credential = Some(term);
        host.server.upstream = Some((leader, term));
        host.server.upstream_live = host.server.upstream;
        (host.vows.promise, host.vows.attached, host.vows.sysid) = (term, term, 7);
    }

    fn rule(&mut self, wanted: &Rule) -> Result<(), String> {
        for _ in 0..8 {
            let current = self.world.truth.newest_rule().cloned().ok_or("no rule")?;
            let Some(rule) = next_towards(&current.rule, wanted) else { break };
            let (term, from_sub) = (self.term, current.sub);
            self.ask(
                self.leader,
                Change::RuleBegin { term, from_sub, rule: rule.clone(), agreed_by: BTreeSet::new() },
            )?;
            let keep = self.world.truth.newest_rule().map_or(0, |r| r.sub);
            let server = &mut self.world.hosts[self.leader].server;
            server.names = Names::Set(rule);
            server.names_live = server.names.clone();
            server.defined = true;
            let lsn = self.world.hosts[self.leader].server.wal.end();
            self.ask(self.leader, Change::RuleEnd { term, keep, drop: from_sub, lsn })?;
        }
        Ok(())
    }

    fn evidence(&self, at: At, term: Term) -> Evidence {
        let host = &self.world.hosts[at];
        let owner = cluster::lineage::term_of(host.server.wal.owner(), &self.world.truth.elections);
        Evidence {
            member: self.id(at),
            promise: term,
            resigned: host.vows.resigned,
            position: owner.map(|t| Position::new(t, host.server.wal.end())),
            lineage: host.server.wal.lineage.clone(),
            // All this was long ago: leases have run out.
            time_fenced: self.world.truth.settings.durability == Durability::Async,
        }
    }

    /// The term ends and another node leads. With a `tail` the old leader was not
    /// asked, and has written on.
    fn change_leader(&mut self, tail: bool) -> Result<(), String> {
        let old = self.leader;
        self.write_some(old);
        let others = self.electable(old);
        let next = *self.world.rng.of(&others);
        let (term, ballot) = self.election(next, tail)?;
        self.stop(old, tail);
        let tli = ballot.tli;
        self.ask(next, Change::Elect(ballot))?;
        self.open(next, term, tli)?;
        for at in self.data().into_iter().filter(|at| *at != next && (!tail || *at != old)) {
            self.follow(at, next);
        }
        if !tail {
            let standbys: BTreeSet<MemberId> =
                self.data().into_iter().filter(|at| *at != next).map(|at| self.id(at)).collect();
            let acks = self.world.truth.settings.acks.min(standbys.len() as u32);
            if self.world.truth.settings.durability != Durability::Async {
                self.rule(&Rule::new(standbys, acks).map_err(|e| e.to_string())?)?;
            }
        }
        Ok(())
    }

    fn write_some(&mut self, at: At) {
        for _ in 0..1 + self.world.rng.below(4) {
            let id = self.record();
            self.world.hosts[at].server.wal.append(id, None);
        }
        self.world.hosts[at].server.wal.sync();
        let wal = self.world.hosts[at].server.wal.clone();
        for other in self.data() {
            if self.world.hosts[other].server.upstream.is_some_and(|(up, _)| up == at) && other != at {
                self.world.hosts[other].server.wal = wal.clone();
                self.world.hosts[other].server.replayed = wal.records.len();
            }
        }
    }

    /// Begins the next term and gathers what its election rests on.
    fn election(&mut self, next: At, tail: bool) -> Result<(Term, Ballot), String> {
        let old = self.leader;
        let term = self.term.next();
        let trigger = Trigger::Operator { to: None, accept_loss: BTreeSet::new() };
        self.ask(next, Change::BeginTerm { term, trigger })?;
        if !tail {
            self.world.hosts[old].vows.resigned = self.term;
        }
        let asked: Vec<At> = self.data().into_iter().filter(|at| !tail || *at != old).collect();
        for at in (0..self.world.hosts.len()).filter(|at| !tail || *at != old) {
            self.world.hosts[at].vows.promise = term;
        }
        let evidence: Vec<Evidence> = asked.iter().map(|at| self.evidence(*at, term)).collect();
        let mine = self.evidence(next, term);
        let settings = &self.world.truth.settings;
        let followers: BTreeSet<MemberId> =
            asked.iter().filter(|at| **at != next && **at != old).map(|at| self.id(*at)).collect();
        let followers = if followers.is_empty() { BTreeSet::from([self.id(old)]) } else { followers };
        let acks = settings.acks.min(followers.len() as u32);
        let alone = settings.durability == Durability::Async
            || (tail
                && settings.durability == Durability::QuorumRelaxed
                && followers.contains(&self.id(old)));
        let rule = if alone {
            Rule::leader_only()
        } else {
            Rule::new(followers, acks).map_err(|e| e.to_string())?
        };
        let (parent_tli, tli) = (mine.lineage.timeline, Timeline(self.world.truth.tli_next));
        Ok((term, Ballot { term, leader: mine.member, evidence, rule, parent_tli, tli }))
    }

    /// The old leader's server is down, with a tail that nobody else has if so wanted.
    fn stop(&mut self, at: At, tail: bool) {
        if tail {
            for _ in 0..1 + self.world.rng.below(3) {
                let id = self.record();
                self.world.hosts[at].server.wal.append(id, None);
            }
            self.world.hosts[at].server.wal.sync();
        }
        let server = &mut self.world.hosts[at].server;
        server.vanish();
        server.names = Names::Placeholder;
    }

    fn half_way(&mut self, changing: bool, revoking: bool, elected: bool) -> Result<(), String> {
        if changing {
            self.begin_change()?;
        }
        if !(revoking || elected) {
            return Ok(());
        }
        let others = self.electable(self.leader);
        let next = *self.world.rng.of(&others);
        if revoking {
            let trigger = Trigger::Operator { to: None, accept_loss: BTreeSet::new() };
            return self.ask(next, Change::BeginTerm { term: self.term.next(), trigger });
        }
        let (_, ballot) = self.election(next, false)?;
        let old = self.leader;
        self.stop(old, false);
        for at in self.data() {
            let server = &mut self.world.hosts[at].server;
            (server.upstream, server.upstream_live, server.credential) = (None, None, None);
        }
        self.ask(next, Change::Elect(ballot))
    }

    /// M1 is agreed, and nothing of M2 is done.
    fn begin_change(&mut self) -> Result<(), String> {
        let current = self.world.truth.newest_rule().cloned().ok_or("no rule")?;
        let Some(gone) = current.rule.standbys().iter().next().cloned() else { return Ok(()) };
        let left: BTreeSet<MemberId> =
            current.rule.standbys().iter().filter(|m| **m != gone).cloned().collect();
        if left.is_empty() || current.rule.acks() as usize > left.len() {
            return Ok(());
        }
        let rule = Rule::new(left, current.rule.acks()).map_err(|e| e.to_string())?;
        let agreed_by = BTreeSet::from([gone.node]);
        self.ask(self.leader, Change::RuleBegin { term: self.term, from_sub: current.sub, rule, agreed_by })
    }

    /// Agents start on what is on their disks.
    fn start(&mut self) {
        for at in 0..self.world.hosts.len() {
            let truth = self.world.truth.clone();
            self.world.store.remember(at, truth.clone());
            self.world.store.remember(at, truth.clone());
            let now = self.world.hosts[at].clock.local(self.world.now);
            self.world.hosts[at].restart_agent(now);
            // As the agent of before left it.
            let reach = std::time::Duration::from_millis(truth.settings.timing.guard_deadline_ms);
            self.world.hosts[at].guard.deadline = Some(now + reach);
            self.world.hosts[at].agent.revision = truth.revision;
            self.world.start_agent(at);
            let life = self.world.hosts[at].server.life;
            self.world.after(1000, What::Receive(at, life));
        }
        self.world.counts = crate::world::Counts::default();
    }
}
