//! Promotions: which timeline they choose, where it begins, and who can follow.
//!
//! Protocol: findings 8 and 9, C5, C6, (h) 2, (k).

use std::fs;

use cluster::{Lsn, Timeline};
use postgres::wal::{ScanStart, between, scan_end};
use postgres::{RunAs, history};

use crate::real::{Server, wait_until};
use crate::stage::process::{self, Frozen};
use crate::stage::session::Session;
use crate::stage::{
    Stage, conninfo, flushed, set, wait_until_caught_up, wait_until_streams, wait_until_sure,
};

fn has_history(server: &Server, timeline: u32) -> bool {
    server.pgdata.join("pg_wal").join(history::file_name(Timeline(timeline))).exists()
}

/// Takes its upstream away, and waits until it has none.
fn detach(standby: &Server) {
    set(standby, "primary_conninfo", "");
    wait_until("no walreceiver", || process::find(standby, "walreceiver").is_none());
}

fn end_of(server: &Server) -> Lsn {
    scan_end(&server.pgdata, ScanStart::Redo).unwrap().end
}

/// Finding 8: asked not to wait, it does not; asked to, it says when it was not done in time.
#[test]
fn pg_promote_false_returns_before_the_promotion() {
    let stage = Stage::new();
    let mut server = stage.server("n1", "");
    server.start_standby(None);
    let session = Session::open(&server);
    let startup = Frozen::new(process::find(&server, "startup").unwrap());
    assert_eq!(session.sql("select pg_promote(false)"), "t");
    assert_eq!(session.sql("select pg_is_in_recovery()"), "t");
    assert_eq!(session.sql("select pg_promote(true, 1)"), "f");
    drop(startup);
    wait_until("promotion", || session.sql("select pg_is_in_recovery()") == "f");
    session.sql("create table written()");
    assert!(has_history(&server, 2));
}

/// Finding 9.
#[test]
fn two_standbys_promoted_apart_choose_the_same_timeline() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let standbys = [stage.standby("n2", &primary, ""), stage.standby("n3", &primary, "")];
    primary.crash();
    for standby in &standbys {
        standby.promote();
        assert!(has_history(standby, 2) && !has_history(standby, 3));
    }
}

/// (k): a promotion takes the number after the histories that follow its own one by one, and
/// believes what stands in them.
#[test]
fn a_promotion_takes_the_number_after_every_history_that_it_sees() {
    for ahead in [0, 4 << 20] {
        let stage = Stage::new();
        let mut server = stage.server("n2", "");
        server.start_standby(None);
        let end = server.replayed();
        let placed = Lsn(end.0 + ahead);
        let pg_wal = server.pgdata.join("pg_wal");
        for reserved in 2..=4 {
            let line = format!("1\t{placed}\treserved\n");
            let path = pg_wal.join(history::file_name(Timeline(reserved)));
            fs::write(&path, line).unwrap();
            RunAs::for_server().unwrap().own(&path).unwrap();
        }
        wait_until("it to see them", || server.log().contains("new target timeline is 4"));
        server.promote();
        assert!(has_history(&server, 5) && !has_history(&server, 6));
        let text = fs::read_to_string(pg_wal.join(history::file_name(Timeline(5)))).unwrap();
        // A true placeholder changes nothing; a false one has become this server's past.
        assert!(text.starts_with(&format!("1\t{placed}\t")), "{text}");
        let lineage = history::lineage(&pg_wal, Timeline(5)).map(|l| l.end_of(Timeline(1)));
        assert_eq!(lineage.ok(), (ahead == 0).then_some(Some(end)), "{text}");
        if ahead == 0 {
            let mut follower = stage.server("n3", "");
            follower.start_standby(Some(&conninfo(&server, "n3")));
            wait_until_streams(&server, "n3");
            wait_until_caught_up(&server, &follower);
            assert!((2..=5).all(|t| has_history(&follower, t)), "placeholders come with the rest");
        }
    }
}

/// (k): a walsender reads the segment in which a timeline ends from the next one's file, which a
/// placeholder never had: one that is behind gets no further until it has.
#[test]
fn one_that_is_behind_follows_past_a_placeholder_once_that_has_the_segment() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let leader = stage.standby("n2", &primary, "");
    let behind = stage.standby("n3", &primary, "");
    detach(&behind);
    Session::open(&primary).sql("insert into t values ('beyond')");
    wait_until_caught_up(&primary, &leader);
    primary.crash();
    detach(&leader);
    let (pg_wal, owner) = (leader.pgdata.join("pg_wal"), RunAs::for_server().unwrap());
    history::lay_placeholders(&pg_wal, Timeline(1), leader.replayed(), Timeline(3), owner).unwrap();
    wait_until("it to see it", || leader.log().contains("new target timeline is 2"));
    leader.promote();
    assert!(has_history(&leader, 3) && !has_history(&leader, 4));
    set(&behind, "primary_conninfo", &conninfo(&leader, "n3"));
    wait_until("a refusal", || behind.log().contains("has already been removed"));
    assert_eq!(between::fill(&leader.pgdata, Timeline(3), owner).unwrap(), 1);
    wait_until_streams(&leader, "n3");
    wait_until_caught_up(&leader, &behind);
    assert_eq!(Session::open(&behind).sql("select count(*) from t where v = 'beyond'"), "1");
    assert_eq!(between::fill(&leader.pgdata, Timeline(3), owner).unwrap(), 0, "once is enough");
}

