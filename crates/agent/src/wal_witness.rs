//! The hands of a witness that keeps WAL: what an agent does instead of running a server.
//!
//! To the thinking part it is a standby that can't be promoted: `Down` with its
//! receiver off, `Standby` with it on, `Empty` with nothing on its disk. Deeds that
//! need a database are called off; they are never asked of it.

use std::path::PathBuf;
use std::time::Duration;

use cluster::local::Rebuild;
use cluster::report::{Recruited, ServerReport, ServerState};
use cluster::{Action, Lsn, MemberId, Term};
use failover::Outcome;
use peers::Identity;
use postgres::perform::{WalEnd, split_address};
use postgres::secrets::Password;
use postgres::witness::{Receiver, Store, Upstream, begin_anew};
use postgres::{Error as HandsError, RunAs};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::executor::Tools;
use crate::wal_house;

/// PostgreSQL's request for TLS, and its yes.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const SSL_YES: u8 = b'S';

/// WAL that is kept, and what keeps it.
pub struct WalHands {
    dir: PathBuf,
    identity: Identity,
    password: Password,
    /// More than so many bytes is trouble: then it wants out of the rule, and drops what it may.
    bytes_max: u64,
    keeps: Mutex<Keeps>,
}

enum Keeps {
    /// Nobody has looked yet.
    Unread,
    /// Nothing, or nothing that was finished.
    Nothing,
    /// The receiver is off.
    Still(Box<Store>, Option<WalEnd>),
    /// And on.
    Receiving(Receiver),
}

/// What a look at it found.
pub struct Look {
    /// For everybody.
    pub server: ServerReport,
    /// Since the leader's server was last heard.
    pub wal_silent: Option<Duration>,
}

