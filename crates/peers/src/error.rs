//! What can go wrong between agents.

use std::path::PathBuf;

/// Why a word could not be sent or believed.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// A certificate or key file.
    #[error(
        "TAN0301: the file '{path}' can't be used: {why}. Check that it exists, is readable by this user and is a PEM file"
    )]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The TLS library refused the material.
    #[error(
        "TAN0302: the certificates of this node can't be used together: {0}. Make new ones from the cluster's CA"
    )]
    Material(String),
    /// The address can't be listened on.
    #[error(
        "TAN0303: can't listen for other agents on {address}: {why}. Is another agent running, or is the address not this host's?"
    )]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        why: String,
    },
    /// Nobody there, or not one of us.
    #[error("TAN0304: the agent at {address} can't be reached: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// Bytes that are no frame.
    #[error("TAN0305: an agent sent something that is no message: {0}")]
    BadFrame(&'static str),
    /// It did not answer in time.
    #[error("TAN0306: the agent at {0} did not answer in time")]
    Timeout(String),
}
