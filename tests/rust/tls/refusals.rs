//! What nobody may send is refused with an alert, whoever finds it.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use meshcore_core::tls::{Session, Version};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore, SupportedCipherSuite,
};

use crate::authority::Authority;
use crate::pair::{Ends, contexts, server, server_spec, shake_hands};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// A KeyUpdate that asks for none (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A client that seals whatever it is given.
struct Forger {
    key: LessSafeKey,
    iv: [u8; 12],
    sent: u64,
}

impl Forger {
    /// RFC 8446 §5.2: the record of one that has this type inside.
    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.sent.to_be_bytes()) {
            *byte ^= count;
        }
        self.sent += 1;
        let mut inner = [content, &[kind]].concat();
        let len = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let head = [DATA, 3, 3, len[0], len[1]];
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(head), &mut inner).unwrap();
        [&head[..], &inner].concat()
    }
}

/// Reads what the server says to it.
struct Reader {
    key: LessSafeKey,
    iv: [u8; 12],
    heard: u64,
}

impl Reader {
    /// The alert that is all of the last record.
    fn alert(&mut self, said: &[u8]) -> u8 {
        let mut inner = said[5..].to_vec();
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.heard.to_be_bytes()) {
            *byte ^= count;
        }
        let head: [u8; 5] = said[..5].try_into().unwrap();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(head), &mut inner).unwrap();
        assert_eq!((plain[0], plain[2], plain.len()), (2, ALERT, 3));
        plain[1]
    }
}

fn of(secrets: ConnectionTrafficSecrets) -> (LessSafeKey, [u8; 12]) {
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        panic!("another suite");
    };
    let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap();
    (LessSafeKey::new(key), iv.as_ref().try_into().unwrap())
}

/// Both after a handshake of TLS 1.3.
fn forged() -> (Session, Forger, Reader) {
    let authority = Authority::new();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority.pem()).unwrap()).unwrap();
    let mut provider = default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_256_GCM_SHA384];
    assert!(matches!(provider.cipher_suites[0], SupportedCipherSuite::Tls13(_)));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    let name = "a.example".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let spec = server_spec(vec![authority.host("a.example")]);
    let mut session = server(&spec).session().unwrap();
    shake_hands(&mut client, &mut session);
    assert!(session.agreed().is_some());
    let secrets = client.dangerous_extract_secrets().unwrap();
    let ((sent, tx), (heard, rx)) = (secrets.tx, secrets.rx);
    let ((key, iv), (reads, reads_iv)) = (of(tx), of(rx));
    (session, Forger { key, iv, sent }, Reader { key: reads, iv: reads_iv, heard })
}

fn refused(session: &mut Session, mut flight: Vec<u8>, piece: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut said = Vec::new();
    for part in flight.chunks_mut(piece) {
        session.receive(part, &mut plain);
        said.extend(session.take_output());
    }
    assert_eq!(plain, b"good");
    assert!(!session.failure().unwrap().by_peer);
    said
}

#[test]
fn a_record_of_no_type_is_unexpected() {
    for piece in [1, 9, 10_000] {
        let (mut session, mut forger, mut reader) = forged();
        let flight =
            [forger.seal(DATA, b"good"), forger.seal(0, &[0; 40]), forger.seal(DATA, b"bad")];
        let said = refused(&mut session, flight.concat(), piece);
        assert_eq!(reader.alert(&said), 10);
        assert_eq!(session.failure().unwrap().alert, Some("unexpected_message"));
    }
}

#[test]
fn a_record_between_the_parts_of_a_message_has_an_alert() {
    for cut in 1..5 {
        for piece in [1, 9, 10_000] {
            let (mut session, mut forger, mut reader) = forged();
            let (first, second) = KEY_UPDATE.split_at(cut);
            let flight = [
                forger.seal(DATA, b"good"),
                forger.seal(HANDSHAKE, first),
                forger.seal(DATA, b"bad"),
                forger.seal(HANDSHAKE, second),
            ];
            let said = refused(&mut session, flight.concat(), piece);
            assert_eq!(reader.alert(&said), 50);
            assert_eq!(session.failure().unwrap().alert, Some("decode_error"));
        }
    }
}

#[test]
fn a_key_update_that_is_cut_is_none_of_these() {
    let (mut session, mut forger, _) = forged();
    let mut flight =
        [forger.seal(HANDSHAKE, &KEY_UPDATE[..2]), forger.seal(HANDSHAKE, &KEY_UPDATE[2..])];
    for record in &mut flight {
        session.receive(record, &mut Vec::new());
    }
    assert_eq!(session.failure(), None);
}

