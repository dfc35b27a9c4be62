//! What can happen next, in one line each.

use std::fmt;

use crate::bounds::{Bounds, Mutation};
use crate::log::Log;
use crate::postgres::walsender;
use crate::store::{Standing, Store};
use crate::symmetry::Names;
use crate::world::{Index, NODES, Rule, Server, Walsender, World};

/// One thing that happens at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The store accepts the next term.
    Begin,
    /// The store accepts a leader, with the rule to open under.
    Elect(Index, Rule),
    /// The store accepts that the term is open.
    Opened(Index),
    /// M1: the store accepts a second rule.
    RuleBegin(Index, Rule),
    /// M3: the store drops the older rule.
    RuleEnd(Index),
    /// A member promises the current term, cuts its ack path and reports its position.
    Recruit(Index),
    /// The ack path ends only now (a mutation).
    Cut(Index),
    /// A node dies and with it what it had not written down.
    Die(Index),
    /// An agent kills its server and vows to have resigned.
    Resign(Index),
    /// The elected leader's agent reads the store, vows, and asks its server to promote.
    Validate(Index),
    /// The server is read-write on its new timeline.
    Promote(Index),
    /// A standby attaches to a leader: leader, standby.
    Attach(Index, Index),
    /// The store accepts that a leader hands over to another.
    BeginAndElect(Index, Rule),
    /// A member asks not to be believed, so that it may be made anew.
    Ask(Index),
    /// The store accepts how far a member is believed.
    Standing(Index, Standing),
    /// A member's directory is thrown away.
    Rebuild(Index),
    /// It is a copy of a leader's: leader, member.
    Rebuilt(Index, Index),
    /// A client's write is flushed by a leader.
    Write(Index),
    /// M2: a leader's settings, the reload, and the barrier's record.
    SetRule(Index, Rule),
    /// A leader's checkpointer reads the settings.
    Checkpointer(Index),
    /// A standby flushes one more record and replies: leader, standby.
    Stream(Index, Index),
    /// A walsender reads the settings: leader, standby.
    Reload(Index, Index),
    /// A walsender reads replies up to this LSN and releases what it may.
    Reply(Index, Index, u8),
    /// The leader's agent ends a walsender: leader, standby.
    Terminate(Index, Index),
}

/// Bounds, store and the steps found last.
pub struct Explorer {
    /// How far.
    pub bounds: Bounds,
    /// The mistake to be made.
    pub mutation: Option<Mutation>,
    pub(crate) store: Store,
    pub(crate) names: Names,
    pub(crate) found: Vec<(Step, World)>,
}

impl Explorer {
    /// Nothing explored yet.
    #[must_use]
    pub fn new(bounds: Bounds, mutation: Option<Mutation>) -> Explorer {
        let (store, names) = (Store::new(&bounds, mutation), Names::new(bounds.nodes));
        Explorer { bounds, mutation, store, names, found: Vec::new() }
    }

    /// n1 leads term 1, everybody streams and has its first record.
    pub(crate) fn first(&self) -> World {
        let mut world = World::default();
        let log = Log::default().with(1, false);
        let rule = self.store.all_but(0, self.bounds.acks);
        for i in 0..self.bounds.nodes {
            let node = &mut world.nodes[i as usize];
            (node.log, node.promise, node.term) = (log, 1, 1);
            if i == 0 {
                (node.server, node.promoting, node.opening) = (Server::Primary, 1, 1);
                (node.rule, node.sub) = (rule, 2);
            } else {
                (node.server, node.attached) = (Server::Following(0), 1);
                world.nodes[0].walsenders[i as usize] = Walsender { flush: 1, ..walsender(rule, log) };
            }
        }
        world
    }

    /// All that can happen next.
    pub(crate) fn explore(&mut self, world: &World) {
        self.found.clear();
        self.commands(world);
        for i in 0..self.bounds.nodes {
            self.agent(world, i);
            self.serve(world, i);
        }
    }

    pub(crate) fn push(&mut self, step: Step, mut world: World) {
        self.normalise(&mut world);
        self.found.push((step, world));
    }
}

fn name(index: Index) -> &'static str {
    NODES[index as usize]
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Rule::LEADER_ONLY {
            return f.write_str("the leader alone");
        }
        write!(f, "any {} of", self.acks())?;
        (0..NODES.len() as u8).filter(|i| self.names(*i)).try_for_each(|i| write!(f, " {}", name(i)))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::Begin => write!(f, "store: the next term begins"),
            Step::Elect(n, rule) => write!(f, "store: {} is elected, to open under {rule}", name(n)),
            Step::Opened(n) => write!(f, "store: {} has opened, older rules are dropped", name(n)),
            Step::RuleBegin(n, rule) => write!(f, "store: {} may change to {rule} (M1)", name(n)),
            Step::RuleEnd(n) => write!(f, "store: the older rule of {} is dropped (M3)", name(n)),
            Step::Recruit(n) => write!(f, "{} promises the term, cuts its ack path and reports", name(n)),
            Step::Cut(n) => write!(f, "{} cuts its ack path", name(n)),
            Step::Die(n) => write!(f, "{} dies", name(n)),
            Step::Resign(n) => write!(f, "{} kills its server and resigns", name(n)),
            Step::Validate(n) => write!(f, "{} reads that it is elected and asks to promote", name(n)),
            Step::Promote(n) => write!(f, "{} is promoted", name(n)),
            Step::Attach(l, s) => write!(f, "{} attaches to {}", name(s), name(l)),
            Step::BeginAndElect(n, rule) => {
                write!(f, "store: the leader hands over to {}, to open under {rule}", name(n))
            }
            Step::Ask(n) => write!(f, "{} asks to be made anew", name(n)),
            Step::Standing(n, to) => write!(f, "store: {} is now {to:?}", name(n)),
            Step::Rebuild(n) => write!(f, "{} throws its directory away", name(n)),
            Step::Rebuilt(l, n) => write!(f, "{} is a copy of {}", name(n), name(l)),
            Step::Write(n) => write!(f, "{} flushes a client's write", name(n)),
            Step::SetRule(n, rule) => write!(f, "{} sets {rule} and writes the barrier (M2)", name(n)),
            Step::Checkpointer(n) => write!(f, "{}: the checkpointer reads the settings", name(n)),
            Step::Stream(l, s) => write!(f, "{} flushes one record of {} and replies", name(s), name(l)),
            Step::Reload(l, s) => write!(f, "{}: the walsender of {} reads the settings", name(l), name(s)),
            Step::Reply(l, s, lsn) => {
                write!(f, "{}: the walsender of {} reads replies up to {lsn}", name(l), name(s))
            }
            Step::Terminate(l, s) => write!(f, "{}: the walsender of {} is ended", name(l), name(s)),
        }
    }
}
