//! The edge as a whole: bytes of a client in, and what a strict endpoint sees; bytes of an endpoint
//! in, and what a strict client sees; between all pairs of protocols. The fuzz target `edge` drives
//! the same with what nobody thought of.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod mesh;
mod requests;
mod responses;
mod strict;

use mesh::Mesh;
use proptest::prelude::*;
use responses::{ASKED, Sent};

/// Pieces of requests; put together at random they are now and then almost right.
const REQUEST: &[&str] = &[
    "GET ",
    "POST ",
    "CONNECT ",
    "OPTIONS ",
    "TRACE ",
    "/",
    "/old",
    "/old/a",
    "//",
    "/./",
    "/../",
    "/%2e%2e/",
    "%2f",
    "%2F..%2f",
    "%5c",
    "%",
    "*",
    "http://a",
    "a:443",
    "?q=/../",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "host: a\r\n",
    "Host: a:80\r\n",
    "host: b\r\n",
    "host: a.\r\n",
    "host: a..:80\r\n",
    "content-length: 3\r\n",
    "cOntent-length: 3\r\n",
    "content-length: 3, 3\r\n",
    "content-length: +3\r\n",
    "content_length: 9\r\n",
    "transfer-encoding: chunked\r\n",
    "TRANSFER-encoding: chunked\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "transfer_encoding: chunked\r\n",
    "connection: x-user\r\n",
    "connection: upgrade\r\n",
    "connection: close, te\r\n",
    "upgrade: websocket\r\n",
    "upgrade: h2c\r\n",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "te: trailers\r\n",
    "trailer: x\r\n",
    "x-user: me\r\n",
    "X_User: me\r\n",
    "x-secret: 1\r\n",
    "X_Canary: 1\r\n",
    "X-Tenant-Id: 1\r\n",
    "x_tenant-id: 1\r\n",
    "x_tenant_id: 1\r\n",
    "0\r\nx-tenant-id: 1\r\n\r\n",
    "0\r\nx_canary: 1\r\nx-canary: 2\r\n\r\n",
    "x_secret: 1\r\n",
    "x-forwarded-for: 9.9.9.9\r\n",
    "X_Forwarded-For: 9.9.9.9\r\n",
    "forwarded: for=9\r\n",
    "EXPECT: 100-continue\r\n",
    "Te: trailers\r\nConnection: TE\r\n",
    "max-forwards: 3\r\n",
    "proxy: a\r\n",
    "keep_alive: 1\r\n",
    "a: b\n",
    "a: b\rc\r\n",
    " folded\r\n",
    "\r\n",
    "\n",
    "abc",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    "0\r\nx: y\r\n\r\n",
    "0\r\ncontent-length: 1\r\n\r\n",
    "\0",
    "é",
];

/// The same of responses.
const RESPONSE: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 100 Go on\r\n",
    "HTTP/1.1 103 \r\n",
    "HTTP/1.1 101 Switching\r\n",
    "HTTP/1.1 204 No\r\n",
    "HTTP/1.1 304 No\r\n",
    "HTTP/1.1 999 Odd\r\n",
    "HTTP/1.1 407 Who\r\n",
    "HTTP/1.1 426 Change\r\n",
    "content-length: 3\r\n",
    "content-length: 0\r\n",
    "content-length: 3\r\ncontent-length: 3\r\n",
    "content-length : 3\r\n",
    "content-length: -1\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: identity\r\n",
    "connection: close\r\n",
    "connection: x-frame, upgrade\r\n",
    "upgrade: websocket\r\n",
    "sec-websocket-accept: no\r\n",
    "upgrade: h2c\r\n",
    "x-internal: 1\r\n",
    "x-frame: 1\r\n",
    "x-mesh-reason: no\r\n",
    "X_Mesh-Reason: no\r\n",
    "keep-alive: timeout=5\r\n",
    "proxy-authenticate: a\r\n",
    "trailer: x\r\n",
    "a: b\n",
    "a: b\0\r\n",
    " folded\r\n",
    "\r\n",
    "\r\n\r\n",
    "abc",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    "0\r\nx-internal: y\r\n\r\n",
    "0\r\nx-mesh-a: y\r\n\r\n",
    "é",
];

