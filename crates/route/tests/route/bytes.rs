//! Whatever either side says, a session goes on or ends; it never panics.

use proptest::prelude::*;
use route::session::Loss;
use route::{Out, Rules, Shelf};

use crate::pool::{new_backend, new_session};

fn message(tags: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        Just(b"\0\0\0\0\0\0".to_vec()),
        Just(b"a\0COMMIT\0\0\0".to_vec()),
        Just(b"INSERT\0".to_vec()),
        Just(b"Sa\0".to_vec()),
        Just(b"I".to_vec()),
        Just(b"T".to_vec()),
        Just(b"SERROR\0C0A000\0RSyncRepWaitForLSN\0\0".to_vec()),
    ];
    (proptest::sample::select(tags), body).prop_map(|(tag, body)| {
        let mut bytes = Vec::new();
        wire::put::message(&mut bytes, tag, |to| to.extend_from_slice(&body));
        bytes
    })
}

fn turn() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        message(b"BCdcfDEHFPQSX").prop_map(|bytes| (0, bytes)),
        message(b"23CdcGHWDEIVnNAtS1sZT").prop_map(|bytes| (1, bytes)),
        (0_u8..2, proptest::collection::vec(any::<u8>(), 0..30)),
        Just((2, Vec::new())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_a_session_panic(turns in proptest::collection::vec(turn(), 1..40), rule in 0_u8..8) {
        let rules = Rules {
            rides: rule & 1 != 0,
            settle_commits: rule & 2 != 0,
            settle_autocommit: rule & 4 != 0,
            ..Rules::default()
        };
        let (mut session, mut backend, mut shelf) = (new_session(rules), new_backend(), Shelf::new(0, 1));
        let (mut client, mut server) = (Vec::new(), Vec::new());
        let mut out = Out::default();
        for (side, bytes) in turns {
            out.clear();
            match side {
                0 => {
                    client.extend_from_slice(&bytes);
                    let taken = session.front(&mut shelf, Some(&mut backend), &client, &mut out);
                    out.to_server.slices(&client).for_each(drop);
                    client.drain(..taken.bytes);
                }
                1 => {
                    server.extend_from_slice(&bytes);
                    let (used, _) = session.back(&mut backend, &server, &mut out);
                    out.to_client.slices(&server).for_each(drop);
                    server.drain(..used);
                }
                _ => {
                    session.lost(Loss::Silent, None, &mut out);
                    session.take_again();
                    server.clear();
                    session.attach(&mut backend, &mut out);
                }
            }
        }
    }
}
