//! What one endpoint, or one client, does wrong costs nobody else.

use bytes::Bytes;
use meshcore_core::codec::Limits;
use meshcore_core::codec::h2::{ClientSignal, H2Client, H2Config, Signal};
use meshcore_core::error::Reason;
use meshcore_core::head::{Headers, Scheme};
use meshcore_core::time::Nanos;

use crate::faults::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame, frames, settings};
use crate::pair::{NOW, Pair, Stories, Story};

const GET: &str = "GET /a HTTP/1.1\r\nhost: ex.com\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nhost: ex.com\r\ntransfer-encoding: chunked\r\n\r\n";
const CONTINUATION: u8 = 9;
const GOAWAY: u8 = 7;
/// `:status: 200` by the static table.
const OK: &[u8] = b"\x88";
const NO_ERROR: u32 = 0;
const STREAM_CLOSED: u32 = 5;
const CANCEL: u32 = 8;

/// A client whose endpoint is written by hand; it has said these SETTINGS.
fn client(limits: Limits, said: &[(u16, u32)], config: &H2Config) -> Pair {
    let mut pair = Pair::new(config);
    pair.client = H2Client::new(limits, Scheme::Http, config, NOW);
    read(&mut pair, &[settings(said)], NOW);
    pair
}

fn plain() -> Pair {
    client(Limits::default(), &[], &H2Config::default())
}

fn read(pair: &mut Pair, frames: &[Vec<u8>], now: Nanos) {
    pair.client.receive(Bytes::from(frames.concat()), now);
}

/// What the client writes, all of it.
fn output(pair: &mut Pair) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let more = pair.client.take_output(<[u8]>::to_vec);
        if more.is_empty() {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            return all.strip_prefix(preface).map(<[u8]>::to_vec).unwrap_or(all);
        }
        all.extend(more);
    }
}

/// The resets in it, with their codes.
fn resets(bytes: &[u8]) -> Vec<(u32, u32)> {
    let code = |payload: &[u8]| u32::from_be_bytes(payload.try_into().unwrap());
    let resets = frames(bytes).into_iter().filter(|(kind, ..)| *kind == RST_STREAM);
    resets.map(|(_, id, payload)| (id, code(payload))).collect()
}

fn tell(pair: &mut Pair, stories: &mut Stories) -> Vec<(u32, ClientSignal)> {
    let signals = pair.client.signals();
    for (id, signal) in signals.clone() {
        stories.entry(id).or_default().of_client(signal);
    }
    signals
}

fn whole(story: &Story, body: &[u8]) -> bool {
    story.first == "200" && story.body == body && story.ended && story.reset.is_none()
}

// --- frames behind the end ---------------------------------------------------------------------

fn end(id: u32) -> Vec<Vec<u8>> {
    vec![frame(HEADERS, END_HEADERS, id, OK), frame(DATA, END_STREAM, id, b"all")]
}

fn behind(id: u32) -> [Vec<u8>; 3] {
    [
        frame(DATA, 0, id, b"more"),
        frame(HEADERS, END_HEADERS, id, OK),
        frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x40\x01x\x01y"),
    ]
}

#[test]
fn a_whole_response_outlives_what_comes_behind_its_end() {
    for text in [GET, POST] {
        for at_once in [true, false] {
            for wrong in behind(3) {
                let mut pair = plain();
                let ids = [pair.ask(GET, b"", true), pair.ask(text, b"", text == GET)];
                output(&mut pair);
                let reads = [end(ids[1]), vec![wrong.clone()]];
                let reads = if at_once { vec![reads.concat()] } else { reads.to_vec() };
                reads.iter().for_each(|frames| read(&mut pair, frames, NOW));
                read(&mut pair, &[wrong], NOW); // late, on a stream that we reset
                let mut told = Stories::new();
                tell(&mut pair, &mut told);
                assert!(whole(&told[&ids[1]], b"all"), "{told:?}");
                // RFC 9113 §5.1, once; and the connection goes on.
                assert_eq!(resets(&output(&mut pair)), [(ids[1], STREAM_CLOSED)]);
                assert!(!pair.client.is_closed());
                read(&mut pair, &end(ids[0]), NOW);
                tell(&mut pair, &mut told);
                assert!(whole(&told[&ids[0]], b"all"), "{told:?}");
            }
        }
    }
}

