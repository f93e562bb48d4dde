//! A tunnel's directions end each on its own, and the client's owner hears of both.

use bytes::Bytes;
use meshcore_core::codec::h2::{ClientSignal, H2Config, Signal};

use super::pair::{Pair, Stories, of_client, of_server};

const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;

/// A tunnel that the endpoint has agreed to.
fn open() -> (Pair, u32) {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.connect();
    pair.settle();
    pair.answer(id, 200, b"", false);
    pair.server.resume(id);
    pair.settle();
    pair.client.signals();
    pair.server.signals();
    (pair, id)
}

fn is_sent(signal: &(u32, ClientSignal)) -> bool {
    matches!(signal.1, Signal::Sent)
}

#[test]
fn an_endpoint_that_has_ended_is_sent_the_rest() {
    let (mut pair, id) = open();
    pair.server.send_end(id, None);
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert!(back[&id].ended && back[&id].reset.is_none());

    let much = vec![7; 200_000]; // beyond the window
    pair.client.send_data(id, Bytes::from(much.clone()));
    pair.client.send_end(id, None);
    let early = pair.client.signals();
    assert!(!early.iter().any(is_sent), "it is not all sent: {early:?}");
    let mut seen = Stories::new();
    for _ in 0..10 {
        pair.settle();
        of_server(&mut pair, &mut seen);
    }
    assert!(seen[&id].ended && seen[&id].body == much);
    assert!(pair.client.signals().iter().any(is_sent));
    assert_eq!((pair.client.open_streams(), pair.server.open_streams()), (0, 0));
}

#[test]
fn a_client_that_has_ended_hears_the_rest() {
    let (mut pair, id) = open();
    pair.client.send_end(id, None);
    assert_eq!(pair.client.signals().iter().filter(|signal| is_sent(signal)).count(), 1);
    pair.settle();
    let mut seen = Stories::new();
    of_server(&mut pair, &mut seen);
    assert!(seen[&id].ended);
    pair.server.send_data(id, Bytes::from_static(b"late"));
    pair.server.send_end(id, None);
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert_eq!((back[&id].body.as_slice(), back[&id].ended), (&b"late"[..], true));
    assert_eq!((pair.client.open_streams(), pair.server.open_streams()), (0, 0));
}

#[test]
fn a_reset_behind_the_endpoints_end_is_told() {
    for code in [NO_ERROR, CANCEL] {
        let (mut pair, id) = open();
        pair.server.send_end(id, None);
        pair.server.reset(id, code);
        pair.settle();
        let mut back = Stories::new();
        of_client(&mut pair, &mut back);
        assert!(back[&id].ended, "what came before it counts");
        assert_eq!(back[&id].reset, Some((code, false)));
    }
}

#[test]
fn the_end_of_the_connection_is_told_behind_the_endpoints_end() {
    let (mut pair, id) = open();
    pair.server.send_end(id, None);
    pair.settle();
    pair.client.receive_eof();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert!(back[&id].ended && back[&id].reset.is_some());
}

#[test]
fn whoever_has_a_whole_response_hears_of_no_reset() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n", b"abc", false);
    pair.settle();
    pair.answer(id, 200, b"no", true);
    pair.server.reset(id, NO_ERROR);
    pair.settle();
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert!(back[&id].ended && back[&id].reset.is_none());
}
