//! sqlx: its statement cache, its pool, transactions, savepoints, pipelines of simple queries, COPY, LISTEN.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolCopyExt as _, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

type Failed = Box<dyn std::error::Error>;
type Checked = Result<(), Failed>;

const CHECK_LIMIT: Duration = Duration::from_secs(40);

struct Suite {
    url: String,
    transaction: bool,
    pids: HashSet<i32>,
    failed: u32,
}

/// Holds the server that the client under test had last, so that it is served by another one.
struct Elsewhere(Option<PgConnection>);

impl Suite {
    async fn client(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&self.url).await
    }

    async fn pid(&mut self, client: &mut PgConnection) -> Result<i32, sqlx::Error> {
        let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(client).await?;
        self.pids.insert(pid);
        Ok(pid)
    }

    async fn elsewhere(&mut self) -> Result<Elsewhere, sqlx::Error> {
        if !self.transaction {
            return Ok(Elsewhere(None));
        }
        let mut other = self.client().await?;
        other.execute("begin").await?;
        self.pid(&mut other).await?;
        Ok(Elsewhere(Some(other)))
    }

    fn says(&mut self, name: &str, checked: Checked) {
        match checked {
            Ok(()) => println!("ok   sqlx: {name}"),
            Err(why) => {
                self.failed += 1;
                println!("FAIL sqlx: {name}: {why}");
            }
        }
    }
}

