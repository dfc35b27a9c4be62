//! SCRAM messages that no honest peer sends.

use proptest::prelude::*;
use wire::scram::client::{Binding, Client, MESSAGE_BYTES_MAX as SERVER_BYTES_MAX, Waiting};
use wire::scram::server::{MESSAGE_BYTES_MAX, Offer, Server};
use wire::scram::{Error, Mechanism, Nonce, Verifier};

use crate::scram::{PASSWORD, PLAIN, nonce, password, pencil};

const PLUS: Offer<'static> = Offer { chosen: Mechanism::Plus, end_point: Some(&[7; 32]) };

fn begin(offer: Offer<'_>, message: &[u8]) -> Result<(Server, String), Error> {
    Server::begin(&pencil(), offer, &nonce(2), message)
}

#[track_caller]
fn first_refused(offer: Offer<'_>, message: &str, expected: &str, sqlstate: &str) {
    let error = begin(offer, message.as_bytes()).expect_err(message);
    assert_eq!((error.to_string().as_str(), error.sqlstate()), (expected, sqlstate), "{message}");
}

#[test]
fn first_messages_of_clients() {
    let malformed = |offer, message: &str, detail: &str| {
        first_refused(offer, message, &format!("malformed SCRAM message: {detail}"), "08P01");
    };
    malformed(PLAIN, "", "The message is empty.");
    malformed(PLAIN, "n,,n=,r=a\0", "Message length does not match input length.");
    malformed(PLAIN, &format!("n,,n=,r={}", "a".repeat(MESSAGE_BYTES_MAX)), "The message is too long.");
    malformed(PLAIN, "x,,n=,r=a", "Unexpected channel-binding flag.");
    malformed(PLAIN, "n", "Unexpected channel-binding flag.");
    malformed(PLAIN, "n,n=,r=a", "Unexpected attribute in client-first-message.");
    malformed(PLAIN, "n,,", "Attribute expected, but found end of string.");
    malformed(PLAIN, "n,,r=a", "Another attribute was expected.");
    malformed(PLAIN, "n,,n=", "Attribute expected, but found end of string.");
    malformed(PLAIN, "n,,n,r=a", "Expected character \"=\" for an attribute.");
    malformed(PLAIN, "n,,n=,r=a,1=b", "Attribute expected, but found an invalid character.");
    malformed(PLAIN, "p=tls-server-end-point,,n=,r=a", "SCRAM-SHA-256 with channel binding data.");
    malformed(PLUS, "n,,n=,r=a", "SCRAM-SHA-256-PLUS without channel binding data.");
    malformed(PLUS, "y,,n=,r=a", "SCRAM-SHA-256-PLUS without channel binding data.");
    let identity = "client uses authorization identity, but it is not supported";
    first_refused(PLAIN, "n,a=root,n=,r=a", identity, "0A000");
    first_refused(PLAIN, "n,,m=x,n=,r=a", "client requires an unsupported SCRAM extension", "0A000");
    first_refused(PLUS, "p=tls-unique,,n=,r=a", "unsupported SCRAM channel-binding type", "08P01");
    for text in ["n,,n=,r=", "n,,n=,r=a b", "n,,n=,r=é", "n,,n=,r=a\x7f", "n,,n=,r=\t"] {
        first_refused(PLAIN, text, "non-printable characters in SCRAM nonce", "08P01");
    }
    assert_eq!(begin(PLAIN, b"n,,n=\xff,r=a").unwrap_err(), Error::Malformed("The message is not UTF-8."));
}

#[test]
fn what_may_be_skipped_is_skipped() {
    assert!(begin(PLAIN, b"n,,n=bob,r=abc,x=1,y=").is_ok());
    assert!(begin(PLUS, b"p=tls-server-end-point,,n=,r=abc").is_ok());
}

/// The right final message to the server of `begin`, and that server.
fn almost_done() -> (Server, String) {
    let client = Client::new(password(PASSWORD), Binding::Unsupported, nonce(1));
    let (server, server_first) = begin(PLAIN, client.first().as_bytes()).expect("a first message");
    (server, client.answer(server_first.as_bytes()).expect("an answer").1)
}

#[test]
fn final_messages_of_clients() {
    let (_, right) = almost_done();
    let (before, proof) = right.rsplit_once(",p=").unwrap();
    let proof_changed = proof.replacen(|c: char| c.is_ascii_lowercase(), "Q", 1);
    for (message, expected) in [
        (right.replace("c=biws", "c=eSws"), Error::BindingUnexpected),
        (right.replace("c=biws", "c="), Error::BindingUnexpected),
        (right.replace(",r=", ",r=x"), Error::NonceMismatch),
        (right.replace(",p=", "x,p="), Error::NonceMismatch),
        (format!("{before},x=1,p={proof}"), Error::Proof),
        (format!("{before},p={proof_changed}"), Error::Proof),
        (format!("{before},p={}", &proof[4..]), Error::Malformed("Malformed proof in client-final-message.")),
        (format!("{before},p="), Error::Malformed("Malformed proof in client-final-message.")),
        (format!("{right},x=1"), Error::Malformed("Garbage found at the end.")),
        (before.to_owned(), Error::Malformed("Attribute expected, but found end of string.")),
        (format!("{before},"), Error::Malformed("Attribute expected, but found end of string.")),
        (format!("r=a,{right}"), Error::Malformed("Another attribute was expected.")),
    ] {
        assert_eq!(almost_done().0.finish(message.as_bytes()).unwrap_err(), expected, "{message}");
    }
    assert!(almost_done().0.finish(right.as_bytes()).is_ok());
}

