//! The known traps of proxies, by the names they have among those who build them.

use route::{Mode, Rules};
use wire::front;

use crate::pool::{Dice, Pool, directly};
use crate::server::Shared;
use crate::words::{Say, readable};

/// The same is heard as from a server of one's own, in every mode and with every rule, however the bytes are cut.
fn check(say: Say) {
    let direct = readable(&directly(&say.0, &Shared::default()));
    for seed in 1..60 {
        let mode = if seed % 2 == 0 { Mode::Transaction } else { Mode::Session };
        let rules = Rules {
            mode,
            rides: seed & 2 != 0,
            settle_commits: seed & 4 != 0,
            settle_autocommit: seed & 8 != 0,
        };
        let mut pool = Pool::new(rules, vec![say.0.clone()], 2, &Shared::default());
        let done = pool.run(&mut Dice::new(seed));
        assert_eq!(readable(&pool.clients[0].heard), direct, "{rules:?} {done:?}");
    }
}

#[test]
fn an_error_is_followed_by_nothing_until_sync() {
    check(Say::default().parse("a", "SYNTAX").bind("", "a").execute("", 0).sync().bind("", "a").sync());
    check(Say::default().run("FAIL").parse("a", "SELECT 1").sync().parse("a", "SELECT 2").sync());
}

/// A server that still reads over everything up to a Sync is nobody else's.
#[test]
fn a_query_behind_a_failed_batch_is_read_over() {
    check(Say::default().run("SYNTAX").query("SELECT 2").sync().query("SELECT 3"));
    let rules = Rules { mode: Mode::Transaction, ..Rules::default() };
    let left = Say::default().run("SYNTAX").query("SELECT 2").bare(front::TERMINATE);
    let mut pool = Pool::new(rules, vec![left.0, Say::default().query("SELECT 3").0], 1, &Shared::default());
    let _ = pool.run(&mut Dice::new(1));
    let free = pool.clients[0].session.is_free();
    assert!(!free, "a server in the middle of a batch was given back");
}

#[test]
fn several_syncs_at_once() {
    check(Say::default().sync().run("SELECT 1").sync().sync().run("INSERT INTO t VALUES (1)").sync().sync());
}

#[test]
fn the_unnamed_statement_is_bound_in_a_later_batch() {
    check(Say::default().parse("", "SELECT 1").sync().bind("", "").execute("", 0).sync());
    check(Say::default().run("SET work_mem TO 1").sync().bind("", "").execute("", 0).sync());
    check(Say::default().run("INSERT INTO t VALUES (1)").sync().bind("", "").execute("", 0).sync());
    check(Say::default().parse("", "SELECT 1").sync().query("SELECT 2").bind("", "").sync());
}

#[test]
fn more_statements_than_a_server_keeps() {
    let names = ["a", "b", "c", "d"];
    let say =
        names.iter().fold(Say::default(), |say, name| say.parse(name, &format!("SELECT {}", name.len())));
    let say = names.iter().fold(say.sync(), |say, name| say.bind("", name).execute("", 0).sync());
    check(say.parse("a", "SELECT 9").sync().of_statement(front::CLOSE, "a").parse("a", "SELECT 9").sync());
}

#[test]
fn several_statements_in_one_text() {
    check(
        Say::default()
            .query("SELECT 1; BEGIN; INSERT INTO t VALUES (1)")
            .query("COMMIT; SELECT 2")
            .query(";"),
    );
    check(
        Say::default().query("BEGIN").query("FAIL").query("COMMIT").query("BEGIN").query("COMMIT AND CHAIN"),
    );
}

#[test]
fn a_copy_whose_data_is_sent_ahead() {
    let data = |say: Say| say.copy_data("1").copy_data("2");
    check(data(Say::default().query("COPY t FROM stdin")).bare(front::COPY_DONE).query("SELECT 1"));
    check(
        data(Say::default().run("COPY t FROM stdin").sync()).bare(front::COPY_DONE).sync().query("SELECT 1"),
    );
    check(data(Say::default().run("COPY t FROM stdin")).copy_data("bad").bare(front::COPY_DONE).sync());
    check(
        data(Say::default().query("COPY t FROM stdin"))
            .copy_data("bad")
            .copy_data("3")
            .copy_fail()
            .query("SELECT 1"),
    );
}

#[test]
fn settings_go_back_with_their_transaction() {
    let say = Say::default().query("BEGIN").query("SET application_name TO a").query("ROLLBACK");
    check(
        say.query("SHOW application_name").query("SET application_name TO b").query("SHOW application_name"),
    );
}

