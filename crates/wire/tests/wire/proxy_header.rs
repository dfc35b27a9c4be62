//! PROXY headers of both versions: good, in pieces, and hostile.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use wire::proxy_header::{Look, Malformed, V1_BYTES_MAX, V2_BYTES_MAX, look};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("short").to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

fn source(text: &str, port: u16) -> Option<(IpAddr, u16)> {
    Some((text.parse().expect("an address"), port))
}

/// Checks a whole header, followed by a client's first bytes.
#[track_caller]
fn check(header: &[u8], expected: Result<Option<(IpAddr, u16)>, Malformed>) {
    let followed = [header, b"\0\0\0\x08\x04\xd2\x16\x2f"].concat();
    let expected = expected.map(|source| Look::Found { source, bytes_consumed: header.len() });
    assert_eq!(look(&followed), expected, "{}", String::from_utf8_lossy(header));
}

#[test]
fn version_1() {
    check(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 5432\r\n", Ok(source("192.0.2.7", 56324)));
    check(
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Ok(source("255.255.255.255", 65535)),
    );
    check(b"PROXY TCP6 2001:DB8::7 ::1 1 0\r\n", Ok(source("2001:db8::7", 1)));
    check(b"PROXY UNKNOWN\r\n", Ok(None));
    let full = "ffff:f...f:ffff ffff:f...f:ffff 65535 65535";
    check(format!("PROXY UNKNOWN {full}\r\n").as_bytes(), Ok(None));
}

#[test]
fn version_1_with_other_words() {
    for line in [
        "PROXY ",
        "PROXY TCP4",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 2",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ",
        "PROXY TCP4 1.2.3 1.2.3.4 1 2",
        "PROXY TCP4 01.2.3.4 1.2.3.4 1 2",
        "PROXY TCP4 ::1 ::1 1 2",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 x",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 ",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
    ] {
        check(format!("{line}\r\n").as_bytes(), Err(Malformed::Line));
    }
    check(b"PROXY TCP4 \xff 1.2.3.4 1 2\r\n", Err(Malformed::Line));
}

#[test]
fn version_1_has_an_end() {
    let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16)).into_bytes();
    check(&line(V1_BYTES_MAX), Ok(None));
    check(&line(V1_BYTES_MAX + 1), Err(Malformed::Endless));
    assert_eq!(look(&line(V1_BYTES_MAX + 1)[..V1_BYTES_MAX]), Err(Malformed::Endless));
    let almost = &line(V1_BYTES_MAX + 1)[..V1_BYTES_MAX - 1];
    assert_eq!(look(almost), Ok(Look::NeedMore { at_least: V1_BYTES_MAX }));
}

#[test]
fn version_2() {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x15, 0x38];
    check(&v2(0x21, 0x11, &v4), Ok(source("192.0.2.7", 56324)));
    check(&v2(0x21, 0x11, &[&v4[..], b"\x04\0\x02xx"].concat()), Ok(source("192.0.2.7", 56324)));
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0xff; 16], &[0, 9], &[0, 1]].concat();
    check(&v2(0x21, 0x21, &v6), Ok(source("2001:db8::7", 9)));
}

#[test]
fn version_2_without_an_address_for_us() {
    let health_check = v2(0x20, 0, &[]);
    check(&health_check, Ok(None));
    check(&v2(0x20, 0x11, &[1; 12]), Ok(None));
    check(&v2(0x20, 0xff, &[]), Ok(None));
    check(&v2(0x21, 0x00, &[]), Ok(None));
    check(&v2(0x21, 0x12, &[1; 12]), Ok(None));
    check(&v2(0x21, 0x31, &[1; 216]), Ok(None));
}

#[test]
fn version_2_hostile() {
    for (command, family) in [(0x11, 0x11), (0x31, 0x11), (0x22, 0x11), (0x21, 0x41), (0x21, 0x13), (0, 0)] {
        check(&v2(command, family, &[1; 36]), Err(Malformed::Kind));
    }
    check(&v2(0x21, 0x11, &[1; 11]), Err(Malformed::Length));
    check(&v2(0x21, 0x21, &[1; 35]), Err(Malformed::Length));
    check(&v2(0x21, 0x11, &[1; V2_BYTES_MAX - 16]), Ok(source("1.1.1.1", 257)));
    check(&v2(0x21, 0x11, &[1; V2_BYTES_MAX - 15]), Err(Malformed::Length));
    assert_eq!(look(&v2(0x21, 0x11, &[0; 0xffff])[..16]), Err(Malformed::Length));
}

#[test]
fn a_client_without_a_header_is_told_apart_by_its_first_byte() {
    for bytes in [&b"\0"[..], b"\x16", b"Q", b"PX", b"PROXYx", b"\r\nx", b"\r\n\r\n\0\r\nQUIT\r"] {
        assert_eq!(look(bytes), Ok(Look::NotOne));
    }
    assert_eq!(look(b""), Ok(Look::NeedMore { at_least: 1 }));
}

fn honest() -> impl Strategy<Value = Vec<u8>> {
    let v1 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| {
        format!("PROXY TCP4 {} 10.0.0.1 {port} 5432\r\n", IpAddr::from(ip)).into_bytes()
    });
    let v2 = vec(any::<u8>(), 36..200).prop_map(|block| v2(0x21, 0x21, &block));
    prop_oneof![v1, v2]
}

proptest! {
    #[test]
    fn pieces_amount_to_the_whole(header in honest()) {
        let whole = look(&header);
        let is_whole = matches!(whole, Ok(Look::Found { bytes_consumed, .. }) if bytes_consumed == header.len());
        prop_assert!(is_whole, "{whole:?}");
        for end in 0..header.len() {
            match look(&header[..end]) {
                Ok(Look::NeedMore { at_least }) => prop_assert!(end < at_least && at_least <= header.len()),
                other => prop_assert!(false, "{end}: {other:?}"),
            }
        }
    }

    #[test]
    fn nothing_panics(start in prop_oneof![Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 "[..]), Just(&SIGNATURE[..])],
                      rest in vec(prop_oneof![any::<u8>(), Just(b' '), Just(0x21), Just(0x11)], 0..200)) {
        let bytes = [start, &rest[..]].concat();
        if let Ok(Look::Found { bytes_consumed, .. }) = look(&bytes) {
            prop_assert!(bytes_consumed <= bytes.len());
        }
    }
}
