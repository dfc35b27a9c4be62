//! A server is gone: what is certain about what was under way, and what the client is told.
//!
//! | under way | then |
//! |---|---|
//! | nothing | nothing; the next statement goes to another server |
//! | a statement in a transaction | rolled back for certain: 40001, and the client must end its transaction |
//! | COMMIT, or a single statement in a transaction of ours | its number tells: asked of the next leader |
//! | a single statement that only reads, nothing of it shown | run again |
//! | a single statement that may write | 08007, unless the server said that it gave up before |
//!
//! Requests that were sent behind the first are run again as well, where they surely were not begun or
//! only read.
//!
//! A connection that was *ended* has delivered all that the server said. So a
//! number that was asked for and not given means that COMMIT was never begun:
//! PostgreSQL sends the answer to one message before it reads the next
//! (`ReadyForQuery` in tcop/dest.c flushes). One that went silent proves nothing.

use alloc::string::ToString;
use alloc::vec::Vec;

use wire::back::{self, Transaction, Words};

use super::tell::{Verdict, rolled_back, unknown};
use super::{Fallen, Part, Rest, Session};
use crate::expect::{Asker, Ends, Expect};
use crate::pin::Pin;
use crate::plan::Out;

/// How the connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server's side ended it (FIN): everything that it had said was read.
    Ended,
    /// It broke, went silent, or was given up: something may have been said that never came.
    Silent,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the database.
    Committed,
    /// It is not, and never will be.
    NotCommitted,
    /// Nobody can say.
    Unknown,
}

/// What the caller does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: the client has noticed nothing, or was told.
    Goes,
    /// Hand in `take_again()` before anything else of the client's.
    Again,
    /// Find out what became of this transaction, of the term of the lost server, then call `settled`.
    /// The client is not read until then.
    Settle(u64),
    /// Close the client; its last words are in `out`.
    End,
}

/// What is certain of the first request.
#[derive(Clone, Copy)]
enum Known {
    /// The client was told all of it but ReadyForQuery.
    Told,
    RolledBack,
    Done,
    Ask(u64),
    Nothing,
}

/// One request of the client's that is owed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request {
    pub ends: Ends,
    /// It is a query or a call: one answer and no steps.
    pub simple: bool,
    /// What ends it was sent: ReadyForQuery is owed.
    pub whole: bool,
    /// Our question for its number is not answered.
    pub asked: bool,
}

impl Session {
    /// Its server is lost. `last_words` is the body of the FATAL error that it sent, if it did.
    pub fn lost(&mut self, loss: Loss, last_words: Option<&[u8]>, out: &mut Out) -> Outcome {
        let cut_short = self.from_server.left > 0 && self.from_server.shown;
        self.from_server = Rest::default();
        // The rest of a message that was on its way to the server goes nowhere.
        self.from_client.shown = false;
        if cut_short {
            return Outcome::End;
        }
        if self.due {
            // It has set something, and was told so, and nobody can say what any more.
            self.pins.add(Pin::Settings);
        }
        if let Some(words) = self.cannot_stay(last_words) {
            out.to_client.make(|to| to.extend_from_slice(&words));
            return Outcome::End;
        }
        self.applying = false;
        self.copying = false;
        let requests = self.requests();
        let Some(first) = requests.first() else {
            self.owed.clear();
            self.falls(last_words);
            return Outcome::Goes;
        };
        self.only_first = loss == Loss::Ended || self.gave_up(last_words);
        match self.known(*first, &requests, last_words) {
            Known::Ask(xid) => Outcome::Settle(xid),
            Known::Done => self.settled(Fate::Committed, out),
            Known::RolledBack => self.settled(Fate::NotCommitted, out),
            Known::Nothing => self.settled(Fate::Unknown, out),
            Known::Told => {
                let sets = self.asks && self.part.ended == Ends::Commit;
                self.first_is_over(&requests, Verdict::Told, !sets, out)
            }
        }
    }

    /// It is known what became of the transaction.
    pub fn settled(&mut self, fate: Fate, out: &mut Out) -> Outcome {
        let requests = self.requests();
        let first = requests.first().copied().unwrap_or_default();
        let again = !self.batch.answered && self.may_run_again(&requests, false);
        let sets = self.asks;
        match fate {
            Fate::Committed if self.can_tell_done() => {
                return self.first_is_over(&requests, Verdict::Done, !sets, out);
            }
            Fate::NotCommitted if again => {
                self.take_all_back();
                self.rename_back();
                self.at_rest();
                return Outcome::Again;
            }
            // What was to be rolled back is.
            Fate::NotCommitted if first.ends == Ends::Rollback => self.tell(&requests, Verdict::Done, out),
            // What only reads and fails changes nothing for those behind it.
            Fate::NotCommitted => {
                let reads = self.first_only_reads();
                return self.tell_first(&requests, Verdict::Error(rolled_back()), reads, out);
            }
            // What else was asked for in the same batch can't be answered any more.
            Fate::Committed | Fate::Unknown => self.tell(&requests, Verdict::Error(unknown()), out),
        }
        Outcome::Goes
    }

