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
//! A connection that was *ended* has delivered all that the server said. So a
//! number that was asked for and not given means that COMMIT was never begun:
//! PostgreSQL sends the answer to one message before it reads the next
//! (`ReadyForQuery` in tcop/dest.c flushes). One that went silent proves nothing.

use alloc::string::ToString;
use alloc::vec::Vec;

use wire::back::{self, Transaction, Words};
use wire::frame::{HEADER_BYTES, Header};
use wire::front::{self, Parse};

use super::{Fallen, Rest, Session, Xid};
use crate::expect::{Asker, Expect};
use crate::plan::Out;
use crate::sql;

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

/// What is certain.
#[derive(Clone, Copy)]
enum Known {
    RolledBack,
    Done,
    Ask(u64),
    Nothing,
}

/// The words for a transaction of which nobody can say what became.
#[must_use]
pub(super) fn unknown() -> Words<'static> {
    Words::error("08007", "the server was lost while it committed, and whether it did is not known")
        .hint("look whether the change is there before you repeat it")
}

fn rolled_back() -> Words<'static> {
    Words::error("40001", "the server was lost, and the transaction was rolled back")
        .hint("run the transaction again")
}

impl Session {
    /// Its server is lost. `last_words` is the body of the FATAL error that it sent, if it did.
    pub fn lost(&mut self, loss: Loss, last_words: Option<&[u8]>, out: &mut Out) -> Outcome {
        let cut_short = self.from_server.left > 0 && self.from_server.shown;
        self.from_server = Rest::default();
        // The rest of a message that was on its way to the server goes nowhere.
        self.from_client.shown = false;
        let was_busy = self.owed.iter().any(Expect::is_clients) || self.batch.open;
        if cut_short {
            return Outcome::End;
        }
        if let Some(words) = self.cannot_stay(last_words) {
            out.to_client.make(|to| to.extend_from_slice(&words));
            return Outcome::End;
        }
        self.applying = false;
        self.copying = false;
        if !was_busy {
            self.owed.clear();
            self.falls(last_words);
            return Outcome::Goes;
        }
        match self.known(loss, last_words) {
            Known::Ask(xid) => Outcome::Settle(xid),
            Known::Done => self.settled(Fate::Committed, out),
            Known::RolledBack => self.settled(Fate::NotCommitted, out),
            Known::Nothing => self.settled(Fate::Unknown, out),
        }
    }

    /// It is known what became of the transaction.
    pub fn settled(&mut self, fate: Fate, out: &mut Out) -> Outcome {
        let owed: Vec<Expect> = self.owed.drain(..).collect();
        let single = self.transaction == Transaction::Idle || self.wrapped;
        let again =
            single && self.batch.requests <= 1 && !self.batch.answered && !self.batch.again.is_empty();
        match fate {
            Fate::Committed => self.tell_done(&owed, out),
            Fate::NotCommitted if again => {
                self.take_all_back(owed);
                self.at_rest();
                return Outcome::Again;
            }
            Fate::NotCommitted => self.tell_error(owed, rolled_back(), out),
            Fate::Unknown => self.tell_error(owed, unknown(), out),
        }
        Outcome::Goes
    }

    /// The request that must be handed in again.
    pub fn take_again(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.batch.again)
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
    fn at_rest(&mut self) {
        self.transaction = Transaction::Idle;
        self.wrapped = false;
        self.tainted = false;
        self.proving = false;
        self.held.clear();
        self.xid = Xid::NotAsked;
        self.batch.open = false;
    }

    fn known(&self, loss: Loss, last_words: Option<&[u8]>) -> Known {
        let code = last_words.and_then(|body| back::field(body, b'C'));
        // Interrupted: what it did is undone, unless it had committed and only waited (syncrep.c says so before).
        let gave_up = code.is_some_and(|code| code != b"57P02") && !self.tainted;
        let first_end = self.owed.iter().position(|e| e.is_clients() && e.ends_ready());
        let mut first = self.owed.iter().take(first_end.map_or(self.owed.len(), |i| i + 1));
        let commits = first.any(|e| {
            matches!(e, Expect::Query(Asker::ClientCommit | Asker::Commit) | Expect::Execute { commit: true })
        });
        if self.proving {
            return self.known_by_number(false);
        }
        if commits || self.wrapped {
            return self.known_by_number(gave_up || loss == Loss::Ended && self.xid == Xid::Asked);
        }
        let rolled_back = self.transaction != Transaction::Idle || gave_up || self.only_reads();
        if rolled_back { Known::RolledBack } else { Known::Nothing }
    }

