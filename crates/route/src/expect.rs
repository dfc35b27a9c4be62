//! What a server still owes: one entry for each message that it will answer, in order.
//!
//! Its answers carry no numbers, so this queue is what tells the client's from
//! our own, and what must be undone when a batch fails midway.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::prepared::Statement;
use crate::sql::{Traits, Verb};

/// Most answers that may be owed at a time. A client that has so many outstanding is not read until
/// some have come.
pub const OWED_MAX: usize = 65_536;

/// What a request does to the transaction block that it runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// The block goes on, or fails.
    #[default]
    No,
    /// It ends by COMMIT.
    Commit,
    /// It ends by ROLLBACK.
    Rollback,
    /// It may end in one way or the other, and another may have begun.
    Maybe,
}

impl Ends {
    /// Of a text.
    #[must_use]
    pub fn of(traits: &Traits) -> Ends {
        let alone = !traits.many && !traits.chains;
        match traits.verb {
            Verb::Commit if alone => Ends::Commit,
            Verb::Rollback if alone => Ends::Rollback,
            _ if traits.ends => Ends::Maybe,
            _ => Ends::No,
        }
    }

    /// Of this and what comes after it together.
    #[must_use]
    pub fn then(self, next: Ends) -> Ends {
        if self == Ends::No { next } else { Ends::Maybe }
    }
}

/// What asked for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The client, with something that may end its transaction or not.
    Client(Ends),
    /// We: BEGIN around a single statement.
    Begin,
    /// We: the number of the transaction.
    Xid,
    /// We: COMMIT after a single statement.
    Commit,
    /// We: the settings of this client on this server.
    Apply,
    /// We: what the client has set.
    Ask,
    /// We: whether anything temporary of the client's is left.
    Temporary,
    /// We: a commit of our own that proves that all before it has reached the standbys.
    Prove,
}

impl Asker {
    /// Whether the client gets the answer.
    #[must_use]
    pub fn is_client(self) -> bool {
        match self {
            Asker::Client(_) => true,
            Asker::Begin
            | Asker::Xid
            | Asker::Commit
            | Asker::Apply
            | Asker::Ask
            | Asker::Temporary
            | Asker::Prove => false,
        }
    }
}

/// What is taken back when a batch fails before this was done.
#[derive(Clone, Debug)]
pub enum Undo {
    /// The client's name stands for this again, or for nothing.
    Name(Box<[u8]>, Option<Arc<Statement>>),
    /// The server has not prepared it.
    Prepared(u64),
    /// The server's unnamed statement is not the client's.
    Unnamed,
}

impl Undo {
    /// What the unnamed statement was, if that is what is taken back.
    pub(crate) fn of_unnamed(&mut self) -> Option<&mut Option<Arc<Statement>>> {
        match self {
            Undo::Name(name, old) if name.is_empty() => Some(old),
            Undo::Name(..) | Undo::Prepared(_) | Undo::Unnamed => None,
        }
    }
}

/// One answer that is owed.
#[derive(Clone, Debug)]
pub enum Expect {
    /// To a simple query, or a function call: everything up to ReadyForQuery.
    Query(Asker),
    /// To Parse; `shown` if the client sent it.
    Parse {
        /// Whether the client gets the answer.
        shown: bool,
        /// What is taken back if it fails.
        undo: Vec<Undo>,
    },
    /// To Bind.
    Bind {
        /// The statement of ours that is bound; 0 for the unnamed one.
        id: u64,
    },
    /// To Describe; of a statement it has two parts.
    Describe {
        /// Of a statement, and not of a portal.
        statement: bool,
        /// The statement of ours; 0 for another.
        id: u64,
    },
    /// To Execute.
    Execute {
        /// What it does to the transaction.
        ends: Ends,
        /// What is taken back if it fails.
        undo: Option<Undo>,
    },
    /// To Close; `shown` if the client sent it.
    Close {
        /// Whether the client gets the answer.
        shown: bool,
        /// The statement of ours that is closed; 0 for a portal of the client's.
        id: u64,
    },
    /// To Sync; `shown` if the client sent it.
    Sync {
        /// Whether the client gets the answer.
        shown: bool,
    },
    /// Nothing, but a COPY of the client's ends here if there is one.
    CopyEnd,
    /// Nothing from the server: this message without a body is ours to say when its turn has come.
    Said {
        /// Its type.
        tag: u8,
        /// What is taken back if the batch has failed before.
        undo: Option<Undo>,
    },
    /// An error that we caused on purpose, for which the client gets these bytes.
    Refused(Box<[u8]>),
}

/// The queue.
pub type Owed = VecDeque<Expect>;

impl Expect {
    /// Whether it is (a part of) a request of the client's.
    #[must_use]
    pub fn is_clients(&self) -> bool {
        match self {
            Expect::Query(asker) => asker.is_client(),
            Expect::Parse { shown, .. } | Expect::Close { shown, .. } | Expect::Sync { shown } => *shown,
            Expect::Bind { .. } | Expect::Describe { .. } | Expect::Execute { .. } | Expect::Refused(_) => {
                true
            }
            Expect::CopyEnd | Expect::Said { .. } => false,
        }
    }

    /// Whether ReadyForQuery is what ends it.
    #[must_use]
    pub fn ends_ready(&self) -> bool {
        match self {
            Expect::Query(_) | Expect::Sync { .. } => true,
            Expect::Parse { .. }
            | Expect::Bind { .. }
            | Expect::Describe { .. }
            | Expect::Execute { .. }
            | Expect::Close { .. }
            | Expect::CopyEnd
            | Expect::Said { .. }
            | Expect::Refused(_) => false,
        }
    }
}
