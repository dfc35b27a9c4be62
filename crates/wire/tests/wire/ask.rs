//! What we say first to a server, and what may come back.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::start::ask::{self, Fault, Offer, SslAnswer};
use wire::start::{First, Look, Version};

use crate::start::read;

type Pair<'a> = (&'a [u8], &'a [u8]);

#[test]
fn a_startup_packet_byte_by_byte() {
    let mut out = b"before".to_vec();
    let pairs: [Pair; 2] = [(b"user", b"bob"), (b"database", b"shop")];
    ask::startup(Version::V3_2, pairs, &mut out).unwrap();
    assert_eq!(out, b"before\0\0\0\x20\0\x03\0\x02user\0bob\0database\0shop\0\0");
}

#[test]
fn a_pair_cannot_smuggle_another() {
    let hostile: [Pair; 3] = [(b"", b"x"), (b"x", b"y\0user\0postgres"), (b"x\0y", b"z")];
    for pair in hostile {
        let mut out = b"before".to_vec();
        assert_eq!(ask::startup(Version::V3_0, [pair], &mut out), Err(Fault::Parameter));
        assert_eq!(out, b"before");
    }
}

#[test]
fn a_startup_packet_has_an_end() {
    let value = vec![b'x'; 10_000 - 4 - 2 - 1 - 1];
    let mut out = Vec::new();
    assert_eq!(ask::startup(Version::V3_0, [(&b"a"[..], &value[..])], &mut out), Ok(()));
    assert_eq!(out.len(), 10_004);
    out.clear();
    assert_eq!(ask::startup(Version::V3_0, [(&b"ab"[..], &value[..])], &mut out), Err(Fault::TooLong));
    assert_eq!(out, b"");
}

#[test]
fn a_server_answers_with_one_byte() {
    assert_eq!(SslAnswer::look(b""), Ok(None));
    assert_eq!(SslAnswer::look(b"S"), Ok(Some(SslAnswer::Willing)));
    assert_eq!(SslAnswer::look(b"N"), Ok(Some(SslAnswer::Unwilling)));
    assert_eq!(SslAnswer::look(b"SR"), Err(Fault::Unencrypted));
    assert_eq!(SslAnswer::look(b"EFATAL"), Err(Fault::Answer(b'E')));
    assert_eq!(SslAnswer::look(b"\0"), Err(Fault::Answer(0)));
}

#[test]
fn offers_that_make_no_sense() {
    let parse = |body: &[u8]| Offer::parse(body, Version::V3_2, &[b"_pq_.a"]);
    let good = Offer { version: Version::V3_0, unsupported: vec![b"_pq_.a".to_vec()] };
    assert_eq!(parse(b"\0\x03\0\0\0\0\0\x01_pq_.a\0"), Ok(good));
    for (body, part) in [
        (&b"\0\x03\0"[..], "too short"),
        (b"\0\x03\0\0\0\0", "too short"),
        (b"\0\x03\0\x03\0\0\0\0", "higher-numbered"),
        (b"\0\0\0\0\0\0\0\0", "pre-3.0"),
        (b"\0\x03\0\x01\0\0\0\0", "non-existent 3.1"),
        (b"\0\x03\0\x02\0\0\0\0", "asks for no changes"),
        (b"\0\x03\0\0\0\0\0\x01", "fewer options"),
        (b"\0\x03\0\0\xff\xff\xff\xff", "fewer options"),
        (b"\0\x03\0\0\0\0\0\x01_pq_.b\0", "not requested"),
        (b"\0\x03\0\0\0\0\0\0x", "more bytes"),
    ] {
        let text = parse(body).unwrap_err().to_string();
        assert!(text.contains(part), "{body:?}: {text}");
    }
}

#[test]
#[should_panic(expected = "a cancel key of 3 bytes")]
fn a_short_cancel_key_is_our_own_fault() {
    ask::cancel(1, &[1, 2, 3], &mut Vec::new());
}

proptest! {
    #[test]
    fn what_is_asked_is_read_back(pairs in vec((vec(1u8.., 1..30), vec(1u8.., 0..30)), 0..10), is_new in any::<bool>()) {
        let version = if is_new { Version::V3_2 } else { Version::V3_0 };
        let pairs: Vec<Pair> = pairs.iter().map(|(n, v)| (&n[..], &v[..])).filter(|(n, _)| *n != b"replication").collect();
        let pairs: Vec<Pair> = pairs.into_iter().chain([(&b"user"[..], &b"bob"[..])]).collect();
        let mut out = Vec::new();
        ask::startup(version, pairs.iter().copied(), &mut out).unwrap();
        let startup = read(&out).unwrap();
        prop_assert_eq!((startup.version(), startup.user()), (version, &b"bob"[..]));
        prop_assert_eq!(startup.pairs().collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn a_cancel_request_is_read_back(pid in any::<u32>(), secret in vec(any::<u8>(), 4..=256)) {
        let mut out = Vec::new();
        ask::cancel(pid, &secret, &mut out);
        let Ok(Look::Found { what: First::Cancel(cancel), .. }) = First::look(&out) else { panic!("{out:?}") };
        prop_assert_eq!((cancel.pid, cancel.secret), (pid, &secret[..]));
    }

    #[test]
    fn no_answer_panics(bytes in vec(any::<u8>(), 0..60), minor in 0u16..5) {
        let _ = (SslAnswer::look(&bytes), Offer::parse(&bytes, Version { major: 3, minor }, &[b"_pq_.a"]));
    }
}
