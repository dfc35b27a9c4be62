//! Raft without sockets, files or clocks: ticks, messages and bytes in, work out.
//!
//! The algorithm is the `raft` crate's; this crate gives it a log to read, turns
//! its `Ready` into work in the only order that is safe ("persist, then
//! speak"), and keeps its wire types out of sight: what travels and what is
//! stored are plain serde types, so bytes from a peer never reach a protobuf
//! parser.
#![forbid(unsafe_code)]

pub mod log;
pub mod machine;
pub mod message;

pub use log::Log;
pub use machine::{Committed, Machine, Rest, Tuning, Work};
pub use message::{Entry, HardState, Message, Snapshot, Voters};