    /// The first request has succeeded, or is told so; the client stays unless it was told what is not known.
    fn first_is_over(
        &mut self,
        requests: &[Request],
        first: Verdict<'_>,
        stays: bool,
        out: &mut Out,
    ) -> Outcome {
        match self.tell_first(requests, first, stays, out) {
            Outcome::Goes => self.stays_if(stays, out),
            outcome => outcome,
        }
    }

    /// The client gets the end of the first request. What it has sent behind that is run again if it may be,
    /// and `leaves` nothing hanging on the first.
    fn tell_first(
        &mut self,
        requests: &[Request],
        first: Verdict<'_>,
        leaves: bool,
        out: &mut Out,
    ) -> Outcome {
        let again = leaves && requests.len() > 1 && !self.part.begun && self.may_run_again(requests, true);
        if !again {
            self.tell(requests, first, out);
            return Outcome::Goes;
        }
        self.batch.again.keep_first_names();
        self.rename_back();
        self.batch.again.drop_first();
        self.tell(&requests[..1], first, out);
        Outcome::Again
    }

    /// Whether the requests from the first or from the second on, which are not in a block, can be run again.
    fn may_run_again(&self, requests: &[Request], but_first: bool) -> bool {
        let single = self.transaction == Transaction::Idle || self.wrapped;
        let first = self.batch.again.first().len();
        let skipped = if but_first { first } else { 0 };
        let there = self.batch.again.all().len() > skipped && !self.proving;
        let harmless = || {
            requests.len() == 1 || self.only_first || self.all_only_read(first..self.batch.again.all().len())
        };
        single && there && harmless()
    }

    /// A client that was told that its settings hold can't stay when they went with its server.
    fn stays_if(&mut self, known: bool, out: &mut Out) -> Outcome {
        if known {
            return Outcome::Goes;
        }
        self.pins.add(Pin::Settings);
        let words = self.cannot_stay(None).unwrap_or_default();
        out.to_client.make(|to| to.extend_from_slice(&words));
        Outcome::End
    }

    /// The request that must be handed in again.
    pub fn take_again(&mut self) -> Vec<u8> {
        self.batch.again.take()
    }

    /// The last words for a client that can't go on with another server.
    fn cannot_stay(&self, last_words: Option<&[u8]>) -> Option<Vec<u8>> {
        let pin = self.pins.iter().next();
        if self.rules.rides && pin.is_none() {
            return None;
        }
        let mut bytes = Vec::new();
        let said = last_words.and_then(|body| {
            let text = |key| back::field(body, key).and_then(|b| core::str::from_utf8(b).ok());
            Some((text(b'C')?, text(b'M')?))
        });
        let (code, message) = said.unwrap_or(("08006", "the server closed the connection unexpectedly"));
        let why = pin.map_or_else(Default::default, |p| {
            alloc::format!("This session {p}, so it can't be moved to another server.")
        });
        Words::fatal(code, message).detail(&why).put(&mut bytes);
        Some(bytes)
    }

    /// A transaction that was open is gone; the client is told when it speaks next.
    fn falls(&mut self, last_words: Option<&[u8]>) {
        if self.transaction != Transaction::Idle {
            let text =
                |key| last_words.and_then(|b| back::field(b, key)).and_then(|b| core::str::from_utf8(b).ok());
            // Time limits of the server's own keep their words; everything else is a lost server.
            let own = text(b'C').filter(|code| matches!(*code, "25P03" | "25P04"));
            let words = rolled_back();
            self.fallen = Some(Fallen {
                told: false,
                code: own.unwrap_or(words.code).to_string(),
                message: own.and_then(|_| text(b'M')).unwrap_or(words.message).to_string(),
            });
        }
        self.at_rest();
    }

    /// As between two requests.
    pub(super) fn at_rest(&mut self) {
        self.batch.again.rest();
        self.transaction = Transaction::Idle;
        self.wrapped = false;
        self.wrapping = false;
        self.tainted = false;
        self.proving = false;
        self.proofs = 0;
        self.held.clear();
        self.xid = None;
        self.wrote = false;
        self.uncommitted = false;
        self.cancelled = false;
        self.unbegun = false;
        self.unasked.clear();
        self.part = Part::default();
        self.sets = false;
        self.asks = false;
        self.temporary = super::temporary::Left::default();
        self.barrier = false;
        self.unapplied.clear();
        self.changes.clear();
        self.unnamed_changed = None;
        self.takes.clear();
        self.batch.over = self.batch.number;
        self.batch.open = false;
        self.batch.ends = false;
    }

    /// Whether it said that it gives up: then all that it had said was read, and it began nothing more.
    /// It does not do so once it has committed (syncrep.c warns instead, and says nothing more).
    fn gave_up(&self, last_words: Option<&[u8]>) -> bool {
        let Some(words) = last_words.filter(|_| !self.tainted) else { return false };
        let severity = back::field(words, b'V').or_else(|| back::field(words, b'S'));
        let code = back::field(words, b'C').unwrap_or_default();
        // A crash of another backend (57P02) may come at any time; a PANIC may come while a commit is written.
        let kind = code.starts_with(b"57P") && code != b"57P02" || matches!(code, b"25P03" | b"25P04");
        severity == Some(b"FATAL") && kind
    }

