//! The JSON of `/v1`, once, and its client; and the file that describes a host.
#![forbid(unsafe_code)]

pub mod client;
pub mod host_config;
mod problems;
pub mod status;
pub mod verbs;
pub mod verifier;

pub use client::{Client, ClientError};
pub use host_config::HostConfig;
pub use route::lease;
pub use route::routes::{self, Routes};
pub use status::{Status, status};
