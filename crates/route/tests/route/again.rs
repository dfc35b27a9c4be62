//! Requests that were sent together, whatever they are: a client that was told of no error has what a server of its
//! own would have said and done, and nothing is done twice.

use route::Rules;
use route::session::Loss;
use wire::front;

use crate::loss::{all_rules, query, run, step};
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
    for (rules, death) in
        all_rules().flat_map(|rules| (0..12).flat_map(deaths).map(move |death| (rules, death)))
    {
        let heard = answers(&lives(&steps, rules, death).heard);
        let lacks = heard.iter().flatten().any(|one| one.starts_with("E 26000"));
        assert!(!lacks, "{rules:?} {death:?} {heard:?}");
    }
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
    for (rules, death) in
        all_rules().flat_map(|rules| (0..16).flat_map(deaths).map(move |death| (rules, death)))
    {
        let world = lives(&steps, rules, death);
        let times = world.shared.borrow().rows.get(&1).copied().unwrap_or_default();
        assert!(times <= 1, "{rules:?} {death:?} {:?}", answers(&world.heard));
    }
}
