//! A database's `connect_query`: run once on each new connection to a server, before its first client comes.
//!
//! What it has set is asked for after it: that is what the connection's clients find, and go back to by RESET.
//! Session mode's DISCARD ALL takes it away, so it is run again then.

use std::io;
use std::sync::Arc;

use route::Settings;

use crate::config::Config;
use crate::server::{Refused, Server};
use crate::waiter::Refusal;

impl Config {
    /// What is run on a new connection for a database.
    #[must_use]
    pub fn connect_query(&self, database: &str) -> Option<&str> {
        self.database(database).0.and_then(|d| d.connect_query.as_deref()).filter(|text| !text.is_empty())
    }
}

/// Runs it, if there is one.
///
/// # Errors
/// What the server says against it, or that it is lost.
pub async fn run(config: &Config, server: &mut Server) -> Result<(), Refusal> {
    let Some(text) = config.connect_query(&server.facts.key().database) else { return Ok(()) };
    let base = set_by(text, server).await.map_err(|why| refusal(server, &why))?;
    server.backend.base = (!base.is_empty()).then(|| Arc::new(base));
    Ok(())
}

async fn set_by(text: &str, server: &mut Server) -> io::Result<Settings> {
    server.ask(text).await?;
    let own: Vec<String> =
        route::sql::own_settings(text.as_bytes()).map(|b| String::from_utf8_lossy(b).into_owned()).collect();
    let question = route::settings::question(own.iter());
    let rows = server.ask(&String::from_utf8_lossy(&question)).await?;
    let pairs = rows.into_iter().filter_map(|row| {
        let mut values = row.into_iter();
        Some((values.next()??, values.next()??))
    });
    Ok(pairs.collect())
}

fn refusal(server: &Server, why: &io::Error) -> Refusal {
    match why.get_ref().and_then(|e| e.downcast_ref::<Refused>()) {
        // Starting up, shutting down, no memory: it passes by itself.
        Some(said) => Refusal {
            code: said.code.clone(),
            message: format!("connect_query: {}", said.message),
            ends: !(said.code.starts_with("57P0") || said.code.starts_with("53")),
        },
        None => {
            let message = format!("the server at {} was lost in connect_query: {why}", server.address);
            Refusal::for_now("08006", message)
        }
    }
}