impl WalHands {
    /// Hands on the WAL in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf, identity: Identity, password: Password, bytes_max: u64) -> WalHands {
        WalHands { dir, identity, password, bytes_max, keeps: Mutex::new(Keeps::Unread) }
    }

    /// Looks at it; never fails, for not to be readable is a finding too.
    pub async fn look(&self) -> Look {
        let mut keeps = self.keeps.lock().await;
        if let Err(why) = self.read(&mut keeps) {
            let (state, trouble) = (ServerState::Down, Some(why.to_string()));
            return Look {
                server: ServerReport { state, trouble, ..ServerReport::default() },
                wal_silent: None,
            };
        }
        match &*keeps {
            Keeps::Unread | Keeps::Nothing => {
                let server = ServerReport { state: ServerState::Empty, ..ServerReport::default() };
                Look { server, wal_silent: None }
            }
            Keeps::Still(store, end) => {
                let end = end.as_ref();
                let server = ServerReport {
                    state: ServerState::Down,
                    sysid: store.origin().sysid,
                    version: store.origin().major * 10_000,
                    lineage: end.map(|e| e.lineage.clone()).unwrap_or_default(),
                    end: end.map_or(Lsn::ZERO, |e| e.end),
                    replay: end.map_or(Lsn::ZERO, |e| e.end),
                    ..ServerReport::default()
                };
                Look { server, wal_silent: None }
            }
            Keeps::Receiving(receiver) => {
                let state = receiver.state();
                let full = state.bytes > self.bytes_max;
                let full = full.then(|| format!("TAN0623: it keeps {} MB of WAL", state.bytes >> 20));
                let trouble = full.or(state.trouble);
                let server = ServerReport {
                    state: ServerState::Standby,
                    sysid: state.sysid,
                    version: state.major * 10_000,
                    lineage: state.lineage,
                    end: state.flushed,
                    replay: state.flushed,
                    streaming: state.streams.then_some(receiver.term()),
                    trouble,
                    ..ServerReport::default()
                };
                let wal_silent = state.heard.filter(|_| state.streams).map(|at| at.elapsed());
                Look { server, wal_silent }
            }
        }
    }

    /// WAL before `keep` is needed by nobody.
    pub async fn may_drop(&self, keep: Lsn) {
        if let Keeps::Receiving(receiver) = &*self.keeps.lock().await {
            receiver.may_drop(keep);
        }
    }

    /// Where what is kept begins; `None` while nothing is received.
    pub async fn begin(&self) -> Option<Lsn> {
        match &*self.keeps.lock().await {
            Keeps::Receiving(receiver) => Some(receiver.state().begin),
            Keeps::Unread | Keeps::Nothing | Keeps::Still(..) => None,
        }
    }

    fn read(&self, keeps: &mut Keeps) -> Result<(), HandsError> {
        if !matches!(keeps, Keeps::Unread) {
            return Ok(());
        }
        *keeps = match Store::open(&self.dir, RunAs::current())? {
            None => Keeps::Nothing,
            Some(store) => {
                let end = store.end()?;
                Keeps::Still(Box::new(store), end)
            }
        };
        Ok(())
    }

    /// C-5: nothing is acknowledged any more when this returns.
    async fn cut(&self) -> Result<(), HandsError> {
        let mut keeps = self.keeps.lock().await;
        if let Keeps::Receiving(receiver) = &mut *keeps {
            *keeps = match receiver.stop().await? {
                Some(store) => Keeps::Still(Box::new(store), None),
                None => Keeps::Unread,
            };
        }
        // That it can't be read now does not undo the cut.
        if let Err(why) = self.read(&mut keeps) {
            tracing::warn!(%why, "the WAL that is kept can't be read");
        }
        if let Keeps::Still(store, end) = &mut *keeps {
            *end = store.end().unwrap_or_else(|why| {
                tracing::warn!(%why, "where the WAL ends can't be told");
                None
            });
        }
        Ok(())
    }

    /// Where the log ends, by the look after the cut; on disk.
    async fn wal_end(&self) -> Option<WalEnd> {
        match &*self.keeps.lock().await {
            Keeps::Still(_, end) => end.clone(),
            Keeps::Unread | Keeps::Nothing | Keeps::Receiving(_) => None,
        }
    }

    async fn follow(&self, up: Upstream, leader: &MemberId, address: &str) -> Result<(), HandsError> {
        let again = |k: &Keeps| matches!(k, Keeps::Receiving(r) if r.term() == up.term && !r.is_dead());
        if again(&*self.keeps.lock().await) {
            return Ok(());
        }
        self.cut().await?;
        let mut keeps = self.keeps.lock().await;
        *keeps = match std::mem::replace(&mut *keeps, Keeps::Unread) {
            Keeps::Still(store, end) => {
                Keeps::Receiving(Receiver::start(*store, end, up, self.connector(leader, address))?)
            }
            other => {
                *keeps = other;
                return Err(HandsError::StartFailed("no WAL is kept here yet".to_string()));
            }
        };
        Ok(())
    }

    async fn begin_anew(
        &self,
        up: &Upstream,
        leader: &MemberId,
        address: &str,
        oldest: Option<Lsn>,
    ) -> Result<u64, HandsError> {
        self.cut()
            .await
            .or_else(|why| if matches!(why, HandsError::AckPathStays { .. }) { Err(why) } else { Ok(()) })?;
        let mut keeps = self.keeps.lock().await;
        *keeps = Keeps::Unread;
        let connect = self.connector(leader, address);
        let store = begin_anew(&self.dir, RunAs::current(), up, oldest, connect).await?;
        let sysid = store.origin().sysid;
        *keeps = Keeps::Still(Box::new(store), None);
        Ok(sysid)
    }

    fn connector(
        &self,
        leader: &MemberId,
        address: &str,
    ) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = Result<Line, HandsError>> + Send>> + Send + use<>
    {
        let (identity, leader, address) = (self.identity.clone(), leader.clone(), address.to_string());
        move || Box::pin(connect(identity.clone(), leader.clone(), address.clone()))
    }
}

/// A connection, encrypted or not.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
type Line = Box<dyn Duplex>;

