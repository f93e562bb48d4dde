//! What a client of another library's making offers, and what it gets.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meshcore_core::tls::Session;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::{cipher_suite as suite, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, SupportedCipherSuite};

use crate::authority::Authority;
use crate::pair::{server, server_spec};

/// Its own suites, in this order.
fn offering(authority: &Authority, suites: &[SupportedCipherSuite]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority.pem()).unwrap()).unwrap();
    let mut provider = default_provider();
    provider.cipher_suites = suites.to_vec();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

struct Both {
    client: ClientConnection,
    session: Session,
}

impl Both {
    fn new(authority: &Authority, config: ClientConfig) -> Self {
        let client = ClientConnection::new(Arc::new(config), "a.example".try_into().unwrap());
        let spec = server_spec(vec![authority.host("a.example")]);
        Self { client: client.unwrap(), session: server(&spec).session().unwrap() }
    }

    fn flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut flight).unwrap();
        }
        flight
    }

    fn hear(&mut self, answer: &[u8]) {
        self.client.read_tls(&mut &*answer).unwrap();
        self.client.process_new_packets().unwrap();
    }

    /// Until neither says anything more.
    fn shake(mut self) -> Self {
        loop {
            let mut flight = self.flight();
            if flight.is_empty() {
                return self;
            }
            self.session.receive(&mut flight, &mut Vec::new());
            let answer = self.session.take_output();
            self.hear(&answer);
        }
    }

    fn agreed(self) -> &'static str {
        let both = self.shake();
        assert_eq!(both.session.failure(), None);
        both.session.agreed().unwrap().suite
    }
}

/// Keys that another implementation of the key schedule derives, too.
#[test]
fn every_suite_of_tls_1_3_is_spoken() {
    let authority = Authority::new();
    let all = [
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    for each in all {
        let agreed = Both::new(&authority, offering(&authority, &[each])).agreed();
        assert_eq!(Some(agreed), each.suite().as_str());
    }
}

#[test]
fn of_several_suites_the_one_with_aes_128_is_taken() {
    let authority = Authority::new();
    for (offered, agreed) in [
        (
            [suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_AES_128_GCM_SHA256],
            "TLS13_AES_128_GCM_SHA256",
        ),
        (
            [suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256],
            "TLS13_AES_256_GCM_SHA384",
        ),
        (
            [
                suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ],
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
    ] {
        assert_eq!(Both::new(&authority, offering(&authority, &offered)).agreed(), agreed);
    }
}

/// A phone without instructions for AES.
#[test]
fn a_client_that_likes_chacha20_best_gets_it() {
    let authority = Authority::new();
    for offered in [
        [suite::TLS13_CHACHA20_POLY1305_SHA256, suite::TLS13_AES_128_GCM_SHA256],
        [
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ],
    ] {
        let agreed = Both::new(&authority, offering(&authority, &offered)).agreed();
        assert_eq!(Some(agreed), offered[0].suite().as_str());
    }
}

/// Counts tickets, and gives none.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl ClientSessionStore for Counting {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

#[test]
fn a_client_gets_a_ticket_or_as_many_as_it_asks_for() {
    let authority = Authority::new();
    for (asked, got) in [(None, 1), (Some(0), 0), (Some(3), 3), (Some(200), 4)] {
        let mut config = offering(&authority, &[suite::TLS13_AES_128_GCM_SHA256]);
        let tickets = Arc::<Counting>::default();
        config.resumption = Resumption::store(Arc::<Counting>::clone(&tickets));
        config.send_ticket_request = asked.map(|count| rustls::client::TicketRequest {
            new_session_count: count,
            resumption_count: count,
        });
        Both::new(&authority, config).shake();
        assert_eq!(tickets.0.load(Ordering::Relaxed), got, "{asked:?}");
    }
}

/// They would be a write of their own, which wakes a client that waits for its answer.
#[test]
fn tickets_wait_for_the_answer_to_what_came_with_the_end_of_the_handshake() {
    let authority = Authority::new();
    for asks in [true, false] {
        let mut config = offering(&authority, &[suite::TLS13_AES_128_GCM_SHA256]);
        let tickets = Arc::<Counting>::default();
        config.resumption = Resumption::store(Arc::<Counting>::clone(&tickets));
        let mut both = Both::new(&authority, config);
        let mut first = both.flight();
        both.session.receive(&mut first, &mut Vec::new());
        let answer = both.session.take_output();
        both.hear(&answer);
        if asks {
            both.client.writer().write_all(b"ping").unwrap();
        }
        let mut flight = both.flight();
        let opened = both.session.receive(&mut flight, &mut Vec::new());
        assert_eq!((opened.established, opened.may_wait), (true, asks));
        let mut sealed = Vec::new();
        assert!(both.session.seal(b"pong", &mut sealed));
        assert!(both.session.take_output().is_empty());
        both.hear(&sealed);
        let mut heard = [0; 4];
        both.client.reader().read_exact(&mut heard).unwrap();
        assert_eq!((&heard, tickets.0.load(Ordering::Relaxed)), (b"pong", 1));
    }
}

/// A record for each byte of the first message.
#[test]
fn a_first_message_in_many_records_is_read_as_one() {
    let authority = Authority::new();
    let config = offering(&authority, &[suite::TLS13_CHACHA20_POLY1305_SHA256]);
    for piece in [1, 2, 3, 7, 10_000] {
        let mut both = Both::new(&authority, config.clone());
        let whole = both.flight();
        let records = whole[5..].chunks(1).flat_map(|byte| [&[22, 3, 1, 0, 1], byte].concat());
        for part in records.collect::<Vec<_>>().chunks_mut(piece) {
            both.session.receive(part, &mut Vec::new());
        }
        assert_eq!(both.session.server_name(), Some("a.example"));
        assert!(!both.session.take_output().is_empty());
    }
}
