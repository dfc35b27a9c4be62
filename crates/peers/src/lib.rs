//! Bytes between agents: mutual TLS, identity by certificate, framing.
//!
//! Each agent keeps one outgoing connection to every other one and says all it
//! has to say on it; what it hears comes in on the connections of the others.
//! Requests that want an answer use a connection of their own, so bulk bytes
//! never delay a heartbeat.
//!
//! Who watches where clients may go has a connection of its own as well, and a
//! proxy may do nothing else.
//!
//! Who speaks is read from the certificate, never from what is said.
#![forbid(unsafe_code)]

pub mod certs;
pub mod clock;
pub mod error;
pub mod frame;
pub mod identity;
pub mod subscribers;
pub mod subscription;
pub mod transport;

pub use error::PeersError;
pub use frame::{Frame, Kind};
pub use identity::{Bearer, Identity};
pub use subscribers::{Subscriber, Subscribers};
pub use subscription::subscribe;
pub use transport::{Config, Incoming, Peers, TlsStream, ask_verifier};
