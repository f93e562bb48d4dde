//! Whole messages there and back.

use bytes::Bytes;
use meshcore_core::codec::HeaderOps;
use meshcore_core::codec::h2::{H2Config, STREAM_HIGH_WATER, Signal};
use meshcore_core::head::{BodyLength, Headers};

use crate::pair::{NOW, Pair, Stories, of_client, of_server, response};

const GET: &str = "GET /a?b HTTP/1.1\r\nhost: Ex.com\r\ncookie: a=1\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nhost: ex.com\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a_request_and_its_response() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(GET, b"", true);
    pair.settle();
    let mut seen = Stories::new();
    of_server(&mut pair, &mut seen);
    assert_eq!(seen[&id].first, "GET ex.com /a");
    assert!(seen[&id].ended);
    pair.answer(id, 200, b"hello", true);
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert_eq!((back[&id].first.as_str(), &*back[&id].body), ("200", &b"hello"[..]));
    assert!(back[&id].ended);
    assert_eq!((pair.client.open_streams(), pair.server.open_streams()), (0, 0));
}

#[test]
fn bodies_and_trailers_both_ways_however_the_reads_cut() {
    for cut in [None, Some(1), Some(7), Some(9), Some(1000)] {
        let mut pair = Pair::new(&H2Config::default());
        pair.cut = cut;
        let id = pair.ask(POST, b"he", false);
        pair.client.send_data(id, Bytes::from_static(b"llo"));
        let mut trailers = Headers::default();
        trailers.push(b"x-sum", b"5");
        pair.client.send_end(id, Some(&trailers));
        pair.settle();
        let mut seen = Stories::new();
        of_server(&mut pair, &mut seen);
        assert_eq!(
            (&*seen[&id].body, seen[&id].ended),
            (&b"hello"[..], true),
            "{cut:?} {seen:?} {:?}",
            pair.server
        );
        assert_eq!(seen[&id].trailers, [("x-sum".to_owned(), "5".to_owned())]);
        let early = response(103, &[], BodyLength::Empty);
        pair.server.send_informational(id, &early, &HeaderOps::default());
        pair.answer(id, 200, b"w", false);
        pair.settle();
        pair.server.send_data(id, Bytes::from_static(b"orld"));
        let mut trailers = Headers::default();
        trailers.push(b"grpc-status", b"0");
        pair.server.send_end(id, Some(&trailers));
        pair.settle();
        let mut back = Stories::new();
        of_client(&mut pair, &mut back);
        assert_eq!((back[&id].first.as_str(), &*back[&id].body), ("103 200", &b"world"[..]));
        assert_eq!(back[&id].trailers, [("grpc-status".to_owned(), "0".to_owned())]);
        assert!(back[&id].ended, "{cut:?}");
        assert_eq!((pair.client.open_streams(), pair.server.open_streams()), (0, 0));
    }
}

#[test]
fn a_reader_that_pauses_stops_the_writer_and_all_arrives() {
    let config =
        H2Config { stream_window: 65_535, connection_window: 65_535, ..H2Config::default() };
    let mut pair = Pair::new(&config);
    let id = pair.ask(GET, b"", true);
    pair.settle();
    pair.answer(id, 200, b"", false);
    pair.settle();
    pair.client.pause(id);
    let chunk = Bytes::from(vec![7; 50_000]);
    let mut sent = 0;
    let mut queued = 0;
    while queued <= STREAM_HIGH_WATER {
        queued = pair.server.send_data(id, chunk.clone());
        sent += chunk.len();
        pair.settle();
    }
    assert!(sent <= 65_535 + STREAM_HIGH_WATER + 2 * chunk.len());
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert!(back[&id].body.is_empty());
    pair.server.send_end(id, None);
    pair.client.resume(id);
    pair.settle();
    let mut told = Stories::new();
    of_server(&mut pair, &mut told);
    assert_eq!(told[&id].writable, 1);
    of_client(&mut pair, &mut back);
    assert_eq!((back[&id].body.len(), back[&id].ended), (sent, true));
    assert_eq!(pair.server.queued(), 0);
}

#[test]
fn a_hundred_streams_share_one_connection() {
    let mut pair = Pair::new(&H2Config::default());
    let ids: Vec<u32> = (0..100).map(|_| pair.ask(GET, b"", true)).collect();
    assert_eq!(pair.client.can_open(NOW), 0);
    pair.settle();
    let mut seen = Stories::new();
    of_server(&mut pair, &mut seen);
    assert_eq!(seen.len(), 100);
    let body = vec![1; 30_000];
    for &id in ids.iter().rev() {
        pair.answer(id, 200, &body, true);
    }
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert!(ids.iter().all(|id| back[id].ended && back[id].body.len() == 30_000));
    assert_eq!(pair.client.can_open(NOW), 100);
}

