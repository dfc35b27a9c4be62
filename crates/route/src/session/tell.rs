//! What the client is told of requests whose server is lost: one ReadyForQuery for each of them, as it counts.

use alloc::string::ToString;
use alloc::vec::Vec;

use wire::back::{self, Transaction, Words};

use super::loss::Request;
use super::{Fallen, Session};
use crate::expect::{Asker, Ends, Expect};
use crate::plan::Out;

/// What is said of the first request.
#[derive(Clone, Copy)]
pub(super) enum Verdict<'a> {
    /// The client was told all of it but ReadyForQuery.
    Told,
    /// It has succeeded.
    Done,
    /// It has not, or nobody knows.
    Error(Words<'a>),
}

/// The words for a transaction of which nobody can say what became.
#[must_use]
pub(super) fn unknown() -> Words<'static> {
    Words::error("08007", "the server was lost while it committed, and whether it did is not known")
        .hint("look whether the change is there before you repeat it")
}

pub(super) fn rolled_back() -> Words<'static> {
    Words::error("40001", "the server was lost, and the transaction was rolled back")
        .hint("run the transaction again")
}

impl Session {
    /// Answers everything that is owed. A block that was open and did not end stays open as a failed one.
    pub(super) fn tell(&mut self, requests: &[Request], first: Verdict<'_>, out: &mut Out) {
        let block = self.transaction != Transaction::Idle && !self.wrapped && !self.proving;
        // Those that are in the same block as the first share its fate.
        let mut shares = block && !matches!(first, Verdict::Done);
        let mut failed = block;
        let answered_end = matches!(self.part.ended, Ends::Commit | Ends::Rollback);
        for (index, request) in requests.iter().enumerate() {
            let ends = if index == 0 && answered_end { self.part.ended } else { request.ends };
            let over = matches!(ends, Ends::Commit | Ends::Rollback);
            match first {
                Verdict::Error(words) if index == 0 || shares && !(over && request.simple) => {
                    out.to_client.make(|to| words.put(to));
                }
                Verdict::Told if index == 0 => self.show_kept_back(out),
                Verdict::Done if index == 0 => self.tell_done(*request, out),
                // As PostgreSQL does with the end of a block that has failed.
                Verdict::Error(Words { code: "40001", .. }) | Verdict::Told
                    if shares && over && request.simple =>
                {
                    out.to_client.make(|to| back::command_complete(to, b"ROLLBACK"));
                }
                Verdict::Error(_) | Verdict::Told | Verdict::Done => {
                    let words = if self.only_first { rolled_back() } else { unknown() };
                    out.to_client.make(|to| words.put(to));
                }
            }
            failed &= !over;
            shares &= ends == Ends::No;
            let transaction = if failed { Transaction::Failed } else { Transaction::Idle };
            let held = index == 0 && self.proving && matches!(first, Verdict::Done);
            if request.whole && !held {
                out.to_client.make(|to| back::ready(to, transaction));
            }
            // Of a batch that failed nothing more is read before its Sync.
            let good = index == 0 && matches!(first, Verdict::Told | Verdict::Done);
            self.skipping |= !request.whole && !good;
        }
        self.fallen = failed.then(|| Fallen {
            told: true,
            code: rolled_back().code.to_string(),
            message: rolled_back().message.to_string(),
        });
        if matches!(first, Verdict::Done) {
            self.keep_first();
        }
        self.take_all_back();
        // Those behind it have changed nothing; nor has it, if its client has seen nothing of it.
        if !matches!(first, Verdict::Error(_)) || self.batch.answered {
            self.batch.again.keep_first_names();
        }
        if self.rename_back() {
            // Who fails takes it away, a query or a Parse.
            self.unnamed = None;
        }
        self.at_rest();
    }

    /// What was kept back so that a statement could be run again, which it can't or need not be.
    #[inline]
    pub(super) fn show_kept_back(&mut self, out: &mut Out) {
        if self.wrapped && !self.held.is_empty() {
            let held = core::mem::take(&mut self.held);
            out.to_client.make(|to| to.extend_from_slice(&held));
        }
    }

    /// What the first request has done stays done.
    fn keep_first(&mut self) {
        let ours = self.wrapped || self.proving;
        let end = self.owed.iter().position(|e| match e {
            Expect::Query(Asker::Commit | Asker::Prove) => ours,
            _ => !ours && e.is_clients() && e.ends_ready(),
        });
        let end = end.map_or(self.owed.len(), |end| end + 1);
        self.owed.drain(..end);
    }

    /// Whether all that the server would have said of the first request is known: it ends a transaction, and does
    /// nothing else.
    pub(super) fn can_tell_done(&self) -> bool {
        if self.wrapped || self.proving {
            return true;
        }
        let (mut parses, mut bound, mut executes, mut looks) = (0, None, 0, false);
        let mut described = None;
        for expect in self.owed.iter().take_while(|expect| !expect.ends_ready()) {
            match expect {
                Expect::Parse { shown: true, .. } | Expect::Said { tag: back::PARSE_COMPLETE, .. } => {
                    parses += 1
                }
                Expect::Bind { id } if bound.is_none() => bound = Some(*id),
                Expect::Describe { statement, id } => {
                    looks = true;
                    described = described.or(statement.then_some(*id));
                }
                Expect::Execute { ends: Ends::Commit | Ends::Rollback, .. } => executes += 1,
                Expect::Bind { .. } | Expect::Execute { .. } | Expect::Refused(_) => return false,
                _ => {}
            }
        }
        let itself = described.is_none() || described == bound;
        executes == 0 && !looks || executes == 1 && parses <= 1 && itself
    }

    /// The first request has succeeded: the client gets what the server would have said, but for ReadyForQuery.
    fn tell_done(&mut self, request: Request, out: &mut Out) {
        let held = core::mem::take(&mut self.held);
        let tag: &[u8] = if request.ends == Ends::Rollback { b"ROLLBACK" } else { b"COMMIT" };
        let answered = self.wrapped || self.proving || self.part.ended != Ends::No;
        out.to_client.make(|to| {
            to.extend_from_slice(&held);
            for expect in self.owed.iter().filter(|e| e.is_clients() || matches!(e, Expect::Said { .. })) {
                match expect {
                    _ if answered => break,
                    Expect::Sync { .. } => break,
                    Expect::Query(Asker::Client(_)) => {
                        back::command_complete(to, tag);
                        break;
                    }
                    _ => steps(to, expect, tag),
                }
            }
        });
    }
}

/// The answer to one step of a batch that runs nothing but the end of a transaction.
fn steps(to: &mut Vec<u8>, expect: &Expect, tag: &[u8]) {
    match expect {
        Expect::Parse { .. } => back::bare(to, back::PARSE_COMPLETE),
        Expect::Bind { .. } => back::bare(to, back::BIND_COMPLETE),
        Expect::Describe { statement, .. } => describe_nothing(to, *statement),
        Expect::Execute { .. } => back::command_complete(to, tag),
        Expect::Close { .. } => back::bare(to, back::CLOSE_COMPLETE),
        Expect::Said { tag, .. } => back::bare(to, *tag),
        Expect::Query(_) | Expect::Sync { .. } | Expect::CopyEnd | Expect::Refused(_) => {}
    }
}

/// What Describe answers for a statement that gives no rows.
pub(super) fn describe_nothing(to: &mut Vec<u8>, statement: bool) {
    if statement {
        wire::put::message(to, back::PARAMETER_DESCRIPTION, |to| to.extend([0, 0]));
    }
    back::bare(to, back::NO_DATA);
}
