//! Readers: which server they get, and what they are spared when it goes.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::cluster::{Cluster, member};
use crate::stage::{
    PATIENCE, Postgres, Table, connect, free_port, refused, run_proxy, said, table, told, wait_until,
};

/// A client that says so when it logs in.
async fn with(
    port: u16,
    database: &str,
    options: &str,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").dbname(database).options(options);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[test]
fn one_port_is_enough_to_choose_by_name_or_option() {
    told(async {
        let cluster = Cluster::open("", |_| {}).await;
        let target = |word: &str| format!("-c tanist.target={word}");
        for port in [cluster.write, cluster.read] {
            for (database, options, expect) in [
                ("postgres@ro", String::new(), vec![1, 2]),
                ("postgres@rw", String::new(), vec![0]),
                ("postgres", target("read"), vec![1, 2]),
                ("postgres", target("WRITE"), vec![0]),
                ("postgres", target("any"), vec![0, 1, 2]),
                ("postgres@ro", target("write"), vec![0]),
            ] {
                let client = with(port, database, &options).await.unwrap();
                for _ in 0..5 {
                    let at = cluster.at(&client).await;
                    assert!(expect.contains(&at), "{database} {options}: {at}");
                }
                let row = client.query_one("SELECT current_database()::text", &[]).await.unwrap();
                assert_eq!(row.get::<_, &str>(0), "postgres");
            }
        }
        for (options, code) in [("-c tanist.target=standby", "22023"), ("-c tanist.tarjet=read", "42602")] {
            let error = with(cluster.write, "postgres", options).await.expect_err(options);
            assert_eq!(said(&error).0, code, "{error:?}");
        }
        let any = with(cluster.write, "postgres", &target("any")).await.unwrap();
        let mut seen = [false; 3];
        for _ in 0..200 {
            let inside = with(cluster.write, "postgres", &target("any")).await.unwrap();
            inside.batch_execute("BEGIN").await.unwrap();
            seen[cluster.at(&inside).await] = true;
            seen[cluster.at(&any).await] = true;
            if seen == [true; 3] {
                return;
            }
        }
        panic!("any is not everybody: {seen:?}");
    });
}

#[test]
fn libpq_finds_what_it_asks_for_on_both_ports() {
    told(async {
        let cluster = Cluster::open("", |_| {}).await;
        let ask = |port: u16, attrs: &str| {
            let url = format!("postgresql://postgres@127.0.0.1:{port}/postgres?target_session_attrs={attrs}");
            let out = Command::new("/usr/lib/postgresql/15/bin/psql")
                .args(["-XqAt", "-c", "SELECT pg_is_in_recovery()", &url])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&out.stdout).trim().to_string();
            if out.status.success() { text } else { String::from_utf8_lossy(&out.stderr).into_owned() }
        };
        for (attrs, write, read) in [
            ("any", "f", "t"),
            ("read-write", "f", "session is read-only"),
            ("primary", "f", "server is in hot standby mode"),
            ("read-only", "session is not read-only", "t"),
            ("standby", "server is not in hot standby mode", "t"),
            ("prefer-standby", "f", "t"),
        ] {
            for (port, expect) in [(cluster.write, write), (cluster.read, read)] {
                let got = tokio::task::block_in_place(|| ask(port, attrs));
                assert!(got.contains(expect) && (expect.len() > 1 || got == expect), "{attrs}: {got}");
            }
        }
    });
}

