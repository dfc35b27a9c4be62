//! What looks like a fence and is none.
//!
//! Protocol: §4 8 to 10, §7.

use std::fs;

use crate::real::wait_until;
use crate::stage::session::Session;
use crate::stage::{Stage, refusal, set, wait_until_sure};

#[test]
fn a_read_only_default_stops_nobody_who_wants_to_write() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let client = Session::open(&primary);
    client.sql("begin; insert into t values ('begun before')");
    set(&primary, "default_transaction_read_only", "on");
    client.sql("commit");
    let other = Session::open(&primary);
    let refused = other.try_sql("insert into t values ('refused')").unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
    other.sql("set default_transaction_read_only = off");
    other.sql("insert into t values ('allowed by itself')");
    assert_eq!(other.sql("select count(*) from t"), "2");
}

#[test]
fn a_line_that_rejects_leaves_who_is_connected() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, "");
    let client = Session::open(&primary);
    fs::write(primary.pgdata.join("pg_hba.conf"), "local all all reject\n").unwrap();
    client.sql("select pg_reload_conf()");
    wait_until("new ones to be rejected", || Session::try_open(&primary).is_err());
    set_names(&client, "ANY 1 (n2)");
    wait_until_sure("it writes, and its standby acknowledges", || {
        client.sql("insert into t values ('x')");
        true
    });
    drop(standby);
}

/// No new session can be opened to see it, so the one that is there does.
fn set_names(client: &Session, names: &str) {
    client.sql(&format!("alter system set synchronous_standby_names = '{names}'"));
    client.sql("select pg_reload_conf()");
    let in_force = "select count(*) from pg_stat_replication where sync_priority = 1";
    wait_until("the rule", || client.sql(in_force) == "1");
}

/// §7: from 17 on `ALTER SYSTEM` can be switched off; before, no server starts with that word.
#[test]
fn alter_system_can_be_switched_off_from_17_on() {
    let stage = Stage::new();
    let mut server = stage.server("n1", "allow_alter_system = off");
    if server.major() < 17 {
        let said = refusal(&server);
        assert!(said.contains("unrecognized configuration parameter \"allow_alter_system\""), "{said}");
        return;
    }
    server.start();
    let refused = Session::open(&server).try_sql("alter system set work_mem = '1MB'").unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("ALTER SYSTEM is not allowed"), "{refused:?}");
}
