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

/// PostgreSQL lets nobody change `temp_buffers` in a session that has had a temporary table.
#[test]
fn a_server_that_can_not_be_set_up_any_more_is_replaced() {
    told(async {
        let stage = Stage::open("pool.size = 1\n", |_| {}).await;
        let (one, two) =
            (stage.client("postgres", "postgres").await, stage.client("postgres", "postgres").await);
        let uses = "BEGIN; CREATE TEMP TABLE x ON COMMIT DROP AS SELECT 1 AS a; COMMIT";
        let has = async |client: &tokio_postgres::Client| {
            table(client, "SHOW temp_buffers").await.rows[0][0].clone().unwrap()
        };
        one.batch_execute("SET temp_buffers = '2MB'").await.unwrap();
        two.batch_execute(uses).await.unwrap();
        assert_eq!(has(&one).await, "2MB");
        one.batch_execute(uses).await.unwrap();
        assert_eq!(has(&two).await, "8MB");
        assert_eq!(has(&one).await, "2MB");
        // The same for one that comes in.
        one.batch_execute(uses).await.unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(stage.port).user("postgres").dbname("postgres");
        let (third, connection) =
            config.options("-c temp_buffers=3MB").connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(has(&third).await, "3MB");
    });
}
