//! A commit that waits for standbys: what ends the wait, and what the client is told.
//!
//! Protocol: findings 4 and 5, 1.5, 6.3, 6.6, (f) P1.

use tokio_postgres::error::SqlState;

use crate::real::wait_until;
use crate::stage::process::wait_until_gone;
use crate::stage::receiver::Receiver;
use crate::stage::session::Session;
use crate::stage::{Stage, flushed, set, wait_until_sure};

/// Nobody carries this name.
const NOBODY: &str = "synchronous_standby_names = 'ANY 1 (nobody)'";

#[test]
fn a_cancelled_wait_is_a_success_with_a_warning() {
    let stage = Stage::new();
    let primary = stage.primary("n1", NOBODY);
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('cancelled')", &eye);
    assert_eq!(eye.sql("select count(*) from t"), "0", "nobody sees what waits");
    assert_eq!(eye.sql(&format!("select pg_cancel_backend({})", client.pid)), "t");
    waiting.outcome().expect("the commit counts as done");
    wait_until("the warning", || !client.notices().is_empty());
    let warning = client.notices().remove(0);
    assert_eq!((warning.code().code(), warning.routine()), ("01000", Some("SyncRepWaitForLSN")));
    assert_eq!(warning.severity(), "WARNING");
    assert_eq!(eye.sql("select v from t"), "cancelled", "and everybody sees it");

    // A client that asked for silence is told nothing at all.
    client.sql("set client_min_messages = error");
    let waiting = client.begin_waiting("insert into t values ('in silence')", &eye);
    eye.sql(&format!("select pg_cancel_backend({})", client.pid));
    waiting.outcome().unwrap();
    client.sql("select 1");
    assert_eq!(client.notices().len(), 1);
}

#[test]
fn a_statement_timeout_does_not_end_the_wait() {
    let stage = Stage::new();
    let primary = stage.primary("n1", NOBODY);
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    client.sql("set statement_timeout = '100ms'");
    let waiting = client.begin_waiting("insert into t values ('x')", &eye);
    wait_until_sure("the commit waits", || !waiting.is_over() && eye.waits(client.pid));
    set(&primary, "synchronous_standby_names", "");
    waiting.outcome().expect("it was no error");
    // It does end what is no wait of this kind.
    let late = client.try_sql("select pg_sleep(60)").unwrap_err();
    assert_eq!(late.code(), Some(&SqlState::QUERY_CANCELED));
}

#[test]
fn a_terminated_wait_is_closed_without_an_answer() {
    let stage = Stage::new();
    let primary = stage.primary("n1", NOBODY);
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('terminated')", &eye);
    eye.sql(&format!("select pg_terminate_backend({})", client.pid));
    waiting.outcome().expect_err("no acknowledgement");
    wait_until_gone(client.pid);
    assert_eq!(eye.sql("select v from t"), "terminated", "committed all the same");
}

#[test]
fn a_fast_shutdown_ends_the_wait_without_an_answer() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", NOBODY);
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('shut down')", &eye);
    primary.stop_fast();
    waiting.outcome().expect_err("no acknowledgement");
    primary.start_standby(None);
    assert_eq!(Session::open(&primary).sql("select v from t"), "shut down");
}

#[test]
fn local_waits_for_nobody_and_a_prepared_transaction_for_everybody() {
    let stage = Stage::new();
    let primary = stage.primary("n1", &format!("{NOBODY}\nmax_prepared_transactions = 5"));
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    client.sql("set synchronous_commit = local; insert into t values ('local')");
    client.sql("set synchronous_commit = on");
    let preparing =
        client.begin_waiting("begin; insert into t values ('2pc'); prepare transaction 'p'", &eye);
    wait_until_sure("PREPARE waits", || !preparing.is_over());
    set(&primary, "synchronous_standby_names", "");
    preparing.outcome().unwrap();
    assert_eq!(eye.sql("select gid from pg_prepared_xacts"), "p");
    set(&primary, "synchronous_standby_names", "ANY 1 (nobody)");
    let committing = client.begin_waiting("commit prepared 'p'", &eye);
    wait_until_sure("COMMIT PREPARED waits", || !committing.is_over());
    set(&primary, "synchronous_standby_names", "");
    committing.outcome().unwrap();
    assert_eq!(eye.sql("select count(*) from t"), "2");
}

/// 1.5: a witness has no table to apply anything to.
#[test]
fn a_flush_satisfies_on_and_never_remote_apply() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "synchronous_standby_names = 'ANY 1 (w)'");
    let mut witness = Receiver::attach(&primary, "w", flushed(&primary));
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('on')", &eye);
    let end = flushed(&primary);
    witness.receive_to(end);
    wait_until_sure("no reply, no acknowledgement", || !waiting.is_over());
    witness.acknowledge(end);
    waiting.outcome().unwrap();

    client.sql("set synchronous_commit = remote_apply");
    let waiting = client.begin_waiting("insert into t values ('applied')", &eye);
    let end = flushed(&primary);
    witness.receive_to(end);
    witness.acknowledge(end);
    wait_until_sure("flushed is not applied", || !waiting.is_over());
    set(&primary, "synchronous_standby_names", "");
    waiting.outcome().unwrap();
}

/// 2.4 and 6.3: what a replica shows need not be acknowledged yet.
#[test]
fn a_replica_shows_what_its_primary_still_hides() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "synchronous_standby_names = 'ANY 2 (n2, nobody)'");
    let standby = stage.standby("n2", &primary, "");
    let (client, eye, replica) = (Session::open(&primary), Session::open(&primary), Session::open(&standby));
    let waiting = client.begin_waiting("insert into t values ('early')", &eye);
    wait_until("the row on the replica", || replica.sql("select count(*) from t") == "1");
    assert_eq!(eye.sql("select count(*) from t"), "0");
    assert!(!waiting.is_over());
    set(&primary, "synchronous_standby_names", "");
    waiting.outcome().unwrap();
}
