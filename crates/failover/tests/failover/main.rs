//! What agents decide, on moments in the life of a cluster.

mod clarifications;
mod leases;
mod reinit;