impl Elsewhere {
    async fn over(self) -> Checked {
        let Some(mut other) = self.0 else { return Ok(()) };
        other.execute("rollback").await?;
        Ok(other.close().await?)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(got: T, want: T) -> Checked {
    if got == want { Ok(()) } else { Err(format!("got {got:?}, not {want:?}").into()) }
}

fn code<T>(got: Result<T, sqlx::Error>) -> Option<String> {
    let why = got.err()?;
    Some(why.as_database_error()?.code()?.into_owned())
}

async fn statements_on_two_servers(suite: &mut Suite) -> Checked {
    let mut client = suite.client().await?;
    let first = suite.pid(&mut client).await?;
    for i in 0..4 {
        same(sqlx::query_scalar::<_, i32>("select $1 + 1").bind(i).fetch_one(&mut client).await?, i + 1)?;
    }
    let elsewhere = suite.elsewhere().await?;
    for i in 0..4 {
        same(sqlx::query_scalar::<_, i32>("select $1 + 1").bind(i).fetch_one(&mut client).await?, i + 1)?;
    }
    if suite.transaction && suite.pid(&mut client).await? == first {
        return Err("the same server".into());
    }
    elsewhere.over().await?;
    Ok(client.close().await?)
}

/// Its cache closes the oldest statement and prepares the next in one go.
async fn a_full_cache(suite: &mut Suite) -> Checked {
    let options: PgConnectOptions = suite.url.parse()?;
    let mut client = PgConnection::connect_with(&options.statement_cache_capacity(3)).await?;
    for round in 0..3 {
        for i in 0..8 {
            let text = format!("select $1::int + {i}");
            let got: i32 = sqlx::query_scalar(AssertSqlSafe(text)).bind(round).fetch_one(&mut client).await?;
            same(got, round + i)?;
        }
    }
    Ok(client.close().await?)
}

async fn errors(suite: &mut Suite) -> Checked {
    let mut client = suite.client().await?;
    same(code(client.execute("select 1/0").await).as_deref(), Some("22012"))?;
    same(code(sqlx::query("select nonsense").fetch_all(&mut client).await).as_deref(), Some("42703"))?;
    let got = sqlx::query("select 1 / $1::int").bind(0).fetch_all(&mut client).await;
    same(code(got).as_deref(), Some("22012"))?;
    same(sqlx::query_scalar::<_, i32>("select 7").fetch_one(&mut client).await?, 7)?;
    Ok(client.close().await?)
}

async fn transactions_and_savepoints(suite: &mut Suite) -> Checked {
    let mut client = suite.client().await?;
    client.execute("drop table if exists drv_sqlx; create table drv_sqlx (a int primary key)").await?;
    let mut outer = client.begin().await?;
    sqlx::query("insert into drv_sqlx values ($1)").bind(1).execute(&mut *outer).await?;
    let mut inner = outer.begin().await?;
    sqlx::query("insert into drv_sqlx values ($1)").bind(2).execute(&mut *inner).await?;
    inner.rollback().await?;
    outer.commit().await?;
    // One that is dropped is rolled back with what comes next.
    let mut dropped = client.begin().await?;
    sqlx::query("insert into drv_sqlx values (3)").execute(&mut *dropped).await?;
    drop(dropped);
    let all: Vec<i32> =
        sqlx::query_scalar("select a from drv_sqlx order by 1").fetch_all(&mut client).await?;
    same(all, vec![1])?;
    client.execute("drop table drv_sqlx").await?;
    Ok(client.close().await?)
}

async fn many_texts_at_once(suite: &mut Suite) -> Checked {
    let mut client = suite.client().await?;
    let rows = sqlx::raw_sql("select 1 as a; select 2; select 3").fetch_all(&mut client).await?;
    let got: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    same(got, vec![1, 2, 3])?;
    Ok(client.close().await?)
}

/// A result that is read in part: the rest is read over before the next statement.
async fn a_stream_that_is_dropped(suite: &mut Suite) -> Checked {
    let mut client = suite.client().await?;
    let first = sqlx::query("select generate_series(1, 20000)").fetch_optional(&mut client).await?;
    same(first.map(|row| row.get::<i32, _>(0)), Some(1))?;
    same(sqlx::query_scalar::<_, i32>("select 8").fetch_one(&mut client).await?, 8)?;
    Ok(client.close().await?)
}

async fn its_pool(suite: &mut Suite) -> Checked {
    let pool = PgPoolOptions::new().max_connections(2).connect(&suite.url).await?;
    for i in 0..20 {
        same(sqlx::query_scalar::<_, i32>("select $1 * 2").bind(i).fetch_one(&pool).await?, i * 2)?;
    }
    pool.execute("drop table if exists drv_sqlx_copy; create table drv_sqlx_copy (a int)").await?;
    let mut copy = pool.copy_in_raw("copy drv_sqlx_copy from stdin").await?;
    copy.send("1\n2\n3\n".as_bytes()).await?;
    same(copy.finish().await?, 3)?;
    let sum: i64 = sqlx::query_scalar("select sum(a) from drv_sqlx_copy").fetch_one(&pool).await?;
    same(sum, 6)?;
    pool.execute("drop table drv_sqlx_copy").await?;
    pool.close().await;
    Ok(())
}

async fn its_listener(suite: &mut Suite) -> Checked {
    let mut listener = PgListener::connect(&suite.url).await?;
    listener.listen("drv_sqlx").await?;
    let mut client = suite.client().await?;
    sqlx::query("select pg_notify('drv_sqlx', $1)").bind("hello").execute(&mut client).await?;
    same(listener.recv().await?.payload(), "hello")?;
    Ok(client.close().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
    let Some(url) = value("--url") else {
        eprintln!("drv_sqlx: --url is missing");
        return ExitCode::from(2);
    };
    let transaction = value("--mode").as_deref() != Some("session");
    let mut suite = Suite { url, transaction, pids: HashSet::new(), failed: 0 };
    macro_rules! run {
        ($($check:ident),*) => {$(
            let checked = tokio::time::timeout(CHECK_LIMIT, $check(&mut suite)).await;
            let checked = checked.unwrap_or_else(|_| Err("it took too long".into()));
            suite.says(&stringify!($check).replace('_', " "), checked);
        )*};
    }
    run!(
        statements_on_two_servers,
        a_full_cache,
        errors,
        transactions_and_savepoints,
        many_texts_at_once,
        a_stream_that_is_dropped,
        its_pool,
        its_listener
    );
    if transaction {
        let seen = suite.pids.len();
        suite.says(
            &format!("{seen} servers were seen"),
            if seen >= 2 { Ok(()) } else { Err("too few".into()) },
        );
    }
    ExitCode::from(u8::from(suite.failed > 0))
}
