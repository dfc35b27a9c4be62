//! What `docs/protocol.md` says of PostgreSQL, asked of PostgreSQL: each statement on which
//! the protocol and the simulator's model of a server rest is one test here, on a real server.
//!
//! One file for each subject. The table `docs/conformance.md` says which statement is held by
//! which test. `TANIST_CONFORMANCE_BIN` names the programs of another version; where
//! versions differ, the test says what holds on which.
//!
//! Never tests our own code: a failure here means that the model is wrong.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

#[path = "../real/mod.rs"]
mod real;
mod stage;

mod crash;
mod fences;
mod orphans;
mod rewind;
mod stream;
mod sync_names;
mod sync_wait;
mod table;
mod timelines;
mod torn;
mod upstream;
mod xact;
