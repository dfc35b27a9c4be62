//! Transactions across a failover: prepared ones, and what can be learnt of an xid.
//!
//! Protocol: finding 10, C-17, 6.6.

use crate::real::wait_until;
use crate::stage::process;
use crate::stage::session::Session;
use crate::stage::{Stage, set, wait_until_caught_up};

#[test]
fn a_prepared_transaction_survives_a_promotion() {
    let stage = Stage::new();
    let two_phase = "max_prepared_transactions = 5";
    let mut primary = stage.primary("n1", two_phase);
    let standby = stage.standby("n2", &primary, two_phase);
    let client = Session::open(&primary);
    client.sql("begin; insert into t values ('first'); prepare transaction 'first'");
    client.sql("begin; insert into t values ('second'); prepare transaction 'second'");
    client.sql("commit prepared 'first'");
    wait_until_caught_up(&primary, &standby);
    primary.crash();
    standby.promote();
    let session = Session::open(&standby);
    assert_eq!(session.sql("select gid from pg_prepared_xacts"), "second", "gone means committed");
    session.sql("commit prepared 'second'");
    assert_eq!(session.sql("select string_agg(v, ' ' order by v) from t"), "first second");
}

/// Finding 10: after a failover `pg_xact_status` speaks of another transaction of that number,
/// and the next xid before the promotion tells which were lost.
#[test]
fn c17_the_next_xid_before_a_promotion_tells_the_lost_from_the_committed() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, "");
    let client = Session::open(&primary);
    let insert = "with x as (insert into t values ('x') returning 1) select pg_current_xact_id() from x";
    let kept: u64 = client.sql(insert).parse().unwrap();
    wait_until_caught_up(&primary, &standby);
    set(&standby, "primary_conninfo", "");
    wait_until("no walreceiver", || process::find(&standby, "walreceiver").is_none());
    let lost: Vec<u64> = (0..2).map(|_| client.sql(insert).parse().unwrap()).collect();
    primary.crash();

    let session = Session::open(&standby);
    let next: u64 = session.sql("select pg_snapshot_xmax(pg_current_snapshot())").parse().unwrap();
    assert!(kept < next && lost.iter().all(|xid| *xid >= next), "{kept} {lost:?} {next}");
    standby.promote();
    let status = |xid: &u64| session.try_sql(&format!("select pg_xact_status('{xid}')"));
    assert_eq!(status(&kept).unwrap(), "committed");
    for xid in &lost {
        let refused = status(xid).unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("is in the future"), "{refused:?}");
    }
    for _ in 0..8 {
        session.sql("insert into t values ('another')");
    }
    for xid in &lost {
        assert_eq!(status(xid).unwrap(), "committed", "which is true of another transaction");
    }
}
