//! A PostgreSQL server that we run ourselves, and the guard above it.
//!
//! Hands without a head: everything here does what it is told, durably and
//! within a bound, and reports what it found. Whether it should is decided
//! elsewhere.

pub mod command;
pub mod config;
pub mod control_file;
pub mod durable;
pub mod error;
pub mod guard;
pub mod history;
pub mod layout;
pub mod os_user;
pub mod perform;
pub mod programs;
pub mod roles;
pub mod salvage;
pub mod secrets;
pub mod sql;
pub mod version;
pub mod wal;
pub mod witness;

pub use error::{Error, Result};
pub use layout::NodeDir;
pub use os_user::RunAs;
pub use programs::Programs;
pub use secrets::Secrets;
