//! A server is killed at every message and every byte. A judge who sees the database says whether
//! what the client was told is true.

use route::Rules;
use route::session::Loss;

use crate::words::{Say, messages, readable};
use crate::world::{Death, Step1, World, lives};

pub fn step(say: Say, rows: &[u64], block: bool) -> Step1 {
    Step1 { bytes: say.0, rows: rows.into(), block }
}

pub fn query(text: &str) -> Say {
    Say::default().query(text)
}

pub fn run(text: &str) -> Say {
    Say::default().run(text).sync()
}

fn simple() -> Vec<Step1> {
    vec![
        step(query("SELECT 1"), &[], false),
        step(query("INSERT INTO t VALUES (1)"), &[1], false),
        step(query("BEGIN"), &[], true),
        step(query("INSERT INTO t VALUES (2)"), &[], true),
        step(query("SELECT 1"), &[], true),
        step(query("INSERT INTO t VALUES (3)"), &[], true),
        step(query("COMMIT"), &[2, 3], true),
        step(query("INSERT INTO t VALUES (4)"), &[4], false),
        step(query("BEGIN"), &[], true),
        step(query("INSERT INTO t VALUES (5)"), &[], true),
        step(query("ROLLBACK"), &[], true),
        step(query("SELECT 2"), &[], false),
    ]
}

fn extended() -> Vec<Step1> {
    vec![
        step(run("INSERT INTO t VALUES (1)"), &[1], false),
        step(run("BEGIN"), &[], true),
        step(
            Say::default().parse("a", "INSERT INTO t VALUES (2)").bind("", "a").execute("", 0).sync(),
            &[],
            true,
        ),
        step(run("COMMIT"), &[2], true),
        step(Say::default().parse("b", "SELECT 1").bind("", "b").execute("", 0).sync(), &[], false),
        step(Say::default().run("BEGIN").run("INSERT INTO t VALUES (3)").sync(), &[], true),
        step(run("COMMIT"), &[3], true),
        step(Say::default().bind("", "b").execute("", 0).sync(), &[], false),
        step(
            Say::default().run("INSERT INTO t VALUES (4)").run("INSERT INTO t VALUES (5)").sync(),
            &[4, 5],
            false,
        ),
    ]
}

/// Statements that are prepared, closed and prepared anew in the request that may be run again.
fn names() -> Vec<Step1> {
    let close = |name| Say::default().of_statement(wire::front::CLOSE, name);
    let insert = |say: Say, row| {
        say.parse("a", &format!("INSERT INTO t VALUES ({row})")).bind("", "a").execute("", 0).sync()
    };
    vec![
        step(insert(Say::default(), 1), &[1], false),
        step(insert(close("a"), 2), &[2], false),
        step(close("a").sync(), &[], false),
        step(insert(Say::default(), 4), &[4], false),
    ]
}

fn odd() -> Vec<Step1> {
    vec![
        step(query("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)"), &[1, 2], false),
        step(query("BEGIN; INSERT INTO t VALUES (3)"), &[], true),
        step(query("COMMIT; SELECT 1"), &[3], true),
        step(query("COPY t FROM stdin").copy_data("4").bare(wire::front::COPY_DONE), &[4], false),
        step(query("BEGIN"), &[], true),
        step(run("INSERT INTO t VALUES (5)"), &[], true),
        step(run("COMMIT"), &[5], true),
        step(query("INSERT INTO t VALUES (666)"), &[666], false),
        step(query("INSERT INTO t VALUES (6)"), &[6], false),
    ]
}

/// Runs a script in which the server dies, and lets the judge speak. False if it lived to the end.
fn story(steps: &[Step1], rules: Rules, death: Death) -> bool {
    told(steps, rules, death).0
}

/// The same, and what its client was told.
fn told(steps: &[Step1], rules: Rules, death: Death) -> (bool, Vec<u8>) {
    let world = lives(steps, rules, death);
    judge(steps, rules, death, &world);
    (world.death.is_none(), world.heard)
}

fn judge(steps: &[Step1], rules: Rules, death: Death, world: &World) {
    let heard = messages(&world.heard);
    let tell =
        || format!("{rules:?} {death:?}\n{:#?}\n{:?}", readable(&world.heard), world.shared.borrow().rows);
    let answers: Vec<&[(char, Vec<u8>)]> = heard.split_inclusive(|(tag, _)| *tag == 'Z').collect();
    let whole = answers.iter().filter(|a| a.last().is_some_and(|(tag, _)| *tag == 'Z')).count();
    if !world.over {
        assert_eq!(whole, steps.len(), "one ReadyForQuery for each request: {}", tell());
        assert_eq!(answers.len(), whole, "nothing after the last: {}", tell());
    }
    let rows = &world.shared.borrow().rows;
    for (row, times) in rows {
        assert!(*times == 1, "row {row} was written {times} times: {}", tell());
    }
    let (mut failed, mut before) = (false, None);
    for (step, answer) in steps.iter().zip(&answers).take(whole) {
        let errors: Vec<String> = answer
            .iter()
            .filter(|(tag, _)| *tag == 'E')
            .map(|(_, body)| {
                String::from_utf8_lossy(wire::back::field(body, b'C').unwrap_or_default()).into_owned()
            })
            .collect();
        assert!(errors.len() <= 1, "one error for a request: {}", tell());
        let rolled_back = answer.iter().any(|(tag, body)| *tag == 'C' && body.starts_with(b"ROLLBACK"));
        let state = answer.last().map(|(_, body)| body[0]);
        let code = errors.first().map(String::as_str);
        for row in &step.rows {
            let there = rows.contains_key(row);
            match code {
                None if rolled_back => assert!(!there, "row {row} is there after ROLLBACK: {}", tell()),
                // The client was told that its BEGIN had failed.
                None if step.block && before != Some(b'T') => {}
                None => assert!(there, "row {row} is not there: {}", tell()),
                Some("08007") => {}
                Some(_) => assert!(!there, "row {row} is there after an error: {}", tell()),
            }
        }
        assert!(code != Some("42P05"), "a name that nobody has is taken: {}", tell());
        let last = step.block && !step.rows.is_empty();
        if code == Some("08007")
            && rules.settle_commits
            && last
            && death.loss == Loss::Ended
            && !death.pipelined
        {
            let plain = step.rows != [3] || steps.len() != 9 || steps[1].rows == [3];
            assert!(
                death.amnesia || death.taints || !plain || world.heard.is_empty(),
                "it could be known: {}",
                tell()
            );
        }
        let begins = step.block && step.rows.is_empty();
        if failed && begins && code.is_none() && !rolled_back {
            assert!(state != Some(b'T'), "a failed transaction went on: {}", tell());
        }
        failed = state == Some(b'E');
        before = state;
    }
}

