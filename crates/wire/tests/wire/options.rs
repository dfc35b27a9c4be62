//! `options`, read as the server's own command line is.

use proptest::prelude::*;
use wire::start::{Setting, StartError};

use crate::start::{packet, read};

fn options(text: &[u8]) -> Result<Vec<Setting>, StartError> {
    read(&packet(0x30000, &[b"user\0bob\0options\0", text, b"\0\0"].concat())).expect("a startup").options()
}

#[track_caller]
fn check(text: &str, expected: &[(&str, &str)]) {
    let setting = |(n, v): &(&str, &str)| Setting { name: (*n).into(), value: (*v).into() };
    assert_eq!(options(text.as_bytes()), Ok(expected.iter().map(setting).collect()), "{text}");
}

#[track_caller]
fn refused(text: &str, sqlstate: &str, expected: &str) {
    let error = options(text.as_bytes()).expect_err(text);
    assert_eq!((error.sqlstate(), error.to_string().as_str()), (sqlstate, expected), "{text}");
}

#[test]
fn switches() {
    check("", &[]);
    check(" \t\n\x0b\x0c\r ", &[]);
    check("-c a=b", &[("a", "b")]);
    check("-ca=b", &[("a", "b")]);
    check("--a-b=c-d", &[("a_b", "c-d")]);
    check("-c a-b=c", &[("a_b", "c")]);
    check("  -c  a=b \t --c=d  ", &[("a", "b"), ("c", "d")]);
    check("-c a=", &[("a", "")]);
    check("-c a=b=c", &[("a", "b=c")]);
    check("-c a=1 -c a=2", &[("a", "1"), ("a", "2")]);
    check("-c --x=1", &[("__x", "1")]);
}

#[test]
fn a_backslash_makes_a_byte_ordinary() {
    check(r"-c search_path=a\ b", &[("search_path", "a b")]);
    check(r"-c a=b\\c", &[("a", r"b\c")]);
    check(r"-c a=b\\ -c c=d", &[("a", r"b\"), ("c", "d")]);
    check(r"-c a=\x", &[("a", "x")]);
    check(r"-c\ a=b", &[(" a", "b")]);
    check(r"-c a=b\", &[("a", "b")]);
    check("-c a=b\\\tc", &[("a", "b\tc")]);
}

#[test]
fn what_is_no_setting_is_refused() {
    refused("-c a", "42601", "-c a requires a value");
    refused("--a-b", "42601", "--a-b requires a value");
    refused("-c", "42601", "invalid command-line argument for server process: -c");
    refused("a=b", "42601", "invalid command-line argument for server process: a=b");
    refused("--", "42601", "invalid command-line argument for server process: --");
    refused("-", "42601", "invalid command-line argument for server process: -");
    refused("\\", "42601", "invalid command-line argument for server process: ");
    refused("-c =b", "42601", "invalid command-line argument for server process: =b");
    let switch = "unsupported switch \"-S\" in options: only -c name=value and --name=value are supported";
    refused("-S 1024", "0A000", switch);
}

proptest! {
    #[test]
    fn any_value_can_be_said(value in "[^\0]{0,40}") {
        let mut escaped = String::from("-c a.b=");
        for c in value.chars() {
            if c.is_ascii() { escaped.push('\\') }
            escaped.push(c);
        }
        check(&escaped, &[("a.b", &value)]);
    }

    #[test]
    fn nothing_panics(text in proptest::collection::vec(1u8.., 0..100)) {
        let _ = options(&text);
    }
}