#[test]
fn a_paused_response_that_is_whole_outlives_it_too() {
    let mut pair = plain();
    let id = pair.ask(GET, b"", true);
    pair.client.pause(id);
    read(&mut pair, &end(id), NOW);
    read(&mut pair, &behind(id)[..1], NOW);
    let mut told = Stories::new();
    tell(&mut pair, &mut told);
    assert!(whole(&told[&id], b"all"), "{told:?}");
}

#[test]
fn what_comes_behind_the_endpoints_own_reset_is_a_stream_error() {
    for wrong in behind(1) {
        let mut pair = plain();
        let id = pair.ask(GET, b"", true);
        output(&mut pair);
        let reset = frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes());
        read(&mut pair, &[frame(HEADERS, END_HEADERS, id, OK), reset], NOW);
        let mut told = Stories::new();
        tell(&mut pair, &mut told);
        assert_eq!(told[&id].reset, Some((CANCEL, false)));
        read(&mut pair, std::slice::from_ref(&wrong), NOW);
        read(&mut pair, &[wrong], NOW);
        assert_eq!(resets(&output(&mut pair)), [(id, STREAM_CLOSED)]);
        assert!(pair.client.signals().is_empty() && !pair.client.is_closed());
    }
}

#[test]
fn what_was_on_its_way_when_we_reset_is_counted_and_dropped() {
    let mut pair = plain();
    let id = pair.ask(GET, b"", true);
    pair.client.leave(id);
    assert_eq!(resets(&output(&mut pair)), [(id, CANCEL)]);
    // Its fields count for the table, its bytes for the connection's window.
    let fields = [OK, b"\x40\x01x\x01y"].concat();
    read(&mut pair, &[frame(HEADERS, END_HEADERS, id, &fields)], NOW);
    let mut updates = 0;
    for _ in 0..100 {
        read(&mut pair, &[frame(DATA, 0, id, &[0; 16_384])], NOW);
        let out = output(&mut pair);
        assert!(resets(&out).is_empty());
        updates += frames(&out).iter().filter(|(kind, id, _)| (*kind, *id) == (8, 0)).count();
    }
    assert!(updates >= 2 && !pair.client.is_closed());
    let id = pair.ask(GET, b"", true);
    let head = frame(HEADERS, END_HEADERS | END_STREAM, id, &[OK, b"\xBE"].concat());
    read(&mut pair, &[head], NOW);
    assert!(format!("{:?}", pair.client.signals()).contains("Head"));
}

#[test]
fn a_fault_has_a_name() {
    for (wrong, detail) in [
        (frame(DATA, 0, 1, b"x"), "DATA before a head"),
        (frame(HEADERS, END_HEADERS, 1, b"\x88\x00\x01X\x01y"), "uppercase field name"),
        (frame(HEADERS, END_HEADERS, 1, b"\x00\x01x\x01y"), "no :status"),
        (
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88\x0F\x0D\x011"),
            "body shorter than content-length",
        ),
    ] {
        let mut pair = plain();
        pair.ask(GET, b"", true);
        read(&mut pair, &[wrong], NOW);
        match pair.client.signals()[..] {
            [(1, Signal::Reset { code: 1, malformed: true, detail: said, .. })] => {
                assert_eq!(said, detail);
            }
            ref other => panic!("{other:?}"),
        }
    }
    let mut pair = plain();
    pair.ask(GET, b"", true);
    read(&mut pair, &[frame(DATA, 0, 0, b"x")], NOW);
    let told = format!("{:?}", pair.client.signals());
    assert!(told.contains("DATA on stream 0"), "{told}");
}

// --- what the endpoint takes -------------------------------------------------------------------