#[test]
fn a_name_is_deallocated_by_the_unnamed_statement() {
    let prepared = || Say::default().parse("a", "SELECT 1").sync();
    let still = |say: Say| check(say.sync().bind("", "a").execute("", 0).sync().run("DEALLOCATE a").sync());
    still(prepared().run("DEALLOCATE a").parse("a", "SELECT 2"));
    // To say it does nothing, nor where it stands behind what fails.
    still(prepared().parse("", "DEALLOCATE a"));
    still(prepared().parse("", "DEALLOCATE a").of_statement(front::DESCRIBE, ""));
    still(prepared().run("DEALLOCATE c").run("DEALLOCATE a"));
    let anew = Say::default().of_statement(front::CLOSE, "a").parse("a", "FAIL");
    still(anew.run("DEALLOCATE c").run("DEALLOCATE a"));
    // It means what the name stands for when it is bound, also for the second time.
    let early = Say::default().parse("", "DEALLOCATE a").sync().parse("a", "SELECT 1").sync();
    still(early.bind("", "").execute("", 0).sync().parse("a", "SELECT 2"));
    still(prepared().run("DEALLOCATE a").bind("", "").execute("", 0));
    let other = prepared().parse("", "EXECUTE a").sync().run("DEALLOCATE a").parse("a", "SELECT 2").sync();
    still(other.parse("", "EXECUTE a").bind("", "").execute("", 0));
}

#[test]
fn a_name_is_deallocated_when_it_is_executed() {
    let prepared = || Say::default().parse("a", "SELECT 1").sync();
    let then = |say: Say| check(say.sync().bind("", "a").execute("", 0).sync());
    let bound = |portal| prepared().parse("", "DEALLOCATE a").bind(portal, "");
    then(bound(""));
    then(bound("p"));
    then(bound("").parse("", "SELECT 2").bind("", "").execute("", 0));
    then(bound("p").parse("", "SYNTAX").execute("p", 0));
    then(bound("p").bind("q", "a").execute("p", 0).execute("q", 0));
    then(bound("p").execute("p", 0).run("FAIL"));
    then(bound("p").execute("p", 0).parse("a", "SELECT 3"));
    // An empty statement before it changes nothing.
    check(prepared().query("; DEALLOCATE a").bind("", "a").execute("", 0).sync().query("; EXECUTE a"));
}

#[test]
fn a_name_is_deallocated_by_a_named_statement() {
    let two = Say::default().parse("a", "SELECT 1").parse("d", "DEALLOCATE a").sync();
    let again = |say: Say| say.bind("", "d").execute("", 0).sync().bind("", "a").execute("", 0).sync();
    let say = again(again(two.clone()).parse("a", "SELECT 2").sync());
    check(say.parse("a", "SELECT 3").bind("", "a").execute("", 0).sync().query("EXECUTE a"));
    // In one batch, and where it does not come to that.
    check(
        two.clone().bind("", "d").execute("", 0).parse("a", "SELECT 2").bind("", "a").execute("", 0).sync(),
    );
    let vain = two.run("FAIL").bind("", "d").execute("", 0).sync();
    check(vain.bind("", "a").execute("", 0).sync().parse("a", "SELECT 2").sync());
    // It means what the name stands for when it is bound, and leaves the unnamed statement alone.
    let early = Say::default().parse("d", "DEALLOCATE a").sync().bind("", "d").execute("", 0).sync();
    check(
        early
            .parse("a", "SELECT 1")
            .parse("", "SELECT 2")
            .bind("", "d")
            .execute("", 0)
            .bind("", "")
            .execute("", 0)
            .sync(),
    );
    // To look at it does nothing.
    let looks = Say::default().parse("a", "SELECT 1").parse("d", "DEALLOCATE a");
    let looks = looks.of_statement(front::DESCRIBE, "d").sync().bind("", "a").execute("", 0).sync();
    check(looks.bind("", "d").execute("", 0).sync().bind("", "a").sync());
    let two = Say::default().query("BEGIN").parse("a", "SELECT 1").parse("d", "DEALLOCATE a").sync();
    check(two.query("FAIL").of_statement(front::DESCRIBE, "d").sync().query("ROLLBACK"));
    let runs = Say::default().parse("b", "SELECT 1").parse("e", "EXECUTE b").sync();
    check(runs.bind("", "e").execute("", 0).sync().bind("", "e").execute("", 0).sync());
}
