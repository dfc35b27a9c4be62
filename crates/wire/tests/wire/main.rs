//! What the wire crate reads and writes, against PostgreSQL's own behaviour,
//! published vectors, and bytes that no honest peer would send.

mod ask;
mod md5;
mod negotiate;
mod options;
mod proxy_header;
mod scram;
mod scram_hostile;
mod scram_oracle;
mod start;