fn every_death(steps: &[Step1], rules: Rules, taints: bool) {
    for (pipelined, amnesia) in [(false, false), (true, false), (false, true)] {
        for worked in 0..200 {
            let death = Death { worked, pipelined, amnesia, taints, ..Death::ended() };
            let lived = !story(steps, rules, death);
            story(steps, rules, Death { silently: true, ..death });
            story(steps, rules, Death { words: true, ..death });
            story(steps, rules, Death { promoted: true, ..death });
            if lived {
                break;
            }
        }
    }
}

/// Requests that were sent at once, and only read: those of which nothing was shown are run again.
#[test]
fn reads_behind_each_other_are_run_again() {
    let describe =
        |name| Say::default().parse(name, "SELECT 1").of_statement(wire::front::DESCRIBE, name).sync();
    let close = |name| Say::default().of_statement(wire::front::CLOSE, name).sync();
    let reads = |says: Vec<Say>| says.into_iter().map(|say| step(say, &[], false)).collect::<Vec<_>>();
    let scripts = [
        reads(vec![query("SELECT 1"), query("SELECT 2"), query("SELECT 3"), query("SELECT 4")]),
        // As rust-postgres does: it closes the last statement when it prepares the next.
        reads(vec![describe("a"), run("SELECT 1"), close("a"), describe("a"), close("a"), describe("b")]),
        // A query takes the unnamed statement away; before it was there.
        reads(vec![
            Say::default().parse("", "SELECT 1").sync(),
            Say::default().bind("", "").execute("", 0).sync(),
            query("SELECT 2"),
            Say::default().parse("", "SELECT 3").sync(),
        ]),
    ];
    for (rules, steps) in all_rules().flat_map(|rules| scripts.iter().map(move |steps| (rules, steps))) {
        for n in 0..8 {
            let (pipelined, loss) = (n & 1 != 0, if n & 2 != 0 { Loss::Silent } else { Loss::Ended });
            for worked in 0..40 {
                let words = n & 4 != 0;
                let death = Death { worked, silently: n & 2 != 0, loss, pipelined, words, ..Death::ended() };
                let (died, bytes) = told(steps, rules, death);
                let heard = messages(&bytes);
                let answers = heard.split(|(tag, _)| *tag == 'Z');
                let broken = answers.filter(|a| a.iter().any(|(tag, _)| *tag == 'E')).collect::<Vec<_>>();
                // Of an answer of the server's a part may have been shown; what is ours to say comes with it.
                let part = |a: &[(char, Vec<u8>)]| a.len() > 1 && a.iter().all(|(tag, _)| *tag != '3');
                let good = broken.len() <= 1 && broken.into_iter().all(part);
                assert!(good, "{rules:?} {death:?}\n{:#?}", readable(&bytes));
                if !died {
                    break;
                }
            }
        }
    }
}

fn every_byte(steps: &[Step1], rules: Rules) {
    for (pipelined, silently) in [(false, false), (false, true), (true, false), (true, true)] {
        for worked in 0..48 {
            let death =
                Death { worked, silently, arrives: 0, loss: Loss::Silent, pipelined, ..Death::ended() };
            // Every byte comes, with one number of messages or another. Where all arrives is as far as it can come.
            for arrives in (worked % 17..900).step_by(17) {
                story(steps, rules, Death { arrives, ..death });
                if arrives > 40 * worked {
                    break;
                }
            }
        }
    }
}

pub fn all_rules() -> impl Iterator<Item = Rules> {
    (0..4).map(|n| Rules {
        rides: true,
        settle_commits: n & 1 != 0,
        settle_autocommit: n & 2 != 0,
        ..Rules::default()
    })
}

#[test]
fn a_server_that_ends_between_messages() {
    for rules in all_rules() {
        for steps in [simple(), extended(), names(), odd()] {
            every_death(&steps, rules, false);
        }
    }
}

#[test]
fn a_server_that_ends_while_commits_are_not_proven() {
    for rules in all_rules() {
        for steps in [simple(), extended(), names(), odd()] {
            every_death(&steps, rules, true);
        }
    }
}

#[test]
fn a_server_that_goes_silent_at_any_byte() {
    for rules in all_rules().filter(|rules| rules.settle_commits) {
        for steps in [simple(), extended(), names(), odd()] {
            every_byte(&steps, rules);
        }
    }
}
