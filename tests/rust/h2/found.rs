//! What the fuzzers and the properties found, each in its shortest form.

use bytes::Bytes;
use meshcore_core::codec::h2::{H2Config, H2Server, Signal};
use meshcore_core::codec::{Limits, ServerRules};

use crate::pair::{NOW, Pair, Stories, of_client, of_server};
use crate::witness::{drain, read};

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const GET: &str = "GET /a HTTP/1.1\r\nhost: ex.com\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nhost: ex.com\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a1_the_end_is_told_once_before_a_reset() {
    let mut server =
        H2Server::new(Limits::default(), ServerRules::default(), &H2Config::default(), NOW);
    read(&mut server, GREETING);
    read(&mut server, b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a");
    assert_eq!(server.signals().len(), 1);
    read(&mut server, b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08");
    let told = server.signals();
    assert!(matches!(told[..], [(1, Signal::Reset { code: 8, .. })]), "{told:?}");
}

#[test]
fn a2_resume_after_the_end_tells_nothing() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(GET, b"", true);
    pair.settle();
    assert_eq!(pair.server.signals().len(), 1);
    pair.server.pause(id);
    pair.server.resume(id);
    let told = pair.server.signals();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn b_nothing_is_told_to_who_left() {
    let limits = Limits { body: Some(10), ..Limits::default() };
    let mut pair = Pair::new(&H2Config::default());
    pair.server = H2Server::new(limits, ServerRules::default(), &H2Config::default(), NOW);
    read(&mut pair.server, GREETING);
    read(&mut pair.server, b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0"); // no window for the answer
    read(&mut pair.server, b"\0\0\x06\x01\x04\0\0\0\x01\x83\x84\x86\x41\x01a");
    assert_eq!(pair.server.signals().len(), 1);
    pair.answer(1, 200, b"waits", true);
    assert!(!pair.server.leave(1));
    drain(&mut pair.server);
    read(&mut pair.server, &[b"\0\0\x14\0\0\0\0\0\x01".as_slice(), &[b'x'; 20]].concat());
    let told = pair.server.signals();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn b2_refused_once() {
    let limits = Limits { trailers: 0, ..Limits::default() };
    let mut server = H2Server::new(limits, ServerRules::default(), &H2Config::default(), NOW);
    read(&mut server, GREETING);
    // TRACE, or whatever is refused: here a path that is none.
    read(&mut server, b"\0\0\x09\x01\x04\0\0\0\x01\x83\x04\x02/#\x86\x41\x01a");
    let first = server.signals();
    read(&mut server, b"\0\0\x05\x01\x05\0\0\0\x01\x40\x01t\x01v");
    let second = server.signals();
    assert!(matches!(first[..], [(1, Signal::Refused(..))]), "{first:?}");
    assert!(second.is_empty(), "{second:?}");
}

#[test]
fn c_a_whole_response_outlives_a_reset_while_its_reader_pauses() {
    let mut pair = Pair::new(&H2Config::default());
    let id = pair.ask(POST, b"some", false);
    pair.settle();
    pair.answer(id, 200, b"", false);
    pair.settle();
    pair.client.pause(id);
    pair.server.send_data(id, Bytes::from_static(b"hello"));
    pair.server.send_end(id, None);
    pair.server.leave(id); // RST_STREAM(NO_ERROR) behind the end
    pair.settle();
    pair.client.resume(id);
    let mut back = Stories::new();
    of_client(&mut pair, &mut back);
    assert!(back[&id].ended || back[&id].reset.is_some(), "{back:?}");
    assert_eq!((&*back[&id].body, pair.client.open_streams()), (&b"hello"[..], 0));
}

#[test]
fn e_all_streams_may_be_reset_at_one_time() {
    let mut pair = Pair::new(&H2Config::default());
    let ids: Vec<u32> = (0..100).map(|_| pair.ask(POST, b"", false)).collect();
    pair.settle();
    of_server(&mut pair, &mut Stories::new());
    for &id in &ids {
        let mut t = meshcore_core::head::Headers::default();
        t.push(b"x-sum", b"5");
        pair.client.send_end(id, Some(&t));
    }
    for &id in &ids {
        pair.server.reset(id, 7);
    }
    pair.settle();
    let signals = pair.server.signals();
    assert!(!pair.server.is_closed() && !pair.client.is_closed(), "{signals:?}");
}

#[test]
fn f_all_requests_may_be_left_at_one_time() {
    let mut pair = Pair::new(&H2Config::default());
    let ids: Vec<u32> = (0..100).map(|_| pair.ask(GET, b"", true)).collect();
    pair.settle();
    for &id in &ids {
        pair.answer(id, 200, b"", false);
    }
    // Several frames of each stream are on their way when the client leaves them all.
    for _ in 0..4 {
        for &id in &ids {
            pair.server.send_data(id, Bytes::from_static(b"x"));
        }
    }
    let back = pair.server.take_output(<[u8]>::to_vec);
    for &id in &ids {
        pair.client.leave(id);
    }
    pair.client.receive(Bytes::from(back), NOW);
    assert!(!pair.client.is_closed(), "{:?}", pair.client.flood());
}