#[test]
fn lag_zones_and_maintenance_move_readers_and_nothing_else_does() {
    told(async {
        let lines = "zone = \"b\"\npool.lag_ms_max = 1000\n\
            [[database]]\nname = \"patient\"\ndbname = \"postgres\"\nlag_ms_max = 60000\n\
            [[database]]\nname = \"*\"\n";
        let zones = |routes: &mut api::routes::Routes| {
            for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
                member(routes, name).zone = zone.to_string();
            }
        };
        let mut cluster = Cluster::open(lines, zones).await;
        let reader = cluster.client(cluster.read).await;
        let patient = connect(cluster.read, "postgres", "patient").await.unwrap();
        cluster.wait_until_at(&reader, &[2]).await;
        // Only its lag changes, which no agent pushes for.
        let behind = |routes: &mut api::routes::Routes| {
            zones(routes);
            member(routes, "n3").replay_lag_ms = Some(5_000);
        };
        cluster.say(4, 0, behind);
        cluster.wait_until_at(&reader, &[1]).await;
        cluster.wait_until_at(&patient, &[2]).await;
        cluster.say(4, 0, |routes| {
            behind(routes);
            member(routes, "n2").replay_lag_ms = Some(1_001);
        });
        cluster.wait_until_at(&reader, &[0]).await;
        cluster.say(4, 0, zones);
        cluster.wait_until_at(&reader, &[2]).await;

        // One in a transaction ends it there, and nobody new comes.
        reader.batch_execute("BEGIN").await.unwrap();
        assert_eq!(cluster.at(&reader).await, 2);
        cluster.say(4, 0, |routes| {
            zones(routes);
            member(routes, "n3").maintenance = true;
        });
        let other = cluster.client(cluster.read).await;
        cluster.wait_until_at(&other, &[1]).await;
        assert_eq!(cluster.at(&reader).await, 2, "its transaction was moved");
        reader.batch_execute("COMMIT").await.unwrap();
        cluster.wait_until_at(&reader, &[1]).await;
        let console = cluster.console().await;
        let left = |t: &Table| t.rows.iter().filter(|r| r.contains(&Some("read".into()))).count();
        let port = cluster.servers[2].port.to_string();
        let nobody = |t: &Table| left(t) > 0 && t.find("port", &port, "target").is_none_or(|is| is != "read");
        wait_until(&console, "show servers", nobody).await;
    });
}

#[test]
fn a_replica_that_comes_back_gets_its_share() {
    told(async {
        let gone = |routes: &mut api::routes::Routes| member(routes, "n3").streaming = false;
        let mut cluster = Cluster::open("pool.size = 4\n", gone).await;
        let mut readers = Vec::new();
        for _ in 0..4 {
            let reader = cluster.client(cluster.read).await;
            reader.batch_execute("BEGIN").await.unwrap();
            assert_eq!(cluster.at(&reader).await, 1);
            readers.push(reader);
        }
        cluster.say(4, 0, |_| {});
        for reader in &readers {
            reader.batch_execute("COMMIT").await.unwrap();
        }
        let console = cluster.console().await;
        let at = |t: &Table, n: usize| {
            let port = Some(cluster.servers[n].port.to_string());
            let is = |r: &&Vec<Option<String>>| r.contains(&port) && r.contains(&Some("read".to_string()));
            t.rows.iter().filter(is).count()
        };
        wait_until(&console, "show servers", |t| at(t, 2) >= 1 && at(t, 1) <= at(t, 2) + 1).await;
    });
}

#[test]
fn work_goes_to_whoever_has_least_in_use() {
    told(async {
        let cluster = Cluster::open("threads = 1\n", |_| {}).await;
        let (one, two) = (cluster.client(cluster.read).await, cluster.client(cluster.read).await);
        one.batch_execute("BEGIN").await.unwrap();
        let busy = cluster.at(&one).await;
        for _ in 0..6 {
            assert_eq!(cluster.at(&two).await, 3 - busy);
        }
        // Both have a connection now that nobody uses: they take turns.
        one.batch_execute("COMMIT").await.unwrap();
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.push(table(&two, "SELECT current_setting('port')").await.rows);
        }
        assert!(turns[0] != turns[1] && turns[1] != turns[2], "{turns:?}");
    });
}

