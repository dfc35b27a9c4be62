//! Our server against somebody else's client: rust-postgres's, which speaks
//! with real PostgreSQL servers every day.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::password::scram_sha_256;
use proptest::prelude::*;
use wire::scram::server::{Offer, Server};
use wire::scram::{Mechanism, Verifier};

use crate::scram::{PLAIN, nonce};

/// Whether their client and our server agree, in both directions.
fn agree(verifier: &Verifier, password: &[u8], binding: ChannelBinding, offer: Offer<'_>) -> bool {
    let mut client = ScramSha256::new(password, binding);
    let (server, server_first) =
        Server::begin(verifier, offer, &nonce(2), client.message()).expect("their first message");
    client.update(server_first.as_bytes()).expect("our first message");
    match server.finish(client.message()) {
        Ok(accepted) => {
            client.finish(accepted.server_final.as_bytes()).expect("our signature");
            verifier.fits(&accepted.keys)
        }
        Err(_) => false,
    }
}

#[test]
fn their_client_logs_in() {
    let verifier = Verifier::from_password(b"pencil", vec![1; 16], 4_096).unwrap();
    let plus = Offer { chosen: Mechanism::Plus, end_point: Some(&[7; 32]) };
    let bound = |byte| ChannelBinding::tls_server_end_point(vec![byte; 32]);
    assert!(agree(&verifier, b"pencil", ChannelBinding::unsupported(), PLAIN));
    assert!(agree(&verifier, b"pencil", ChannelBinding::unrequested(), PLAIN));
    assert!(agree(&verifier, b"pencil", bound(7), plus));
    assert!(!agree(&verifier, b"pencil", bound(8), plus));
    assert!(!agree(&verifier, b"pencils", ChannelBinding::unsupported(), PLAIN));
}

#[test]
fn their_verifier_is_ours() {
    let text = scram_sha_256(b"pencil");
    let verifier = Verifier::parse(&text).unwrap();
    assert_eq!(verifier.to_text(), text);
    assert!(agree(&verifier, b"pencil", ChannelBinding::unsupported(), PLAIN));
}

proptest! {
    // ASCII without controls: what SASLprep, which their client applies and we leave to the caller, doesn't change.
    #[test]
    fn for_any_password(password in "[ -~]{1,80}", salt in proptest::collection::vec(any::<u8>(), 1..40), iterations in 1u32..50) {
        let verifier = Verifier::from_password(password.as_bytes(), salt, iterations).unwrap();
        prop_assert!(agree(&verifier, password.as_bytes(), ChannelBinding::unsupported(), PLAIN));
    }
}
