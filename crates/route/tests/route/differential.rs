//! Clients behind sessions hear what they would hear from a server of their own.

use proptest::prelude::*;
use route::{Mode, Rules};
use wire::front;

use crate::pool::{Dice, Pool, directly};
use crate::server::Shared;
use crate::words::{Say, readable};

/// One request, anyhow.
fn request(say: Say, dice: &mut Dice, row: &mut u64, blocks: bool) -> Say {
    *row += 1;
    let text = |dice: &mut Dice, row: u64| match dice.below(if blocks { 17 } else { 14 }) {
        0..3 => "SELECT 1".into(),
        3..6 => format!("INSERT INTO t VALUES ({row})"),
        6 => "FAIL".into(),
        7 => format!("SET work_mem TO {}", dice.below(3)),
        8 => "SHOW work_mem".into(),
        9 => format!("SET application_name TO a{}", dice.below(3)),
        10 => format!("SELECT set_config('app.x', '{}', false)", dice.below(3)),
        11 => "SHOW app.x".into(),
        12 => ["", "SYNTAX", "INSERT INTO t VALUES (666)"][dice.below(3)].into(),
        13 => [
            "SELECT 2",
            "CREATE TEMP TABLE x",
            "CREATE TEMP TABLE y ON COMMIT DROP",
            "DROP TABLE x",
            "DISCARD TEMP",
        ][dice.below(5)]
        .into(),
        14 => "BEGIN".into(),
        15 => ["COMMIT", "COMMIT", "COMMIT AND CHAIN"][dice.below(3)].into(),
        _ => "ROLLBACK".to_string(),
    };
    match dice.below(10) {
        0..3 => say.query(&text(dice, *row)),
        3 => {
            let texts: Vec<String> = (0..3).map(|_| text(dice, *row)).collect();
            say.query(&texts.join("; "))
        }
        4 => {
            let name = ["a", "b"][dice.below(2)];
            say.query(&format!("{} {name}", ["EXECUTE", "DEALLOCATE"][dice.below(2)]))
        }
        5 if dice.one_in(3) => say.query(["DEALLOCATE ALL", "DISCARD ALL"][dice.below(2)]),
        5 => copy(say, dice, *row),
        _ => batch(say, dice, |dice| text(dice, *row)),
    }
}

fn batch(say: Say, dice: &mut Dice, text: impl Fn(&mut Dice) -> String) -> Say {
    let name = |dice: &mut Dice| ["", "", "a", "b"][dice.below(4)];
    let mut say = say;
    for _ in 0..=dice.below(4) {
        let n = name(dice);
        say = match dice.below(10) {
            0..3 => say.parse(n, &text(dice)).bind("", n).execute("", 0),
            3 => say.parse(n, &text(dice)),
            4 | 5 => say.bind("", n).execute("", i32::from(dice.one_in(4))),
            // One that this server lacks would have to be parsed, which a failed transaction refuses.
            6 => say.parse(n, &text(dice)).of_statement(front::DESCRIBE, n),
            7 => say.of_statement(front::CLOSE, n),
            8 => {
                let (by, text) = [("d", "DEALLOCATE a"), ("e", "EXECUTE b")][dice.below(2)];
                let by = if dice.one_in(3) { "" } else { by };
                let says = dice.one_in(2);
                let say = if says { say.parse(by, text) } else { say };
                // As above.
                let looks = text.starts_with('D') && says && dice.one_in(3);
                let say = if looks { say.of_statement(front::DESCRIBE, by) } else { say };
                say.bind("", by).execute("", 0)
            }
            _ => say.bare(front::FLUSH).bind("", n).of_portal(front::DESCRIBE, "").execute("", 0),
        };
    }
    say.sync()
}

fn copy(say: Say, dice: &mut Dice, row: u64) -> Say {
    let extended = dice.one_in(2);
    let say = if extended { say.run("COPY t FROM stdin") } else { say.query("COPY t FROM stdin") };
    let say = if extended && dice.one_in(2) { say.sync() } else { say };
    let say = say.copy_data(&row.to_string()).copy_data(if dice.one_in(3) { "bad" } else { "9000" });
    let say = if dice.one_in(4) { say.copy_fail() } else { say.bare(front::COPY_DONE) };
    // Nobody runs a COPY again without its data.
    if extended { say.sync().run("SELECT 3").sync() } else { say }
}