#[test]
fn readers_see_what_they_have_a_token_for() {
    told(async {
        let cluster = Cluster::open("pool.read_after_timeout_s = 0.3\n", |_| {}).await;
        let (writer, reader) = (cluster.client(cluster.write).await, cluster.client(cluster.read).await);
        writer.batch_execute("CREATE TABLE seen (n int)").await.unwrap();
        let token = |row: tokio_postgres::Row| row.get::<_, String>(0);
        let simple = table(&writer, "SHOW tanist.lsn;").await;
        assert_eq!(simple.columns, ["tanist.lsn"]);
        let created = token(writer.query_one("show tanist.lsn", &[]).await.unwrap());
        reader.batch_execute(&format!("SET tanist.read_after = '{created}'")).await.unwrap();
        for _ in 0..20 {
            reader.query("SELECT * FROM seen", &[]).await.unwrap();
        }
        let mut paused = Vec::new();
        for standby in &cluster.servers[1..] {
            let own = standby.wait_until_client().await;
            own.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
            paused.push(own);
        }
        for own in &paused {
            wait_until(own, "SELECT pg_get_wal_replay_pause_state() AS s", |t| {
                t.find("s", "paused", "s").is_some()
            })
            .await;
        }
        writer.batch_execute("INSERT INTO seen VALUES (1)").await.unwrap();
        let inserted = token(writer.query_one("SHOW tanist.lsn", &[]).await.unwrap());
        // Whoever has not asked is shown what there is.
        let row =
            cluster.client(cluster.read).await.query_one("SELECT count(*) FROM seen", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 0);
        // Too late on the replicas: the leader answers.
        reader.batch_execute(&format!("SET tanist.read_after = '{inserted}'")).await.unwrap();
        let row = reader.query_one("SELECT count(*), inet_server_port() FROM seen", &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1)), (1, i32::from(cluster.servers[0].port)));
        // From the first statement on, where it stands in the startup message.
        let options = format!("-c tanist.read_after={inserted}");
        let early = with(cluster.read, "postgres", &options).await.unwrap();
        let row = early.query_one("SELECT count(*) FROM seen", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 1);
        for own in &paused {
            own.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
        }
        cluster.wait_until_at(&reader, &[1, 2]).await;
        let seen = token(reader.query_one("SHOW tanist.lsn", &[]).await.unwrap());
        let row = reader
            .query_one("SELECT $1::text::pg_lsn <= $2::text::pg_lsn", &[&inserted, &seen])
            .await
            .unwrap();
        assert!(row.get::<_, bool>(0), "a replica shows {seen}, and {inserted} was asked for");
        reader.batch_execute("RESET tanist.read_after").await.unwrap();
        reader.query("SELECT * FROM seen", &[]).await.unwrap();
    });
}

#[test]
fn a_token_that_is_none_or_comes_too_early_is_refused_if_so_asked() {
    told(async {
        let lines = "pool.read_after_timeout_s = 0.1\npool.read_after_late = \"fail\"\n";
        let cluster = Cluster::open(lines, |_| {}).await;
        let reader = cluster.client(cluster.read).await;
        reader.batch_execute("SET tanist.read_after = 'FFFFFFF/0'").await.unwrap();
        for _ in 0..2 {
            let (code, words) = refused(&reader, "SELECT 1").await;
            assert!(code == "57014" && words.contains("FFFFFFF/0"), "{code} {words}");
        }
        // On the leader there is nothing to wait for.
        let writer = cluster.client(cluster.write).await;
        writer.batch_execute("SET tanist.read_after = 'FFFFFFF/0'").await.unwrap();
        writer.batch_execute("SELECT 1").await.unwrap();
        let other = cluster.client(cluster.read).await;
        let words = "invalid value for parameter \"tanist.read_after\": \"soon\" ";
        for client in [&other, &writer] {
            client.batch_execute("SET tanist.read_after = '0/1'").await.unwrap();
            let is = async || table(client, "SHOW tanist.read_after").await.rows;
            let before = is().await;
            let wrong = "SET tanist.read_after = 'soon'";
            assert_eq!(refused(client, wrong).await, ("22023".into(), words.into()));
            let error = client.execute(wrong, &[]).await.unwrap_err();
            assert_eq!(said(&error), ("22023".into(), words.into()));
            assert_eq!(is().await, before, "it has changed nothing");
            // As with any other that fails, its block has failed.
            client.batch_execute("BEGIN; SET tanist.read_after = '0/2'").await.unwrap();
            refused(client, wrong).await;
            assert_eq!(refused(client, "SELECT 1").await.0, "25P02");
            assert_eq!(refused(client, wrong).await.0, "25P02");
            client.batch_execute("ROLLBACK").await.unwrap();
            assert_eq!(is().await, before);
            // What nobody can see before: the next one is told, and what was before holds again.
            for hidden in [
                "SELECT set_config('tanist.read_after', 'so' || 'on', false)",
                "SELECT 1; SET tanist.read_after = soon",
            ] {
                client.batch_execute(hidden).await.unwrap();
                assert_eq!(refused(client, "SELECT 1").await, ("22023".into(), words.into()), "{hidden}");
                assert_eq!(is().await, before);
            }
            client.batch_execute("SET tanist.read_after = ''; SELECT 1").await.unwrap();
            client.batch_execute("SELECT 1").await.unwrap();
        }
        let error = with(cluster.read, "postgres", "-c tanist.read_after=soon").await.err().unwrap();
        assert_eq!(said(&error).0, "22023");
    });
}

