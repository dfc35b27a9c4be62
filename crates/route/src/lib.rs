//! Where a client's statements go, and what it is told when a server is lost.
//!
//! One `Session` is one client's life: bytes of either side in, stretches to
//! send out. It decides when a server is needed and when it can be given back,
//! what a client takes with it from server to server, and what is certain about
//! a statement that was under way when its server went.
//!
//! And where the servers are: what agents push (`routes`), and one picture out of all of it (`merge`).
//!
//! Never reads a clock or a socket, and never looks into rows.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod backend;
pub mod expect;
pub mod lease;
pub mod merge;
pub mod pin;
pub mod plan;
pub mod prepared;
pub mod read_after;
pub mod routes;
pub mod session;
pub mod settings;
pub mod sql;

pub use backend::Backend;
pub use pin::{Pin, Pins};
pub use plan::{Out, Plan};
pub use prepared::Shelf;
pub use session::{Mode, Rules, Session};
pub use settings::Settings;
