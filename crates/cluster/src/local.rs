//! What an agent has promised, durably (protocol 1.4).
//!
//! These few words are fsynced before anybody hears of them. A promise that is
//! forgotten loses acknowledged commits, so a node that lost this file is
//! another incarnation and starts with nothing to vote with.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::lineage::Lineage;
use crate::lsn::Position;
use crate::node::MemberId;
use crate::rule::Rule;
use crate::term::Term;

/// The durable promises of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vows {
    /// Who we are; `None` before we joined.
    pub member: Option<MemberId>,
    /// System identifier of the data directory; 0 before there is one.
    pub sysid: u64,
    /// We act for no lower term, and acknowledge to no leader of one.
    pub promise: Term,
    /// Our server acknowledges nothing in this term or an earlier one any more.
    pub resigned: Term,
    /// Where our WAL ended when we resigned, if we could tell.
    pub resigned_at: Option<Position>,
    /// The history that `resigned_at` lies on.
    pub resigned_lineage: Option<Lineage>,
    /// Whether that server was shut down cleanly, so that its WAL is complete.
    pub resigned_clean: bool,
    /// We asked PostgreSQL to promote in this term; never twice in one.
    pub promoting: Option<Promoting>,
    /// The newest term to whose leader we ever attached (O-8).
    pub attached: Term,
    /// The newest commit rule that we put in force, vowed before we did: an older one
    /// must not be put in force again; also betrays a restored store (C-18).
    pub last_rule_seen: Option<(Term, u64, Rule)>,
    /// The newest term we saw opened.
    pub opened: Term,
    /// Why our position may not be believed, until an operator says otherwise.
    pub quarantine: Option<String>,
    /// The directory is being rewritten: unusable until that has finished.
    pub rebuilding: Option<Rebuild>,
}

/// "We asked PostgreSQL to promote."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoting {
    /// In which term.
    pub term: Term,
    /// The first transaction id that this term may hand out (C-17); 0 if unknown.
    pub next_xid: u64,
}

/// How a data directory is being rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rebuild {
    /// By `pg_rewind`, in place.
    Rewind,
    /// By a new base backup.
    Clone,
}

impl Vows {
    /// The newest term that this member may have acted in.
    #[must_use]
    pub fn promising_up_to(&self) -> Term {
        let promoting = self.promoting.map_or(Term(0), |p| p.term);
        self.promise.max(promoting).max(self.resigned)
    }
}
