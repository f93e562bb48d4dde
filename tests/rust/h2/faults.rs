//! Peers that break the rules or are late: what it costs, whom, and what is kept for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use meshcore_core::codec::h2::{FrameRate, H2Client, H2Config, H2Server};
use meshcore_core::codec::{Limits, ServerRules};
use meshcore_core::head::Scheme;
use meshcore_core::time::Nanos;

use crate::pair::{NOW, Pair, Stories, of_client, of_server};

const GET: &str = "GET /a?b HTTP/1.1\r\nhost: ex.com\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nhost: ex.com\r\ntransfer-encoding: chunked\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames, and flags.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// `POST http://a/` by the static table and a literal: it leaves nothing in the table.
const REQUEST: &[u8] = b"\x83\x86\x84\x01\x01a";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let one = |&(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &values.iter().flat_map(one).collect::<Vec<u8>>())
}

/// Kind, stream and payload of every frame.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, &[u8])> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let (payload, rest) = rest.split_at(len);
        found.push((head[3], stream, payload));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    found
}

/// What the server writes, all of it.
fn output(server: &mut H2Server) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let more = server.take_output(<[u8]>::to_vec);
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// A server whose client is written by hand; it has said these SETTINGS.
fn pair(limits: Limits, said: &[(u16, u32)]) -> Pair {
    let config = H2Config::default();
    let mut server = H2Server::new(limits, ServerRules::default(), &config, NOW);
    server.receive(Bytes::from([PREFACE, &settings(said)].concat()), NOW);
    let client = H2Client::new(limits, Scheme::Http, &config, NOW);
    Pair { client, server, cut: None }
}

fn tell(pair: &mut Pair, frames: &[Vec<u8>]) {
    pair.server.receive(Bytes::from(frames.concat()), NOW);
}

