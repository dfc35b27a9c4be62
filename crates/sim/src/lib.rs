//! A whole cluster in one thread, told as a story or thrown into a storm.
//!
//! The same `failover` and `cluster` code that ships runs here against a model
//! of PostgreSQL, disks, links, clocks, clients and a store, in virtual time.
//!
//! ```text
//!   seed ──▶ storm ──▶ a story (text) ──▶ runner ──▶ World ◀── laws, at every step
//!                           ▲                          │
//!                        shrink ◀──── it failed ◀──────┘
//! ```
//! A story is text (`scenarios/*.story`): what is done to the cluster, and what
//! must follow. A storm is a story made by chance, so whatever it finds can be
//! read, cut down, and kept.
//!
//! Never reads a clock; the same story always runs the same way.

mod agent;
pub mod client;
pub mod clock;
mod commit;
pub mod cover;
pub mod deed;
pub mod disk;
pub mod fault;
pub mod front;
pub mod fronted;
mod guard;
pub mod host;
pub mod late;
pub mod law;
pub mod mutation;
pub mod network;
pub mod operator;
pub mod point;
mod process;
pub mod raft;
pub mod rehearsal;
pub mod rng;
pub mod runner;
pub mod server;
pub mod shrink;
pub mod store;
pub mod storm;
pub mod story;
pub mod stream;
pub mod trace;
pub mod wal;
pub mod world;
