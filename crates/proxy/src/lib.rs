//! Routes PostgreSQL's clients to whoever leads.
//!
//! It learns who that is from the agents, which tell it; it asks nobody.
#![forbid(unsafe_code)]

pub mod follow;
pub mod merge;
