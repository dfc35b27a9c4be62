//! One client's life between login and good-bye.
//!
//! ```text
//!            client's bytes                       server's bytes
//!                 │ front.rs                           │ back.rs
//!                 ▼                                    ▼
//!   names ─▶ rewritten, wrapped ─▶ server ─▶ shown, swallowed, held ─▶ client
//!                 │ owed: one entry for each answer    ▲
//!                 └────────────────────────────────────┘
//!   server lost ─▶ loss.rs: nothing, again, an error, or a COMMIT whose fate must be asked
//!   its transaction went with it ─▶ fallen.rs answers until the client ends it
//! ```
//!
//! The caller lends the server's `Backend` for each call while the two are
//! linked. It must send what comes out before it calls again.

mod again;
mod back;
mod by_name;
mod complete;
mod doubt;
mod extended;
mod fallen;
mod front;
mod loss;
mod ready;
mod rows;
mod tell;
mod temporary;
mod texts;
mod wrap;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::back::{Transaction, Words};

use crate::backend::Backend;
use crate::expect::{Asker, Ends, Expect, Owed};
use crate::pin::{Pin, Pins};
use crate::plan::Out;
use crate::prepared::Statement;
use crate::settings::{self, Settings};
use crate::sql::Traits;

use again::Again;

pub use again::AGAIN_BYTES_MAX;
pub use back::{Heard, WHOLE_BYTES};
pub use front::{Step, Taken};
pub use loss::{Fate, Loss, Outcome};
pub use ready::{BARRIER, is_spent};
pub use wrap::XID_FUNCTION;

/// How long a client keeps its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Until it leaves.
    Session,
    /// Until its transaction ends.
    #[default]
    Transaction,
    /// Until its statement ends; transaction blocks are refused.
    Statement,
}

/// What a pool asks of its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How long a client keeps its server.
    pub mode: Mode,
    /// A server that is lost is replaced by another, and clients stay.
    pub rides: bool,
    /// Ask for the transaction's number before a COMMIT, so that its fate can be settled.
    pub settle_commits: bool,
    /// Put a single writing statement into a transaction of its own, for the same reason.
    pub settle_autocommit: bool,
}

/// What the client has sent since nothing was owed.
#[derive(Debug, Default)]
struct Batch {
    /// It is in the middle of an extended batch: messages were sent, and no Sync.
    open: bool,
    /// Requests (simple queries, or batches up to Sync) since then.
    requests: u32,
    /// What may be run again.
    again: Again,
    /// The client has got something of the first answer that is owed.
    answered: bool,
    /// The client has asked for answers before the end of a request.
    flushed: bool,
    /// Something in the extended batch that is open may end the transaction.
    ends: bool,
    /// Batches and queries sent: the number of the one that is sent now.
    number: u32,
    /// Those that are over.
    over: u32,
}

/// A statement that is there, or not, once the batch `batch` is over: should it fail, nothing of it is so.
#[derive(Debug)]
struct Change {
    batch: u32,
    /// Its number.
    id: u64,
    /// The client's name for it; empty for a change of ours.
    name: Box<[u8]>,
}

/// How much a session has done so far; wraps around, so only differences say something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions that ended, and statements outside of any.
    pub transactions: u32,
    /// Queries, and batches up to Sync.
    pub requests: u32,
    /// Statements that the client prepared under a name.
    pub parses: u32,
    /// Statements that were prepared at a server for it.
    pub server_parses: u32,
    /// Portals that it bound.
    pub binds: u32,
}

/// What was heard of the first request that is owed, short of its ReadyForQuery.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// It failed, and the client was told.
    failed: bool,
    /// What has succeeded of it has ended the transaction so, and the client was told.
    ended: Ends,
    /// Something has run behind that, which commits with its Sync.
    behind: bool,
    /// It has begun a block.
    begun: bool,
}

/// A message of which a part has passed.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    left: u64,
    shown: bool,
}

impl Rest {
    /// How much of what is there belongs to it.
    fn take(&mut self, there: usize) -> usize {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(there);
        self.left -= n as u64;
        n
    }
}

/// A transaction that went with its server, and whose client does not know or has not ended it yet.
#[derive(Clone, Debug)]
struct Fallen {
    told: bool,
    code: String,
    message: String,
}

