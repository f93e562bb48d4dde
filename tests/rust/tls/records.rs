//! Bytes in, plaintext and events out, however they come.

use std::io::{Read, Write};
use std::sync::Arc;

use meshcore_core::tls::{Session, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::authority::Authority;
use crate::pair::{Ends, client, client_spec, contexts, server, server_spec};

fn ends() -> Ends {
    let (client, server) = contexts(Version::Tls12);
    Ends::new(&client, &server, "a.example")
}

fn open() -> Ends {
    ends().shake(100_000)
}

#[test]
fn both_sides_agree_and_carry_data() {
    let mut both = open();
    both.assert_whole();
    let agreed = both.server.session.agreed().unwrap();
    assert_eq!((agreed.version, agreed.resumed), (Version::Tls13, false));
    assert_eq!(agreed.server_name, Some("a.example"));
    assert!(agreed.suite.starts_with("TLS13_"));
    assert!(both.client.session.agreed().unwrap().peer.is_some());
}

/// A client that knows nothing newer, by the other interface of the library.
#[test]
fn a_client_of_version_1_2_is_served_if_it_may() {
    let authority = Authority::new();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority.pem()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let spec = server_spec(vec![authority.host("a.example")]);
    let old = || {
        ClientConnection::new(Arc::new(config.clone()), "a.example".try_into().unwrap()).unwrap()
    };

    let (mut old_client, mut session) = (old(), server(&spec).session().unwrap());
    let mut plain = Vec::new();
    while old_client.is_handshaking() {
        let mut flight = Vec::new();
        old_client.write_tls(&mut flight).unwrap();
        session.receive(&mut flight, &mut plain);
        old_client.read_tls(&mut &session.take_output()[..]).unwrap();
        old_client.process_new_packets().unwrap();
    }
    assert_eq!(session.agreed().unwrap().version, Version::Tls12);
    let mut sealed = Vec::new();
    old_client.writer().write_all(b"ping").unwrap();
    old_client.write_tls(&mut sealed).unwrap();
    session.receive(&mut sealed, &mut plain);
    assert_eq!(plain, b"ping");
    sealed.clear();
    assert!(session.seal(b"pong", &mut sealed));
    old_client.read_tls(&mut &sealed[..]).unwrap();
    old_client.process_new_packets().unwrap();
    let mut heard = [0; 4];
    old_client.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"pong");

    let strict = server(&crate::pair::ServerSpec { least: Version::Tls13, ..spec });
    let (mut refused, mut session) = (old(), strict.session().unwrap());
    let mut flight = Vec::new();
    refused.write_tls(&mut flight).unwrap();
    assert!(session.receive(&mut flight, &mut plain).failed);
    // alert(21), TLS 1.2, two bytes: fatal(2), protocol_version(70)
    assert_eq!(session.take_output(), [21, 3, 3, 0, 2, 2, 70]);
}

#[test]
fn a_handshake_does_not_depend_on_how_it_is_cut() {
    for piece in [1, 2, 5, 100, 1_000] {
        let mut both = ends().shake(piece);
        both.assert_whole();
        assert_eq!(both.server.session.held(), 0);
    }
}

#[test]
fn nothing_is_sealed_before_the_handshake_is_over() {
    let mut both = ends();
    let mut out = Vec::new();
    assert!(!both.client.session.seal(b"early", &mut out));
    assert!(!both.server.session.seal(b"early", &mut out));
    assert!(out.is_empty());
}

#[test]
fn data_comes_before_the_end_behind_it_and_the_other_side_may_go_on() {
    let mut both = open();
    let mut last = both.client.say(b"last words");
    last.extend(both.client.end());
    both.server.hear(&last, 100_000);
    assert_eq!(both.server.plain, b"last words");
    assert!(both.server.closed && both.server.session.peer_closed());
    let answer = both.server.say(b"answer");
    both.client.hear(&answer, 100_000);
    assert_eq!(both.client.plain, b"answer");
    // Its own end is said once, and nothing behind it.
    assert!(!both.client.session.seal(b"more", &mut Vec::new()));
    assert!(both.client.end().is_empty());
}

#[test]
fn what_follows_the_peers_end_is_nobodys() {
    let mut both = open();
    let end = both.client.end();
    both.server.hear(&end, 100_000);
    let before = both.server.plain.len();
    both.server.hear(b"GET / HTTP/1.1\r\n\r\n", 100_000);
    assert_eq!(both.server.plain.len(), before);
    assert!(both.server.session.failure().is_none());
}

#[test]
fn a_bad_record_ends_the_session_behind_the_good_ones() {
    let mut both = open();
    let mut flight = both.client.say(b"good");
    let good = flight.len();
    flight.extend(both.client.say(b"bad"));
    flight[good + 7] ^= 1;
    let alert = both.server.hear(&flight, 100_000);
    assert_eq!(both.server.plain, b"good");
    assert_eq!(both.server.failure().alert, Some("bad_record_mac"));
    both.client.hear(&alert, 100_000);
    assert_eq!(both.client.failure().alert, Some("bad_record_mac"));
    assert!(both.client.failure().by_peer && !both.server.failure().by_peer);
    // It stays so: nothing more is taken, nothing more is said.
    let more = both.client.session.seal(b"more", &mut Vec::new());
    assert!(!more && !both.server.session.seal(b"more", &mut Vec::new()));
    assert!(both.server.hear(&flight[..good], 100_000).is_empty());
    assert_eq!(both.server.plain, b"good");
}