fn ask_with(pair: &mut Pair, fields: &str) -> Result<Option<u32>, Reason> {
    let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    pair.try_ask(&text, b"", true).map_err(|error| error.reason)
}

#[test]
fn a_head_larger_than_the_endpoint_takes_is_not_sent() {
    let mut pair = client(Limits::default(), &[(6, 1_000)], &H2Config::default());
    output(&mut pair);
    let field = |name: &str, len: usize| format!("{name}: {}\r\n", "v".repeat(len));
    // An entry that would go into the table.
    let large = field("x-key", 900);
    assert_eq!(ask_with(&mut pair, &large), Err(Reason::HeadersTooLarge));
    assert!(output(&mut pair).is_empty(), "nothing was sent");
    assert_eq!(pair.client.open_streams(), 0);
    // Many small fields cost 32 bytes each.
    let many: String = (0..30).map(|n| field(&format!("x{n}"), 1)).collect();
    assert_eq!(ask_with(&mut pair, &many), Err(Reason::HeadersTooLarge));
    assert_eq!(ask_with(&mut pair, &field("x-key", 100)), Ok(Some(1)));
    // The tables are in step: a server reads what follows.
    let mut other = Pair::new(&H2Config::default());
    other.client = pair.client;
    let hello = frame(4, 0, 0, &[]);
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &hello].concat();
    let fresh = |pair: &mut Pair| {
        pair.server = meshcore_core::codec::h2::H2Server::new(
            Limits::default(),
            meshcore_core::codec::ServerRules::default(),
            &H2Config::default(),
            NOW,
        );
        pair.server.receive(Bytes::from(preface.clone()), NOW);
    };
    fresh(&mut other);
    let first = output(&mut other);
    assert_eq!(ask_with(&mut other, &field("x-key", 100)), Ok(Some(3)));
    let second = output(&mut other);
    assert!(second.len() < first.len(), "the second names what the first brought");
    other.server.receive(Bytes::from([first, second].concat()), NOW);
    let told = other.server.signals();
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn trailers_larger_than_the_endpoint_takes_cost_their_stream() {
    let mut pair = client(Limits::default(), &[(6, 1_000)], &H2Config::default());
    let id = pair.ask(POST, b"some", false);
    let mut trailers = Headers::default();
    trailers.push(b"x-sum", &[b'v'; 1_000]);
    output(&mut pair);
    pair.client.send_end(id, Some(&trailers));
    assert_eq!(resets(&output(&mut pair)), [(id, CANCEL)]);
    let mut told = Stories::new();
    tell(&mut pair, &mut told);
    assert_eq!(told[&id].reset, Some((CANCEL, false)));
    assert!(!pair.client.is_closed());
}

// --- what we take ------------------------------------------------------------------------------

#[test]
fn a_response_that_is_too_large_costs_its_stream_and_is_not_the_endpoints_fault() {
    let limits = Limits { header_bytes: 1_024, headers: 3, trailers: 3, ..Limits::default() };
    let mut pair = client(limits, &[], &H2Config::default());
    let literal = |len: usize| {
        let rest = u16::try_from(len - 127).unwrap();
        let size = [0x7F, (rest & 0x7F) as u8 | 0x80, (rest >> 7) as u8 | 0x80, 0];
        [&b"\x00\x01x"[..], &size, &vec![b'v'; len]].concat()
    };
    let many = b"\x00\x01x\x01y".repeat(4);
    let long = literal(10_000);
    let bare = frame(HEADERS, END_HEADERS, 0, OK);
    let head = |id, fields: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, id, fields);
    let continued = |id: u32, part: &[u8]| {
        let first = frame(HEADERS, END_STREAM, id, &[OK, &literal(16_000)].concat());
        let more = (0..9).map(|_| frame(CONTINUATION, 0, id, part)).collect::<Vec<_>>().concat();
        [first, more, frame(CONTINUATION, END_HEADERS, id, part)].concat()
    };
    let id = |n: u32| 2 * n + 1;
    let with_head = |n, more: Vec<u8>| {
        let mut first = bare.clone();
        first[5..9].copy_from_slice(&id(n).to_be_bytes());
        [first, more].concat()
    };
    let cases = [
        head(id(0), &[OK, &many].concat()),
        head(id(1), &[OK, &long].concat()),
        frame(HEADERS, END_HEADERS, id(2), &[&b"\x08\x03103"[..], &long].concat()),
        with_head(3, head(id(3), &many)),
        with_head(4, head(id(4), &long)),
        continued(id(5), &literal(16_000)),
    ];
    for _ in &cases {
        pair.ask(GET, b"", true);
    }
    for (n, case) in cases.into_iter().enumerate() {
        read(&mut pair, &[case], NOW);
        let told = pair.client.signals();
        let refused = told.iter().find_map(|(_, signal)| match signal {
            Signal::Refused(error, _) => Some(error.reason),
            _ => None,
        });
        assert_eq!(refused, Some(Reason::ResponseTooLarge), "{n}: {told:?}");
        assert!(!pair.client.is_closed(), "{n}");
    }
}