    fn known(&self, first: Request, requests: &[Request], last_words: Option<&[u8]>) -> Known {
        let gave_up = self.gave_up(last_words);
        if self.proving {
            return self.known_by_number(false);
        }
        let ended = matches!(self.part.ended, Ends::Commit | Ends::Rollback) && first.ends == Ends::No;
        let done = ended && !self.part.behind && self.has_run_all();
        let said = done || first.simple && self.part.ended == first.ends && first.ends != Ends::No;
        if self.part.failed || said && !self.tainted && !self.wrapped && first.ends != Ends::Maybe {
            return Known::Told;
        }
        if ended && !done && !self.wrapped {
            // What stands behind the end in the same batch is a transaction by itself.
            return Known::Nothing;
        }
        if self.transaction == Transaction::Idle && self.needs_no_server() {
            return Known::Done;
        }
        if self.on_standby && !self.may_have_written() {
            return Known::RolledBack;
        }
        if self.unbegun {
            return Known::Nothing;
        }
        if self.wrapped || self.part.ended.then(first.ends) == Ends::Commit {
            return self.known_by_number(gave_up || self.uncommitted || self.only_first && first.asked);
        }
        let undone = match (self.part.ended, first.ends) {
            (Ends::No, Ends::No) if self.transaction != Transaction::Idle => !self.may_commit_later(requests),
            (Ends::No, Ends::No) => {
                let surely = || self.first_only_reads() || !self.may_commit_later(requests);
                self.only_reads() && surely() || gave_up && self.is_all_or_nothing()
            }
            // A CALL before it may have committed by itself.
            (Ends::No, Ends::Rollback) => self.transaction != Transaction::Idle || self.none_is_loose(),
            // It ends, and may have begun another, or is one text of several statements.
            (_, _) => false,
        };
        if undone { Known::RolledBack } else { Known::Nothing }
    }

    /// Whether something was written as far as words and numbers tell: a standby that was promoted says so only behind
    /// the next statement (`in_hot_standby` in tcop/postgres.c), and that one may write.
    fn may_have_written(&self) -> bool {
        self.wrote || matches!(self.xid, Some(Some(_)))
    }

    /// Whether a request behind the first may have been read by the server, and have committed its transaction.
    fn may_commit_later(&self, requests: &[Request]) -> bool {
        let end = requests.iter().map(|r| r.ends).find(|ends| *ends != Ends::No);
        !self.only_first && matches!(end, Some(Ends::Commit | Ends::Maybe))
    }

    /// Whether nothing of the first request is owed but its Sync.
    fn has_run_all(&self) -> bool {
        let next = self.owed.iter().find(|expect| expect.is_clients());
        matches!(next, Some(Expect::Sync { .. }) | None)
    }

    fn known_by_number(&self, never_begun: bool) -> Known {
        match self.xid {
            Some(Some(xid)) => Known::Ask(xid),
            Some(None) => Known::Done,
            None if never_begun => Known::RolledBack,
            None => Known::Nothing,
        }
    }

    /// What the client is owed, request by request; the last may still want its Sync.
    pub(super) fn requests(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut now = Request::default();
        // A transaction of ours ends with our COMMIT, and what is proven was answered but for the proof.
        let mut ours = self.wrapped || self.proving;
        let mut any = ours;
        for expect in &self.owed {
            let ends_here = match expect {
                Expect::Query(Asker::Client(ends)) => {
                    now.ends = now.ends.then(*ends);
                    now.simple = true;
                    !ours
                }
                Expect::Execute { ends, .. } => {
                    now.ends = now.ends.then(*ends);
                    any = true;
                    false
                }
                Expect::Query(Asker::Commit | Asker::Prove) => core::mem::take(&mut ours),
                Expect::Query(Asker::Xid) => {
                    now.asked = true;
                    false
                }
                Expect::Sync { shown: true } => !ours,
                Expect::Query(Asker::Begin | Asker::Ask | Asker::Temporary | Asker::Apply)
                | Expect::Sync { shown: false } => false,
                Expect::Parse { .. }
                | Expect::Bind { .. }
                | Expect::Describe { .. }
                | Expect::Close { .. } => {
                    any = true;
                    false
                }
                Expect::CopyEnd | Expect::Said { .. } | Expect::Refused(_) => false,
            };
            if ends_here {
                requests.push(Request { whole: true, ..core::mem::take(&mut now) });
                any = false;
            }
        }
        if any || self.batch.open && !self.skipping {
            requests.push(now);
        }
        requests
    }

    pub(super) fn take_all_back(&mut self) {
        let owed: Vec<Expect> = self.owed.drain(..).collect();
        for expect in owed.into_iter().rev() {
            self.take_back(expect, None);
        }
    }
}