#[test]
fn what_is_no_tls_is_told_so() {
    let mut both = ends();
    let said = both.server.hear(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 100_000);
    assert!(!said.is_empty());
    assert!(
        both.server.failure().detail.contains("what it sent is no TLS"),
        "{:?}",
        both.server.failure()
    );
}

#[test]
fn large_bodies_pass_and_an_idle_session_holds_nothing() {
    let mut both = open();
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sealed = both.client.say(&body);
    assert!(sealed.len() < body.len() + body.len() / 100);
    both.server.hear(&sealed, 65_536);
    assert!(both.server.plain == body);
    assert_eq!(both.server.session.held(), 0);
}

#[test]
fn what_is_held_of_a_record_is_never_more_than_one() {
    let mut both = open();
    let sealed = both.client.say(&[7; 100_000]);
    for part in sealed.chunks(1_461) {
        both.server.session.receive(&mut part.to_vec(), &mut both.server.plain);
        assert!(both.server.session.held() <= 16_384 + 256);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Many connections of one listener, whose bytes come in any order and in any pieces: each gets
    /// its own, and nothing else.
    #[test]
    fn connections_never_share_a_byte(
        turns in vec((0_usize..4, 1_usize..3_000, 1_usize..700), 1..40),
    ) {
        let (client, server) = contexts(Version::Tls12);
        let mut all: Vec<Ends> = (0..4)
            .map(|_| Ends::new(&client, &server, "a.example").shake(100_000))
            .collect();
        let (mut waiting, mut said) = (vec![Vec::new(); 4], vec![0_usize; 4]);
        for (who, len, piece) in turns {
            let own = u8::try_from(who).unwrap();
            let sealed = all[who].client.say(&vec![own; len]);
            said[who] += len;
            waiting[who].extend(sealed);
            // Only a part of what waits is there yet.
            let there = waiting[who].len() * 2 / 3;
            let came: Vec<u8> = waiting[who].drain(..there).collect();
            all[who].server.hear(&came, piece);
        }
        for (who, rest) in waiting.iter().enumerate() {
            let own = u8::try_from(who).unwrap();
            all[who].server.hear(rest, 997);
            prop_assert_eq!(all[who].server.plain.len(), said[who]);
            prop_assert!(all[who].server.plain.iter().all(|byte| *byte == own));
        }
    }

    /// Whatever comes in place of a handshake, or behind one, is an error or waits for more.
    #[test]
    fn garbage_never_harms(data in vec(any::<u8>(), 0..400), behind: bool, piece in 1_usize..50) {
        let mut both = if behind { open() } else { ends() };
        both.server.hear(&data, piece);
        prop_assert!(both.server.plain.is_empty());
        prop_assert!(both.server.session.held() <= data.len());
    }
}

/// The first message as many records (RFC 8446 §5.1 lets a message be cut anywhere).
fn recut(flight: &[u8], size: usize) -> Vec<u8> {
    let (head, message) = flight.split_at(5);
    assert_eq!(usize::from(u16::from_be_bytes([head[3], head[4]])), message.len());
    let record = |part: &[u8]| {
        let len = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&head[..3], &len, part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

#[test]
fn a_first_message_may_come_in_many_records() {
    for size in [1, 7, 100] {
        for piece in [1, 13, 100_000] {
            let mut both = ends();
            let hello = recut(&both.client.session.take_output(), size);
            let mut flight = both.server.hear(&hello, piece);
            while !flight.is_empty() {
                let answer = both.client.hear(&flight, piece);
                flight = both.server.hear(&answer, piece);
            }
            both.assert_whole();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A handshake of which a byte is another one fails, waits or, where nobody looks at the byte,
    /// goes on: whatever is done then harms nobody.
    #[test]
    fn a_damaged_handshake_ends_or_waits(
        at in 0_usize..3_000, flip in 1_u8.., piece in 1_usize..2_000, cut in 1_usize..600,
    ) {
        let mut both = ends();
        let mut passed = 0;
        let mut damage = |mut flight: Vec<u8>| {
            if let Some(byte) = at.checked_sub(passed).and_then(|at| flight.get_mut(at)) {
                *byte ^= flip;
            }
            passed += flight.len();
            flight
        };
        let mut flight = damage(recut(&both.client.session.take_output(), cut));
        loop {
            let answer = damage(both.server.hear(&flight, piece));
            let next = both.client.hear(&answer, piece);
            // Whoever speaks out of turn is not heard, and does not harm.
            let early = both.server.session.seal(b"x", &mut Vec::new());
            prop_assert_eq!(early, both.server.established == 1 && both.server.session.failure().is_none());
            if next.is_empty() {
                break;
            }
            flight = damage(next);
        }
        prop_assert!(both.server.plain.is_empty() && both.client.plain.is_empty());
        both.server.hear(b"more", 1);
        both.client.hear(b"more", 1);
        both.server.end();
        both.client.end();
    }
}

#[test]
fn a_name_that_no_certificate_has_is_an_error_at_once() {
    let client = client(&client_spec(Authority::new().roots()));
    assert!(client.session("not a name").is_err());
    assert!(client.session("127.0.0.1").is_ok());
}

/// The most of a first message, with the heads of its records.
const MOST_HELLO_BYTES: usize = 32 * 1024;

/// Of a session whose first message was too long; who sends more is told so at once.
fn assert_too_long(session: &mut Session) {
    assert_eq!(session.take_output(), [21, 3, 3, 0, 2, 2, 50]);
    let failure = session.failure().unwrap();
    assert_eq!(failure.alert, Some("decode_error"));
    assert_eq!(failure.detail, "the client's first message is too long");
}

/// Whoever dribbles it holds no more, in whatever records it comes.
#[test]
fn a_first_message_has_a_bound() {
    let spec = server_spec(vec![Authority::new().host("a.example")]);
    let mut session = server(&spec).session().unwrap();
    // A ClientHello of 32,000 bytes, in records of one.
    let hello = [&[1, 0, 0x7d, 0, 3, 3][..], &[7; 32_000]].concat();
    for (place, byte) in hello.iter().enumerate() {
        let opened = session.receive(&mut [22, 3, 1, 0, 1, *byte], &mut Vec::new());
        assert!(session.held() <= MOST_HELLO_BYTES);
        // It would be whole with 32,004 bytes of its own and a head for each record.
        assert_eq!(opened.failed, 5 * (place + 1) + 32_004 > MOST_HELLO_BYTES);
        if opened.failed {
            break;
        }
    }
    assert_too_long(&mut session);
}

/// By its own word: nobody waits for the rest.
#[test]
fn a_first_message_that_claims_to_be_too_long_is_refused_with_its_head() {
    let spec = server_spec(vec![Authority::new().host("a.example")]);
    for claimed in [MOST_HELLO_BYTES - 8, 40_000, 65_535, 65_536, 0x00FF_FFFF] {
        let [_, high, middle, low] = u32::try_from(claimed).unwrap().to_be_bytes();
        let mut session = server(&spec).session().unwrap();
        let mut head = [22, 3, 1, 0, 4, 1, high, middle, low];
        assert!(session.receive(&mut head, &mut Vec::new()).failed, "{claimed}");
        assert_too_long(&mut session);
    }
}

/// The first message of a client with an extension that nobody knows, so that its records have as
/// many bytes.
fn hello_of(whole_bytes: usize) -> Vec<u8> {
    const MOST_RECORD_BYTES: usize = 16_384;
    let (client, _) = contexts(Version::Tls12);
    let mut message = client.session("a.example").unwrap().take_output().split_off(5);
    let heads = whole_bytes.div_ceil(5 + MOST_RECORD_BYTES);
    let room = whole_bytes - 5 * heads - message.len() - 4;
    let len_at =
        |message: &[u8], at: usize| usize::from(message[at]) << 8 | usize::from(message[at + 1]);
    let mut at = 4 + 2 + 32; // behind the head, a version and random bytes
    at += 1 + usize::from(message[at]);
    at += 2 + len_at(&message, at);
    at += 1 + usize::from(message[at]);
    let extensions = u16::try_from(len_at(&message, at) + 4 + room).unwrap();
    message[at..at + 2].copy_from_slice(&extensions.to_be_bytes());
    message.extend([0xFA, 0xFE]);
    message.extend(u16::try_from(room).unwrap().to_be_bytes());
    message.resize(message.len() + room, 0);
    let len = u32::try_from(message.len() - 4).unwrap().to_be_bytes();
    message[1..4].copy_from_slice(&len[1..]);
    let record = |part: &[u8]| {
        let len = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &len, part].concat()
    };
    message.chunks(MOST_RECORD_BYTES).flat_map(record).collect()
}

#[test]
fn the_bound_of_a_first_message_is_one_however_it_is_cut() {
    let spec = server_spec(vec![Authority::new().host("a.example")]);
    for (bytes, is_taken) in
        [(MOST_HELLO_BYTES, true), (MOST_HELLO_BYTES + 1, false), (60_000, false)]
    {
        for piece in [1, 1_000, 100_000] {
            let mut session = server(&spec).session().unwrap();
            let mut hello = hello_of(bytes);
            assert_eq!(hello.len(), bytes);
            for part in hello.chunks_mut(piece) {
                session.receive(part, &mut Vec::new());
            }
            if is_taken {
                assert_eq!(session.failure(), None);
                assert!(!session.take_output().is_empty());
            } else {
                assert_too_long(&mut session);
            }
        }
    }
}
