//! The other end: how a proxy watches one agent.
//!
//! Two halves, since one hears all the time and says something now and then.

use std::time::Duration;

use bytes::Bytes;
use cluster::NodeId;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::error::PeersError;
use crate::frame::{self, Frame, Kind};
use crate::identity::Identity;
use crate::transport::{CONNECT_LIMIT, TlsStream, USER_TIMEOUT, connect, unreachable_at};

/// An agent that told nothing for so long is lost: four keep-alives.
pub const SILENCE: Duration = Duration::from_secs(1);

/// What an agent says to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Where clients may go.
    Routes(Bytes),
    /// A lease, to one who asked.
    Lease(Bytes),
}

/// Hears what one agent says.
pub struct Hearing {
    from: ReadHalf<TlsStream>,
    address: String,
}

/// Says to that agent what there is to say.
pub struct Saying {
    to: WriteHalf<TlsStream>,
    address: String,
}

/// Connects to the agent at `address` and asks to be told; who it is, by certificate.
///
/// # Errors
/// `Unreachable`, `Timeout`.
pub async fn subscribe(identity: &Identity, address: &str) -> Result<(NodeId, Hearing, Saying), PeersError> {
    let asking = async {
        let (mut stream, who) = connect(identity, address).await?;
        let watch = Frame { kind: Kind::Watch, body: Bytes::new() };
        frame::write(&mut stream, &watch).await.map_err(|e| unreachable_at(address, e))?;
        Ok((who, stream))
    };
    let asked = timeout(CONNECT_LIMIT, asking).await;
    let (who, stream) = asked.map_err(|_| PeersError::Timeout(address.to_string()))??;
    let (from, to) = tokio::io::split(stream);
    let (hears, says) = (address.to_string(), address.to_string());
    Ok((who, Hearing { from, address: hears }, Saying { to, address: says }))
}

impl Hearing {
    /// What it says next. After an error, or once this was given up midway, the
    /// connection is of no use any more.
    ///
    /// # Errors
    /// `Timeout` after `SILENCE`, `Unreachable` when it hung up, `BadFrame`.
    pub async fn next(&mut self) -> Result<Said, PeersError> {
        let read = timeout(SILENCE, frame::read(&mut self.from)).await;
        let read = read.map_err(|_| PeersError::Timeout(self.address.clone()))??;
        let frame = read.ok_or_else(|| unreachable_at(&self.address, "it hung up"))?;
        match frame.kind {
            Kind::Routes => Ok(Said::Routes(frame.body)),
            Kind::Lease => Ok(Said::Lease(frame.body)),
            _ => Err(PeersError::BadFrame(
                "an agent tells a subscriber where clients may go and for how long, and no more",
            )),
        }
    }
}

impl Saying {
    /// Says that nothing runs any more.
    ///
    /// # Errors
    /// `Timeout`, `Unreachable`.
    pub async fn drained(&mut self, body: Bytes) -> Result<(), PeersError> {
        self.say(Frame { kind: Kind::Drained, body }).await
    }

    /// Asks for a lease.
    ///
    /// # Errors
    /// `Timeout`, `Unreachable`.
    pub async fn ask_lease(&mut self, body: Bytes) -> Result<(), PeersError> {
        self.say(Frame { kind: Kind::LeaseAsk, body }).await
    }

    async fn say(&mut self, frame: Frame) -> Result<(), PeersError> {
        let written = timeout(USER_TIMEOUT, frame::write(&mut self.to, &frame)).await;
        let written = written.map_err(|_| PeersError::Timeout(self.address.clone()))?;
        written.map_err(|e| unreachable_at(&self.address, e))
    }
}
