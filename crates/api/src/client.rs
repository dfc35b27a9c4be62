//! A small client of the HTTP API: one request, one answer, a time limit.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::verbs::Problem;

/// Longest that one agent may take to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why there is no answer to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered.
    #[error(
        "TAN0003: no agent answered at {0}. Is the cluster running? Name it with --api URL, or 'tanist playground up' starts one here"
    )]
    Unreachable(String),
    /// It was refused, with a reason.
    #[error("{}: {}. {}", .0.code, .0.what, .0.advice)]
    Refused(Problem),
    /// It said something that is no answer.
    #[error("TAN0004: the agent at {url} answered something that can't be read: {why}")]
    Nonsense {
        /// Who.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where to ask, and by what right.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Agents, `http://host:port`, tried in turn.
    pub urls: Vec<String>,
    /// For changing verbs.
    pub token: Option<String>,
}

impl Client {
    /// Asks for a document.
    ///
    /// # Errors
    /// As `send`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send("GET", path, &()).await
    }

    /// Sends a document and reads one back, from the first agent that answers.
    ///
    /// # Errors
    /// `Unreachable` when none does, `Refused` with the agent's reason.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = if method == "GET" { Vec::new() } else { serde_json::to_vec(body).unwrap_or_default() };
        let mut last = ClientError::Unreachable(self.urls.join(", "));
        for url in &self.urls {
            match self.ask(url, method, path, &body).await {
                Ok((status, answer)) => return read(url, status, &answer),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn ask(
        &self,
        url: &str,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let nobody = || ClientError::Unreachable(self.urls.join(", "));
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_string();
        let authority =
            self.token.as_ref().map_or(String::new(), |t| format!("Authorization: Bearer {t}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{authority}\r\n",
            body.len()
        );
        let asking = async {
            let mut stream = TcpStream::connect(&host).await.map_err(|_| nobody())?;
            stream.write_all(head.as_bytes()).await.map_err(|_| nobody())?;
            stream.write_all(body).await.map_err(|_| nobody())?;
            let mut answer = Vec::new();
            (&mut stream)
                .take(ANSWER_BYTES_MAX as u64)
                .read_to_end(&mut answer)
                .await
                .map_err(|_| nobody())?;
            Ok(answer)
        };
        let answer: Vec<u8> = timeout(ANSWER_LIMIT, asking).await.map_err(|_| nobody())??;
        split(&answer)
            .ok_or_else(|| ClientError::Nonsense { url: url.to_string(), why: "it is no HTTP".into() })
    }
}

/// Status and body of an answer that ends with the connection.
fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..at]).ok()?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer[at + 4..].to_vec()))
}

fn read<T: DeserializeOwned>(url: &str, status: u16, body: &[u8]) -> Result<T, ClientError> {
    if status >= 400 {
        let fallback = || Problem {
            code: "TAN0004".into(),
            what: format!("the agent answered with status {status}"),
            advice: "See the agent's log".into(),
        };
        return Err(ClientError::Refused(serde_json::from_slice(body).unwrap_or_else(|_| fallback())));
    }
    let nonsense = |e: serde_json::Error| ClientError::Nonsense { url: url.to_string(), why: e.to_string() };
    serde_json::from_slice(body).map_err(nonsense)
}
