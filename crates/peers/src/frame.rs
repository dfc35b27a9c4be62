//! One message on the wire: four bytes of length, version, kind, body.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::PeersError;

/// Longest body. A snapshot of the cluster state is far smaller.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Version of this framing.
pub const VERSION: u8 = 2;
const HEADER_BYTES: usize = 6;
/// Bytes taken from the network at a time: a length field allocates nothing.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message of the store's Raft group.
    Raft,
    /// An agent's report.
    Report,
    /// A question with one answer.
    Request,
    /// That answer.
    Answer,
    /// A question for WAL, with one answer as well.
    Wal,
    /// "Tell me where clients may go": said once, on a connection of its own.
    Watch,
    /// Where clients may go, to whoever watches.
    Routes,
    /// "No transaction of mine runs any more", from whoever watches.
    Drained,
    /// A proxy's question for a user's verifier, with one answer.
    Verifier,
    /// "How long may I give reads of your server?", from whoever watches.
    LeaseAsk,
    /// "For so long", to whoever asked.
    Lease,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Kind::Raft => 1,
            Kind::Report => 2,
            Kind::Request => 3,
            Kind::Answer => 4,
            Kind::Wal => 5,
            Kind::Watch => 6,
            Kind::Routes => 7,
            Kind::Drained => 8,
            Kind::Verifier => 9,
            Kind::LeaseAsk => 10,
            Kind::Lease => 11,
        }
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        const ALL: [Kind; 11] = [
            Kind::Raft,
            Kind::Report,
            Kind::Request,
            Kind::Answer,
            Kind::Wal,
            Kind::Watch,
            Kind::Routes,
            Kind::Drained,
            Kind::Verifier,
            Kind::LeaseAsk,
            Kind::Lease,
        ];
        ALL.into_iter().find(|k| k.to_byte() == byte)
    }

    /// Whether an answer is owed to it.
    #[must_use]
    pub fn is_question(self) -> bool {
        match self {
            Kind::Request | Kind::Wal | Kind::Verifier => true,
            Kind::Raft | Kind::Report | Kind::Answer => false,
            Kind::Watch | Kind::Routes | Kind::Drained | Kind::LeaseAsk | Kind::Lease => false,
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its body.
    pub body: Bytes,
}

/// Writes one frame.
///
/// # Errors
/// What the connection says; a body over the limit is refused.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> std::io::Result<()> {
    let mut out = Vec::with_capacity(HEADER_BYTES + frame.body.len());
    append(&mut out, frame)?;
    to.write_all(&out).await?;
    to.flush().await
}

/// Adds a frame to what will be written at once.
///
/// # Errors
/// `InvalidInput` for one over 8 MB; nothing is added then.
pub fn append(out: &mut Vec<u8>, frame: &Frame) -> std::io::Result<()> {
    let too_long = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "a message over 8 MB");
    let length = u32::try_from(frame.body.len()).map_err(|_| too_long())?;
    if frame.body.len() > BODY_BYTES_MAX {
        return Err(too_long());
    }
    out.extend(length.to_be_bytes());
    out.extend([VERSION, frame.kind.to_byte()]);
    out.extend_from_slice(&frame.body);
    Ok(())
}

/// Reads one frame; `None` when the other side closed between two.
///
/// # Errors
/// `BadFrame` for anything that is none, or that ends midway.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, PeersError> {
    let mut header = [0u8; HEADER_BYTES];
    match from.read_exact(&mut header).await {
        Ok(_) => {}
        Err(_) => return Ok(None),
    }
    let [a, b, c, d, version, kind] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if version != VERSION {
        return Err(PeersError::BadFrame("it speaks another version of the protocol"));
    }
    if length > BODY_BYTES_MAX {
        return Err(PeersError::BadFrame("it announces more than 8 MB"));
    }
    let kind = Kind::from_byte(kind).ok_or(PeersError::BadFrame("its kind is unknown"))?;
    let mut body = Vec::new();
    while body.len() < length {
        let at = body.len();
        body.resize((at + CHUNK_BYTES).min(length), 0);
        let read = from.read_exact(&mut body[at..]).await;
        read.map_err(|_| PeersError::BadFrame("it ended midway"))?;
    }
    Ok(Some(Frame { kind, body: body.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = block_on(read(&mut bytes.as_slice()));
        }

        #[test]
        fn what_is_written_is_read(body in proptest::collection::vec(any::<u8>(), 0..200_000)) {
            let frame = Frame { kind: Kind::Raft, body: body.into() };
            let mut wire = Vec::new();
            block_on(write(&mut wire, &frame)).unwrap();
            prop_assert_eq!(block_on(read(&mut wire.as_slice())).unwrap(), Some(frame));
        }
    }

    #[test]
    fn a_giant_length_is_refused_before_anything_is_allocated() {
        let wire = [0xFF, 0xFF, 0xFF, 0xFF, VERSION, 1];
        assert!(matches!(block_on(read(&mut wire.as_slice())), Err(PeersError::BadFrame(_))));
    }
}
