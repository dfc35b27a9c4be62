//! The front door: PostgreSQL's clients on one side, whoever leads on the other.
//!
//! It learns who leads from the agents, which tell it; it asks nobody. What a
//! client may do, and what becomes of it when a server is lost, `route` decides;
//! here are sockets, TLS, logins, queues.
#![forbid(unsafe_code)]

pub mod accept;
pub mod admin;
pub mod after;
pub mod age;
pub mod auth;
pub mod balance;
pub mod balancer;
pub mod cancel;
pub mod cancel_key;
pub mod certificate;
pub mod client;
pub mod client_tls;
pub mod config;
pub mod connect_query;
pub mod control;
pub mod facts;
pub mod file_mode;
pub mod follow;
pub mod forced;
pub mod fresh;
pub mod gates;
pub mod hand_over;
pub mod hba;
pub mod idle;
pub mod leases;
pub mod limits;
pub mod line;
pub mod links;
pub mod live;
pub mod login;
pub mod lookup;
pub mod metrics;
pub mod network;
pub mod origin;
pub mod patience;
pub mod peering;
pub mod pgbouncer;
pub mod pool;
pub mod reactor;
pub mod replication;
pub mod reserve;
pub mod retry;
pub mod routing;
pub mod run;
pub mod secrets;
pub mod server;
pub mod settle;
pub mod share;
pub mod signals;
pub mod stream;
pub mod strict;
pub mod target;
pub mod threads;
pub mod timeouts;
pub mod unix_door;
pub mod verifiers;
pub mod waiter;
pub mod warm;
pub mod welcomes;

pub use config::{Config, ConfigError};
pub use route::merge;
pub use run::run;
