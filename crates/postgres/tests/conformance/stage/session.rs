//! A client's conversation with a server, held by a test that waits for nothing else.
//!
//! A statement may be begun and looked at later: most of what is tested here is who
//! waits for whom. Notices are kept.

use std::sync::{Arc, LazyLock, Mutex};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage};

use crate::real::{LIMIT, Server, wait_until};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// A session of the superuser.
pub struct Session {
    client: Arc<Client>,
    /// Of its backend.
    pub pid: i32,
    notices: Arc<Mutex<Vec<DbError>>>,
}

/// A statement on its way.
pub struct Underway {
    task: JoinHandle<Result<String, Error>>,
}

impl Session {
    pub fn open(server: &Server) -> Session {
        Session::try_open(server).unwrap()
    }

    pub fn try_open(server: &Server) -> Result<Session, Error> {
        let mut config = Config::new();
        config.host_path(&server.dir).port(server.port).user("postgres").dbname("postgres");
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = notices.clone();
        let client = RUNTIME.block_on(async {
            let (client, mut connection) = config.connect(NoTls).await?;
            tokio::spawn(async move {
                while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    if let AsyncMessage::Notice(notice) = message {
                        heard.lock().unwrap().push(notice);
                    }
                }
            });
            Ok::<_, Error>(Arc::new(client))
        })?;
        let mut session = Session { client, pid: 0, notices };
        session.pid = session.sql("select pg_backend_pid()").parse().unwrap();
        Ok(session)
    }

    /// As `psql -A -t` prints the rows.
    pub fn sql(&self, query: &str) -> String {
        self.try_sql(query).unwrap_or_else(|e| panic!("{query}: {e:?}"))
    }

    pub fn try_sql(&self, query: &str) -> Result<String, Error> {
        self.begin(query).outcome()
    }

    /// Sends it and does not wait.
    pub fn begin(&self, query: &str) -> Underway {
        let (client, query) = (self.client.clone(), query.to_string());
        Underway {
            task: RUNTIME.spawn(async move { client.simple_query(&query).await.map(|m| printed(&m)) }),
        }
    }

    /// A commit of one row that waits for standbys, as `eye` sees it.
    pub fn begin_waiting(&self, query: &str, eye: &Session) -> Underway {
        let underway = self.begin(query);
        wait_until("a commit that waits", || eye.waits(self.pid));
        underway
    }

    /// Whether the backend `pid` waits for standbys.
    pub fn waits(&self, pid: i32) -> bool {
        self.sql(&format!("select wait_event from pg_stat_activity where pid = {pid}")) == "SyncRep"
    }

    /// What the server remarked so far.
    pub fn notices(&self) -> Vec<DbError> {
        self.notices.lock().unwrap().clone()
    }
}

impl Underway {
    /// Whether the client has its answer, or has lost its server.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// The answer. Waits for it.
    pub fn outcome(self) -> Result<String, Error> {
        let answer = RUNTIME.block_on(async { tokio::time::timeout(LIMIT, self.task).await });
        answer.expect("waited in vain for an answer").unwrap()
    }
}

fn printed(messages: &[SimpleQueryMessage]) -> String {
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let columns = (0..row.len()).map(|i| row.get(i).unwrap_or_default());
            Some(columns.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    });
    rows.collect::<Vec<_>>().join("\n")
}
