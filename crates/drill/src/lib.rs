//! Local clusters, load on them, and faults made on purpose.
//!
//! `stage` is the cluster that playground, demo and the end-to-end tests share;
//! `load` writes to it and remembers every fate; `fault` breaks it as an
//! operator's worst day would, through pids and files that anybody can see;
//! `matrix` does it to every process, link, disk and clock in turn.

pub mod document;
pub mod door;
pub mod fault;
mod furnish;
pub mod isolate;
pub mod keys;
pub mod layout;
pub mod load;
pub mod matrix;
pub mod processes;
mod server;
pub mod stage;
pub mod verdict;

pub use stage::{Stage, StageError};
