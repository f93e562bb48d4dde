//! Whatever a peer sends before, within and behind a handshake harms no session: nothing panics, no
//! more is held than came, and what was not sealed by the other side is never plaintext.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use meshcore_core::tls::{
    ClientAuth, ClientContext, ClientSpec, Clock, Pair, Roots, ServerContext, ServerSpec, Session,
    TicketKeys, TicketRing, Version,
};

/// Within the years for which rcgen makes certificates.
const NOW_S: u64 = 1_780_272_000;

fn contexts() -> &'static (ServerContext, ClientContext) {
    static MADE: OnceLock<(ServerContext, ClientContext)> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let pair = Pair {
            server_name: String::new(),
            chain_pem: made.cert.pem().into_bytes(),
            key_pem: made.signing_key.serialize_pem().into_bytes(),
            ocsp_der: None,
        };
        let roots = Roots::from_pem(&pair.chain_pem, b"").unwrap();
        let (clock, ring) = (Clock::at(NOW_S), TicketRing::default());
        ring.set(vec![Arc::new(TicketKeys::new(&[7; TicketKeys::BYTES]).unwrap())]);
        let server = ServerSpec {
            listener: "edge".to_owned(),
            pairs: vec![pair],
            alpn: vec![b"h2".to_vec()],
            least: Version::Tls12,
            clients: ClientAuth::Request(roots.clone().into()),
            named: Vec::new(),
            key_log: None,
        };
        let client = ClientSpec {
            trust: Some(roots.into()),
            pair: None,
            alpn: vec![b"h2".to_vec()],
            least: Version::Tls12,
            key_log: None,
        };
        let server = ServerContext::new(&server, &ring, &clock).unwrap();
        (server, ClientContext::new(&client, &clock).unwrap())
    })
}

/// Hears bytes in pieces; what it says, and that what it took was said by somebody.
fn hear(session: &mut Session, data: &[u8], piece: usize, sealed: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    for part in data.chunks(piece) {
        let mut plain = Vec::new();
        session.receive(&mut part.to_vec(), &mut plain);
        assert!(plain.iter().all(|byte| sealed.contains(byte)), "nobody said so");
        said.extend(session.take_output());
        session.seal(b"x", &mut Vec::new());
    }
    assert!(session.held() <= data.len() + 70_000);
    said
}

fuzz_target!(|input: &[u8]| {
    let [mode, piece, at, flip, rest @ ..] = input else { return };
    let (server, client) = contexts();
    let (mut far, mut near) = (server.session().unwrap(), client.session("a.test").unwrap());
    let piece = usize::from(*piece).max(1) * if mode & 4 == 0 { 1 } else { 97 };
    if mode & 1 == 0 {
        hear(&mut far, rest, piece, b"");
        hear(&mut near, rest, piece, b"");
    }
    let (mut flight, mut turn) = (near.take_output(), 0_u8);
    while !flight.is_empty() && turn < 8 {
        // In one flight a byte is another one, or the input is in its midst.
        if mode & 2 != 0 && turn == mode >> 5 {
            let place = usize::from(*at) * 7 % flight.len();
            flight[place] ^= flip;
            flight.splice(place..place, rest.iter().copied());
        }
        let session = if turn % 2 == 0 { &mut far } else { &mut near };
        flight = hear(session, &flight, piece, b"x");
        turn += 1;
    }
    let mut sealed = Vec::new();
    near.seal(b"x", &mut sealed);
    sealed.extend_from_slice(rest);
    hear(&mut far, &sealed, piece, b"x");
    near.close(&mut sealed);
    hear(&mut far, &sealed, piece, b"x");
    far.close(&mut sealed);
});
