//! The fault matrix: every process, link, disk and clock of a real cluster is
//! broken in turn, under load, in each mode.
//!
//! ```text
//!   cell.rs    what is broken, on whom, for how long: data, nothing else
//!   scene.rs   the cluster that it happens to, its disks, its load
//!   blow.rs    one cell's fault: begun, held, ended
//!   judge.rs   what the clients were told, held against what the members hold
//!   ledger.rs  one line for each cell that was run, and the table made of them
//!   run.rs     all of that, in order, going on where an earlier run stopped
//! ```
//!
//! Asserts what must never happen, and that it heals; reports times, and only
//! holds them to outer bounds.

mod blow;
pub mod cell;
mod judge;
pub mod ledger;
mod run;
mod scene;

pub use run::{Asked, run};