/// A read that counts when nobody holds a part of it any more.
struct Read(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Read {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn data_on_a_stream_that_was_left_is_dropped() {
    for ends in [false, true] {
        let mut pair = pair(Limits::default(), &[(4, 0)]);
        tell(&mut pair, &[frame(HEADERS, END_HEADERS, 1, REQUEST), frame(DATA, 0, 1, b"some")]);
        pair.server.pause(1);
        tell(&mut pair, &[frame(DATA, 0, 1, b"more")]);
        let mut seen = Stories::new();
        of_server(&mut pair, &mut seen);
        pair.answer(1, 413, b"too much", true);
        assert!(!pair.server.leave(1), "its window is shut");
        output(&mut pair.server);
        let dropped = Arc::new(AtomicUsize::new(0));
        for n in 1..=1_000 {
            let flags = if ends && n == 1_000 { END_STREAM } else { 0 };
            let read = Read(frame(DATA, flags, 1, b"x"), dropped.clone());
            pair.server.receive(Bytes::from_owner(read), NOW);
            assert_eq!(dropped.load(Ordering::Relaxed), n, "the read is kept");
        }
        assert!(pair.server.signals().is_empty());
        assert!(!pair.server.is_closed());
        tell(&mut pair, &[frame(WINDOW_UPDATE, 0, 1, &100_u32.to_be_bytes())]);
        let out = output(&mut pair.server);
        assert!(frames(&out).contains(&(DATA, 1, b"too much")));
        assert_eq!(frames(&out).contains(&(RST_STREAM, 1, &[0; 4])), !ends);
        assert_eq!(pair.server.open_streams(), 0);
    }
}

#[test]
fn a_whole_response_that_waits_is_told_before_what_ends_its_stream() {
    let body = vec![7; 50_000];
    for (in_one_read, lost) in [(true, false), (false, false), (false, true)] {
        let mut pair = Pair::new(&H2Config::default());
        let id = pair.ask(POST, b"some", false);
        pair.client.pause(id);
        pair.settle();
        pair.answer(id, 413, &body, true);
        if !in_one_read {
            pair.settle();
        }
        let mut back = Stories::new();
        of_client(&mut pair, &mut back);
        if lost {
            pair.client.receive_eof();
        } else {
            assert!(pair.server.leave(id)); // with RST_STREAM(NO_ERROR)
            pair.settle();
        }
        of_client(&mut pair, &mut back);
        let story = &back[&id];
        assert_eq!((story.first.as_str(), story.body.len()), ("413", body.len()));
        assert_eq!((story.ended, story.reset), (true, None));
        assert_eq!(pair.client.open_streams(), 0);
    }
}

#[test]
fn a_client_ignores_what_is_late_on_streams_that_it_cancelled() {
    let config = H2Config { streams: 600, ..H2Config::default() };
    let resets = FrameRate { per_second: 100, burst: 1000 };
    let (limits, lenient) = (Limits::default(), H2Config { resets, ..config });
    let mut pair = Pair {
        client: H2Client::new(limits, Scheme::Http, &config, NOW),
        server: H2Server::new(limits, ServerRules::default(), &lenient, NOW),
        cut: None,
    };
    pair.settle();
    let ids: Vec<u32> = (0..600).map(|_| pair.ask(GET, b"", true)).collect();
    pair.settle();
    pair.server.signals();
    for &id in &ids {
        pair.answer(id, 200, b"late", true);
    }
    let late = output(&mut pair.server);
    assert_eq!(frames(&late).iter().filter(|(kind, ..)| *kind == DATA).count(), 600);
    for &id in &ids {
        pair.client.leave(id);
    }
    pair.settle();
    pair.client.receive(Bytes::from(late), NOW);
    assert!(pair.client.signals().is_empty());
    let said = pair.client.take_output(<[u8]>::to_vec);
    assert!(!frames(&said).iter().any(|(kind, ..)| *kind == RST_STREAM), "{said:?}");
    assert!(!pair.client.is_closed() && !pair.server.is_closed());
    // So many resets rest for a while.
    assert!(pair.client.can_open(Nanos::from_secs(31)) > 0);
    let id = pair.ask(GET, b"", true);
    pair.settle();
    pair.answer(id, 200, b"fine", true);
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert_eq!((&*back[&id].body, back[&id].ended), (&b"fine"[..], true));
}

#[test]
fn a_server_that_named_its_last_stream_ignores_those_beyond() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(GET, b"", true);
    pair.settle();
    pair.server.send_goaway(b"");
    pair.settle();
    let mut seen = Stories::new();
    of_server(&mut pair, &mut seen);
    tell(
        &mut pair,
        &[
            frame(HEADERS, END_HEADERS, id + 2, REQUEST),
            frame(DATA, 0, id + 2, b"some"),
            frame(WINDOW_UPDATE, 0, id + 2, &9_u32.to_be_bytes()),
            frame(HEADERS, END_HEADERS | END_STREAM, id + 4, REQUEST),
            frame(DATA, END_STREAM, id + 2, b"more"),
            frame(RST_STREAM, 0, id + 2, &8_u32.to_be_bytes()),
            frame(RST_STREAM, 0, id + 4, &8_u32.to_be_bytes()),
        ],
    );
    assert!(!pair.server.is_closed());
    assert!(pair.server.signals().is_empty());
    pair.answer(id, 200, b"last", true);
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert_eq!((&*back[&id].body, back[&id].ended), (&b"last"[..], true));
    assert!(pair.server.is_closed());
}

#[test]
fn the_smallest_of_several_table_sizes_is_said_too() {
    let both = [settings(&[(1, 0), (1, 4096)])];
    let apart = [settings(&[(1, 0)]), settings(&[(1, 4096)])];
    for said in [&both[..], &apart[..]] {
        let mut pair = pair(Limits::default(), &[]);
        tell(&mut pair, said);
        tell(&mut pair, &[frame(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST)]);
        output(&mut pair.server);
        pair.answer(1, 200, b"", true);
        let out = output(&mut pair.server);
        let (kind, _, block) = frames(&out)[0];
        assert_eq!(kind, HEADERS);
        // RFC 7541 §4.2: sizes of 0 and of 4096.
        assert_eq!(block[..4], [0x20, 0x3F, 0xE1, 0x1F], "{block:02x?}");
    }
}

#[test]
fn a_field_that_is_too_long_leaves_the_tables_in_step() {
    let limits = Limits { header_bytes: 1024, ..Limits::default() };
    let mut pair = pair(limits, &[]);
    let head = |id, fields: &[u8]| {
        frame(HEADERS, END_HEADERS | END_STREAM, id, &[REQUEST, fields].concat())
    };
    // `x` with 1,500 bytes, into the table.
    let long = [&b"\x40\x01x\x7F\xDD\x0A"[..], &[b'v'; 1_500]].concat();
    let mut seen = Stories::new();
    for (id, fields) in [(1, &b"\x40\x01k\x01w"[..]), (3, &long), (5, b"\xBE"), (7, b"\xBF")] {
        tell(&mut pair, &[head(id, fields)]);
        assert!(!pair.server.is_closed(), "{id}");
        let signals = pair.server.signals();
        if id == 7 {
            assert!(format!("{signals:?}").contains("Head"), "{signals:?}");
        }
        for (id, signal) in signals {
            seen.entry(id).or_default().of_server(signal);
        }
    }
    let refused: Vec<_> = seen.values().map(|story| story.refused).collect();
    assert_eq!(refused, [None, Some(431), Some(431), None]);
    assert_eq!(seen[&7].first, seen[&1].first);
}