// --- how many resets an endpoint bears ---------------------------------------------------------

#[test]
fn resets_of_one_connection_are_bounded() {
    const IN_TIME: usize = 199;
    for streams in [100, 400] {
        for together in [1, 50, 100] {
            let config = H2Config { streams, ..H2Config::default() };
            let mut connections = vec![client(Limits::default(), &[], &config)];
            let mut sent = vec![0];
            let mut cancelled = 0;
            while cancelled < 630 {
                let at = connections.len() - 1;
                let pair = &mut connections[at];
                let room = pair.client.can_open(Nanos::from_secs(5)).min(together);
                let ids: Vec<u32> = (0..room).map(|_| pair.ask(GET, b"", true)).collect();
                ids.iter().for_each(|id| pair.client.leave(*id));
                cancelled += ids.len();
                sent[at] += resets(&output(pair)).len();
                if room == 0 {
                    connections.push(client(Limits::default(), &[], &config));
                    sent.push(0);
                }
            }
            assert!(sent.iter().all(|n| *n <= IN_TIME), "{sent:?}");
            let pair = &mut connections[0];
            assert_eq!(pair.client.can_open(Nanos::from_secs(34)), 0);
            assert!(ask_with(pair, "").is_ok_and(|id| id.is_none()));
            assert_eq!(pair.client.can_open(Nanos::from_secs(36)), streams as usize);
        }
    }
}

#[test]
fn answers_to_what_comes_behind_an_end_are_bounded_too() {
    let mut pair = plain();
    let mut sent = 0;
    for _ in 0..300 {
        if pair.client.can_open(NOW) == 0 {
            break;
        }
        let id = pair.ask(GET, b"", true);
        let wrong = [end(id), behind(id).to_vec()].concat();
        read(&mut pair, &wrong, NOW);
        // A second one waits meanwhile.
        sent += resets(&output(&mut pair)).len();
    }
    assert_eq!(sent, 190);
    let closed = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, NO_ERROR as u8]);
    read(&mut pair, &[closed], NOW);
    assert!(!pair.client.is_closed());
}

// --- order -------------------------------------------------------------------------------------

#[test]
fn who_came_first_is_told_first_and_gets_room_first() {
    let config = H2Config::default();
    let mut pair = client(Limits::default(), &[(4, 0)], &config); // no room
    let asked: Vec<u32> = (0..20).map(|_| pair.ask(POST, b"waits", true)).collect();
    output(&mut pair);
    read(&mut pair, &[settings(&[(4, 5)])], NOW);
    let sent = output(&mut pair);
    let sent = frames(&sent).into_iter().filter(|(kind, ..)| *kind == DATA);
    assert_eq!(sent.map(|(_, id, _)| id).collect::<Vec<_>>(), asked);
    let malformed = frame(DATA, 0, 0, b"on no stream");
    read(&mut pair, &[malformed], NOW);
    let told = pair.client.signals().into_iter().filter(|(id, _)| *id != 0);
    assert_eq!(told.map(|(id, _)| id).collect::<Vec<_>>(), asked);
}