/// One client.
#[derive(Debug, Default)]
pub struct Session {
    rules: Rules,
    /// As the server said last.
    transaction: Transaction,
    owed: Owed,
    from_client: Rest,
    from_server: Rest,
    names: BTreeMap<Box<[u8]>, Arc<Statement>>,
    unnamed: Option<Arc<Statement>>,
    /// What the last Bind bound to the unnamed portal.
    portal: Traits,
    settings: Arc<Settings>,
    /// What its startup message has set, and RESET goes back to.
    startup: Arc<Settings>,
    /// Settings of an application's own that it has set at some time.
    own: BTreeSet<String>,
    /// What the client knows of the server (ParameterStatus).
    told: Arc<BTreeMap<String, String>>,
    pins: Pins,
    temporary: temporary::Left,
    batch: Batch,
    /// The number of the transaction that is about to commit, once it is known;
    /// `Some(None)`: it has none, for it has written nothing.
    xid: Option<Option<u64>>,
    part: Part,
    /// A statement of its own is in a transaction of ours.
    wrapped: bool,
    /// That one ends with the Sync that comes.
    wrapping: bool,
    /// Something was written in the transaction that is open, as far as words tell.
    wrote: bool,
    /// The COMMIT of a transaction of ours is owed and not sent: its number is not known yet.
    uncommitted: bool,
    /// A cancel was passed on for what is under way.
    cancelled: bool,
    /// What a question of ours failed with, in a block of the client's or of ours; not told yet.
    unasked: Vec<u8>,
    /// The BEGIN of a transaction of ours has failed.
    unbegun: bool,
    /// It is on a standby, where nothing is written.
    on_standby: bool,
    /// What is shown only once the commit is certain.
    held: Vec<u8>,
    /// Where in `held` that begins which is not said when the commit fails: PostgreSQL says that a simple
    /// query is complete after its commit, and that an Execute is before.
    completion_at: usize,
    /// A commit's wait for its standbys was cut short.
    tainted: bool,
    /// A commit of ours is under way that shows whether that one is safe; what comes is held.
    proving: bool,
    /// How often it was asked for.
    proofs: u32,
    /// A statement was sent that sets something if it succeeds.
    sets: bool,
    /// It has set something in the transaction that is open.
    asks: bool,
    /// It has set something for good, and what is not known yet.
    due: bool,
    /// What PostgreSQL answers to that.
    answer: Settings,
    /// Its settings are being applied; nothing of the client's goes out before they are.
    applying: bool,
    /// Why they could not be.
    unapplied: Vec<u8>,
    /// Servers, one after the other, in which they could not be, though in others they can.
    unfit: u8,
    copying: bool,
    /// Messages are dropped until Sync.
    skipping: bool,
    /// What was sent last changes which statements are prepared: the next waits for it.
    barrier: bool,
    /// What changed in batches that are not over yet.
    changes: VecDeque<Change>,
    /// Batch in which the unnamed statement changed last.
    unnamed_changed: Option<u32>,
    /// A portal with a name was bound to something that may end the transaction.
    named_ends: bool,
    /// Portals that take names of the client's away.
    takes: Vec<by_name::Takes>,
    /// When its server was lost: nothing after the first request was begun.
    only_first: bool,
    fallen: Option<Fallen>,
    /// The next request is answered with this instead of being sent.
    refusal: Vec<u8>,
    counts: Counts,
}

impl Session {
    /// One that has just logged in, with the settings of its startup message, and that was told `reported`.
    #[must_use]
    pub fn new(rules: Rules, settings: Arc<Settings>, reported: Arc<BTreeMap<String, String>>) -> Session {
        Session { rules, startup: settings.clone(), settings, told: reported, ..Session::default() }
    }

    /// It has got a server. Says what must go to either side before the client's next message;
    /// until then `front` answers `Step::Wait`.
    pub fn attach(&mut self, backend: &mut Backend, out: &mut Out) {
        backend.unnamed = 0;
        self.on_standby = backend.on_standby();
        let same = settings::share(&mut backend.settings, &mut self.settings);
        if same || !self.apply(backend, out) {
            self.tell_reported(backend, out);
        }
    }

    /// Sets the server up as the client wants it; nothing of the client's goes out before the answer.
    /// Whether anything was to be changed.
    fn apply(&mut self, backend: &mut Backend, out: &mut Out) -> bool {
        let Some(change) = settings::change(&backend.settings, &self.settings, backend.base.as_deref())
        else {
            return false;
        };
        out.to_server.make(|to| wire::front::query(to, &change));
        self.owed.push_back(Expect::Query(crate::expect::Asker::Apply));
        self.applying = true;
        // Until the answer has come nobody else may believe anything of it.
        backend.clean = false;
        true
    }

    /// How long it keeps its server.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.rules.mode
    }

    /// Whether the server can be given back: nothing is owed, and nothing is left behind in it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.rules.mode != Mode::Session && self.is_between() && self.pins.is_empty() && !self.due
    }

    /// Whether it is between two requests, with no transaction open.
    #[must_use]
    pub fn is_between(&self) -> bool {
        let whole = self.from_client.left == 0 && self.from_server.left == 0;
        self.transaction == Transaction::Idle && self.owed.is_empty() && whole && !self.batch.open
    }

    /// Whether something is owed to the client.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.owed.is_empty() || self.batch.open
    }

    /// State of the transaction as the client should see it.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        if self.fallen.is_some() { Transaction::Failed } else { self.transaction }
    }

    /// Why it keeps its server.
    #[must_use]
    pub fn pins(&self) -> Pins {
        self.pins
    }

    /// It keeps its server from now on.
    pub fn pin(&mut self, pin: Pin) {
        self.pins.add(pin);
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What it has set, as far as that is followed.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Statements that it has prepared.
    #[must_use]
    pub fn prepared(&self) -> usize {
        self.names.len()
    }

    /// The next request, which has not been sent, is answered with this error.
    pub fn refuse(&mut self, words: Words<'_>) {
        self.refusal.clear();
        words.put(&mut self.refusal);
    }

    /// What may be done with a cancel for what is under way.
    #[must_use]
    pub fn may_cancel(&self) -> bool {
        let first = self.owed.iter().find(|e| e.is_clients());
        match first {
            // Whoever cancels a commit's wait for its standbys gets a success that may be lost again.
            Some(Expect::Query(Asker::Client(Ends::Commit)) | Expect::Execute { ends: Ends::Commit, .. }) => {
                false
            }
            Some(_) => !self.held_commit(),
            None => false,
        }
    }

    /// Whether nothing but our own COMMIT is under way.
    fn held_commit(&self) -> bool {
        self.wrapped && matches!(self.owed.front(), Some(Expect::Query(Asker::Xid | Asker::Commit)))
    }

    /// Tells the client what its server reports otherwise than it knows.
    fn tell_reported(&mut self, backend: &mut Backend, out: &mut Out) {
        if settings::share(&mut self.told, &mut backend.reported) {
            return;
        }
        for (name, value) in backend.reported.iter().filter(|(n, v)| self.told.get(*n) != Some(v)) {
            out.to_client.make(|to| wire::back::parameter_status(to, name.as_bytes(), value.as_bytes()));
        }
        self.told = backend.reported.clone();
    }
}
