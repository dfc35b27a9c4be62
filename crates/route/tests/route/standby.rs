//! What is certain of a statement on a standby that was lost: nothing, if it may have been promoted meanwhile.

use route::session::{Fate, Loss, Outcome};
use route::{Out, Rules, Session, Shelf};
use wire::back;

use crate::pool::{new_backend, new_session};
use crate::words::{Say, readable};

struct Reader {
    session: Session,
    backend: route::Backend,
    out: Out,
}

impl Reader {
    /// One that has a standby.
    fn new() -> Reader {
        let rules = Rules { rides: true, settle_commits: true, ..Rules::default() };
        let (mut session, mut backend, mut out) = (new_session(rules), new_backend(), Out::default());
        backend.report(b"in_hot_standby", b"on");
        session.attach(&mut backend, &mut out);
        out.clear();
        Reader { session, backend, out }
    }

    fn says(&mut self, say: &Say) {
        let taken = self.session.front(&mut Shelf::new(0, 1), Some(&mut self.backend), &say.0, &mut self.out);
        assert_eq!(taken.bytes, say.0.len());
        self.out.clear();
    }

    fn hears(&mut self, write: impl Fn(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        let (used, _) = self.session.back(&mut self.backend, &bytes, &mut self.out);
        assert_eq!(used, bytes.len());
        self.out.clear();
    }

    fn told(&mut self) -> Vec<String> {
        let said: Vec<u8> = self.out.to_client.slices(&[]).flatten().copied().collect();
        readable(&said)
    }
}

#[test]
fn a_function_runs_again_only_where_its_standby_was_surely_none_else() {
    for (fate, then) in [(Fate::NotCommitted, Outcome::Again), (Fate::Unknown, Outcome::Goes)] {
        let mut reader = Reader::new();
        reader.says(&Say::default().query("SELECT f(1)"));
        assert_eq!(reader.session.lost(Loss::Silent, None, &mut reader.out), Outcome::Standby);
        assert_eq!(reader.session.settled(fate, &mut reader.out), then);
        let unknown = reader.told().iter().any(|one| one.starts_with("E 08007"));
        assert_eq!(unknown, fate == Fate::Unknown);
    }
}

#[test]
fn what_only_reads_is_asked_for_nowhere() {
    let mut reader = Reader::new();
    reader.says(&Say::default().query("SELECT 1"));
    assert_eq!(reader.session.lost(Loss::Silent, None, &mut reader.out), Outcome::Again);
}

#[test]
fn one_that_says_that_it_is_promoted_is_no_standby() {
    let mut reader = Reader::new();
    reader.says(&Say::default().query("SELECT f(1)"));
    reader.hears(|to| {
        back::parameter_status(to, b"in_hot_standby", b"off");
        back::ready(to, back::Transaction::Idle);
    });
    reader.says(&Say::default().query("SELECT f(2)"));
    assert_eq!(reader.session.lost(Loss::Silent, None, &mut reader.out), Outcome::Goes);
    assert!(reader.told().iter().any(|one| one.starts_with("E 08007")));
}

/// Say it was promoted and gave out number 7, and the term before would begin with 7 elsewhere: what is called 7
/// there was never this one.
#[test]
fn a_number_of_a_term_that_is_not_known_settles_nothing() {
    let mut reader = Reader::new();
    reader.says(&Say::default().query("BEGIN"));
    reader.hears(|to| {
        back::command_complete(to, b"BEGIN");
        back::ready(to, back::Transaction::Open);
    });
    reader.says(&Say::default().query("COMMIT"));
    reader.hears(|to| {
        wire::put::message(to, back::FUNCTION_RESULT, |to| to.extend(b"\0\0\0\x017"));
        back::ready(to, back::Transaction::Open);
    });
    assert_eq!(reader.session.lost(Loss::Silent, None, &mut reader.out), Outcome::Goes);
    assert!(reader.told().iter().any(|one| one.starts_with("E 08007")));
}
