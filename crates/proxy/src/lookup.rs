//! Secrets that a server is asked for, by a query (PgBouncer's `auth_query`).
//!
//! ```text
//!   user unknown ──▶ kept? ──▶ pool of `query_user` ──▶ query, the name as its $1 ──▶ one row: name, secret
//! ```
//! What a client calls itself travels as a parameter and never becomes SQL. The
//! connection is an ordinary one of a pool, set back to its defaults before it is
//! asked: a search_path that its last client left would choose another table.
//!
//! Answers are kept for a short while, so that a storm of logins is one question;
//! one that a proof failed by is forgotten at once.
//!
//! Never believes an answer that could mean several: two rows, another user's
//! name, too few columns. NULL is a user without a password: nobody comes in by
//! it.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use wire::front;

use crate::auth::Denied;
use crate::config::{AuthKind, Config};
use crate::pool::Key;
use crate::reactor::Reactor;
use crate::routing::Target;
use crate::secrets::Secret;
use crate::server::Server;
use crate::threads::lock;
use crate::verifiers::KEPT;

/// Longest that one question may take, the wait for a connection included.
pub const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Questions that may be open at a time; more logins are refused at once.
pub const LOOKUPS_MAX: usize = 1_000;
/// Answers that are kept at a time.
pub const ANSWERS_MAX: usize = 10_000;
/// The query, unless the configuration has another.
pub const QUERY: &str = "SELECT rolname, rolpassword FROM pg_catalog.pg_authid \
    WHERE rolname = $1 AND rolcanlogin AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())";
/// What the query is called while it runs. Clients' statements are called otherwise, and theirs stay as they are.
const STATEMENT: &[u8] = b"tanist_auth_query";

/// Who is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The user.
    pub user: &'a str,
    /// What it wants, in the words of clients.
    pub database: &'a str,
    /// What its door leads to.
    pub target: Target,
}

/// Whom to ask, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// As which user.
    pub user: &'a str,
    /// In which database, in the words of clients.
    pub database: &'a str,
    /// By which query.
    pub query: &'a str,
}

impl Config {
    /// How users of a database are looked up; `None` if they are not.
    #[must_use]
    pub fn lookup<'a>(&'a self, database: &'a str) -> Option<Plan<'a>> {
        let entry = self.database(database).0;
        let own = |of: fn(&crate::limits::Database) -> &Option<String>| entry.and_then(|d| of(d).as_deref());
        Some(Plan {
            user: own(|d| &d.query_user).or(self.auth.query_user.as_deref())?,
            database: own(|d| &d.query_database).or(self.auth.query_database.as_deref()).unwrap_or(database),
            query: own(|d| &d.query).or(self.auth.query.as_deref()).unwrap_or(QUERY),
        })
    }
}

/// What can't be of looking users up.
///
/// # Errors
/// The first, in words.
pub fn check(config: &Config) -> Result<(), String> {
    let auth = &config.auth;
    let by_database = || config.databases.iter().any(|d| d.query_user.is_some());
    if auth.kind != AuthKind::Query {
        let said = auth.query_user.is_some() || auth.query_database.is_some() || auth.query.is_some();
        return match said || by_database() {
            true => Err("it says how to look users up, and auth.kind is not \"query\"".to_string()),
            false => Ok(()),
        };
    }
    if auth.query_user.is_none() && !by_database() {
        return Err("auth.kind is \"query\" and auth.query_user is missing".to_string());
    }
    let queries = config.databases.iter().filter_map(|d| d.query.as_ref()).chain(&auth.query);
    for query in queries {
        if !query.contains("$1") || query.contains('\0') {
            return Err(format!("the query \"{query}\" asks for no $1, which is the user"));
        }
    }
    let databases = config.databases.iter().filter_map(|d| d.query_database.as_ref());
    for database in databases.chain(&auth.query_database) {
        if crate::admin::is_console(database.as_bytes()) || !config.has_database(database) {
            return Err(format!("users are looked up in \"{database}\", which is no [[database]]"));
        }
    }
    Ok(())
}

/// In which database a user was looked up, and its name.
type Place = (String, String);

/// What was asked for, on any thread: a password that was changed counts everywhere.
#[derive(Default)]
pub struct Answers {
    kept: Mutex<BTreeMap<Place, (Instant, Option<Secret>)>>,
    open: AtomicUsize,
}

/// One open question; closed when it is dropped.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Answers {
    /// The secret of a user; `None` if it has none, or is none. `listed` may know how to log in as who asks.
    ///
    /// # Errors
    /// 57P03 when nobody could be asked, 53300 when too many ask.
    pub async fn get(
        &self,
        reactor: &Rc<Reactor>,
        listed: &BTreeMap<String, Secret>,
        asked: Asked<'_>,
    ) -> Result<Option<Secret>, Denied> {
        let Some(plan) = reactor.config.lookup(asked.database) else { return Ok(None) };
        if crate::admin::is_console(plan.database.as_bytes()) {
            tracing::warn!(database = plan.database, "the console has no users: set auth.query_database");
            return Ok(None);
        }
        let place = (plan.database.to_string(), asked.user.to_string());
        if let Some((at, secret)) = lock(&self.kept).get(&place)
            && at.elapsed() < KEPT
        {
            return Ok(secret.clone());
        }
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let _open = Open(&self.open);
        if before >= LOOKUPS_MAX {
            return Err(Denied::Told("53300", "too many users are being looked up".to_string()));
        }
        let proof = listed.get(plan.user).and_then(Secret::proof);
        let answer = timeout(LOOKUP_LIMIT, ask(reactor, plan, proof, asked)).await;
        let answer = answer.unwrap_or_else(|_| Err("it took too long".to_string()));
        let secret = answer.map_err(|why| {
            tracing::warn!(user = asked.user, database = plan.database, %why, "a user could not be looked up");
            Denied::Told("57P03", format!("user \"{}\" can't be looked up now", asked.user))
        })?;
        self.keep(place, secret.clone());
        Ok(secret)
    }

    /// The next who calls itself so is asked for anew.
    pub fn forget(&self, user: &str) {
        lock(&self.kept).retain(|(_, kept), _| kept != user);
    }

    fn keep(&self, place: Place, secret: Option<Secret>) {
        let mut kept = lock(&self.kept);
        if kept.len() >= ANSWERS_MAX {
            kept.clear();
        }
        kept.insert(place, (Instant::now(), secret));
    }
}