    fn known_by_number(&self, never_begun: bool) -> Known {
        match self.xid {
            Xid::Known(Some(xid)) => Known::Ask(xid),
            Xid::Known(None) => Known::Done,
            Xid::Asked | Xid::NotAsked if never_begun => Known::RolledBack,
            Xid::Asked | Xid::NotAsked => Known::Nothing,
        }
    }

    /// Whether all that is kept of the request surely only reads.
    fn only_reads(&self) -> bool {
        let mut rest = self.batch.again.as_slice();
        let mut any = false;
        while let Ok(Some(header)) = Header::read(rest) {
            let Some(body) = header.body(rest) else { return false };
            let reads = match header.tag {
                front::QUERY => sql::only_reads(body.strip_suffix(b"\0").unwrap_or(body)),
                front::PARSE => Parse::read(body).is_some_and(|p| sql::only_reads(p.text)),
                front::BIND => {
                    let statement = front::BindNames::read(body).and_then(|n| self.statement(n.statement));
                    statement.is_some_and(|s| sql::only_reads(s.text()))
                }
                front::FUNCTION_CALL => false,
                _ => true,
            };
            if !reads {
                return false;
            }
            any = true;
            rest = &rest[HEADER_BYTES + body.len()..];
        }
        any
    }

    fn take_all_back(&mut self, owed: Vec<Expect>) {
        for expect in owed.into_iter().rev() {
            self.take_back(expect, None);
        }
    }

    /// The commit is in the database: the client gets what the server would have said.
    fn tell_done(&mut self, owed: &[Expect], out: &mut Out) {
        let held = core::mem::take(&mut self.held);
        let wrapped = self.wrapped;
        let proved = self.proving;
        self.at_rest();
        let mut said = wrapped || proved;
        out.to_client.make(|to| {
            to.extend_from_slice(&held);
            if wrapped && !proved {
                back::ready(to, Transaction::Idle);
            }
        });
        for expect in owed.iter().filter(|e| e.is_clients() && !wrapped) {
            out.to_client.make(|to| match expect {
                // Only the first request was settled.
                Expect::Query(_) | Expect::Sync { .. } if core::mem::replace(&mut said, true) => {
                    unknown().put(to);
                    back::ready(to, Transaction::Idle);
                }
                _ if said => {}
                Expect::Query(_) => {
                    back::command_complete(to, b"COMMIT");
                    back::ready(to, Transaction::Idle);
                }
                Expect::Sync { .. } => back::ready(to, Transaction::Idle),
                Expect::Parse { .. } => back::bare(to, back::PARSE_COMPLETE),
                Expect::Bind => back::bare(to, back::BIND_COMPLETE),
                Expect::Describe { statement } => describe_nothing(to, *statement),
                Expect::Execute { .. } => back::command_complete(to, b"COMMIT"),
                Expect::Close { .. } => back::bare(to, back::CLOSE_COMPLETE),
                Expect::Refused(_) | Expect::CopyEnd | Expect::Said { .. } => {}
            });
        }
        self.skipping = !said && !owed.iter().any(Expect::ends_ready);
    }

    /// An error for everything that is owed; a transaction of the client's stays open as a failed one.
    fn tell_error(&mut self, owed: Vec<Expect>, words: Words<'_>, out: &mut Out) {
        let commits =
            |e: &Expect| matches!(e, Expect::Query(Asker::ClientCommit) | Expect::Execute { commit: true });
        let open = self.transaction != Transaction::Idle && !self.wrapped;
        self.at_rest();
        let mut failed = open.then(|| Fallen {
            told: true,
            code: words.code.to_string(),
            message: words.message.to_string(),
        });
        let mut told = false;
        let mut ended = false;
        for expect in owed.iter().filter(|e| e.is_clients()) {
            if failed.is_some() && commits(expect) {
                failed = None;
                if told {
                    // As PostgreSQL does with a COMMIT of a transaction that has failed.
                    out.to_client.make(|to| back::command_complete(to, b"ROLLBACK"));
                }
            }
            ended = expect.ends_ready();
            if !ended {
                continue;
            }
            let transaction = if failed.is_some() { Transaction::Failed } else { Transaction::Idle };
            out.to_client.make(|to| {
                if !(told && commits(expect)) {
                    words.put(to);
                }
                back::ready(to, transaction);
            });
            told = true;
        }
        if !ended {
            // In the middle of a batch: nothing of it is read before its Sync.
            out.to_client.make(|to| words.put(to));
            self.skipping = true;
        }
        self.fallen = failed;
        self.take_all_back(owed);
    }
}

/// What Describe answers for a statement that gives no rows.
pub(super) fn describe_nothing(to: &mut Vec<u8>, statement: bool) {
    if statement {
        wire::put::message(to, back::PARAMETER_DESCRIPTION, |to| to.extend([0, 0]));
    }
    back::bare(to, back::NO_DATA);
}
