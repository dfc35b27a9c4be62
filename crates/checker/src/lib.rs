//! Histories and the laws they must obey.
//!
//! A history is what clients were told; a law says what must then be true of
//! what members hold. One law a file, each with its source.
//!
//! Never talks to a server: whoever made the history reads the members back.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod append;
pub mod gap;
pub mod history;
pub mod law;
pub mod register;

pub use history::{Fate, History, Operation};
