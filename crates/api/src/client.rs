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
/// Longest that a connection may take.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Once one agent has answered, the others get so long.
pub const OTHERS_LIMIT: Duration = Duration::from_millis(300);
/// Longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// An agent that is no member any more answers so: nothing was done, another may do it (RFC 9110, 15.5.20).
const MISDIRECTED: u16 = 421;

/// Why there is no answer to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered.
    #[error(
        "TAN0003: no agent answered at {0}. Is the cluster running? Name it with --api URL, or 'tanist playground up' starts one here"
    )]
    Unreachable(String),
    /// A changing verb was sent and not answered, so it may have been done.
    #[error(
        "TAN0201: the agent at {0} was asked and did not answer, so whether it was done is not known. Look with 'tanist status' before trying again"
    )]
    Unknown(String),
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

    /// Asks every agent at once and takes the answer that ranks highest: one that
    /// is cut off still answers, with what it knew, and one that is gone does not
    /// hold up the others.
    ///
    /// # Errors
    /// As `send`.
    pub async fn best<T, K>(&self, path: &str, rank: impl Fn(&T) -> K) -> Result<T, ClientError>
    where
        T: DeserializeOwned + Send + 'static,
        K: Ord,
    {
        let mut asked = tokio::task::JoinSet::new();
        for url in &self.urls {
            let (one, path) = (Client { urls: vec![url.clone()], token: None }, path.to_string());
            asked.spawn(async move { one.get::<T>(&path).await });
        }
        let mut best: Option<T> = None;
        let mut last = ClientError::Unreachable(self.urls.join(", "));
        loop {
            let limit = if best.is_some() { OTHERS_LIMIT } else { ANSWER_LIMIT * 2 };
            match timeout(limit, asked.join_next()).await {
                Ok(Some(Ok(Ok(answer)))) => {
                    let better = best.as_ref().is_none_or(|b| rank(b) < rank(&answer));
                    best = if better { Some(answer) } else { best };
                }
                // Of many that can't be reached all are named.
                Ok(Some(Ok(Err(ClientError::Unreachable(_))) | Err(_))) => {}
                Ok(Some(Ok(Err(why)))) => last = why,
                Ok(None) | Err(_) => return best.ok_or(last),
            }
        }
    }

    /// Sends a document and reads one back, from the first agent that answers.
    ///
    /// A verb that changes something goes to a second agent only if the first
    /// certainly never got it, or said that it is no member: else it could be
    /// done twice.
    ///
    /// # Errors
    /// `Unreachable` when none can be reached, `Unknown` when one was and did
    /// not answer a changing verb, `Refused` with the agent's reason.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let changes = method != "GET";
        let body = if changes { serde_json::to_vec(body).unwrap_or_default() } else { Vec::new() };
        let mut misdirected = None;
        for url in &self.urls {
            let host = url.trim_start_matches("http://").trim_end_matches('/');
            // Nothing has been sent while there is no connection.
            let Ok(Ok(stream)) = timeout(CONNECT_LIMIT, TcpStream::connect(host)).await else { continue };
            let asking = self.ask(stream, host, method, path, &body);
            match timeout(ANSWER_LIMIT, asking).await {
                Ok(Ok((MISDIRECTED, answer))) => misdirected = read::<T>(url, MISDIRECTED, &answer).err(),
                Ok(Ok((status, answer))) => return read(url, status, &answer),
                Ok(Err(_)) | Err(_) if changes => return Err(ClientError::Unknown(url.clone())),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(misdirected.unwrap_or_else(|| ClientError::Unreachable(self.urls.join(", "))))
    }

    async fn ask(
        &self,
        mut stream: TcpStream,
        host: &str,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> std::io::Result<(u16, Vec<u8>)> {
        let authority =
            self.token.as_ref().map_or(String::new(), |t| format!("Authorization: Bearer {t}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{authority}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut answer).await?;
        split(&answer).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::Done;
    use tokio::net::TcpListener;

    /// An agent that reads one request and answers `answer`, or closes without a word.
    async fn agent(answer: Option<&'static str>) -> String {
        agent_with("200 OK", answer).await
    }

    async fn agent_with(status: &'static str, answer: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0u8; 4096];
                let _ = stream.read(&mut request).await;
                if let Some(body) = answer {
                    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                }
            }
        });
        url
    }

    /// An address where nobody listens.
    async fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    const DONE: &str = r#"{"said":"it is done","term":7}"#;

    #[tokio::test]
    async fn a_changing_verb_that_may_have_arrived_goes_to_nobody_else() {
        let client = Client { urls: vec![agent(None).await, agent(Some(DONE)).await], token: None };
        let asked: Result<Done, _> = client.send("POST", "/v1/failover", &()).await;
        assert!(asked.unwrap_err().to_string().starts_with("TAN0201"));
        let read: Done = client.get("/v1/status").await.unwrap();
        assert_eq!(read.term, 7, "a question may be asked of the next");
    }

    #[tokio::test]
    async fn a_changing_verb_that_reached_nobody_goes_to_the_next() {
        let client = Client { urls: vec![nobody().await, agent(Some(DONE)).await], token: None };
        let done: Done = client.send("POST", "/v1/pause", &()).await.unwrap();
        assert_eq!(done.said, "it is done");
        let gone = r#"{"code":"TAN0619","what":"n3 is no member","do":"Ask another"}"#;
        let gone = agent_with("421 Misdirected Request", Some(gone)).await;
        let client = Client { urls: vec![gone.clone(), agent(Some(DONE)).await], token: None };
        let done: Done = client.send("POST", "/v1/pause", &()).await.unwrap();
        assert_eq!(done.said, "it is done", "one that is no member any more sends on to the next");
        let only = Client { urls: vec![gone], token: None };
        let asked: Result<Done, _> = only.send("POST", "/v1/pause", &()).await;
        assert!(asked.unwrap_err().to_string().starts_with("TAN0619"));
        let alone = Client { urls: vec![nobody().await], token: None };
        let asked: Result<Done, _> = alone.send("POST", "/v1/pause", &()).await;
        assert!(asked.unwrap_err().to_string().starts_with("TAN0003"));
    }
}
