//! The daemon on each host: report, think, act, repeat.
//!
//! Thin: `failover` thinks, `store` agrees, `peers` carries, `postgres` does.
//! Here they are wired together and nothing is decided.
#![forbid(unsafe_code)]

pub mod clock;
pub mod disk_watch;
pub mod executor;
pub mod gone;
pub mod http;
pub mod keeper;
pub mod overrides;
pub mod routing;
pub mod run;
pub mod seat;
pub mod shared;
pub mod source;
pub mod start;
pub mod verifier;
pub mod vows;
pub mod wal_house;
pub mod wal_over_peers;
pub mod wal_witness;
pub mod watchers;
