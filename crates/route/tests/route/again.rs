//! Requests that were sent together, whatever they are: a client that was told of no error has what a server of its
//! own would have said and done, and nothing is done twice.

use proptest::prelude::*;
use route::Rules;
use route::session::Loss;
use wire::front;

use crate::loss::{all_rules, query, run, step};
use crate::pool::Dice;
use crate::server::{Server, Shared};
use crate::words::{Say, messages, readable};
use crate::world::{Death, Step1, lives};

/// Ways in which a server goes, at any message.
fn deaths(worked: usize) -> impl Iterator<Item = Death> {
    (0..32).map(move |n: u32| {
        let on = |bit: u32| n & bit != 0;
        let loss = if on(1) { Loss::Silent } else { Loss::Ended };
        let (silently, words, promoted) = (on(2), on(4) && !on(2), on(8));
        Death { worked, loss, silently, words, promoted, pipelined: on(16), ..Death::ended() }
    })
}

/// All ways in which a server goes within so many messages, by all rules.
fn all_deaths(messages: usize) -> impl Iterator<Item = (Rules, Death)> {
    all_rules().flat_map(move |rules| (0..messages).flat_map(deaths).map(move |death| (rules, death)))
}

/// Answers, one for each request, without the state that they end with.
fn answers(heard: &[u8]) -> Vec<Vec<String>> {
    let mut all = readable(heard);
    // That a server is a standby, or not.
    all.retain(|one| !one.starts_with("S "));
    let split = all.split_inclusive(|one| one.starts_with("Z "));
    split.map(|answer| answer[..answer.len() - 1].to_vec()).collect()
}

/// What a server of its own says to each step; what it has written then is in the database.
fn directly(steps: &[Step1], shared: &Shared) -> Vec<Vec<String>> {
    let mut server = Server::new(shared);
    steps.iter().for_each(|step| server.take(&step.bytes));
    answers(&server.output)
}

fn has_failed(answer: &[String]) -> bool {
    answer.iter().any(|one| one.starts_with("E "))
}

fn check(steps: &[Step1], rules: Rules, death: Death) -> Result<bool, String> {
    let alone = Shared::default();
    let direct = directly(steps, &alone);
    let world = lives(steps, rules, death);
    let heard = answers(&world.heard);
    let rows = world.shared.borrow().rows.clone();
    let tell = |why: &str| {
        let said = steps.iter().map(|step| {
            let said = messages(&step.bytes).into_iter();
            let said = said
                .map(|(tag, body)| format!("{tag} {}", String::from_utf8_lossy(&body).replace('\0', ".")));
            said.collect::<Vec<_>>().join(" | ")
        });
        let said: Vec<String> = said.collect();
        Err(format!(
            "{why}: {rules:?} {death:?}\nsaid {said:#?}\nheard {heard:?}\ndirect {direct:?}\nrows {rows:?}"
        ))
    };
    if world.over {
        return Ok(world.death.is_none());
    }
    if heard.len() != steps.len() {
        return tell("one ReadyForQuery for each request");
    }
    if heard == direct {
        let same = rows == alone.borrow().rows;
        return if same { Ok(world.death.is_none()) } else { tell("other rows than alone") };
    }
    let mut before = true;
    for (i, ((step, answer), alone)) in steps.iter().zip(&heard).zip(&direct).enumerate() {
        let failed = has_failed(answer);
        if before && !failed && answer != alone {
            return tell("another answer than alone");
        }
        before &= answer == alone;
        let unknown = answer.iter().any(|one| one.starts_with("E 08007"));
        for row in &step.rows {
            let there = rows.get(row).copied().unwrap_or_default();
            let last = steps.iter().rposition(|step| step.rows.contains(row)) == Some(i);
            let rolled_back = answer.iter().any(|one| one == "C ROLLBACK");
            let lacks = !failed && there == 0 && (!step.block || last) && !rolled_back;
            let has = failed && !unknown && there > 0 && (!step.block || last || death.pipelined);
            if there > 1 || lacks || has {
                return tell(&format!("row {row} is there {there} times"));
            }
        }
    }
    Ok(world.death.is_none())
}

fn every_way(steps: &[Step1]) {
    for rules in all_rules() {
        for worked in 0..60 {
            let died =
                deaths(worked).map(|death| check(steps, rules, death).unwrap_or_else(|why| panic!("{why}")));
            if !died.fold(false, |any, died| any | died) {
                break;
            }
        }
    }
}