fn text(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let one = prop::sample::select(pieces);
    prop::collection::vec(one, 0..24).prop_map(|some| some.concat().into_bytes())
}

/// Fields of an HTTP/2 request, good and bad.
const REQUEST_FIELDS: &[(&str, &str)] = &[
    (":protocol", "websocket"),
    (":protocol", "connect"),
    ("sec-websocket-key", "AAAA"),
    ("content-length", "3"),
    ("content-length", "4"),
    ("content_length", "9"),
    ("transfer-encoding", "chunked"),
    ("transfer_encoding", "chunked"),
    ("connection", "close"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("host", "a"),
    ("host", "b"),
    ("X-Upper", "1"),
    ("x-user", "me"),
    ("x_user", "me"),
    ("x-secret", "1"),
    ("x_canary", "1"),
    ("x-tenant-id", "1"),
    ("x_tenant_id", "1"),
    ("x-canary", "2"),
    ("x_secret", "1"),
    ("x-forwarded-for", "9.9.9.9"),
    ("cookie", "a=1"),
    ("cookie", "b=2"),
    ("cookie", "c=3\r\nx: y"),
    ("expect", "100-continue"),
    ("upgrade", "h2c"),
    ("a b", "c"),
    ("a:", "b"),
    ("", "b"),
    ("a", " b"),
    ("a", "b\n"),
    ("a", "é"),
    ("max-forwards", "2"),
];
const PATHS: &[&str] = &[
    "/",
    "/old",
    "/old/../a",
    "//a",
    "/%2e%2e/a",
    "/a%2fb",
    "/a%2f..%2fb",
    "/a\\b",
    "/a b",
    "/a#b",
    "*",
    "a",
    "",
    "/%zz",
    "/a?b=/../c",
    "http://a/",
];
const RESPONSE_FIELDS: &[(&str, &str)] = &[
    ("content-length", "3"),
    ("content-length", "4"),
    ("transfer-encoding", "chunked"),
    ("connection", "close"),
    ("x-internal", "1"),
    ("x-frame", "1"),
    ("x-mesh-reason", "no"),
    ("x_mesh-a", "no"),
    ("set-cookie", "a"),
    ("set-cookie", "b"),
    ("A", "b"),
    ("a", "b\r\n"),
    (":status", "200"),
    ("date", "now"),
    ("upgrade", "websocket"),
    ("sec-websocket-accept", "no"),
];

type Fields = Vec<(&'static str, &'static str)>;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// A field block without compression (RFC 7541 §6.2.2).
fn head(fields: &Fields, end: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(1, 4 | u8::from(end), &block)
}

/// Heads, DATA and trailers of stream 1.
fn message(
    first: Fields,
    some: &'static [(&'static str, &'static str)],
) -> impl Strategy<Value = Vec<u8>> {
    let more = || prop::collection::vec(prop::sample::select(some), 0..4);
    let body = prop::sample::select(&["", "abc", "abcd"][..]);
    (more(), body, proptest::option::of(more()), any::<bool>()).prop_map(
        move |(fields, body, trailers, end)| {
            let all = [&first[..], &fields].concat();
            let ends = end && body.is_empty() && trailers.is_none();
            let mut bytes = head(&all, ends);
            if !body.is_empty() {
                bytes.extend(frame(0, u8::from(end && trailers.is_none()), body.as_bytes()));
            }
            if let Some(trailers) = trailers {
                bytes.extend(head(&trailers, true));
            }
            bytes
        },
    )
}

fn h2_request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(&["GET", "POST", "CONNECT", "OPTIONS", "TRACE", "A?"][..]);
    let path = prop::sample::select(PATHS);
    (method, path, prop::sample::select(&["a", "a:80", "A.", "a..", ".a", "a@b", ""][..]))
        .prop_flat_map(|(method, path, authority)| {
            let first = vec![
                (":method", method),
                (":scheme", "http"),
                (":authority", authority),
                (":path", path),
            ];
            message(first, REQUEST_FIELDS)
        })
}

