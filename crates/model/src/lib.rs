//! A bounded model check of the core: every order of steps, up to a bound.
//!
//! The agreed state is not modelled. Each command goes to the
//! `ClusterState::apply` that ships, and with it through `recruited`, the rules
//! and the lineage. What surrounds it is modelled: PostgreSQL's real way to
//! acknowledge, servers that die at any moment, and agents of which any may
//! send any command at any time, with any of the reports that were ever made.
//!
//! What is left out, and why nothing is lost by that: docs/model-check.md.
#![forbid(unsafe_code)]

mod agents;
pub mod bounds;
mod commands;
mod fingerprint;
pub mod law;
mod log;
mod normal;
mod postgres;
pub mod search;
pub mod step;
mod store;
mod symmetry;
mod world;
