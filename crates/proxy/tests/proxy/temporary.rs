//! Whoever has something temporary keeps its server, and whoever has none any more gives it back.

use crate::stage::{Stage, refused, table, told, wait_until};

#[test]
fn what_is_temporary_pins_for_as_long_as_it_is_there() {
    told(async {
        let stage = Stage::open("admin.users = [\"boss\"]\n", |_| {}).await;
        let (boss, client) = (stage.console("boss").await, stage.client("postgres", "postgres").await);
        let free = async || {
            wait_until(&boss, "show pins", |t| t.rows.is_empty()).await;
        };
        for (makes, ends) in [
            ("CREATE TEMP TABLE x (a serial)", "DROP TABLE x"),
            ("CREATE TEMP TABLE x (a text)", "DROP TABLE x CASCADE"),
            ("CREATE TEMP TABLE x (a text)", "DISCARD TEMP"),
            ("CREATE TEMP TABLE x (a text)", "DISCARD ALL"),
            ("BEGIN; CREATE TEMP TABLE x (a text)", "ROLLBACK"),
            ("CREATE TEMP VIEW x AS SELECT 1", "DROP VIEW x"),
            ("CREATE TEMP SEQUENCE x", "DROP SEQUENCE x"),
            ("CREATE FUNCTION pg_temp.x() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION pg_temp.x"),
            ("CREATE TYPE pg_temp.x AS ENUM ('a')", "DROP TYPE pg_temp.x"),
            ("CREATE DOMAIN pg_temp.x AS int", "DROP DOMAIN pg_temp.x"),
            ("CREATE COLLATION pg_temp.x (locale = 'C')", "DROP COLLATION pg_temp.x"),
            ("CREATE TEXT SEARCH CONFIGURATION pg_temp.x (COPY = simple)", "DISCARD TEMP"),
        ] {
            client.batch_execute(makes).await.unwrap();
            // A question is asked after this, and finds it.
            if !makes.starts_with("BEGIN") {
                refused(&client, "SELECT 1/0").await;
            }
            for _ in 0..5 {
                client.simple_query("SELECT 1").await.unwrap();
            }
            let pins = wait_until(&boss, "show pins", |t| !t.rows.is_empty()).await;
            assert_eq!(pins.find("user", "postgres", "pins").unwrap(), "has a temporary table", "{makes}");
            client.batch_execute(ends).await.unwrap_or_else(|e| panic!("{ends}: {e:?}"));
            free().await;
        }
        client.batch_execute("CREATE TEMP TABLE x (a int); CREATE TEMP TABLE y (a int)").await.unwrap();
        client.batch_execute("BEGIN; DROP TABLE x; DROP TABLE y; ROLLBACK; DROP TABLE x").await.unwrap();
        client.query("SELECT * FROM y", &[]).await.unwrap();
        assert_eq!(table(&boss, "show pins").await.rows.len(), 1);
        client.execute("DROP TABLE y", &[]).await.unwrap();
        free().await;
        let questions = || stage.postgres.log().matches("pg_depend").count();
        let before = questions();
        client.batch_execute("BEGIN; CREATE TEMP TABLE x (a int) ON COMMIT DROP").await.unwrap();
        client.execute("INSERT INTO x VALUES (1)", &[]).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
        free().await;
        assert_eq!(questions(), before, "nothing is asked for what goes with its transaction");
    });
}