fn h2_response() -> impl Strategy<Value = Vec<u8>> {
    let status = prop::sample::select(&["200", "101", "204", "304", "99", "2000", "407"][..]);
    let interim =
        proptest::option::of(Just(head(&vec![(":status", "103"), ("x-internal", "1")], false)));
    let last = status.prop_flat_map(|status| message(vec![(":status", status)], RESPONSE_FIELDS));
    (interim, last).prop_map(|(interim, last)| [interim.unwrap_or_default(), last].concat())
}

/// A request line and a head that pass, with odd pieces behind.
fn likely_request() -> impl Strategy<Value = Vec<u8>> {
    let starts = &[
        "GET /old HTTP/1.1\r\nhost: a\r\n",
        "POST /old/a HTTP/1.1\r\nhost: a\r\n",
        "PUT /%2e HTTP/1.1\r\nhost: a\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: a\r\n",
        "TRACE / HTTP/1.1\r\nhost: a\r\n",
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n",
    ];
    let start = prop::sample::select(&starts[..]);
    (start, text(REQUEST), text(REQUEST)).prop_map(|(start, fields, behind)| {
        let head = [start.as_bytes(), &fields, b"\r\n"].concat();
        [head, behind].concat()
    })
}

fn likely_response() -> impl Strategy<Value = Vec<u8>> {
    let lines = &["HTTP/1.1 200 OK\r\n", "HTTP/1.1 426 Change\r\n"];
    let line = prop::sample::select(&lines[..]);
    (line, text(RESPONSE), text(RESPONSE)).prop_map(|(line, fields, behind)| {
        [line.as_bytes(), &fields[..], b"\r\n", &behind].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_endpoint_sees_what_was_asked(
        bytes in prop_oneof![text(REQUEST), likely_request()],
        lenient: bool,
        size in 1_usize..200,
    ) {
        let mesh = Mesh::new(lenient);
        requests::check(&mesh, requests::asked_over_http1(&mesh, [&bytes[..]]));
        requests::check(&mesh, requests::asked_over_http1(&mesh, bytes.chunks(size)));
    }

    #[test]
    fn a_client_sees_what_was_answered(
        bytes in prop_oneof![text(RESPONSE), likely_response()],
        which in 0..ASKED.len(),
        size in 1_usize..200,
    ) {
        let mesh = Mesh::new(false);
        let sent = Sent::new(&mesh, which);
        responses::check(&sent, &responses::answered_over_http1(&sent, [&bytes[..]]));
        responses::check(&sent, &responses::answered_over_http1(&sent, bytes.chunks(size)));
    }

    #[test]
    fn an_endpoint_sees_what_was_asked_over_http2(
        bytes in h2_request(),
        lenient: bool,
        size in 1_usize..200,
    ) {
        let mesh = Mesh::new(lenient);
        requests::check(&mesh, requests::asked_over_http2(&mesh, [&bytes[..]]));
        requests::check(&mesh, requests::asked_over_http2(&mesh, bytes.chunks(size)));
    }

    #[test]
    fn a_client_sees_what_was_answered_over_http2(
        bytes in h2_response(),
        which in 0..ASKED.len(),
        size in 1_usize..200,
    ) {
        let mesh = Mesh::new(false);
        let sent = Sent::new(&mesh, which);
        for reads in [vec![&bytes[..]], bytes.chunks(size).collect()] {
            responses::check(&sent, &responses::answered_over_http2(&mesh, &sent, reads));
        }
    }
}
