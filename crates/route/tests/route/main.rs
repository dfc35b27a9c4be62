//! Sessions between clients and model servers: what clients hear, and what is true.

mod again;
mod bytes;
mod differential;
mod doubt;
mod loss;
mod pitfalls;
mod pool;
mod server;
mod temporary;
mod words;
mod world;