#[test]
fn a_cancelled_stream_tells_the_other_side_and_leaves_nothing() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(POST, b"some", false);
    pair.settle();
    let mut seen = Stories::new();
    of_server(&mut pair, &mut seen);
    pair.client.leave(id);
    pair.settle();
    of_server(&mut pair, &mut seen);
    assert_eq!(seen[&id].reset, Some((8, false)));
    let other = pair.ask(GET, b"", true);
    pair.settle();
    of_server(&mut pair, &mut seen);
    pair.server.reset(other, 7);
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert_eq!(back[&other].reset, Some((7, true)), "REFUSED_STREAM may be tried elsewhere");
    assert_eq!((pair.client.open_streams(), pair.server.open_streams()), (0, 0));
}

#[test]
fn an_answer_before_the_end_of_the_request_stops_it() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(POST, b"some", false);
    pair.settle();
    pair.answer(id, 413, b"no", true);
    assert!(pair.server.leave(id));
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert_eq!((back[&id].first.as_str(), back[&id].ended), ("413", true));
    assert_eq!(&*back[&id].body, b"no");
}

#[test]
fn drain_ends_when_the_last_stream_does() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(GET, b"", true);
    pair.settle();
    let heard = |pair: &mut Pair| {
        pair.server.signals().iter().any(|(id, s)| *id == 0 && matches!(s, Signal::Heard))
    };
    pair.server.drain();
    assert!(!heard(&mut pair));
    pair.settle();
    assert!(heard(&mut pair));
    assert!(pair.client.can_open(NOW) > 0);
    pair.server.warn();
    pair.server.send_goaway(b"");
    pair.settle();
    assert_eq!(pair.client.can_open(NOW), 0);
    assert!(pair.client.signals().iter().any(|(id, s)| *id == 0 && matches!(s, Signal::GoAway)));
    assert!(!pair.server.is_closed());
    pair.answer(id, 200, b"last", true);
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert_eq!(&*back[&id].body, b"last");
    assert!(pair.server.is_closed());
}

#[test]
fn the_last_stream_is_said_once_and_again_with_a_reason() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(GET, b"", true);
    pair.settle();
    let goaway = |last: u32, debug: &[u8]| {
        let len = [0, 0, 8 + debug.len() as u8];
        [&len, &[7, 0, 0, 0, 0, 0][..], &last.to_be_bytes(), &[0; 4], debug].concat()
    };
    pair.server.drain();
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0];
    assert!(pair.server.take_output(|out| out.starts_with(&ping) && out.len() == 17));
    pair.server.drain();
    pair.server.warn();
    pair.server.warn();
    // And nothing behind it: there are clients that take nothing more.
    assert_eq!(pair.server.take_output(<[u8]>::to_vec), goaway(0x7FFF_FFFF, b""));
    pair.server.send_goaway(b"");
    assert_eq!(pair.server.take_output(<[u8]>::to_vec), goaway(id, b""));
    pair.server.send_goaway(b"");
    assert_eq!(pair.server.take_output(<[u8]>::to_vec), b"");
    pair.server.send_goaway(b"draining");
    assert_eq!(pair.server.take_output(<[u8]>::to_vec), goaway(id, b"draining"));
    pair.server.reset(id, 2);
    assert!(pair.server.is_closed());
    pair.server.send_goaway(b"draining");
    assert_eq!(pair.server.take_output(|out| out.len()), 13);
}

#[test]
fn pings_are_answered() {
    let mut pair = Pair::new(&H2Config::default());
    pair.settle();
    assert!(pair.client.ping() && !pair.client.ping());
    assert!(pair.server.ping());
    pair.settle();
    for signals in [
        pair.client.signals().iter().filter(|(_, s)| matches!(s, Signal::Pong)).count(),
        pair.server.signals().iter().filter(|(_, s)| matches!(s, Signal::Pong)).count(),
    ] {
        assert_eq!(signals, 1);
    }
    assert!(pair.client.ping());
}

#[test]
fn a_lost_connection_ends_every_stream() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(GET, b"", true);
    pair.settle();
    pair.client.receive_eof();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert!(back[&id].reset.is_some_and(|(_, refused)| !refused));
    assert!(pair.client.is_closed());
    pair.server.receive_eof();
    let mut seen = Stories::new();
    of_server(&mut pair, &mut seen);
    assert!(seen[&id].reset.is_some());
    assert!(pair.server.is_closed());
}
