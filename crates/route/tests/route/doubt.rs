//! Successes that are none: what the server says is not what its client may hear.

use route::session::{Heard, Loss, Step};
use route::{Backend, Mode, Out, Rules, Session, Shelf};
use wire::back::{self, Transaction, Words};
use wire::put;

use crate::pool::{new_backend, new_session};
use crate::words::{Say, readable};

/// A client, its server, and what each has got.
struct Pair {
    session: Session,
    backend: Backend,
    shelf: Shelf,
    client: Vec<u8>,
    server: Vec<u8>,
}

impl Pair {
    fn new() -> Pair {
        let rules =
            Rules { mode: Mode::Transaction, rides: true, settle_commits: true, settle_autocommit: true };
        let (session, backend) = (new_session(rules), new_backend());
        let mut pair =
            Pair { session, backend, shelf: Shelf::new(0, 1), client: Vec::new(), server: Vec::new() };
        let mut out = Out::default();
        pair.session.attach(&mut pair.backend, &mut out);
        pair
    }

    fn take(&mut self, out: &Out, came_in: &[u8], from_client: bool) {
        let (to_client, to_server) = if from_client { (&[][..], came_in) } else { (came_in, &[][..]) };
        out.to_client.slices(to_client).for_each(|bytes| self.client.extend_from_slice(bytes));
        out.to_server.slices(to_server).for_each(|bytes| self.server.extend_from_slice(bytes));
    }

    fn says(&mut self, say: Say) {
        let mut out = Out::default();
        let taken = self.session.front(&mut self.shelf, Some(&mut self.backend), &say.0, &mut out);
        assert_eq!((taken.bytes, taken.step), (say.0.len(), Step::More));
        self.take(&out, &say.0, true);
    }

    fn answers(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut bytes, mut out) = (Vec::new(), Out::default());
        write(&mut bytes);
        let heard = self.session.back(&mut self.backend, &bytes, &mut out);
        assert_eq!(heard, (bytes.len(), Heard::More));
        self.take(&out, &bytes, false);
    }

    fn asked_for(&mut self, text: &str) -> bool {
        let asked = std::mem::take(&mut self.server);
        asked.windows(text.len()).any(|w| w == text.as_bytes())
    }
}

fn done(to: &mut Vec<u8>, tag: &str, transaction: Transaction) {
    back::command_complete(to, tag.as_bytes());
    back::ready(to, transaction);
}

fn cut_short(to: &mut Vec<u8>) {
    put::message(to, back::NOTICE, |to| {
        to.extend_from_slice(b"SWARNING\0C01000\0Mx\0RSyncRepWaitForLSN\0\0")
    });
}

/// Whatever kept us from asking rolled the transaction back: 'INSERT 0 1' would be a lie.
#[test]
fn a_question_of_ours_that_fails_is_no_success() {
    let mut pair = Pair::new();
    pair.says(Say::default().query("INSERT INTO t VALUES (1)"));
    pair.answers(|to| done(to, "BEGIN", Transaction::Open));
    pair.answers(|to| done(to, "INSERT 0 1", Transaction::Open));
    assert!(pair.client.is_empty(), "shown before it was certain");
    pair.answers(|to| {
        Words::error("42501", "permission denied").put(to);
        back::ready(to, Transaction::Failed);
    });
    assert!(pair.asked_for("COMMIT"));
    pair.answers(|to| done(to, "ROLLBACK", Transaction::Idle));
    assert_eq!(readable(&pair.client), ["E 42501 permission denied", "Z I"]);
}

/// In the client's own block it hears of it with its next statement, and not as a ROLLBACK for its COMMIT.
#[test]
fn a_block_that_a_question_of_ours_has_ended_says_so() {
    let mut pair = Pair::new();
    pair.says(Say::default().query("BEGIN"));
    pair.answers(|to| done(to, "BEGIN", Transaction::Open));
    pair.says(Say::default().query("INSERT INTO t VALUES (1)"));
    pair.answers(|to| done(to, "INSERT 0 1", Transaction::Open));
    pair.answers(|to| {
        Words::error("57014", "canceled").put(to);
        back::ready(to, Transaction::Failed);
    });
    pair.client.clear();
    pair.says(Say::default().query("COMMIT"));
    pair.answers(|to| done(to, "ROLLBACK", Transaction::Idle));
    assert_eq!(readable(&pair.client), ["E 57014 canceled", "Z I"]);
}

/// A cancel that meets the beginning of a block, or what only reads, puts no commit in doubt.
#[test]
fn what_commits_nothing_needs_no_proof_when_it_was_cancelled() {
    let begun = [("BEGIN", "BEGIN"), ("START TRANSACTION", "START TRANSACTION")];
    for (text, tag) in begun {
        let mut pair = Pair::new();
        pair.says(Say::default().query(text));
        pair.session.cancelled();
        pair.answers(|to| done(to, tag, Transaction::Open));
        assert_eq!(readable(&pair.client), [format!("C {tag}"), "Z T".to_string()]);
    }
    let mut pair = Pair::new();
    pair.says(Say::default().query("BEGIN; INSERT INTO t VALUES (1)"));
    pair.session.cancelled();
    pair.answers(|to| back::command_complete(to, b"BEGIN"));
    pair.answers(|to| done(to, "INSERT 0 1", Transaction::Open));
    assert_eq!(readable(&pair.client), ["C BEGIN", "C INSERT 0 1", "Z T"]);
    let mut pair = Pair::new();
    pair.says(Say::default().query("SELECT 1"));
    pair.session.cancelled();
    pair.answers(|to| done(to, "SELECT 1", Transaction::Idle));
    assert_eq!(readable(&pair.client), ["C SELECT 1", "Z I"]);
    // Its next commit is as certain as any other.
    pair.client.clear();
    pair.says(Say::default().query("INSERT INTO t VALUES (1)"));
    pair.answers(|to| done(to, "BEGIN", Transaction::Open));
    pair.answers(|to| done(to, "INSERT 0 1", Transaction::Open));
    pair.answers(|to| back::ready(to, Transaction::Open));
    pair.answers(|to| done(to, "COMMIT", Transaction::Idle));
    assert_eq!(readable(&pair.client), ["C INSERT 0 1", "Z I"]);
}

