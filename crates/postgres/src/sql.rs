//! Short conversations with our own server, through its socket, as `postgres`.
//!
//! Nothing of ours ever waits for a standby (`synchronous_commit = local`) or
//! for ever: connecting and each question have a limit, and what is given up
//! is closed, so a hung server holds no task of ours.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::error::{Error, Result};
use crate::layout::NodeDir;
use crate::roles::SUPERUSER;

/// Longest that connecting may take.
pub const CONNECT_LIMIT: Duration = Duration::from_millis(1500);
/// Longest that an ordinary question may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// A connection; closed when dropped.
pub struct Sql {
    client: Client,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sql {
    /// Connects to the server of `dir` on `port`.
    ///
    /// # Errors
    /// `Unreachable`, `NotReady`, `Hung`.
    pub async fn connect(dir: &NodeDir, port: u16) -> Result<Sql> {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(dir.sockets())
            .port(port)
            .user(SUPERUSER)
            .dbname("postgres")
            .application_name("tanist");
        config.options("-c search_path=pg_catalog -c synchronous_commit=local -c lock_timeout=2s -c client_min_messages=error");
        let connecting = timeout(CONNECT_LIMIT, config.connect(NoTls)).await;
        let hung = Error::Hung { what: "connect", limit: CONNECT_LIMIT };
        let (client, connection) = connecting.map_err(|_| hung)?.map_err(|e| refused("connect", &e))?;
        let task = tokio::spawn(async move {
            // Its error is the one that the question at hand gets too.
            let _ = connection.await;
        });
        Ok(Sql { client, task })
    }

    /// Whether the server has ended it: it is of no more use.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Has `query` planned once, to be run by `EXECUTE name`.
    ///
    /// # Errors
    /// As `rows`.
    pub async fn prepare(&self, name: &'static str, query: &str) -> Result<()> {
        self.rows("prepare a question", &format!("PREPARE {name} AS {query}")).await.map(|_| ())
    }

    /// Runs statements and gives the rows of the last.
    ///
    /// # Errors
    /// `Sql`, `NotReady`, `Hung`, `Unreachable`.
    pub async fn rows(&self, what: &'static str, query: &str) -> Result<Vec<SimpleQueryRow>> {
        self.rows_within(what, query, ANSWER_LIMIT).await
    }

    /// As `rows`, with a limit of its own.
    ///
    /// # Errors
    /// As `rows`.
    pub async fn rows_within(
        &self,
        what: &'static str,
        query: &str,
        limit: Duration,
    ) -> Result<Vec<SimpleQueryRow>> {
        let asked = timeout(limit, self.client.simple_query(query)).await;
        let messages = asked.map_err(|_| Error::Hung { what, limit })?.map_err(|e| refused(what, &e))?;
        let row = |m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// As `rows`; `BadAnswer` when there is none.
    pub async fn value(&self, what: &'static str, query: &str) -> Result<String> {
        let rows = self.rows(what, query).await?;
        let value = rows.first().and_then(|r| r.get(0)).map(str::to_string);
        value.ok_or_else(|| Error::BadAnswer(format!("no row for '{what}'")))
    }
}

fn refused(what: &'static str, e: &tokio_postgres::Error) -> Error {
    match e.as_db_error() {
        Some(db) if db.code().code() == "57P03" => Error::NotReady(db.message().to_string()),
        Some(db) => {
            Error::Sql { what, message: db.message().to_string(), sqlstate: db.code().code().to_string() }
        }
        None => Error::Unreachable(e.to_string()),
    }
}

/// A column as text; `None` for NULL.
#[must_use]
pub fn text<'a>(row: &'a SimpleQueryRow, column: &str) -> Option<&'a str> {
    row.try_get(column).ok().flatten()
}

/// A column as something that reads itself from text; `None` for NULL or nonsense.
#[must_use]
pub fn read<T: std::str::FromStr>(row: &SimpleQueryRow, column: &str) -> Option<T> {
    text(row, column)?.parse().ok()
}