/// As a standby's `primary_conninfo` says it: in the clear only on one host.
async fn connect(identity: Identity, leader: MemberId, address: String) -> Result<Line, HandsError> {
    let gone = |e: std::io::Error| HandsError::Unreachable(format!("{address}: {e}"));
    let (host, _) = split_address(&address)?;
    let mut socket = TcpStream::connect(&address).await.map_err(gone)?;
    let _ = socket.set_nodelay(true);
    if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        return Ok(Box::new(socket));
    }
    socket.write_all(&SSL_REQUEST).await.map_err(gone)?;
    if socket.read_u8().await.map_err(gone)? != SSL_YES {
        return Err(HandsError::Unreachable(format!("{address} does not encrypt")));
    }
    let secured = identity.secure(socket, &address).await;
    let (stream, who) = secured.map_err(|e| HandsError::Unreachable(e.to_string()))?;
    if who != leader.node {
        return Err(HandsError::Unreachable(format!("{who} answers at {address} for {leader}")));
    }
    Ok(Box::new(stream))
}

impl Tools {
    /// As `perform`, on a witness that keeps WAL.
    pub(crate) async fn perform_on_wal(
        &self,
        hands: &WalHands,
        action: &Action,
    ) -> Result<Outcome, HandsError> {
        match action {
            Action::Recruit { term } => return self.recruit_wal(hands, *term).await.map(Outcome::Recruited),
            Action::Fence { term } => {
                hands.cut().await?;
                self.vow(|v| v.resigned = v.resigned.max(*term))?;
            }
            Action::Follow { term, leader, afresh } => {
                self.vow_to_follow(*term)?;
                if *afresh {
                    hands.cut().await?;
                }
                let address = self.source.postgres_address(leader)?;
                hands.follow(self.upstream(hands, *term)?, leader, &address).await?;
            }
            Action::Clone { term, leader } => {
                let address = self.source.postgres_address(leader)?;
                self.vow(|v| v.rebuilding = Some(Rebuild::Clone))?;
                self.tell(failover::Event::Vows(Box::new(self.keeper.vows())));
                let up = self.upstream(hands, *term)?;
                let sysid = hands.begin_anew(&up, leader, &address, self.oldest_needed()).await?;
                self.vow(|v| (v.rebuilding, v.sysid) = (None, sysid))?;
            }
            Action::Stop => hands.cut().await?,
            Action::Initdb
            | Action::StartCut
            | Action::HandOver { .. }
            | Action::Prepare { .. }
            | Action::FastForward { .. }
            | Action::Promote { .. }
            | Action::Barrier { .. }
            | Action::ChangeRule { .. }
            | Action::Rewind { .. }
            | Action::Checkpoint { .. } => {
                return Err(HandsError::CalledOff("a witness has no database".to_string()));
            }
        }
        Ok(Outcome::Done)
    }

    /// C2 a to c.
    async fn recruit_wal(&self, hands: &WalHands, term: Term) -> Result<Recruited, HandsError> {
        self.vow(|v| v.promise = v.promise.max(term))?;
        hands.cut().await?;
        match hands.wal_end().await {
            Some(end) => {
                let position = self.source.position_of(&end);
                Ok(Recruited { term, position, lineage: end.lineage, replay: end.end })
            }
            None => {
                // It blocks, but discovers nothing (C-3).
                Ok(Recruited {
                    term,
                    position: None,
                    lineage: cluster::Lineage::default(),
                    replay: Lsn::ZERO,
                })
            }
        }
    }

    fn upstream(&self, hands: &WalHands, term: Term) -> Result<Upstream, HandsError> {
        let me = self.source.state().member_id(&self.source.me());
        let me = me.ok_or_else(|| HandsError::CalledOff("this node has no seat yet".to_string()))?;
        Ok(Upstream { term, me, password: hands.password.clone() })
    }

    /// The least place that a data node is known to have reached.
    fn oldest_needed(&self) -> Option<Lsn> {
        wal_house::positions(&self.shared.picture()).into_iter().flatten().min()
    }
}