/// One request that leaves no block open. What is in `rows` is written by it and by no other.
fn any_step(dice: &mut Dice, row: u64) -> Step1 {
    let insert = format!("INSERT INTO t VALUES ({row})");
    let name = |dice: &mut Dice| ["a", "b", "c"][dice.below(3)];
    let text = |dice: &mut Dice| match dice.below(6) {
        0..3 => format!("SELECT {row}"),
        3 => "FAIL".to_string(),
        4 => "SYNTAX".to_string(),
        _ => format!("INSERT INTO t VALUES ({})", row + 5000),
    };
    let mut rows = vec![];
    let mut say = Say::default();
    match dice.below(12) {
        0..2 => say = say.query(&format!("SELECT {row}")),
        2 => {
            rows.push(row);
            say = say.query(&insert);
        }
        3 => {
            rows.push(row);
            say = say.query(&format!("SELECT 1; {insert}"));
        }
        4 => {
            rows.push(row);
            say = say.query(&format!("BEGIN; {insert}; COMMIT"));
        }
        5 => {
            rows.push(row);
            say = say.run("BEGIN").run(&insert).run("COMMIT").sync();
        }
        6 => {
            rows.push(row);
            let one = format!("INSERT INTO t VALUES ({})", row + 1);
            rows.push(row + 1);
            say = say.run(&insert).run(&one).sync();
        }
        _ => {
            for _ in 0..=dice.below(3) {
                let n = ["", name(dice)][dice.below(2)];
                say = match dice.below(9) {
                    0 | 1 => say.parse(n, &text(dice)).bind("", n).execute("", 0),
                    2 => say.parse(n, &text(dice)),
                    // What is unnamed may be the row of another request.
                    3 => say.bind("", name(dice)).execute("", 0),
                    4 => say.parse(n, &text(dice)).of_statement(front::DESCRIBE, n),
                    5 => say.of_statement(front::CLOSE, n).parse(n, &text(dice)),
                    6 => say.of_statement(front::CLOSE, n),
                    7 => say.bare(front::FLUSH),
                    _ => say.run(&format!("DEALLOCATE {}", name(dice))),
                };
            }
            say = say.sync();
        }
    }
    step(say, &rows, false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_requests_at_once(seed in 0_u64..u64::MAX, count in 1_u64..7) {
        let dice = &mut Dice::new(seed);
        let steps: Vec<Step1> = (0..count).map(|i| any_step(dice, 10 * i + 10)).collect();
        let rules = all_rules().nth(dice.below(4)).unwrap_or_default();
        for worked in 0..60 {
            let mut any = false;
            for death in deaths(worked) {
                any |= check(&steps, rules, death).map_err(TestCaseError::fail)?;
            }
            if !any {
                break;
            }
        }
    }
}

/// A BEGIN that was bound and not executed begins nothing.
#[test]
fn a_begin_that_is_not_executed_begins_nothing() {
    let say = Say::default().parse("", "BEGIN").bind("", "").run("INSERT INTO t VALUES (1)").sync();
    every_way(&[step(say, &[1], false), step(query("SELECT 1"), &[], false)]);
}

/// On a standby that was promoted, what does not look like a write may be one.
#[test]
fn what_wrote_on_a_promoted_standby_is_not_run_again() {
    let mut call = Say::default();
    front::call(&mut call.0, 957);
    every_way(&[step(query("SELECT 1; INSERT INTO t VALUES (1)"), &[1], false)]);
    every_way(&[step(query("BEGIN; INSERT INTO t VALUES (1); COMMIT"), &[1], false)]);
    let rules = Rules { rides: true, ..Rules::default() };
    let death = Death { silently: true, promoted: true, ..Death::ended() };
    let world = lives(&[step(call, &[], false)], rules, death);
    assert!(answers(&world.heard)[0][0].starts_with("E 08007"), "a call of a function may have written");
}

/// It says that it was promoted before its first answer ends: what comes after is as on any other.
#[test]
fn a_block_on_a_promoted_standby_counts() {
    let steps = [
        step(query("BEGIN"), &[], true),
        step(query("INSERT INTO t VALUES (1)"), &[], true),
        step(query("COMMIT"), &[1], true),
    ];
    let rules = Rules { rides: true, settle_commits: true, ..Rules::default() };
    for (worked, arrives) in (2..5).flat_map(|worked| (60..180).map(move |arrives| (worked, arrives))) {
        let death =
            Death { worked, arrives, silently: true, loss: Loss::Silent, promoted: true, ..Death::ended() };
        check(&steps, rules, death).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Who was told that its BEGIN was rolled back runs the transaction again.
#[test]
fn a_block_that_was_sent_whole_is_not_said_to_be_rolled_back_when_it_may_not_be() {
    every_way(&[
        step(query("BEGIN; INSERT INTO t VALUES (1)"), &[1], true),
        step(query("COMMIT"), &[1], true),
    ]);
    every_way(&[
        step(query("BEGIN"), &[1], true),
        step(query("INSERT INTO t VALUES (1)"), &[1], true),
        step(query("COMMIT"), &[1], true),
    ]);
}

/// A Parse that was refused, for its name is taken, says nothing of what the name stands for.
#[test]
fn a_name_that_was_taken_stands_for_what_it_did() {
    let insert = Say::default().parse("a", "INSERT INTO t VALUES (1)").sync();
    let taken = Say::default().parse("a", "SELECT 1").sync();
    let runs = Say::default().bind("", "a").execute("", 0).sync();
    every_way(&[step(insert, &[], false), step(taken, &[], false), step(runs, &[1], false)]);
}

/// What was unnamed before a request that is run again is there again for it.
#[test]
fn the_unnamed_statement_of_before_is_run_again() {
    let parse = |text| Say::default().parse("", text).sync();
    let both = Say::default().bind("", "").execute("", 0).parse("", "SELECT 2").sync();
    every_way(&[
        step(parse("SELECT 1"), &[], false),
        step(both.clone(), &[], false),
        step(parse("SELECT 3"), &[], false),
    ]);
    every_way(&[
        step(parse("INSERT INTO t VALUES (1)"), &[], false),
        step(both, &[1], false),
        step(parse("SELECT 3"), &[], false),
    ]);
}

/// What stands beside a COMMIT in one batch has an answer of its own.
#[test]
fn what_stands_beside_a_commit_in_its_batch_has_its_own_answer() {
    let with = |say: Say| {
        let [a, b] = [query("BEGIN"), query("INSERT INTO t VALUES (1)")];
        every_way(&[step(a, &[], true), step(b, &[], true), step(say, &[], true)]);
    };
    let insert = "INSERT INTO t VALUES (2)";
    with(Say::default().run("COMMIT").run(insert).sync());
    with(Say::default().run("SELECT 7").run("COMMIT").sync());
    with(Say::default().run("COMMIT").run("SELECT 7").sync());
    with(Say::default().run("ROLLBACK").run(insert).sync());
}

/// What a batch behind the first has taken away is there again when it is run again.
#[test]
fn a_name_that_was_deallocated_behind_a_request_is_there_again() {
    let steps = [
        step(Say::default().parse("a", "SELECT 2").sync(), &[], false),
        step(Say::default().run("SELECT 1").bare(front::FLUSH).sync(), &[], false),
        step(run("DEALLOCATE a"), &[], false),
    ];
    for (rules, death) in all_deaths(12) {
        let heard = answers(&lives(&steps, rules, death).heard);
        let lacks = heard.iter().flatten().any(|one| one.starts_with("E 26000"));
        assert!(!lacks, "{rules:?} {death:?} {heard:?}");
    }
}

/// What is deallocated behind a request that fails in the same batch stays, also where it was prepared there.
#[test]
fn a_name_that_was_to_be_deallocated_behind_a_failure_stays() {
    let anew = Say::default().of_statement(front::CLOSE, "a").parse("a", "FAIL");
    every_way(&[
        step(Say::default().parse("a", "SELECT 2").sync(), &[], false),
        step(anew.run("DEALLOCATE c").run("DEALLOCATE a").sync(), &[], false),
        step(Say::default().bind("", "a").execute("", 0).sync(), &[], false),
    ]);
}

/// A query takes the unnamed statement away, also one that its server was lost with.
#[test]
fn the_unnamed_statement_does_not_come_back_behind_an_error() {
    let steps = [
        step(run("INSERT INTO t VALUES (1)"), &[], false),
        step(query("SELECT 2"), &[], false),
        step(query("SELECT 3; INSERT INTO t VALUES (4)"), &[4], false),
        step(Say::default().bind("", "").execute("", 0).sync(), &[], false),
    ];
    for (rules, death) in all_deaths(16) {
        let world = lives(&steps, rules, death);
        let times = world.shared.borrow().rows.get(&1).copied().unwrap_or_default();
        assert!(times <= 1, "{rules:?} {death:?} {:?}", answers(&world.heard));
    }
}

/// What is ours to say is said when the client asks for it, also behind a request that is not over.
#[test]
fn flush_brings_what_is_ours_to_say() {
    let steps = [step(Say::default().parse("a", "SELECT 1").sync(), &[], false)];
    let before = [Say::default, || query("SELECT 2"), || run("SELECT 2")];
    for (rules, before) in all_rules().flat_map(|rules| before.map(|before| (rules, before()))) {
        let mut world = lives(&steps, rules, Death { worked: usize::MAX, ..Death::ended() });
        world.goes_on(&before.of_statement(front::CLOSE, "a").bare(front::FLUSH).0);
        let heard = readable(&world.heard);
        assert_eq!(heard.last().map(String::as_str), Some("3"), "{rules:?} {heard:?}");
    }
}
