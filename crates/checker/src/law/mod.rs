//! The laws: I1 to I15 of docs/protocol.md, as far as histories can show them.

pub mod ack_durable;
pub mod append;
pub mod no_resurrect;
pub mod one_at_a_time;
pub mod register;
