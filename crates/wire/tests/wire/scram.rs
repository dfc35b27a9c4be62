//! SCRAM: the published example, both ends against each other, and verifiers.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::scram::client::{Binding, Client, Credential};
use wire::scram::server::{Accepted, Offer, Server};
use wire::scram::{Error, Invalid, Key, Keys, Mechanism, Nonce, SALT_BYTES_MAX, Verifier};

pub const PLAIN: Offer<'static> = Offer { chosen: Mechanism::Plain, end_point: None };
pub const PASSWORD: &[u8] = b"pencil";

/// A verifier for `pencil`, with few iterations so that tests are quick.
pub fn pencil() -> Verifier {
    Verifier::from_password(PASSWORD, vec![5; 16], 3).expect("a verifier")
}

pub fn password(text: &[u8]) -> Credential {
    Credential::Password(text.to_vec())
}

/// The nonce of 18 bytes `n`.
pub fn nonce(n: u8) -> Nonce {
    Nonce::from_random([n; 18])
}

/// A whole exchange: what the server made of it, and the keys that the client came to hold.
fn exchange(
    verifier: &Verifier,
    credential: Credential,
    binding: Binding<'_>,
    end_point: Option<&[u8]>,
) -> Result<(Accepted, Keys), Error> {
    let client = Client::new(credential, binding, nonce(1));
    let offer = Offer { chosen: client.mechanism(), end_point };
    let (server, server_first) = Server::begin(verifier, offer, &nonce(2), client.first().as_bytes())?;
    let (waiting, client_final) = client.answer(server_first.as_bytes())?;
    let accepted = server.finish(client_final.as_bytes())?;
    let keys = waiting.finish(accepted.server_final.as_bytes())?;
    Ok((accepted, keys))
}

