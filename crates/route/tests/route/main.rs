//! Sessions between clients and model servers: what clients hear, and what is true.

mod differential;
mod loss;
mod pool;
mod server;
mod words;
