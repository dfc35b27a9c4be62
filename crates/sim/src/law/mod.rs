//! The laws: I1 to I15 of docs/protocol.md, one file each, and F1 to F8 for those who
//! come through a proxy, looked at in every moment of a world.
//!
//! A law sees what really happened, not what agents believe. It never looks into
//! the thinking code's own checks: a mistake there must show in the world.

mod front;
mod i01_ack_durable;
mod i02_one_acker;
mod i03_term_leader;
mod i04_intersect;
mod i05_promise;
mod i06_position_honest;
mod i07_timeline_unique;
mod i08_open_barrier;
mod i09_stale_read;
mod i10_never_empty;
mod i11_lineage;
mod i12_no_resurrection;
mod i13_resolve;
mod i14_progress;
mod i15_slot_safe;
mod lease;
mod witness;

use std::sync::Arc;

use cluster::report::Recruited;
use cluster::{ClusterState, Command, Term};

use crate::network::At;
use crate::world::World;

pub use i14_progress::TERMS_TO_HEAL_MAX;
pub use witness::Witnessed;

/// A moment that a law may have something to say about.
#[derive(Debug)]
pub enum Moment {
    /// Something happened.
    Step,
    /// A server tells a client that a write is committed.
    Acked {
        /// Where.
        at: At,
        /// Which.
        write: u32,
    },
    /// The store agreed to a command; the world already holds the new state.
    Agreed {
        /// What was agreed before.
        old: Arc<ClusterState>,
        /// The command.
        command: Command,
    },
    /// A server has become primary by a deed.
    Promoted {
        /// Which.
        at: At,
        /// In which term.
        term: Term,
    },
    /// A standby begins to stream.
    Attached {
        /// From whom.
        up: At,
        /// Which.
        down: At,
    },
    /// A walreceiver acknowledges.
    AckSent {
        /// Which.
        at: At,
        /// To a leader of this term.
        term: Term,
    },
    /// An agent says that it is recruited.
    Recruited {
        /// Which.
        at: At,
        /// Its answer.
        answer: Recruited,
    },
    /// A server has come up.
    Started {
        /// Which.
        at: At,
    },
    /// A directory was made anew.
    Rebuilt {
        /// Which.
        at: At,
        /// From whose.
        from: At,
    },
    /// An agent sends its report.
    Spoke {
        /// Whose.
        at: At,
        /// Whether it says that it misses the leader.
        misses: bool,
    },
    /// A client reads.
    Read {
        /// Where.
        at: At,
    },
    /// A proxy gives a server an application, or something of what it wants.
    Sent {
        /// Whose it is.
        app: usize,
        /// To which server.
        to: At,
        /// In which term it was taken from the pool.
        term: Term,
        /// What.
        sends: crate::front::told::Sends,
    },
    /// A server has written the commit of an application's operation.
    Committed {
        /// Where.
        at: At,
        /// Which.
        op: usize,
    },
    /// A proxy was given a lease.
    Leased {
        /// Which.
        proxy: usize,
    },
    /// An application was told what became of its operation.
    Told {
        /// Which.
        op: usize,
    },
    /// All faults are over and the cluster was given time.
    Ended,
}

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub law: &'static str,
    /// By what.
    pub what: String,
}

type Judge = fn(&World, &Moment) -> Option<String>;

/// Every law, by the name that docs/protocol.md gives it.
pub const LAWS: [(&str, Judge); 23] = [
    ("I1 AckDurable", i01_ack_durable::judge),
    ("I2 OneAcker", i02_one_acker::judge),
    ("I3 TermLeader", i03_term_leader::judge),
    ("I4 Intersect", i04_intersect::judge),
    ("I5 Promise", i05_promise::judge),
    ("I6 PosHonest", i06_position_honest::judge),
    ("I7 TliUnique", i07_timeline_unique::judge),
    ("I8 OpenBarrier", i08_open_barrier::judge),
    ("I9 StrictRead", i09_stale_read::judge),
    ("I10 NeverEmpty", i10_never_empty::judge),
    ("I11 Lineage", i11_lineage::judge),
    ("I12 NoResurrect", i12_no_resurrection::judge),
    ("I13 Resolve", i13_resolve::judge),
    ("I14 Progress", i14_progress::judge),
    ("I15 SlotSafe", i15_slot_safe::judge),
    ("F1 Done", front::done),
    ("F2 Refused", front::refused),
    ("F3 Unknown", front::unknown),
    ("F4 Once", front::once),
    ("F5 Sent", front::sent),
    ("F6 Stays", front::stays),
    ("F7 Held", front::held),
    ("F8 Lease", lease::judge),
];

/// What every law says of a moment.
#[must_use]
pub fn judge(world: &World, moment: &Moment) -> Option<Broken> {
    LAWS.iter().find_map(|(law, judge)| judge(world, moment).map(|what| Broken { law, what }))
}
