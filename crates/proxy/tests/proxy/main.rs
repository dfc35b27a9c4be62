//! The proxy as its clients and administrators meet it, before a real PostgreSQL.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

mod cluster;
mod connect_query;
mod console;
mod doors;
mod follow;
mod forced;
mod leader;
mod limits;
mod live;
mod metrics;
mod proofs;
mod reads;
mod replication;
mod retry;
mod stage;
mod strict;
mod temporary;
mod threads;
mod timeouts;
mod tls;
