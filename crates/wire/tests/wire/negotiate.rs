//! Versions and protocol options: what is spoken, and what a client is told.

use proptest::prelude::*;
use wire::start::ask::Offer;
use wire::start::{Version, negotiate};

use crate::start::{read, startup_packet};

/// What comes of a request for the version `code` with `body`: the version, and the message if one is owed.
fn answer(code: u32, body: &str) -> (Version, Option<Vec<u8>>) {
    let startup = read(&startup_packet(code, body)).expect("a startup");
    let negotiation = negotiate(&startup);
    let mut out = Vec::new();
    if negotiation.owed {
        negotiation.encode(&mut out);
    }
    (negotiation.version, negotiation.owed.then_some(out))
}

#[test]
fn known_versions_need_no_words() {
    assert_eq!(answer(0x30000, "user|bob||"), (Version::V3_0, None));
    assert_eq!(answer(0x30002, "user|bob||"), (Version::V3_2, None));
}

#[test]
fn newer_versions_are_brought_down() {
    let message = b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0".to_vec();
    for minor in [3, 4, 9_999, 0xffff] {
        assert_eq!(answer(0x30000 | minor, "user|bob||"), (Version::V3_2, Some(message.clone())));
    }
}

#[test]
fn the_reserved_version_is_brought_down() {
    let message = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0".to_vec();
    assert_eq!(answer(0x30001, "user|bob||"), (Version::V3_0, Some(message)));
}

#[test]
fn unknown_options_are_named() {
    let (version, message) = answer(0x30000, "user|bob|_pq_.a|1|x|y|_pq_.bc|||");
    let expected = b"v\0\0\0\x1b\0\x03\0\0\0\0\0\x02_pq_.a\0_pq_.bc\0";
    assert_eq!((version, message.as_deref()), (Version::V3_0, Some(&expected[..])));
}

#[test]
#[should_panic(expected = "nothing to negotiate")]
fn what_is_not_owed_is_not_said() {
    let startup = read(&startup_packet(0x30000, "user|bob||")).unwrap();
    negotiate(&startup).encode(&mut Vec::new());
}

proptest! {
    #[test]
    fn a_client_understands_what_it_is_told(minor in any::<u16>(), names in proptest::collection::vec("[a-z]{0,9}", 0..5)) {
        let pairs: String = names.iter().map(|name| format!("_pq_.{name}|1|")).collect();
        let code = 0x30000 | u32::from(minor);
        let (version, message) = answer(code, &format!("user|bob|{pairs}|"));
        prop_assert!(version == Version::V3_0 || version == Version::V3_2);
        if let Some(message) = message {
            let length = u32::from_be_bytes(message[1..5].try_into().unwrap());
            prop_assert_eq!(length as usize + 1, message.len());
            let names: Vec<Vec<u8>> = names.iter().map(|name| format!("_pq_.{name}").into_bytes()).collect();
            let asked: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let offer = Offer::parse(&message[5..], Version::from_code(code), &asked).unwrap();
            prop_assert_eq!(offer, Offer { version, unsupported: names });
        }
    }
}
