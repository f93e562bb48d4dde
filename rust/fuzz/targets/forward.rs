//! A request that passes reads the same at the endpoint: its head, written out again and read by
//! a second server, asks for the same thing with a body of the same length.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meshcore_core::codec::{
    H1Server, HeaderOps, Limits, RequestRules, ServerEvent, encode_request,
};
use meshcore_core::head::RequestHead;

const ID: &[u8] = b"0190163d8694739b9ea2acd60ad8d7e1";

fn read(bytes: &[u8], limits: Limits) -> Option<RequestHead> {
    match H1Server::new(limits).receive(bytes) {
        Ok(Some(ServerEvent::Head { head, .. })) => Some(head),
        _ => None,
    }
}

fn written(head: &RequestHead) -> Vec<u8> {
    let ops = HeaderOps::default();
    let rules = RequestRules {
        via: b"1.1 meshcore",
        peer: b"10.0.0.9",
        request_id: ID,
        ops: &ops,
        path: None,
        authority: None,
        framing: head.body,
        tunnel: None,
        left: None,
        max_forwards: None,
        as_written: false,
        trace: None,
    };
    let mut out = Vec::new();
    encode_request(&mut out, head, &rules);
    out
}

fuzz_target!(|bytes: &[u8]| {
    let Some(first) = read(bytes, Limits::default()) else { return };
    let out = written(&first);
    let text = String::from_utf8_lossy(&out).into_owned();
    let ends = text.matches("\r\n\r\n").count();
    assert!(ends == 1 && text.ends_with("\r\n\r\n"), "{text:?}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "{text:?}");

    if first.slice(first.authority).is_empty() {
        return; // HTTP/1.0 without a host: `host:` is sent empty (RFC 9112 §3.2), we refuse that
    }
    let limits = Limits::default();
    // A proxy adds fields.
    let wider =
        Limits { headers: limits.headers + 8, header_bytes: limits.header_bytes + 1024, ..limits };
    let Some(second) = read(&out, wider) else { panic!("refused when it is read again: {text:?}") };
    assert_eq!(first.slice(first.method), second.slice(second.method));
    assert_eq!(first.slice(first.path), second.slice(second.path));
    assert_eq!(first.slice(first.forward_path), second.slice(second.raw_path));
    assert_eq!(first.query.map(|q| first.slice(q)), second.query.map(|q| second.slice(q)));
    assert_eq!(first.slice(first.authority), second.slice(second.authority));
    assert_eq!(first.body, second.body, "{text:?}");

    let lengths = text.to_ascii_lowercase().matches("\r\ncontent-length:").count();
    let codings = text.to_ascii_lowercase().matches("\r\ntransfer-encoding:").count();
    assert!(lengths + codings <= 1, "{text:?}");
});