/// (k): it looks for one number after the other, and a gap ends the search.
#[test]
fn a_promotion_does_not_see_a_history_behind_a_gap() {
    let stage = Stage::new();
    let mut server = stage.server("n2", "");
    server.start_standby(None);
    let path = server.pgdata.join("pg_wal").join(history::file_name(Timeline(4)));
    fs::write(&path, format!("1\t{}\treserved\n", server.replayed())).unwrap();
    RunAs::for_server().unwrap().own(&path).unwrap();
    server.promote();
    assert!(has_history(&server, 2) && !has_history(&server, 5));
}

/// (h) 2, the other way round: who has more of a timeline than its leader took over is refused.
#[test]
fn who_has_more_than_the_leader_took_over_can_not_follow() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let leader = stage.standby("n2", &primary, "");
    let standby = stage.standby("n3", &primary, "");
    detach(&leader);
    Session::open(&primary).sql("insert into t values ('beyond')");
    wait_until_caught_up(&primary, &standby);
    detach(&standby);
    primary.crash();
    leader.promote();
    let switch = history::lineage(&leader.pgdata.join("pg_wal"), Timeline(2)).unwrap().end_of(Timeline(1));
    assert!(switch.unwrap() < standby.replayed());

    set(&standby, "primary_conninfo", &conninfo(&leader, "n3"));
    primary.start_standby(Some(&conninfo(&leader, "n1")));
    let new = Session::open(&leader);
    // Also when the leader has come further than they are.
    new.sql("insert into t select repeat('x', 1000) from generate_series(1, 50)");
    assert!(flushed(&leader) > end_of(&primary));
    for server in [&standby, &primary] {
        wait_until("a refusal", || {
            server
                .log()
                .contains("forked off current database system timeline 1 before current recovery point")
        });
    }
    let (eyes, before) = ([Session::open(&standby), Session::open(&primary)], standby.replayed());
    wait_until_sure("nothing is taken over", || {
        eyes.iter().all(|e| e.sql("select string_agg(v, ' ') from t") == "beyond")
    });
    assert_eq!(standby.replayed(), before);
}

/// (h) 2: after clean switchovers everybody follows without a rewind, also who was away for
/// two of them; what counts is the end of *its* timeline in the leader's history.
#[test]
fn who_ends_before_the_switch_of_its_timeline_follows_without_a_rewind() {
    let stage = Stage::new();
    let mut n1 = stage.primary("n1", "");
    let mut n2 = stage.standby("n2", &n1, "");
    let mut n3 = stage.standby("n3", &n1, "");
    n3.stop_fast();
    Session::open(&n1).sql("insert into t values ('on 1')");
    switch_over(&mut n1, "n1", &mut n2);
    switch_over(&mut n2, "n2", &mut n1);
    n3.start_standby(Some(&conninfo(&n1, "n3")));
    wait_until_streams(&n1, "n3");
    wait_until_caught_up(&n1, &n3);
    let rows = Session::open(&n3).sql("select string_agg(v, ', ' order by v) from t");
    assert_eq!(rows, "on 1, under n1, under n2");
    assert!(has_history(&n3, 2) && has_history(&n3, 3), "it fetches every history between");
}

/// `from` stops, `to` takes over, `from` follows and its acknowledgement counts.
fn switch_over(from: &mut Server, name: &str, to: &mut Server) {
    from.stop_fast();
    detach(to);
    to.promote();
    from.start_standby(Some(&conninfo(to, name)));
    wait_until_streams(to, name);
    set(to, "synchronous_standby_names", &format!("ANY 1 ({name})"));
    Session::open(to).sql(&format!("insert into t values ('under {name}')"));
    set(to, "synchronous_standby_names", "");
}

/// C5: followers may attach before the promotion.
#[test]
fn a_standby_of_a_standby_goes_on_with_it_to_the_new_timeline() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let leader = stage.standby("n2", &primary, "synchronous_standby_names = 'ANY 1 (n3)'");
    let mut follower = stage.server("n3", "");
    follower.start_standby(Some(&conninfo(&leader, "n3")));
    wait_until_streams(&leader, "n3");
    let eye = Session::open(&leader);
    assert_eq!(eye.sql("select sync_priority from pg_stat_replication"), "0", "not of a standby");
    primary.crash();
    leader.promote();
    Session::open(&leader).sql("insert into t values ('acknowledged by n3')");
    wait_until_caught_up(&leader, &follower);
    assert_eq!(Session::open(&follower).sql("select v from t"), "acknowledged by n3");
    assert!(has_history(&follower, 2));
}

/// 1.6: `restore_command` obeys a reload (14), and a promotion asks it for the next segment
/// and for each history.
#[test]
fn a_promotion_asks_restore_command_for_segments_and_histories() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, "");
    let asked = stage.folder("archive").join("asked");
    set(&standby, "restore_command", &format!("echo %f >> {}; false", asked.display()));
    wait_until_caught_up(&primary, &standby);
    assert!(!asked.exists(), "while it streams it asks for nothing");
    primary.crash();
    standby.promote();
    let asked = fs::read_to_string(asked).unwrap();
    assert!(asked.lines().any(|name| name == "00000002.history"), "{asked}");
    assert!(asked.lines().any(|name| name.len() == 24), "{asked}");
}
