//! PostgreSQL's wire protocol as bytes and words, for whoever stands between
//! a client and a server.
//!
//! Bytes received so far go in; what they say, and how many of them it took,
//! comes out. Sockets, clocks and random numbers are the caller's, so all of
//! it can be tested byte by byte.
//!
//! Never allocates by a length that a stranger wrote, and never shows a secret
//! in a message or in `Debug`.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod back;
pub mod frame;
pub mod front;
pub mod md5;
pub mod proxy_header;
pub mod put;
pub mod scram;
pub mod start;
