//! A witness that keeps WAL (protocol (g)): no server, only the log of one.
//!
//! It receives WAL as a standby's walreceiver does, through its own slot and
//! under its own name, and acknowledges what it has fsynced. The files have
//! PostgreSQL's own names and bytes, so the scanner of `wal` tells where they
//! end, and a server can be given them.
//!
//! Never opens anything: without a copy of the database no WAL is one.

pub mod anew;
pub mod receiver;
pub mod replication;
pub mod store;

pub use anew::begin_anew;
pub use receiver::{Receiver, Upstream};
pub use replication::{Replication, System};
pub use store::{Origin, Store};
