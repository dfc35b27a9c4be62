//! First messages: whole, in pieces, and hostile.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::start::{Encryption, First, Look, Replication, StartError, Startup, Version, ask};

/// A packet of any code and body, with its true length.
pub fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("short");
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// A startup packet whose body is `body`, where `|` stands for a zero byte.
pub fn startup_packet(code: u32, body: &str) -> Vec<u8> {
    packet(code, body.replace('|', "\0").as_bytes())
}

/// Reads the startup packet of version 3.0 with `body`.
pub fn startup(body: &str) -> Result<Startup, StartError> {
    read(&startup_packet(0x30000, body))
}

/// Reads a startup packet, all of it.
pub fn read(packet: &[u8]) -> Result<Startup, StartError> {
    match First::look(packet)? {
        Look::Found { what: First::Startup(startup), bytes_consumed } => {
            assert_eq!(bytes_consumed, packet.len());
            Ok(startup)
        }
        other => panic!("not a startup packet: {other:?}"),
    }
}

#[track_caller]
fn refused(error: StartError, sqlstate: &str, text: &str) {
    assert_eq!((error.sqlstate(), error.to_string().as_str()), (sqlstate, text));
}

#[test]
fn who_and_where() {
    let s = startup("user|bob|database|shop|application_name|psql||").unwrap();
    assert_eq!((s.user(), s.database(), s.version()), (&b"bob"[..], &b"shop"[..], Version::V3_0));
    assert_eq!(s.parameter(b"Application_Name"), Some(&b"psql"[..]));
    assert_eq!(s.parameter(b"user"), None);
    assert_eq!(s.pairs().count(), 3);
    assert_eq!(s.parameters().count(), 1);
}

#[test]
fn the_database_is_the_users_unless_named() {
    for body in
        ["user|bob||", "user|bob|database|||", "database||user|bob||", "database|x|database||user|bob||"]
    {
        assert_eq!(startup(body).unwrap().database(), b"bob", "{body}");
    }
}

#[test]
fn the_later_of_two_counts() {
    let s = startup("user|a|x|1|user|b|X|2|options|-c y=1|options|-c y=2||").unwrap();
    assert_eq!((s.user(), s.parameter(b"x")), (&b"b"[..], Some(&b"2"[..])));
    let settings: Vec<_> = s.settings().unwrap().into_iter().map(|s| (s.name, s.value)).collect();
    let expected = [("y", "2"), ("x", "1"), ("X", "2")].map(|(n, v)| (n.into(), v.into()));
    assert_eq!(settings, expected);
}

#[test]
fn no_user() {
    for body in ["|", "database|x||", "user|||", "user|bob|user|||"] {
        refused(startup(body).unwrap_err(), "28000", "no PostgreSQL user name specified in startup packet");
    }
}

#[test]
fn pairs_end_where_the_packet_does() {
    for body in ["", "user|bob|", "user|bob", "user|bob||x", "user|bob|||", "user|", "user||", "u"] {
        let text = "invalid startup packet layout: expected terminator as last byte";
        refused(startup(body).unwrap_err(), "08P01", text);
    }
}

#[test]
fn long_names_are_cut_between_characters() {
    let cut = |name: &str| startup(&format!("user|{name}||")).unwrap().user().len();
    assert_eq!(cut(&"x".repeat(63)), 63);
    assert_eq!(cut(&"x".repeat(64)), 63);
    assert_eq!(cut(&"é".repeat(40)), 62);
    assert_eq!(cut(&format!("x{}", "é".repeat(40))), 63);
    let latin1 = [b"user\0", &[0xe9; 80][..], b"\0database\0", &[0xe9; 64][..], b"\0\0"].concat();
    let s = read(&packet(0x30000, &latin1)).unwrap();
    assert_eq!((s.user().len(), s.database().len()), (63, 63));
}

#[test]
fn replication_is_a_boolean_or_database() {
    let read = |value: &str| startup(&format!("user|bob|replication|{value}||")).map(|s| s.replication());
    for value in ["true", "on", "yes", "1", "TRUE", "t", "y", "On"] {
        assert_eq!(read(value), Ok(Replication::Physical), "{value}");
    }
    for value in ["false", "off", "no", "0", "f", "n", "of", "OFF"] {
        assert_eq!(read(value), Ok(Replication::Off), "{value}");
    }
    assert_eq!(read("database"), Ok(Replication::Database));
    for value in ["", "o", "2", "truex", "Database", " on"] {
        let text = format!("invalid value for parameter \"replication\": \"{value}\"");
        refused(read(value).unwrap_err(), "22023", &text);
    }
}

#[test]
fn replication_twice_is_as_odd_as_postgresqls() {
    let read = |body: &str| startup(&format!("user|bob|{body}||")).unwrap().replication();
    assert_eq!(read("replication|database|replication|true"), Replication::Database);
    assert_eq!(read("replication|database|replication|false"), Replication::Off);
    assert_eq!(read("replication|true|replication|database"), Replication::Database);
}

#[test]
fn other_major_versions() {
    for (code, name) in [(0x40000, "4.0"), (0x20000, "2.0"), (0, "0.0"), (0x04d2_0001, "1234.1")] {
        let text = format!("unsupported frontend protocol {name}: server supports 3.0 to 3.2");
        refused(read(&startup_packet(code, "user|bob||")).unwrap_err(), "0A000", &text);
    }
}