async fn ask(
    reactor: &Rc<Reactor>,
    plan: Plan<'_>,
    proof: Option<crate::secrets::Proof>,
    asked: Asked<'_>,
) -> Result<Option<Secret>, String> {
    if !reactor.config.has_database(plan.database) {
        return Err(format!("database \"{}\" does not exist in this proxy", plan.database));
    }
    if reactor.threads.gates.is_disabled(plan.database) {
        return Err(format!("database \"{}\" was disabled by an administrator", plan.database));
    }
    let key = Key { database: plan.database.to_string(), user: plan.user.to_string(), target: asked.target };
    let pool = reactor.pool(&key);
    if proof.is_some() {
        *pool.credential.borrow_mut() = proof;
    }
    let mut server = pool.get().await.map_err(|refusal| refusal.message)?;
    // Dropped, and so closed, if anything goes wrong: nobody else gets it in the middle of an answer.
    let rows = in_server(&mut server, plan.query, asked.user).await.map_err(|e| e.to_string())?;
    pool.give_back(server);
    secret_in(&rows, asked.user)
}

async fn in_server(server: &mut Server, query: &str, user: &str) -> io::Result<Vec<Vec<Option<String>>>> {
    server.set_up(&Arc::default()).await?;
    server.line.tell(&messages(query, user)).await?;
    server.rows().await
}

/// Prepares, runs and forgets the query, in one go.
fn messages(query: &str, user: &str) -> Vec<u8> {
    let mut out = Vec::new();
    // Behind its name and text no types: the server finds them.
    let parse = [query.as_bytes(), b"\0\0\0"].concat();
    front::parse(&mut out, STATEMENT, &parse);
    // All parameters and columns are text; there is one.
    let length = u32::try_from(user.len()).unwrap_or(0).to_be_bytes();
    let tail = [&[0, 0, 0, 1], length.as_slice(), user.as_bytes(), &[0, 0]].concat();
    front::bind_head(&mut out, b"", STATEMENT, u64::try_from(tail.len()).unwrap_or(0));
    out.extend(tail);
    // The unnamed portal; two rows are enough to know that it is not one.
    wire::put::message(&mut out, front::EXECUTE, |out| out.extend([0, 0, 0, 0, 2]));
    front::of_statement(&mut out, front::CLOSE, STATEMENT);
    front::sync(&mut out);
    out
}

/// The secret in an answer.
fn secret_in(rows: &[Vec<Option<String>>], user: &str) -> Result<Option<Secret>, String> {
    let row = match rows {
        [] => return Ok(None),
        [row] => row,
        _ => return Err("the query gives more than one row".to_string()),
    };
    match row.as_slice() {
        [Some(name), ..] if name != user => Err("the query gives another user".to_string()),
        [Some(_), None, ..] => Ok(None),
        [Some(_), Some(text), ..] => Secret::of(text),
        [None, ..] => Err("the query gives no user's name".to_string()),
        [_] | [] => Err("the query gives no two columns".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_row_of_the_user_asked_for() {
        let row = |fields: &[Option<&str>]| fields.iter().map(|f| f.map(str::to_string)).collect::<Vec<_>>();
        let good = row(&[Some("clerk"), Some("secret"), Some("more")]);
        assert!(secret_in(std::slice::from_ref(&good), "clerk").expect("it is one").is_some());
        for nobody in [vec![], vec![row(&[Some("clerk"), None])], vec![row(&[Some("clerk"), Some("")])]] {
            assert!(secret_in(&nobody, "clerk").expect("it is no mistake").is_none(), "{nobody:?}");
        }
        for (rows, why) in [
            (vec![good.clone(), good.clone()], "more than one row"),
            (vec![row(&[Some("boss"), Some("secret")])], "another user"),
            (vec![row(&[None, Some("secret")])], "no user's name"),
            (vec![row(&[Some("clerk")])], "no two columns"),
            (vec![row(&[])], "no two columns"),
        ] {
            let said = secret_in(&rows, "clerk").err().expect(why);
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn databases_may_be_looked_up_in_their_own_way() {
        let text = "[auth]\nkind = \"query\"\nquery_user = \"asker\"\n[[server]]\naddress = \"db:5432\"\n\
            [[database]]\nname = \"shop\"\nquery_database = \"till\"\nquery = \"select $1\"\n\
            [[database]]\nname = \"till\"\nquery_user = \"other\"\n";
        let config = Config::parse(text, std::path::Path::new("proxy.toml")).expect("it is right");
        let shop = Plan { user: "asker", database: "till", query: "select $1" };
        assert_eq!(config.lookup("shop"), Some(shop));
        assert_eq!(config.lookup("till"), Some(Plan { user: "other", database: "till", query: QUERY }));
    }
}
