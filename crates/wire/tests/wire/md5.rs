//! The MD5 method, against the client library's own.

use proptest::prelude::*;
use wire::md5;

#[test]
fn a_known_verifier() {
    // PostgreSQL 15: set password_encryption = md5; create role bob password 'pencil'.
    assert_eq!(md5::stored(b"bob", b"pencil"), "md5e4f70fb0b8f2745aa7a69557c80cbd0c");
}

#[test]
fn only_the_right_answer_is_right() {
    let (stored, salt) = (md5::stored(b"bob", b"pencil"), [1, 2, 3, 4]);
    let answer = md5::response(b"bob", b"pencil", salt);
    assert!(md5::is_right(&stored, salt, answer.as_bytes()));
    assert!(!md5::is_right(&stored, [1, 2, 3, 5], answer.as_bytes()));
    assert!(!md5::is_right(&stored, salt, b""));
    assert!(!md5::is_right(&stored, salt, &[answer.as_bytes(), b"\0"].concat()));
    for none in ["", "md5", "pencil", "md5zz", &stored.to_uppercase(), &format!("{stored}0")] {
        assert_eq!(md5::response_from_stored(none, salt), None, "{none}");
        assert!(!md5::is_right(none, salt, answer.as_bytes()));
    }
}

proptest! {
    #[test]
    fn as_the_client_library_has_it(user in "\\PC{0,20}", password in "\\PC{0,20}", salt in any::<[u8; 4]>()) {
        let (user, password) = (user.as_bytes(), password.as_bytes());
        let theirs = postgres_protocol::authentication::md5_hash(user, password, salt);
        prop_assert_eq!(&md5::response(user, password, salt), &theirs);
        let stored = md5::stored(user, password);
        prop_assert_eq!(md5::response_from_stored(&stored, salt), Some(theirs));
    }
}
