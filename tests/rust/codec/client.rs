//! The client side: framing of responses, and what makes a connection unfit for another request.

use meshcore_core::codec::{ClientEvent, H1Client, Limits};
use meshcore_core::error::{Again, Reason};
use meshcore_core::head::BodyLength;

use crate::record::{fetch, fetch_with};

fn client() -> H1Client {
    let mut client = H1Client::new(Limits::default());
    client.sent(false, false);
    client
}

#[test]
fn a_small_response_is_one_event() {
    let mut client = client();
    let data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let Ok(Some(ClientEvent::Head { head, body })) = client.receive(data) else { panic!() };
    assert_eq!((head.status, head.body, body.end), (200, BodyLength::Known(2), true));
    assert!(client.can_reuse() && !client.is_busy());
    client.sent(false, false);
    assert!(!client.can_reuse() && client.is_busy());
    assert!(matches!(client.receive(data), Ok(Some(ClientEvent::Head { .. }))));
}

#[test]
fn interim_responses_come_before_the_final_one() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    let record = fetch(bytes);
    assert_eq!(record.messages.len(), 3);
    assert_eq!(record.messages[2].body, b"abc");
    assert!(record.reusable && record.error.is_none());
    let flood = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(33);
    assert_eq!(fetch(&flood).error, Some((502, "too many interim responses")));
    assert_eq!(fetch(&flood[..flood.len() / 33 * 32]).error, Some((502, "closed inside a head")));
}

#[test]
fn bodies_by_framing() {
    for (bytes, body, reusable) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "", true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "a", true),
        ("HTTP/1.1 200 OK\r\n\r\nuntil close", "until close", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "a", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", "a", true),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", "a", false),
        ("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", "a", true),
    ] {
        let record = fetch(bytes.as_bytes());
        assert_eq!(record.error, None, "{bytes}");
        assert_eq!(record.messages[0].body, body.as_bytes(), "{bytes}");
        assert!(record.messages[0].ended, "{bytes}");
        assert_eq!(record.reusable, reusable, "{bytes}");
    }
}

#[test]
fn a_response_to_head_has_no_body() {
    for framing in ["Content-Length: 9", "Transfer-Encoding: chunked", "X: y"] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
        let record = fetch_with([bytes.as_bytes()], true, Limits::default());
        assert_eq!(record.error, None);
        assert!(record.messages[0].ended && record.reusable, "{framing}");
    }
}

#[test]
fn a_response_that_may_not_pass() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 20 X\r\n\r\n",
        "HTTP/1.1 2000 X\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\n\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ] {
        let record = fetch(bytes.as_bytes());
        assert_eq!(record.status(), Some(502), "{bytes}");
        assert!(!record.reusable, "{bytes}");
    }
}

#[test]
fn what_nobody_asked_for_poisons_the_connection() {
    let mut idle = H1Client::new(Limits::default());
    assert!(idle.can_reuse());
    let error = idle.receive(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err();
    assert_eq!((error.reason, error.message), (Reason::UpstreamProtocol, "unexpected data"));
    assert!(!idle.can_reuse());

    let mut client = client();
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n";
    let Ok(Some(ClientEvent::Head { body, .. })) = client.receive(two) else { panic!() };
    assert!(body.end, "the response itself was whole");
    assert!(!client.can_reuse());
    client.sent(false, false);
    assert!(!client.is_busy(), "a poisoned connection takes no request");
}

#[test]
fn a_204_with_a_body_is_not_reused() {
    let bytes = b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n";
    let record = fetch(bytes);
    assert!(record.messages[0].ended && !record.reusable);
}

#[test]
fn eof_tells_a_retry_apart_from_a_cut() {
    let mut untouched = client();
    let error = untouched.receive_eof().unwrap_err();
    assert!(error.reason == Reason::UpstreamReset && error.reason.again() == Again::Reset);
    for bytes in [
        "HTTP/1.1 2",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
    ] {
        let mut client = client();
        client.receive(bytes.as_bytes()).unwrap();
        let error = client.receive_eof().unwrap_err();
        assert_eq!(error.reason.again(), Again::Never, "{bytes}");
        assert!(!client.can_reuse());
    }
    assert!(matches!(H1Client::new(Limits::default()).receive_eof(), Ok(None)));
}

#[test]
fn eof_in_a_tunnel_ends_the_endpoints_side_once() {
    let mut connect = H1Client::new(Limits::default());
    connect.sent(false, true);
    connect.receive(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let Ok(Some(ClientEvent::Data(part))) = connect.receive_eof() else { panic!() };
    assert!(part.end && part.bytes.is_empty() && part.trailers.is_none());
    assert!(connect.in_tunnel(), "the other side goes on");
    assert!(connect.response_began() && !connect.can_reuse());
    assert!(matches!(connect.receive_eof(), Ok(None)));
}

#[test]
fn an_upgrade_only_if_it_was_offered() {
    for other in ["", "upgrade: other\r\n", "upgrade: websocket, other\r\n"] {
        let mut client = client();
        client.allow_upgrade(b"websocket");
        let data = format!("HTTP/1.1 101 x\r\n{other}\r\n");
        let error = client.receive(data.as_bytes()).unwrap_err();
        assert_eq!(error.reason, Reason::UpstreamProtocol, "{other}");
    }
    let mut client = client();
    client.allow_upgrade(b"websocket");
    let data = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\r\nraw";
    let Ok(Some(ClientEvent::Head { head, body })) = client.receive(data) else { panic!() };
    assert_eq!((head.status, head.body), (101, BodyLength::UntilClose));
    assert_eq!((body.bytes.len(), body.end), (3, false));
    let mut connect = H1Client::new(Limits::default());
    connect.sent(false, true);
    let data = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nraw";
    let Ok(Some(ClientEvent::Head { head, .. })) = connect.receive(data) else { panic!() };
    assert_eq!((head.body, connect.can_reuse()), (BodyLength::UntilClose, false));
}
