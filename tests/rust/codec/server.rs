//! The server side: what passes, how it reads, and what is refused with which status.

use meshcore_core::codec::{Bytes, H1Server, Limits, ServerEvent, ServerRules};
use meshcore_core::head::{BodyLength, Scheme};

use crate::record::{serve, serve_with};

fn head_of(bytes: &str) -> meshcore_core::head::RequestHead {
    match H1Server::new(Limits::default()).receive(bytes.as_bytes()) {
        Ok(Some(ServerEvent::Head { head, .. })) => head,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_small_request_is_one_event_that_points_into_the_read() {
    let data = b"POST /a?b HTTP/1.1\r\nHost: Ex.Com:81\r\nContent-Length: 5\r\n\r\nhello";
    let mut server = H1Server::new(Limits::default());
    let Ok(Some(ServerEvent::Head { head, body })) = server.receive(data) else { panic!() };
    assert_eq!(head.slice(head.authority), b"ex.com:81");
    assert_eq!(head.slice(head.host), b"ex.com");
    assert_eq!(head.slice(head.path), b"/a");
    assert_eq!(head.query.map(|q| head.slice(q)), Some(&b"b"[..]));
    assert_eq!(head.body, BodyLength::Known(5));
    assert_eq!(head.headers.get(b"host"), Some(&b"Ex.Com:81"[..]));
    assert!(body.end && head.keep_alive && server.request_complete());
    assert_eq!(body.bytes, Bytes::Range(data.len() - 5..data.len()));
    assert!(server.wants_read(), "to notice a client that leaves");
    assert!(server.start_next() && server.is_idle());
}

#[test]
fn a_read_of_body_alone_is_one_untouched_range() {
    let mut server = H1Server::new(Limits::default());
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    assert!(matches!(server.receive(head), Ok(Some(ServerEvent::Head { .. }))));
    let Ok(Some(ServerEvent::Data(part))) = server.receive(&[b'x'; 60_000]) else { panic!() };
    assert_eq!((part.bytes, part.end), (Bytes::Range(0..60_000), false));
    let Ok(Some(ServerEvent::Data(part))) = server.receive(&[b'x'; 40_000]) else { panic!() };
    assert_eq!((part.bytes, part.end), (Bytes::Range(0..40_000), true));
}

#[test]
fn a_body_behind_a_head_in_two_reads_is_not_copied() {
    let mut server = H1Server::new(Limits::default());
    assert!(matches!(server.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Le"), Ok(None)));
    let rest = b"ngth: 3\r\n\r\nabc";
    let Ok(Some(ServerEvent::Head { body, .. })) = server.receive(rest) else { panic!() };
    assert_eq!((body.bytes, body.end), (Bytes::Range(11..14), true));
}

#[test]
fn chunks_of_one_read_are_a_list_of_ranges() {
    let mut server = H1Server::new(Limits::default());
    let data =
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    let Ok(Some(ServerEvent::Head { body, .. })) = server.receive(data) else { panic!() };
    let mut bytes = Vec::new();
    body.bytes.append_to(data, &mut bytes);
    assert!(matches!(body.bytes, Bytes::Ranges(ref list) if list.len() == 2));
    assert_eq!((bytes, body.end), (b"abc".to_vec(), true));
}

#[test]
fn the_next_request_waits_for_the_response() {
    let mut server = H1Server::new(Limits::default());
    let two = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert!(matches!(server.receive(two), Ok(Some(ServerEvent::Head { .. }))));
    assert!(server.wants_read(), "to notice a client that leaves");
    assert!(matches!(server.next_event(), Ok(None)));
    assert!(matches!(server.receive(b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(None)));
    assert!(server.start_next());
    let Ok(Some(ServerEvent::Head { head, body })) = server.next_event() else { panic!() };
    assert_eq!(head.slice(head.path), b"/2");
    assert_eq!(body.bytes, Bytes::Owned(b"hi".to_vec()));
    assert!(server.start_next());
    let Ok(Some(ServerEvent::Head { head, .. })) = server.next_event() else { panic!() };
    assert_eq!(head.slice(head.path), b"/3");
    assert!(server.wants_read());
}

#[test]
fn only_a_little_is_read_ahead() {
    let mut server = H1Server::new(Limits::default());
    server.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    server.receive(&[b'G'; (16 << 10) - 1]).unwrap();
    assert!(server.wants_read());
    server.receive(b"G").unwrap();
    assert!(!server.wants_read());
}

#[test]
fn pipelining_is_bounded_at_the_byte() {
    let limits = Limits { pipelined: 100, ..Limits::default() };
    let mut server = H1Server::new(limits);
    server.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(server.receive(&[b'G'; 100]).is_ok());
    assert_eq!(server.receive(b"G").map_err(|e| e.message).err(), Some("too much pipelined"));
}

#[test]
fn what_is_pipelined_is_known_until_its_turn() {
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut server = H1Server::new(Limits::default());
    server.receive(&[get, get, &b"G"[..]].concat()).unwrap();
    assert!(server.has_pipelined() && server.start_next());
    assert!(!server.has_pipelined(), "it is the current one");
    server.next_event().unwrap();
    assert!(server.has_pipelined() && server.start_next());
    server.receive(&get[1..]).unwrap();
    assert!(!server.has_pipelined());
}

#[test]
fn a_connection_that_may_not_persist_reads_no_further() {
    for head in ["HTTP/1.1\r\nConnection: close", "HTTP/1.0"] {
        let bytes = format!("GET / {head}\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let record = serve(bytes.as_bytes());
        assert_eq!((record.messages.len(), record.reusable, record.error), (1, false, None));
    }
}

#[test]
fn a_body_that_was_not_read_closes_the_connection() {
    let mut server = H1Server::new(Limits::default());
    server.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    assert!(!server.start_next());
    assert!(matches!(server.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(None)));
    assert!(!server.wants_read());
}

#[test]
fn eof_inside_a_request_is_the_clients_leaving() {
    for (bytes, gone) in [
        ("", false),
        ("GET / HT", true),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", true),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
    ] {
        let mut server = H1Server::new(Limits::default());
        server.receive(bytes.as_bytes()).unwrap();
        assert_eq!(server.receive_eof().is_err(), gone, "{bytes}");
    }
}

#[test]
fn eof_in_a_tunnel_ends_the_clients_side_once() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly";
    let mut server = H1Server::new(Limits::default());
    server.receive(head).unwrap();
    assert!(matches!(server.receive_eof(), Ok(None)), "whole, and there is no tunnel yet");
    assert_eq!(server.begin_tunnel(), b"early");
    let Ok(Some(ServerEvent::Data(part))) = server.receive(b"raw") else { panic!() };
    assert_eq!((part.bytes.len(), part.end), (3, false));
    let Ok(Some(ServerEvent::Data(part))) = server.receive_eof() else { panic!() };
    assert!(part.end && part.bytes.is_empty() && part.trailers.is_none());
    assert!(!server.wants_read() && !server.start_next());
    assert!(matches!(server.receive_eof(), Ok(None)));
    assert!(matches!(server.receive(b"more"), Ok(None)), "nothing follows an end");
}

#[test]
fn targets_and_hosts() {
    let head = head_of("GET http://EX.com?q HTTP/1.1\r\nHost: ex.com\r\n\r\n");
    assert_eq!(head.slice(head.path), b"/");
    assert_eq!(head.query.map(|q| head.slice(q)), Some(&b"q"[..]));
    assert_eq!(head.slice(head.authority), b"ex.com");
    let head = head_of("GET /a//%62/../c HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
    assert_eq!(head.slice(head.path), b"/a/c");
    assert_eq!(head.slice(head.forward_path), b"/a//c");
    assert_eq!(head.slice(head.raw_path), b"/a//%62/../c");
    assert_eq!(head.slice(head.host), b"[::1]");
    let head = head_of("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.slice(head.path), b"*");
    let head = head_of("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(head.slice(head.authority), b"");
    assert!(!head.keep_alive);
    let head = head_of("\r\nGET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(head.keep_alive);
}

#[test]
fn connect_and_trace_only_by_leave() {
    let connect = b"CONNECT ex.com:443 HTTP/1.1\r\nHost: ex.com:443\r\n\r\n";
    let trace = b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(serve(connect).status(), Some(405));
    assert_eq!(serve(trace).status(), Some(405));
    let rules =
        ServerRules { connect: true, trace: true, scheme: Scheme::Https, ..ServerRules::default() };
    let mut server = H1Server::with_rules(Limits::default(), rules);
    let Ok(Some(ServerEvent::Head { head, .. })) = server.receive(connect) else { panic!() };
    assert_eq!(head.slice(head.authority), b"ex.com:443");
    assert_eq!(head.scheme, Scheme::Https);
    let with = |bytes: &[u8]| serve_with([bytes], Limits::default(), rules).status();
    assert_eq!(with(trace), None);
    assert_eq!(with(b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"), Some(400));
    assert_eq!(with(b"CONNECT a:1 HTTP/1.1\r\nHost: b:1\r\n\r\n"), Some(400));
    assert_eq!(with(b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n"), Some(400));
}

#[test]
fn expectations() {
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n";
    assert!(head_of(put).expect_continue);
    assert!(!head_of("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").expect_continue);
    let old = "PUT / HTTP/1.0\r\nExpect: x\r\nContent-Length: 3\r\n\r\n";
    assert!(!head_of(old).expect_continue);
    assert_eq!(serve(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n").status(), Some(417));
}

/// Limits at the last byte that passes and the first that does not.
#[test]
fn limits_hold_at_the_byte() {
    let limits =
        Limits { header_bytes: 200, headers: 3, target: 20, body: Some(10), ..Limits::default() };
    let status =
        |bytes: String| serve_with([bytes.as_bytes()], limits, ServerRules::default()).status();
    let get = |path: &str, rest: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
    assert_eq!(status(get(&format!("/{}", "a".repeat(19)), "")), None);
    assert_eq!(status(get(&format!("/{}", "a".repeat(20)), "")), Some(414));
    assert_eq!(status(format!("GET /{}", "a".repeat(194))), None);
    assert_eq!(status(format!("GET /{}", "a".repeat(195))), Some(414));
    let padded = |n: usize| get("/", &format!("x: {}\r\n", "a".repeat(n)));
    let room = 200 - padded(0).len();
    assert_eq!(status(padded(room)), None);
    assert_eq!(status(padded(room + 1)), Some(431));
    assert_eq!(status(get("/", "a: 1\r\nb: 2\r\n")), None);
    assert_eq!(status(get("/", "a: 1\r\nb: 2\r\nc: 3\r\n")), Some(431));
    assert_eq!(status(get("/", "Content-Length: 10\r\n")), None);
    assert_eq!(status(get("/", "Content-Length: 11\r\n")), Some(413));
    let chunks = |a: &str| get("/", "Transfer-Encoding: chunked\r\n") + "5\r\nabcde\r\n" + a;
    assert_eq!(status(chunks("5\r\nabcde\r\n0\r\n\r\n")), None);
    assert_eq!(status(chunks("6\r\n")), Some(413));
}

#[test]
fn a_peer_that_does_not_speak_http_is_not_waited_for() {
    assert_eq!(serve(b"\x16\x03\x01\x02").status(), Some(400));
    assert_eq!(serve(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), Some(505));
}
