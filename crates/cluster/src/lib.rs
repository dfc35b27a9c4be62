//! The words: what a cluster is, what is agreed about it, and what may be asked.
//!
//! Every other crate speaks in these types and no crate below this one exists.
//! `ClusterState::apply` is the one place where a change of what is agreed is
//! judged; it refuses and never panics, because the same entry is applied by
//! every voter and a panic there would take all of them down at once.
//!
//! Never reads a clock, never touches a file or a socket, never decides what a
//! node should do next (that is `failover`).
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod action;
mod apply;
pub mod command;
pub mod lineage;
pub mod local;
pub mod lsn;
pub mod mutant;
pub mod node;
pub mod policy;
pub mod reason;
pub mod recruited;
pub mod refused;
pub mod report;
pub mod rule;
pub mod seats;
pub mod state;
pub mod term;
pub mod time;

pub use action::Action;
pub use command::Command;
pub use lineage::Lineage;
pub use local::Vows;
pub use lsn::{Lsn, Position, Timeline};
pub use node::{MemberId, NodeId};
pub use policy::{Durability, Settings, Timing};
pub use reason::Reason;
pub use refused::Refused;
pub use report::Report;
pub use rule::{ActiveRule, Rule};
pub use state::ClusterState;
pub use term::Term;
pub use time::Time;
