//! A primary that crashed, and what recovery makes of commits that nobody acknowledged.
//!
//! Protocol: C-4, 1.4, 1.6, 6.4, (a) 6, (k).

use crate::real::{Server, wait_until};
use crate::stage::session::Session;
use crate::stage::{Stage, add_settings, flushed, refusal, wait_until_caught_up, wait_until_sure};

/// Dies while one commit waits for standbys; nobody has seen it.
fn crashed_while_one_waits(stage: &Stage) -> Server {
    let mut primary = stage.primary("n1", "synchronous_standby_names = 'ANY 1 (nobody)'");
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('unacknowledged')", &eye);
    assert_eq!(eye.sql("select count(*) from t"), "0");
    primary.crash();
    waiting.outcome().expect_err("not acknowledged");
    primary
}

#[test]
fn c4_a_crashed_primary_with_standby_signal_is_read_only_until_it_is_promoted() {
    let stage = Stage::new();
    let mut server = crashed_while_one_waits(&stage);
    server.start_standby(None);
    let session = Session::open(&server);
    assert_eq!(session.sql("select v from t"), "unacknowledged");
    assert_eq!(session.sql("select pg_is_in_recovery()"), "t");
    let refused = session.try_sql("insert into t values ('no')").unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
    assert!(server.pgdata.join("standby.signal").exists());

    server.promote();
    assert!(!server.pgdata.join("standby.signal").exists(), "promotion removes it");
    assert!(server.pgdata.join("pg_wal/00000002.history").exists(), "a timeline of its own");
    assert_eq!(Session::open(&server).sql("select v from t"), "unacknowledged");
}

#[test]
fn c4_a_crashed_primary_without_standby_signal_opens_with_what_nobody_acknowledged() {
    let stage = Stage::new();
    let mut server = crashed_while_one_waits(&stage);
    server.start();
    let session = Session::open(&server);
    assert_eq!(session.sql("select v from t"), "unacknowledged");
    assert_eq!(session.sql("select pg_is_in_recovery()"), "f");
    assert!(!server.pgdata.join("pg_wal/00000002.history").exists(), "on the old timeline");
}

/// 1.6 and (k): a promotion skips the delay, and first replays all that is on disk.
#[test]
fn a_promotion_skips_the_apply_delay_and_replays_all_that_is_there() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, "");
    wait_until_caught_up(&primary, &standby);
    add_settings(&standby, "recovery_min_apply_delay = '1h'");
    let eye = Session::open(&standby);
    eye.sql("select pg_reload_conf()");
    wait_until("the delay", || Session::open(&standby).sql("show recovery_min_apply_delay") == "1h");
    Session::open(&primary).sql("insert into t select g from generate_series(1, 500) g");
    let end = flushed(&primary);
    let received = format!("select pg_last_wal_receive_lsn() >= '{end}'");
    wait_until("all to be received", || eye.sql(&received) == "t");
    wait_until_sure("nothing is applied", || eye.sql("select count(*) from t") == "0");
    primary.stop_fast();
    standby.promote();
    assert_eq!(Session::open(&standby).sql("select count(*) from t"), "500");
}

/// 1.6: where a standby has fewer of something than its primary, replay pauses (14 and
/// later). A promotion then ends the server instead, and a start is refused.
#[test]
fn a_setting_below_the_primarys_pauses_recovery_and_a_promotion_ends_it() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let mut standby = stage.standby("n2", &primary, "");
    primary.stop_fast();
    add_settings(&primary, "max_connections = 101");
    primary.start();
    Session::open(&primary).sql("insert into t values ('x')");
    let eye = Session::open(&standby);
    wait_until("replay to pause", || eye.sql("select pg_get_wal_replay_pause_state()") == "paused");
    wait_until_sure("nothing is applied", || eye.sql("select count(*) from t") == "0");
    eye.sql("select pg_promote(false)");
    standby.wait_until_ended();
    assert!(standby.log().contains("promotion is not possible because of insufficient parameter settings"));
    assert!(!standby.pgdata.join("pg_wal/00000002.history").exists());
    let said = refusal(&standby);
    assert!(said.contains("recovery aborted because of insufficient parameter settings"), "{said}");
    // Raised, it goes on.
    add_settings(&standby, "max_connections = 101");
    standby.start();
    wait_until_caught_up(&primary, &standby);
}