fn script(dice: &mut Dice, client: u64, requests: usize, blocks: bool) -> Vec<u8> {
    let mut row = client * 1000 + 1000;
    let say = (0..requests).fold(Say::default(), |say, _| request(say, dice, &mut row, blocks));
    // However it went, it ends in order.
    say.sync().query("ROLLBACK").0
}

/// Describe in a transaction that has failed says what parameters there are before it fails; not so where the
/// statement would have to be prepared first.
fn comparable(bytes: &[u8]) -> Vec<String> {
    let mut said = readable(bytes);
    let fails: Vec<bool> =
        said.iter().skip(1).map(|next| next.starts_with("E 25P02")).chain([false]).collect();
    let mut fails = fails.into_iter();
    said.retain(|one| !fails.next().is_some_and(|fails| fails && one == "t"));
    // A setting may be reported at any time: where within one request says nothing.
    for request in said.split_inclusive_mut(|one| one.starts_with("Z ")) {
        let end = request.len() - usize::from(request.last().is_some_and(|one| one.starts_with("Z ")));
        request[..end].sort_by_key(|one| one.starts_with("S "));
    }
    said
}

/// A name that is taken is seen before the text is read.
fn is_as_good(heard: &str, direct: &str) -> bool {
    heard.starts_with("E 42P05") && (direct.starts_with("E 42601") || direct.starts_with("E 25P02"))
}

fn check(seed: u64, requests: usize, mode: Mode) -> Result<(), TestCaseError> {
    let dice = &mut Dice::new(seed);
    let rules = Rules {
        mode,
        rides: dice.one_in(2),
        settle_commits: dice.one_in(2),
        settle_autocommit: dice.one_in(2),
    };
    let count = 1 + dice.below(3);
    let scripts: Vec<Vec<u8>> =
        (0..count).map(|i| script(dice, i as u64, requests, mode != Mode::Statement)).collect();
    let (alone, together) = (Shared::default(), Shared::default());
    let direct: Vec<Vec<u8>> = scripts.iter().map(|script| directly(script, &alone)).collect();
    // Whoever has a temporary table keeps its server.
    let keeps = scripts.iter().any(|script| script.windows(12).any(|w| w == b"TEMP TABLE x"));
    let servers = if mode == Mode::Session || keeps { count } else { 1 + dice.below(3) };
    let mut pool = Pool::new(rules, scripts.clone(), servers, &together);
    pool.patient = dice.one_in(2);
    let done = pool.run(dice);
    for (i, (client, direct)) in pool.clients.iter().zip(&direct).enumerate() {
        let (heard, direct) = (comparable(&client.heard), comparable(direct));
        let at = heard.iter().zip(&direct).take_while(|(a, b)| a == b || is_as_good(a, b)).count();
        if at < heard.len().max(direct.len()) || done.is_err() {
            let asked = crate::words::messages(&scripts[i]);
            let asked: Vec<String> = asked
                .iter()
                .map(|(t, b)| format!("{t} {}", String::from_utf8_lossy(b).replace('\0', ".")))
                .collect();
            let near = |list: &[String]| list[at.saturating_sub(4)..(at + 5).min(list.len())].to_vec();
            println!("{}", asked.join(" | "));
            return Err(TestCaseError::fail(format!(
                "seed {seed} {rules:?} client {i} of {count}, answer {at}\n heard {:?}\ndirect {:?}\n{done:?}",
                near(&heard),
                near(&direct)
            )));
        }
    }
    prop_assert_eq!(&alone.borrow().rows, &together.borrow().rows);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn transaction_mode(seed in 0_u64..u64::MAX, requests in 1_usize..12) {
        check(seed, requests, Mode::Transaction)?;
    }

    #[test]
    fn session_mode(seed in 0_u64..u64::MAX, requests in 1_usize..12) {
        check(seed, requests, Mode::Session)?;
    }

    #[test]
    fn statement_mode(seed in 0_u64..u64::MAX, requests in 1_usize..12) {
        check(seed, requests, Mode::Statement)?;
    }
}