#[test]
fn the_example_of_rfc_7677() {
    let salt =
        vec![0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
    let verifier = Verifier::from_password(PASSWORD, salt, 4_096).unwrap();
    let ours = Nonce::from_text("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let (server, server_first) = Server::begin(&verifier, PLAIN, &ours, first).unwrap();
    let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    assert_eq!(server_first, expected);
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let accepted = server.finish(last).unwrap();
    assert_eq!(accepted.server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert!(verifier.fits(&accepted.keys));
}

#[test]
fn every_way_of_binding() {
    let hash = Some(&[7; 32][..]);
    for (binding, end_point, is_good) in [
        (Binding::Unsupported, None, true),
        (Binding::Unsupported, hash, true),
        (Binding::NotOffered, None, true),
        (Binding::EndPoint(&[7; 32]), hash, true),
        (Binding::NotOffered, hash, false),
        (Binding::EndPoint(&[8; 32]), hash, false),
        (Binding::EndPoint(&[7; 31]), hash, false),
        (Binding::EndPoint(&[7; 32]), None, false),
    ] {
        let result = exchange(&pencil(), password(PASSWORD), binding, end_point);
        assert_eq!(result.is_ok(), is_good, "{binding:?} {end_point:?}: {result:?}");
    }
}

#[test]
fn downgrade_and_man_in_the_middle_have_their_names() {
    let refused =
        |binding, end_point| exchange(&pencil(), password(PASSWORD), binding, end_point).unwrap_err();
    let downgrade = refused(Binding::NotOffered, Some(&[7; 32]));
    assert_eq!((&downgrade, downgrade.sqlstate()), (&Error::Downgrade, "28000"));
    let other = refused(Binding::EndPoint(&[8; 32]), Some(&[7; 32]));
    assert_eq!((&other, other.sqlstate()), (&Error::Binding, "28000"));
}

#[test]
fn what_a_proxy_learned_opens_the_server_behind_it() {
    let (accepted, keys) = exchange(&pencil(), password(PASSWORD), Binding::Unsupported, None).unwrap();
    assert_eq!(accepted.keys, keys);
    let behind =
        exchange(&pencil(), Credential::Keys(accepted.keys), Binding::EndPoint(&[7; 32]), Some(&[7; 32]));
    assert!(behind.is_ok());
}

#[test]
fn wrong_password_and_unknown_user_look_alike() {
    let wrong = exchange(&pencil(), password(b"pencils"), Binding::Unsupported, None).unwrap_err();
    let mock = Verifier::mock(b"nobody", b"of the cluster");
    let unknown = exchange(&mock, password(PASSWORD), Binding::Unsupported, None).unwrap_err();
    assert_eq!((&wrong, &unknown, wrong.sqlstate()), (&Error::Proof, &Error::Proof, "28P01"));
}

#[test]
fn a_fake_is_the_same_each_time() {
    let server_first = |user: &[u8], secret: &[u8]| {
        let verifier = Verifier::mock(user, secret);
        Server::begin(&verifier, PLAIN, &nonce(2), b"n,,n=,r=abc").unwrap().1
    };
    assert_eq!(server_first(b"a", b"s"), server_first(b"a", b"s"));
    assert_ne!(server_first(b"a", b"s"), server_first(b"b", b"s"));
    assert_ne!(server_first(b"a", b"s"), server_first(b"a", b"t"));
    assert!(server_first(b"a", b"s").ends_with("==,i=4096"), "like PostgreSQL's own: 16 bytes of salt");
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_found_out() {
    let (accepted, _) = exchange(&pencil(), password(PASSWORD), Binding::Unsupported, None).unwrap();
    let thief = Keys { client: accepted.keys.client, server: Key::from_bytes([0; 32]) };
    let result = exchange(&pencil(), Credential::Keys(thief), Binding::Unsupported, None);
    assert_eq!(result.unwrap_err(), Error::ServerSignature);
}

#[test]
fn a_verifier_as_postgresql_writes_it() {
    // PostgreSQL 15: create role probe password 'Pa$$word: 1'.
    let text = "SCRAM-SHA-256$4096:cM6YRSDQwQ8U2LZq7UL4Nw==\
                $G1+8f8nJqf1a25ShC6z0G0EdaQrp/kyv1USv4tF2WCk=:ApADVlKxFuTklIbRRga4Kmn9gIFEcnhCz1eb+YkQPq4=";
    let verifier = Verifier::parse(text).unwrap();
    assert_eq!(verifier.to_text(), text);
    assert!(exchange(&verifier, password(b"Pa$$word: 1"), Binding::Unsupported, None).is_ok());
    assert!(exchange(&verifier, password(b"Pa$$word: 2"), Binding::Unsupported, None).is_err());
}

/// Plays a client that logged in at PostgreSQL 15.20 as `probe`, from what each side said then.
#[track_caller]
fn replay(binding: Binding<'_>, theirs: &str, sent: &str, proof: &str, signature: &str) {
    let client = Client::new(password(b"Pa$$word: 1"), binding, nonce(0x42));
    let nonces = format!("r=QkJCQkJCQkJCQkJCQkJCQkJC{theirs}");
    let server_first = format!("{nonces},s=cM6YRSDQwQ8U2LZq7UL4Nw==,i=4096");
    let (waiting, client_final) = client.answer(server_first.as_bytes()).expect("an answer");
    assert_eq!(client_final, format!("c={sent},{nonces},p={proof}"));
    assert!(waiting.finish(format!("v={signature}").as_bytes()).is_ok());
}

#[test]
fn logins_at_a_real_server() {
    replay(
        Binding::Unsupported,
        "O9N/+yef2cNlokt469/tUUIf",
        "biws",
        "BI3rL9EFxV5VvktcuG8UwHoh0kYSSkQXm5B5IB9/OEY=",
        "Hr0K75oCqqmdiW4sHF3KA5yPwyo+9HwOyL/Te75Wrkw=",
    );
    let end_point = [
        0xb4, 0xfd, 0xcc, 0x0c, 0x08, 0x08, 0x0b, 0x06, 0x55, 0x69, 0x96, 0x52, 0xb2, 0x20, 0xa1, 0x4e, 0xf0,
        0x18, 0x94, 0x4a, 0xf9, 0xd8, 0x0c, 0x45, 0x37, 0x20, 0x3d, 0x33, 0xd5, 0xb9, 0xd8, 0x91,
    ];
    replay(
        Binding::EndPoint(&end_point),
        "xaORsoXqPhKEGO8hpDXXZV0I",
        "cD10bHMtc2VydmVyLWVuZC1wb2ludCwstP3MDAgICwZVaZZSsiChTvAYlEr52AxFNyA9M9W52JE=",
        "u9xoqRYBF6euSknNX4LSe3TZ24Z5YQzF9ysRQ8NQM1c=",
        "R838ESgg36kpd0w0DIo6fu/7mSXWKVpuIPBJ3aVIpsI=",
    );
}

#[test]
fn what_is_no_verifier() {
    let key = "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=";
    let good = format!("SCRAM-SHA-256$4096:BQUF${key}:{key}");
    assert!(Verifier::parse(&good).is_ok());
    assert!(Verifier::parse(&good.replace("4096", "2147483647")).is_ok());
    for (from, to, expected) in [
        ("SCRAM", "scram", Invalid::Scheme),
        ("SHA-256$", "SHA-256", Invalid::Scheme),
        ("SHA-256$", "SHA-256-PLUS$", Invalid::Scheme),
        ("4096", "", Invalid::Iterations),
        ("4096", "0", Invalid::Iterations),
        ("4096", "+1", Invalid::Iterations),
        ("4096", "2147483648", Invalid::Iterations),
        ("4096", "99999999999", Invalid::Iterations),
        (":BQUF$", ":$", Invalid::Salt),
        (":BQUF$", ":B$", Invalid::Salt),
        (":BQUF$", ":BQUF", Invalid::Salt),
        ("BQU=", "BQUF", Invalid::Keys),
        ("BQU=", "", Invalid::Keys),
        ("=:", "=", Invalid::Keys),
    ] {
        assert_eq!(Verifier::parse(&good.replace(from, to)), Err(expected), "{from} {to}");
    }
    for text in ["", "pencil", "md5dfa155cadd5f4ad57860162f3fab9cdb"] {
        assert_eq!(Verifier::parse(text), Err(Invalid::Scheme));
    }
}

#[test]
fn what_makes_no_verifier() {
    let make =
        |salt_bytes, iterations| Verifier::from_password(PASSWORD, vec![1; salt_bytes], iterations).err();
    assert_eq!(make(0, 1), Some(Invalid::Salt));
    assert_eq!(make(SALT_BYTES_MAX, 1), None);
    assert_eq!(make(SALT_BYTES_MAX + 1, 1), Some(Invalid::Salt));
    assert_eq!(make(16, 0), Some(Invalid::Iterations));
    assert_eq!(make(16, 1_000_001), Some(Invalid::Iterations));
}

#[test]
#[should_panic(expected = "a fake must not become a user's verifier")]
fn a_fake_is_never_written_down() {
    let _ = Verifier::mock(b"nobody", b"secret").to_text();
}

#[test]
fn debug_shows_no_secret() {
    let (accepted, keys) = exchange(&pencil(), password(PASSWORD), Binding::Unsupported, None).unwrap();
    let client = Client::new(password(PASSWORD), Binding::Unsupported, nonce(1));
    let server = Server::begin(&pencil(), PLAIN, &nonce(2), b"n,,n=,r=abc").unwrap().0;
    let shown = format!("{:?} {keys:?} {:?} {client:?} {server:?}", pencil(), accepted.keys);
    assert!(shown.contains("hidden"));
    let bytes = |key: &Key| format!("{:?}", key.as_bytes());
    let secrets = [bytes(&keys.client), bytes(&keys.server), "pencil".into(), format!("{PASSWORD:?}")];
    for secret in secrets {
        let secret = secret.trim_matches(['[', ']']);
        assert!(!shown.contains(secret), "{shown}");
    }
}

proptest! {
    #[test]
    fn any_password_and_salt(text in vec(any::<u8>(), 0..100), salt in vec(any::<u8>(), 1..64), iterations in 1u32..20,
                             other in vec(any::<u8>(), 0..100)) {
        let verifier = Verifier::from_password(&text, salt, iterations).unwrap();
        prop_assert_eq!(Verifier::parse(&verifier.to_text()), Ok(verifier.clone()));
        prop_assert!(exchange(&verifier, password(&text), Binding::Unsupported, None).is_ok());
        // HMAC takes a key with zeros behind it for the same key, as long as it fits in 64 bytes.
        let stripped = |p: &[u8]| p.iter().rposition(|b| *b != 0).map_or(Vec::new(), |end| p[..=end].to_vec());
        if stripped(&text) != stripped(&other) {
            let wrong = exchange(&verifier, password(&other), Binding::Unsupported, None);
            prop_assert_eq!(wrong.unwrap_err(), Error::Proof);
        }
    }
}