/// Before there are keys it is told in the clear, by either side.
#[test]
fn so_it_is_in_the_first_messages() {
    for whose in ["client's", "server's"] {
        let (client, server) = contexts(Version::Tls12);
        let mut both = Ends::new(&client, &server, "a.example");
        let mut flight = both.client.session.take_output();
        let end = if whose == "server's" {
            flight = both.server.hear(&flight, 100_000);
            &mut both.client
        } else {
            &mut both.server
        };
        let (head, rest) = flight.split_at(5);
        let message = &rest[..usize::from(u16::from_be_bytes([head[3], head[4]]))];
        let (first, second) = message.split_at(40);
        let record = |kind: u8, part: &[u8]| {
            let len = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[kind, 3, 3], &len[..], part].concat()
        };
        let torn = [record(HANDSHAKE, first), record(DATA, b"between"), record(HANDSHAKE, second)]
            .concat();
        let said = end.hear(&torn, 100_000);
        assert!(end.session.failure().is_some());
        assert_eq!(&said[..6], [ALERT, 3, 3, 0, 2, 2], "{whose}");
    }
}

/// Of a read that also ends the handshake.
#[test]
fn a_bad_record_beside_the_clients_last_message_has_its_alert() {
    for piece in [1, 100_000] {
        let (client, server) = contexts(Version::Tls13);
        let mut both = Ends::new(&client, &server, "a.example");
        let hello = both.client.session.take_output();
        let answer = both.server.hear(&hello, 100_000);
        let mut flight = both.client.hear(&answer, 100_000);
        let good = flight.len();
        flight.extend(both.client.say(b"bad"));
        flight[good + 7] ^= 1;
        let said = both.server.hear(&flight, piece);
        assert_eq!(both.server.failure().alert, Some("bad_record_mac"));
        both.client.hear(&said, 100_000);
        assert_eq!(both.client.failure().alert, Some("bad_record_mac"));
        assert!(both.client.failure().by_peer);
    }
}

/// Nothing of it is about who says that it is over.
#[test]
fn an_alert_of_the_peer_is_not_answered() {
    let (mut session, mut forger, _) = forged();
    let mut flight = forger.seal(ALERT, &[2, 80]);
    session.receive(&mut flight, &mut Vec::new());
    assert!(session.failure().unwrap().by_peer);
    assert!(session.take_output().is_empty());
}

/// The head of a message of a kind that is longer than any may be, by its own word.
fn too_long(kind: u8) -> [u8; 4] {
    [kind, 1, 0, 0]
}

#[test]
fn a_message_that_claims_to_be_too_long_has_an_alert() {
    let begun = too_long(KEY_UPDATE[0]);
    for behind in [&b""[..], b"more than a record's head"] {
        for cut in [1, 3, 4] {
            for piece in [1, 9, 10_000] {
                let (mut session, mut forger, mut reader) = forged();
                let (first, second) = begun.split_at(cut);
                let second = [second, behind].concat();
                let mut flight = vec![forger.seal(DATA, b"good"), forger.seal(HANDSHAKE, first)];
                if !second.is_empty() {
                    flight.push(forger.seal(HANDSHAKE, &second));
                }
                flight.push(forger.seal(DATA, b"bad"));
                let said = refused(&mut session, flight.concat(), piece);
                assert_eq!(reader.alert(&said), 50);
                assert_eq!(session.failure().unwrap().alert, Some("decode_error"));
            }
        }
    }
}

#[test]
fn too_many_warnings_have_an_alert() {
    const USER_CANCELED: [u8; 2] = [1, 90];
    for behind in [0, 1] {
        for piece in [1, 9, 10_000] {
            let (mut session, mut forger, mut reader) = forged();
            let mut flight = forger.seal(DATA, b"good");
            for _ in 0..5 + behind {
                flight.extend(forger.seal(ALERT, &USER_CANCELED));
            }
            let said = refused(&mut session, flight, piece);
            assert_eq!(reader.alert(&said), 50);
            assert_eq!(session.failure().unwrap().alert, Some("decode_error"));
        }
    }
}

/// Before there are keys.
#[test]
fn so_have_both_in_the_first_messages() {
    const WARNING: [u8; 7] = [ALERT, 3, 3, 0, 2, 1, 90];
    for version in [Version::Tls12, Version::Tls13] {
        for (whose, kind) in [("client's", 1), ("server's", 2)] {
            let begun = [&[HANDSHAKE, 3, 3, 0, 4][..], &too_long(kind)].concat();
            for what in [begun, WARNING.repeat(5)] {
                for piece in [1, 10_000] {
                    let (client, server) = contexts(version);
                    let mut both = Ends::new(&client, &server, "a.example");
                    both.client.session.take_output();
                    let end = if whose == "server's" { &mut both.client } else { &mut both.server };
                    let said = end.hear(&what, piece);
                    assert!(end.session.failure().is_some());
                    assert_eq!(said, [ALERT, 3, 3, 0, 2, 2, 50], "{whose}, {version:?}");
                }
            }
        }
    }
}
