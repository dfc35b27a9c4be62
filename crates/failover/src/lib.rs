//! Who leads, and what each node must do next.
//!
//! A cluster is steered by what is agreed (`ClusterState`) and what is reported
//! (`Report`). From these and the moment, `decide` gives at most one deed for
//! the own server, one command for the store and one promise to keep. It gives
//! the same answer until something changes, so nothing depends on a deed having
//! succeeded, and an agent that was restarted needs no memory of what it did.
//!
//! ```text
//!   probe, peers, store ──▶ Controller (what is known) ──▶ View ──▶ decide ──▶ Verdict
//! ```
//!
//! Never reads a clock, touches a server or a socket, or judges safety: every
//! command is judged again by `ClusterState::apply`.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod controller;
pub mod decide;
pub mod election;
pub mod facts;
pub mod fencing;
pub mod forecast;
pub mod hearing;
pub mod lease;
pub mod pace;
pub mod rejoin;
pub mod retry;
pub mod rules;
pub mod salvage;
pub mod severed;
pub mod speech;
pub mod suspicion;
pub mod switchover;
pub mod view;
pub mod waiting;

pub use controller::{Controller, Effects, Event, Outcome};
pub use decide::{Verdict, decide};
pub use facts::Facts;
pub use retry::Setback;
pub use view::View;
pub use waiting::Waiting;