/// A commit whose wait for the standbys was cut short is shown once a later one has waited.
#[test]
fn a_commit_that_did_not_wait_is_proven_before_it_is_shown() {
    let mut pair = Pair::new();
    pair.says(Say::default().query("SELECT f()"));
    pair.session.cancelled();
    pair.answers(|to| {
        cut_short(to);
        done(to, "SELECT 1", Transaction::Idle);
    });
    assert!(pair.client.is_empty(), "shown though no standby need have it");
    assert!(pair.asked_for("pg_logical_emit_message"));
    pair.answers(|to| done(to, "COMMIT", Transaction::Idle));
    assert_eq!(readable(&pair.client), ["C SELECT 1", "Z I"]);
}

fn row(to: &mut Vec<u8>) {
    put::message(to, back::ROW_DESCRIPTION, |to| to.extend_from_slice(&[0, 0]));
    put::message(to, back::DATA_ROW, |to| to.extend_from_slice(&[0, 0]));
}

/// A client that wants no warnings.
fn mute() -> Pair {
    let mut pair = Pair::new();
    pair.says(Say::default().query("SET client_min_messages TO error"));
    pair.answers(|to| done(to, "SET", Transaction::Idle));
    pair.answers(|to| {
        back::text_row(to, [Some(&b"client_min_messages"[..]), Some(b"error")].into_iter());
        done(to, "SELECT 1", Transaction::Idle);
    });
    pair.client.clear();
    pair.server.clear();
    pair
}

/// Whoever cancels what may write, or wants no warnings, is not told of the wait that was cut short: the end of a SELECT
/// is no plainer for that, even where all of it comes at once.
#[test]
fn a_select_that_may_have_written_is_proven_when_nobody_says_whether_it_waited() {
    for (mut pair, cancels) in [(Pair::new(), true), (mute(), false)] {
        pair.says(Say::default().query("SELECT f()"));
        if cancels {
            pair.session.cancelled();
        }
        pair.answers(|to| {
            row(to);
            done(to, "SELECT 1", Transaction::Idle);
        });
        let ends = readable(&pair.client).iter().any(|one| one.starts_with("C ") || one.starts_with("Z "));
        assert!(!ends, "shown though no standby need have it: {cancels}");
        assert!(pair.asked_for("pg_logical_emit_message"), "{cancels}");
        pair.answers(|to| done(to, "COMMIT", Transaction::Idle));
        assert_eq!(readable(&pair.client).last().map(String::as_str), Some("Z I"), "{cancels}");
    }
}

/// What stands behind a commit in one text waits for the commit's proof as well.
#[test]
fn rows_behind_a_commit_that_did_not_wait_are_kept_back() {
    let mut pair = Pair::new();
    pair.says(Say::default().query("BEGIN"));
    pair.answers(|to| done(to, "BEGIN", Transaction::Open));
    pair.client.clear();
    pair.says(Say::default().query("COMMIT; SELECT 7"));
    pair.answers(cut_short);
    pair.answers(|to| back::command_complete(to, b"COMMIT"));
    pair.answers(row);
    pair.answers(|to| done(to, "SELECT 1", Transaction::Idle));
    assert!(pair.client.is_empty(), "shown though no standby need have it");
    assert!(pair.asked_for("pg_logical_emit_message"));
    pair.answers(|to| done(to, "COMMIT", Transaction::Idle));
    let heard = readable(&pair.client);
    assert_eq!(heard.first().map(String::as_str), Some("C COMMIT"), "{heard:?}");
    assert_eq!(heard.last().map(String::as_str), Some("Z I"), "{heard:?}");
}

/// A COMMIT behind EXECUTE in one text is a commit like any other.
#[test]
fn a_commit_behind_execute_is_one() {
    let prepared = |pair: &mut Pair| {
        pair.says(Say::default().parse("a", "INSERT INTO t VALUES (1)").sync());
        pair.answers(|to| {
            back::bare(to, back::PARSE_COMPLETE);
            back::ready(to, Transaction::Idle);
        });
        pair.says(Say::default().query("BEGIN"));
        pair.answers(|to| done(to, "BEGIN", Transaction::Open));
        pair.client.clear();
        pair.server.clear();
    };
    for text in ["INSERT INTO t VALUES (1); COMMIT", "EXECUTE a; COMMIT", "/* c */ EXECUTE a; COMMIT"] {
        let mut pair = mute();
        prepared(&mut pair);
        pair.says(Say::default().query(text));
        pair.answers(|to| {
            back::command_complete(to, b"INSERT 0 1");
            done(to, "COMMIT", Transaction::Idle);
        });
        assert!(pair.asked_for("pg_logical_emit_message"), "{text}");
        let mut pair = Pair::new();
        prepared(&mut pair);
        pair.says(Say::default().query(text));
        let mut out = Out::default();
        pair.session.lost(Loss::Silent, None, &mut out);
        pair.take(&out, &[], false);
        assert!(readable(&pair.client)[0].starts_with("E 08007"), "{text} {:?}", readable(&pair.client));
    }
}
