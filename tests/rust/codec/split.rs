//! However the reads cut the bytes, the same messages and the same error come out.

use meshcore_core::codec::{Limits, ServerRules};
use proptest::prelude::*;

use crate::record::{fetch_with, serve_with};

/// Lines that make heads and bodies, good and bad: mixed, they reach every state.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /a//b?c HTTP/1.1\r\n",
        b"PUT http://A.b/%7e HTTP/1.0\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204 None\r\n",
        b"HTTP/1.0 404 x\r\n",
        b"Host: a.b\r\n",
        b"host:c\r\n",
        b"Content-Length: 5\r\n",
        b"content-length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive, x\r\n",
        b"Expect: 100-continue\r\n",
        b"X: y \t\r\n",
        b"\r\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"5\r\nhello\r\nz\r\n",
        b"3;a=b\r\nabc\r\n",
        b"0\r\n",
        b"Trailer-Field: t\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
    ];
    prop_oneof![
        9 => proptest::sample::select(lines).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
    ]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let framing = prop_oneof![
        Just(&b"\r\n"[..]),
        Just(&b"Content-Length: 5\r\n\r\nhello"[..]),
        Just(&b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nz\r\n"[..]),
        Just(&b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: 1\r\n\r\n"[..]),
    ];
    framing.prop_map(|f| [b"POST /x HTTP/1.1\r\nHost: a\r\n", f].concat())
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        Just(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_vec()),
        Just(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()
        ),
        Just(b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec()),
    ]
}

/// A stream of whole messages and of debris.
fn stream(message: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![2 => message, 3 => piece()];
    proptest::collection::vec(part, 1..12).prop_map(|parts| parts.concat())
}

fn limits() -> Limits {
    Limits {
        header_bytes: 160,
        headers: 6,
        target: 24,
        chunk_extension: 8,
        trailer_bytes: 40,
        trailers: 2,
        body: Some(64),
        ..Limits::default()
    }
}

/// Cuts `bytes` at the given places (taken modulo its length).
fn cut<'a>(bytes: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = at.iter().map(|i| i % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_server_sees_the_same_requests(
        bytes in stream(request().boxed()),
        at in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let whole = serve_with([&bytes[..]], limits(), ServerRules::default());
        let cut = serve_with(cut(&bytes, &at), limits(), ServerRules::default());
        prop_assert!(whole.agrees_with(&cut), "{whole:#?}\n{cut:#?}");
        let bytewise = serve_with(bytes.chunks(1), limits(), ServerRules::default());
        prop_assert!(whole.agrees_with(&bytewise), "{whole:#?}\n{bytewise:#?}");
    }

    #[test]
    fn a_client_sees_the_same_response(
        bytes in stream(response().boxed()),
        at in proptest::collection::vec(any::<usize>(), 0..8),
        head in any::<bool>(),
    ) {
        let whole = fetch_with([&bytes[..]], head, limits());
        let cut = fetch_with(cut(&bytes, &at), head, limits());
        prop_assert!(whole.agrees_with(&cut), "{whole:#?}\n{cut:#?}");
        let bytewise = fetch_with(bytes.chunks(1), head, limits());
        prop_assert!(whole.agrees_with(&bytewise), "{whole:#?}\n{bytewise:#?}");
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        serve_with([&bytes[..]], limits(), ServerRules::default());
        fetch_with([&bytes[..]], false, limits());
    }
}
