//! Who has made temporary tables keeps its server for as long as one of them is there, and no longer.

use route::session::Mode;
use route::{Pin, Rules};
use wire::front;

use crate::pool::{Dice, Pool};
use crate::server::Shared;
use crate::words::Say;

/// Whether a client that has said this keeps its server.
fn keeps(say: &Say) -> bool {
    let kept = |seed| {
        let rules = Rules { mode: Mode::Transaction, rides: seed % 2 == 0, ..Rules::default() };
        let mut pool = Pool::new(rules, vec![say.0.clone()], 1, &Shared::default());
        let done = pool.run(&mut Dice::new(seed));
        assert!(done.is_ok(), "{done:?}");
        let client = &pool.clients[0];
        let pinned = client.session.pins().iter().any(|pin| pin == Pin::Temporary);
        assert_eq!(client.server.is_some(), pinned);
        if !pinned {
            assert!(pool.servers[0].server.temps.is_empty());
        }
        pinned
    };
    let first = kept(1);
    for seed in 2..60 {
        assert_eq!(kept(seed), first, "seed {seed}");
    }
    first
}

fn say(texts: &[&str]) -> Say {
    texts.iter().fold(Say::default(), |say, text| say.query(text))
}

#[test]
fn one_that_is_there_keeps_its_server() {
    for texts in [
        ["CREATE TEMP TABLE x", "SELECT 1", "SELECT 2", "SELECT 1"].as_slice(),
        &["BEGIN", "CREATE TEMP TABLE x", "COMMIT"],
        &["CREATE TEMP TABLE x", "CREATE TEMP TABLE y", "DROP TABLE x"],
        &["CREATE TEMP TABLE x", "BEGIN", "DROP TABLE x", "ROLLBACK"],
        &["CREATE TEMP TABLE x", "BEGIN", "DISCARD TEMP", "ROLLBACK"],
        &["CREATE TEMP TABLE x", "BEGIN", "CREATE TEMP TABLE y", "ROLLBACK"],
        &["BEGIN", "CREATE TEMP TABLE x", "ROLLBACK", "CREATE TEMP TABLE y"],
        &["CREATE TEMP TABLE x", "DISCARD TEMP; CREATE TEMP TABLE y"],
        &["CREATE TEMP TABLE x", "CREATE TEMP TABLE x"],
    ] {
        assert!(keeps(&say(texts)), "{texts:?}");
    }
}

#[test]
fn one_that_is_gone_does_not() {
    for texts in [
        ["BEGIN", "CREATE TEMP TABLE x ON COMMIT DROP", "SELECT 1", "COMMIT"].as_slice(),
        &["CREATE TEMP TABLE x ON COMMIT DROP"],
        &["BEGIN", "CREATE TEMP TABLE x", "ROLLBACK"],
        &["BEGIN", "CREATE TEMP TABLE x", "FAIL", "COMMIT"],
        &["CREATE TEMP TABLE x; FAIL"],
        &["CREATE TEMP TABLE x", "DROP TABLE x"],
        &["CREATE TEMP TABLE x", "BEGIN", "DROP TABLE x", "COMMIT"],
        &["CREATE TEMP TABLE x", "DISCARD TEMP"],
        &["CREATE TEMP TABLE x", "DISCARD ALL"],
        &["CREATE TEMP TABLE x", "SET work_mem TO 1", "DROP TABLE x; SET work_mem TO 2"],
    ] {
        assert!(!keeps(&say(texts)), "{texts:?}");
    }
}

/// What is sent behind a DISCARD ALL in its batch is not discarded by it.
#[test]
fn a_batch_makes_one_behind_its_discard() {
    let batch = Say::default().run("DISCARD ALL").run("CREATE TEMP TABLE x").sync();
    assert!(keeps(&batch));
    let failed = Say::default().query("CREATE TEMP TABLE x").run("DISCARD ALL").bare(front::FLUSH);
    assert!(keeps(&failed.run("FAIL").sync()));
    let batch = Say::default().run("CREATE TEMP TABLE x").run("DISCARD ALL").sync();
    assert!(!keeps(&batch));
    let flushed = Say::default().run("CREATE TEMP TABLE x").run("DISCARD TEMP").bare(front::FLUSH);
    assert!(keeps(&flushed.run("CREATE TEMP TABLE x").sync()));
}
