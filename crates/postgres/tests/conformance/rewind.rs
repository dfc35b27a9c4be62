//! `pg_rewind`: what it needs, and what it leaves behind.
//!
//! Protocol: C-11, (h) 3, C9.

use std::process::Command;

use postgres::control_file::{ControlFile, DbState};

use crate::real::{Server, run, wait_until};
use crate::stage::process::{self, Frozen};
use crate::stage::session::Session;
use crate::stage::{Stage, conninfo, set, wait_until_caught_up, wait_until_streams};

/// A crashed primary with a row that its promoted standby has not.
fn diverged(stage: &Stage) -> (Server, Server) {
    let mut old = stage.primary("n1", "");
    let leader = stage.standby("n2", &old, "");
    Session::open(&old).sql("insert into t values ('of both')");
    wait_until_caught_up(&old, &leader);
    set(&leader, "primary_conninfo", "");
    wait_until("no walreceiver", || process::find(&leader, "walreceiver").is_none());
    Session::open(&old).sql("insert into t values ('of the old one')");
    old.crash();
    old.make_standby(None);
    (old, leader)
}

fn rewind(old: &Server, leader: &Server) -> (bool, String) {
    let mut command = Command::new(old.bin.join("pg_rewind"));
    command.arg("-D").arg(&old.pgdata).arg("--source-server");
    let (ok, out, err) = run(command.arg(leader.conninfo() + " dbname=postgres"));
    (ok, out + &err)
}

/// Recovery by a start without an upstream, and a clean end.
fn recover(old: &mut Server) {
    old.start_standby(None);
    old.stop_fast();
    assert_eq!(ControlFile::read(&old.pgdata).unwrap().state, DbState::ShutDownInRecovery);
}

#[test]
fn c11_pg_rewind_can_not_recover_what_has_standby_signal() {
    let stage = Stage::new();
    let (old, leader) = diverged(&stage);
    leader.promote();
    Session::open(&leader).sql("checkpoint");
    let (ok, said) = rewind(&old, &leader);
    assert!(!ok && said.contains("standby mode is not supported by single-user servers"), "{said}");
}

#[test]
fn c11_recovered_by_a_start_without_upstream_it_is_rewound_and_follows() {
    let stage = Stage::new();
    let (mut old, leader) = diverged(&stage);
    leader.promote();
    let new = Session::open(&leader);
    new.sql("checkpoint; insert into t values ('of the new one')");
    new.sql("select pg_create_physical_replication_slot('of_the_leader', true)");
    old.start_standby(None);
    Session::open(&old).sql("select pg_create_physical_replication_slot('of_its_own', true)");
    old.stop_fast();
    let (ok, said) = rewind(&old, &leader);
    assert!(ok && said.contains("Done!"), "{said}");
    assert!(!old.pgdata.join("standby.signal").exists(), "it is gone");
    let conf = old.pgdata_text("postgresql.conf");
    assert!(conf.contains(leader.dir.to_str().unwrap()), "the configuration is the leader's");

    old.configure();
    old.start_standby(Some(&conninfo(&leader, "n1")));
    wait_until_streams(&leader, "n1");
    wait_until_caught_up(&leader, &old);
    let eye = Session::open(&old);
    assert_eq!(eye.sql("select string_agg(v, ', ' order by v) from t"), "of both, of the new one");
    // Nobody's slots are left: the target's are removed, and the source's are not copied.
    assert_eq!(eye.sql("select count(*) from pg_replication_slots"), "0");
}

/// (h) 3: the leader's control file names the old timeline until its first checkpoint. Up to
/// 15 pg_rewind then finds that there is nothing to do; from 16 on it looks further.
#[test]
fn after_a_promotion_without_a_checkpoint_pg_rewind_up_to_15_does_nothing() {
    let stage = Stage::new();
    let (mut old, leader) = diverged(&stage);
    recover(&mut old);
    let checkpointer = Frozen::new(process::find(&leader, "checkpointer").unwrap());
    leader.promote();
    assert_eq!(ControlFile::read(&leader.pgdata).unwrap().timeline.0, 1);
    let (ok, said) = rewind(&old, &leader);
    assert!(ok, "{said}");
    assert_eq!(said.contains("no rewind required"), leader.major() <= 15, "{said}");
    drop(checkpointer);
    if leader.major() <= 15 {
        Session::open(&leader).sql("checkpoint");
        let (ok, said) = rewind(&old, &leader);
        assert!(ok && said.contains("Done!"), "{said}");
    }
}
