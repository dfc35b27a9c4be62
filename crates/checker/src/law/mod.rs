//! The laws: I1 to I15 of docs/protocol.md, as far as histories can show them.

pub mod ack_durable;
pub mod no_resurrect;
