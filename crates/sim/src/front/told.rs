//! What applications were told, and what really became of it.

use cluster::Term;
use route::session;

use crate::clock::Us;
use crate::law::Moment;
use crate::network::At;
use crate::world::World;

use super::app::Kind;

/// What an application was told of its operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is done.
    Done,
    /// It is not, and why: an SQLSTATE, or that it was rolled back.
    Failed(String),
    /// The proxy has closed the session.
    Closed,
    /// Its proxy has died.
    Lost,
}

/// Something that an application wanted.
#[derive(Clone, Debug)]
pub struct Op {
    /// Who.
    pub app: usize,
    /// What.
    pub kind: Kind,
    /// Since when.
    pub since: Us,
    /// What it was told, and when.
    pub told: Option<(Told, Us)>,
    /// The writes that servers began for it.
    pub runs: Vec<u32>,
    /// How the server was lost that had it, the last time.
    pub loss: Loss,
    /// A commit's wait of its was cut short.
    pub cut_short: bool,
    /// Commits were acknowledged by lease when it began.
    pub leased: bool,
}

impl Op {
    pub(super) fn new(app: usize, kind: Kind, since: Us, leased: bool) -> Op {
        Op { app, kind, since, told: None, runs: Vec::new(), loss: Loss::default(), cut_short: false, leased }
    }

    /// Whether it was refused for certain.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(&self.told, Some((Told::Failed(code), _)) if code != UNKNOWN)
    }

    /// Whether it was said to be done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.told, Some((Told::Done, _)))
    }
}

/// "Whether it was committed is not known."
pub const UNKNOWN: &str = "08007";

/// What makes it right to say that nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// A server was lost that had it.
    pub lost: bool,
    /// Its connection went silent, while an answer to the question for the number was owed.
    pub unnumbered: bool,
    /// Its fate could not be settled, and why.
    pub unsettled: Option<&'static str>,
}

/// What a proxy sends to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// An application has only now got that server.
    First,
    /// What the application has said.
    Clients,
    /// What the proxy adds to what is under way.
    Ours,
}

impl World {
    /// A server is lost with what an application has under way.
    pub(super) fn remember_loss(&mut self, app: usize, loss: session::Loss, unanswered: bool) {
        self.mark(&format!("front: lost {loss:?}"));
        let a = &mut self.front.apps[app];
        a.loss.lost = true;
        a.loss.unnumbered |= loss == session::Loss::Silent && unanswered;
    }

    /// An application is told something.
    pub(super) fn judge_told(&mut self, op: usize, told: Told) {
        let app = self.front.ops[op].app;
        let code = match &told {
            Told::Failed(code) => format!("front: told {code}"),
            Told::Done => "front: told done".to_string(),
            Told::Closed | Told::Lost => "front: told nothing".to_string(),
        };
        self.mark(&code);
        self.front.ops[op].loss = self.front.apps[app].loss.clone();
        self.front.ops[op].told = Some((told, self.now));
        if self.front.ops[op].is_done() && self.front.ops[op].kind != Kind::Read {
            self.front.apps[app].done_at = self.now;
            self.count_on(op);
        }
        self.judge(&Moment::Told { op });
    }

    /// From here on an application counts on that write: as if its server had acknowledged it now.
    fn count_on(&mut self, op: usize) {
        let committed = |w: &&u32| self.writes[**w as usize].place.0 > 0;
        let Some(write) = self.front.ops[op].runs.iter().rev().find(committed).copied() else { return };
        if self.witnessed.acked.contains(&write) {
            return;
        }
        let leased =
            self.front.ops[op].leased || self.truth.settings.durability == cluster::Durability::Async;
        let w = &mut self.writes[write as usize];
        let ran_in = w.ran_in;
        (w.term, w.acked_at) = (ran_in, self.now);
        w.leased |= leased;
        // Whoever had it may have been given up in between.
        w.forfeited |= self.witnessed.dead.values().any(|term| *term > ran_in);
        self.witnessed.acked.push(write);
    }

    /// A commit record was written.
    pub(super) fn judge_commit(&mut self, at: At, write: u32) {
        if let Some(op) = self.front.op_of.get(&write).copied() {
            self.judge(&Moment::Committed { at, op });
        }
    }

    /// A proxy gives a server work of an application's.
    pub(super) fn judge_sent(&mut self, app: usize, conn: u64, sends: Sends) {
        let Some(c) = self.front.conns.get(&conn) else { return };
        let (to, term) = (c.at, Term(c.known.term));
        self.judge(&Moment::Sent { app, to, term, sends });
    }
}