#[test]
fn requests() {
    let found = |what, bytes_consumed| Ok(Look::Found { what, bytes_consumed });
    let gss = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
    assert_eq!(First::look(&ask::SSL_REQUEST_PACKET), found(First::SslRequest, 8));
    assert_eq!(First::look(&gss), found(First::GssEncRequest, 8));
    assert_eq!(First::look(&[0x16]), found(First::DirectTls, 0));
    assert_eq!(First::look(&[0x16, 0x03, 0x01]), found(First::DirectTls, 0));
    assert_eq!(First::look(&packet(0x04d2_162f, b"x")), Err(StartError::Length));
}

#[test]
fn nothing_in_clear_behind_a_request() {
    let ssl = "received unencrypted data after SSL request";
    let gss = "received unencrypted data after GSSAPI encryption request";
    for (behind, text) in [(Encryption::Ssl, ssl), (Encryption::Gss, gss)] {
        refused(First::nothing_behind(behind, b"Q").unwrap_err(), "08P01", text);
        assert_eq!(First::nothing_behind(behind, &[]), Ok(()));
    }
}

#[test]
fn cancel_keys_have_bounds() {
    for (bytes, is_good) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
        let body = [&7u32.to_be_bytes()[..], &vec![9; bytes]].concat();
        let packet = packet(0x04d2_162e, &body);
        match First::look(&packet) {
            Ok(Look::Found { what: First::Cancel(cancel), bytes_consumed }) if is_good => {
                assert_eq!((cancel.pid, cancel.secret.len(), bytes_consumed), (7, bytes, packet.len()));
                assert!(!format!("{cancel:?}").contains('9'));
            }
            other => assert_eq!(other, Err(StartError::CancelLength), "{bytes} bytes"),
        }
    }
    assert_eq!(First::look(&packet(0x04d2_162e, b"abc")), Err(StartError::CancelLength));
}

#[test]
fn a_hostile_length_is_refused_with_its_fourth_byte() {
    for length in [0, 1, 4, 7, 10_005, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u32::from_be_bytes(*b"GET ")] {
        assert_eq!(First::look(&length.to_be_bytes()), Err(StartError::Length), "{length}");
    }
    for length in [8u32, 10_004] {
        assert_eq!(First::look(&length.to_be_bytes()), Ok(Look::NeedMore { at_least: length as usize }));
    }
}

#[test]
fn the_longest_packet_is_read() {
    let body = format!("user|bob|x|{}||", "y".repeat(10_000 - 4 - 13));
    let packet = startup_packet(0x30000, &body);
    assert_eq!(packet.len(), 10_004);
    assert_eq!(read(&packet).unwrap().pairs().count(), 2);
}

/// A first message of every kind, as an honest client may send it.
fn honest() -> impl Strategy<Value = Vec<u8>> {
    let text = || vec(1u8.., 1..20);
    let startup = (vec((text(), text()), 0..8), text()).prop_map(|(pairs, user)| {
        let pairs = pairs.into_iter().chain([(b"user".to_vec(), user)]);
        let body: Vec<u8> =
            pairs.flat_map(|(name, value)| [&name[..], b"\0", &value[..], b"\0"].concat()).collect();
        packet(0x30002, &[&body[..], b"\0"].concat())
    });
    let cancel = (any::<u32>(), vec(any::<u8>(), 4..=256)).prop_map(|(pid, secret)| {
        let mut out = Vec::new();
        ask::cancel(pid, &secret, &mut out);
        out
    });
    prop_oneof![startup, cancel, Just(ask::SSL_REQUEST_PACKET.to_vec()), Just(packet(0x04d2_1630, b"")),]
}

proptest! {
    #[test]
    fn pieces_amount_to_the_whole(message in honest(), next in vec(any::<u8>(), 0..20)) {
        let whole = First::look(&message);
        let is_found =
            matches!(&whole, Ok(Look::Found { bytes_consumed, .. }) if *bytes_consumed == message.len());
        prop_assert!(is_found, "{whole:?}");
        for end in 0..message.len() {
            match First::look(&message[..end]) {
                Ok(Look::NeedMore { at_least }) => prop_assert!(end < at_least && at_least <= message.len()),
                other => prop_assert!(false, "{end}: {other:?}"),
            }
        }
        let followed = [&message[..], &next[..]].concat();
        prop_assert_eq!(First::look(&followed), whole);
    }

    #[test]
    fn nothing_panics(bytes in vec(any::<u8>(), 0..300)) {
        let _ = First::look(&bytes);
    }

    #[test]
    fn no_body_panics(code in prop_oneof![Just(0x30000u32), Just(0x30002), Just(0x04d2_162e), any::<u32>()],
                      body in vec(prop_oneof![Just(0u8), Just(b'-'), Just(b'\\'), any::<u8>()], 0..200)) {
        let body = [b"user\0x\0", &body[..], b"\0"].concat();
        if let Ok(Look::Found { what: First::Startup(s), .. }) = First::look(&packet(code, &body)) {
            let _ = (s.settings(), s.unknown_options().count(), format!("{s:?}"));
        }
    }
}
