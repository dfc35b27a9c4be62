//! A whole cluster in one thread, told as a story.
//!
//! The same `failover` and `cluster` code that ships runs here against a model
//! of PostgreSQL, disks, links and a store, in virtual time. A story is text
//! (`scenarios/*.story`): what is done to the cluster, and what must follow.
//! After every step the laws are checked: no acknowledged write is missing on
//! an open leader, and never two servers that both acknowledge.
//!
//! Never reads a clock; the same story always runs the same way.

pub mod deed;
pub mod node;
pub mod runner;
pub mod server;
pub mod story;
pub mod world;