#[test]
fn a_proof_of_another_exchange_is_worthless() {
    let (_, right) = almost_done();
    let client = Client::new(password(PASSWORD), Binding::Unsupported, nonce(1));
    let (server, _) = Server::begin(&pencil(), PLAIN, &nonce(3), client.first().as_bytes()).unwrap();
    assert_eq!(server.finish(right.as_bytes()).unwrap_err(), Error::NonceMismatch);
}

fn answer(server_first: &[u8]) -> Result<(Waiting, String), Error> {
    let nonce = Nonce::from_text("abc").expect("a nonce");
    Client::new(password(PASSWORD), Binding::Unsupported, nonce).answer(server_first)
}

#[test]
fn first_messages_of_servers() {
    assert!(answer(b"r=abcd,s=BQUF,i=1").is_ok());
    for (message, expected) in [
        ("r=abc,s=BQUF,i=1", Error::ServerNonce),
        ("r=xabcd,s=BQUF,i=1", Error::ServerNonce),
        ("r=abc\u{1},s=BQUF,i=1", Error::ServerNonce),
        ("r=abcd,s=,i=1", Error::Salt),
        ("r=abcd,s=B,i=1", Error::Malformed("Invalid salt.")),
        ("r=abcd,s=BQUF,i=0", Error::Iterations),
        ("r=abcd,s=BQUF,i=-1", Error::Iterations),
        ("r=abcd,s=BQUF,i=", Error::Iterations),
        ("r=abcd,s=BQUF,i=1000001", Error::Iterations),
        ("r=abcd,s=BQUF,i=4294967297", Error::Iterations),
        ("r=abcd,s=BQUF,i=1,x=y", Error::Malformed("Garbage found at the end.")),
        ("m=x,r=abcd,s=BQUF,i=1", Error::Malformed("Another attribute was expected.")),
        ("s=BQUF,r=abcd,i=1", Error::Malformed("Another attribute was expected.")),
    ] {
        assert_eq!(answer(message.as_bytes()).expect_err(message), expected, "{message}");
    }
    let long = |salt_chars: usize| format!("r=abcd,s={},i=1", "BQUF".repeat(salt_chars / 4));
    assert_eq!(answer(long(344).as_bytes()).unwrap_err(), Error::Salt);
    let too_long = answer(long(SERVER_BYTES_MAX).as_bytes()).unwrap_err();
    assert_eq!(too_long, Error::Malformed("The message is too long."));
}

#[test]
fn final_messages_of_servers() {
    let key = "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=";
    for (message, expected) in [
        ("e=no\u{1b}[2J such user".to_owned(), Error::Server("no[2J such user".into())),
        (format!("v={key}"), Error::ServerSignature),
        (format!("v={key},x=1"), Error::Malformed("Garbage found at the end.")),
        ("v=BQUF".to_owned(), Error::Malformed("Malformed server signature.")),
        ("v=".to_owned(), Error::Malformed("Malformed server signature.")),
        ("x=1".to_owned(), Error::Malformed("Another attribute was expected.")),
    ] {
        let waiting = answer(b"r=abcd,s=BQUF,i=1").unwrap().0;
        assert_eq!(waiting.finish(message.as_bytes()).unwrap_err(), expected, "{message}");
    }
}

#[test]
fn nonces_and_mechanisms() {
    for text in ["", "a,b", "a b", "é", "a\n"] {
        assert_eq!(Nonce::from_text(text), None);
    }
    for mechanism in [Mechanism::Plain, Mechanism::Plus] {
        assert_eq!(Mechanism::from_name(mechanism.name().as_bytes()), Some(mechanism));
    }
    assert_eq!(Mechanism::from_name(b"SCRAM-SHA-1"), None);
}

/// Text that is nearly a SCRAM message.
const NEARLY: &str = "(([nyp]|p=tls-server-end-point),[a]?,)?([a-z]=[ -~]{0,8},?){0,5}";

proptest! {
    #[test]
    fn nothing_panics(text in NEARLY, bytes in proptest::collection::vec(any::<u8>(), 0..60), is_plus in any::<bool>()) {
        for message in [text.as_bytes(), &bytes[..]] {
            let _ = begin(if is_plus { PLUS } else { PLAIN }, message);
            let _ = almost_done().0.finish(message);
            let _ = answer(message);
            let _ = answer(b"r=abcd,s=BQUF,i=1").expect("good").0.finish(message);
        }
        let _ = Verifier::parse(&text);
        let _ = Verifier::parse(&format!("SCRAM-SHA-256${text}"));
    }

    #[test]
    fn no_change_of_a_byte_is_let_through(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (server, right) = almost_done();
        let mut message = right.into_bytes();
        let at = at.index(message.len());
        let is_changed = message[at] != byte;
        message[at] = byte;
        prop_assert_eq!(server.finish(&message).is_err(), is_changed);
    }
}
