//! Real servers, real agents, real kills: one story a row of the promise.
//!
//! Each story ends with the checker, which reads every member back by itself,
//! and again after everything was stopped and started. No story asserts a time:
//! times come from `tanist demo` and benchmarks. The binary is the one that
//! `cargo test` builds beside this test; stories run one after another.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

mod agents;
mod disk;
mod failover;
mod faults;
mod guard;
mod members;
mod network;
mod proxy;
mod reads;
mod refusals;
mod routes;
mod story;
mod strict;
mod wal_witness;