#[test]
fn whoever_is_elected_has_warm_connections_of_those_who_write() {
    told(async {
        let mut cluster = Cluster::open("", |_| {}).await;
        let writer = cluster.client(cluster.write).await;
        writer.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
        let console = cluster.console().await;
        let port = cluster.servers[1].port.to_string();
        let warm =
            |r: &Vec<Option<String>>| r.contains(&Some(port.clone())) && r.contains(&Some("warm".into()));
        wait_until(&console, "show servers", |t| t.rows.iter().any(warm)).await;
        let own = cluster.servers[1].wait_until_client().await;
        let pids = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let before: Vec<i32> = own.query(pids, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        own.query_one("SELECT pg_promote(true, 60)", &[]).await.unwrap();
        cluster.say(5, 1, |_| {});
        // Until the proxy has heard of it the old one answers.
        cluster.wait_until_at(&writer, &[1]).await;
        let row = writer.query_one("SELECT pg_backend_pid(), pg_is_in_recovery()", &[]).await.unwrap();
        assert!(before.contains(&row.get(0)) && !row.get::<_, bool>(1), "it had to log in anew");
        writer.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap();
        // Its client knows nothing of a standby.
        assert_eq!(cluster.at(&writer).await, 1);
    });
}

#[test]
fn nothing_reaches_a_leader_whose_term_is_over() {
    told(async {
        let mut cluster = Cluster::open("", |_| {}).await;
        let (open, idle) = (cluster.client(cluster.write).await, cluster.client(cluster.write).await);
        open.batch_execute("CREATE TABLE kept (n int); BEGIN; INSERT INTO kept VALUES (1)").await.unwrap();
        idle.batch_execute("SELECT 'before'").await.unwrap();
        // Nobody leads term 5 yet; n1 is up and would take it all.
        let watcher = cluster.console().await;
        cluster.say(5, 0, |routes| {
            routes.leader = None;
            routes.phase = cluster::state::Phase::Revoking;
            routes.members.iter_mut().for_each(|m| m.role = api::routes::Role::Standby);
        });
        wait_until(&watcher, "show routes", |t| t.rows[0][0].as_deref() == Some("5")).await;
        let (code, words) = refused(&open, "INSERT INTO kept VALUES (2) -- after").await;
        assert_eq!(code, "40001", "{words}");
        open.batch_execute("ROLLBACK").await.unwrap();
        let asks = async { idle.batch_execute("SELECT 'after'").await };
        assert!(tokio::time::timeout(Duration::from_millis(300), asks).await.is_err(), "it was answered");
        let log = cluster.servers[0].log();
        assert!(log.contains("SELECT 'before'") && !log.contains("after"), "{log}");
    });
}

#[test]
fn without_a_cluster_readers_leave_a_replica_that_is_down() {
    told(async {
        let leader = Postgres::start();
        leader.wait_until_client().await;
        let replica = Postgres::follow(&leader);
        let (write, read) = (free_port(), free_port());
        let servers = format!(
            "auth.kind = \"trust\"\nadmin.users = [\"boss\"]\nlisten = [\"127.0.0.1:{write}\"]\n\
             listen_read = [\"127.0.0.1:{read}\"]\n[[server]]\naddress = \"{}\"\n\
             [[server]]\naddress = \"{}\"\nreplica = true\n",
            leader.address(),
            replica.address()
        );
        replica.wait_until_client().await;
        run_proxy(&servers);
        let reader = loop {
            if let Ok(reader) = connect(read, "postgres", "postgres").await {
                break reader;
            }
        };
        let standby = "select pg_is_in_recovery()::text";
        let is = |t: Table, word: &str| t.rows == [[Some(word.to_string())]];
        assert!(is(table(&reader, standby).await, "true"));
        drop(replica);
        // Whoever was on it may lose its connection; whoever comes then is served by the leader.
        drop(reader);
        let begun = Instant::now();
        loop {
            let answer = match connect(read, "postgres", "postgres").await {
                Ok(fresh) => fresh.query_one(standby, &[]).await.map(|row| row.get::<_, String>(0)),
                Err(why) => Err(why),
            };
            match answer {
                Ok(answer) if answer == "false" => break,
                _ => assert!(begun.elapsed() < PATIENCE, "no leader answers: {answer:?}"),
            }
        }
        let boss = connect(write, "boss", "tanist").await.unwrap();
        wait_until(&boss, "show routes", |t| t.rows[0][2].as_deref() == Some("")).await;
    });
}
