//! What a server still owes: one entry for each message that it will answer, in order.
//!
//! Its answers carry no numbers, so this queue is what tells the client's from
//! our own, and what must be undone when a batch fails midway.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::prepared::Statement;

/// Most answers that may be owed at a time. A client that has so many outstanding is not read until
/// some have come.
pub const OWED_MAX: usize = 65_536;

/// What asked for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The client.
    Client,
    /// The client, with something that ends its transaction for good.
    ClientCommit,
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
    /// We: a commit of our own that proves that all before it has reached the standbys.
    Prove,
}

impl Asker {
    /// Whether the client gets the answer.
    #[must_use]
    pub fn is_client(self) -> bool {
        match self {
            Asker::Client | Asker::ClientCommit => true,
            Asker::Begin | Asker::Xid | Asker::Commit | Asker::Apply | Asker::Ask | Asker::Prove => false,
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
    Bind,
    /// To Describe; of a statement it has two parts.
    Describe {
        /// Of a statement, and not of a portal.
        statement: bool,
    },
    /// To Execute; `commit` if it ends the transaction.
    Execute {
        /// Whether it ends the transaction.
        commit: bool,
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
            Expect::Bind | Expect::Describe { .. } | Expect::Execute { .. } | Expect::Refused(_) => true,
            Expect::CopyEnd | Expect::Said { .. } => false,
        }
    }

    /// Whether ReadyForQuery is what ends it.
    #[must_use]
    pub fn ends_ready(&self) -> bool {
        match self {
            Expect::Query(_) | Expect::Sync { .. } => true,
            Expect::Parse { .. }
            | Expect::Bind
            | Expect::Describe { .. }
            | Expect::Execute { .. }
            | Expect::Close { .. }
            | Expect::CopyEnd
            | Expect::Said { .. }
            | Expect::Refused(_) => false,
        }
    }
}
