//! Heads as lists of fields, for an engine that has a codec of its own for frames and HPACK.
//!
//! They go through the functions that the native engine uses, so the two cannot differ.

use super::HeadError;
use super::block::Block;
use super::writer::{self, FieldPairs};
use super::{request, response};
use crate::codec::asked::Asked;
use crate::codec::encode::Fields;
use crate::codec::encode_request::RequestRules;
use crate::codec::encode_response::{OutgoingReply, ResponseRules};
use crate::codec::error::CodecError;
use crate::codec::event::BodyPart;
use crate::codec::h1_server::ServerRules;
use crate::codec::header_ops::HeaderOps;
use crate::codec::limits::Limits;
use crate::error::Reason;
use crate::head::{BodyLength, Headers, RequestHead, ResponseHead, Scheme};

fn block(list: &[(&[u8], &[u8])], limits: &Limits, max_fields: usize) -> Block {
    let mut block = Block::new(limits, max_fields, 512);
    list.iter().for_each(|(name, value)| block.push(name, value));
    block
}

/// The head of a request; `ended`: no body follows.
///
/// # Errors
/// Malformed by RFC 9113 §8.3.1, or what may not pass, as in HTTP/1.1.
pub fn read_request(
    list: &[(&[u8], &[u8])],
    ended: bool,
    limits: &Limits,
    rules: &ServerRules,
) -> Result<RequestHead, HeadError> {
    let mut block = block(list, limits, limits.headers);
    request::head(&mut block, ended, limits, rules).map(|(head, _)| head)
}

/// What a request asks for that [`read_request`] refused.
#[must_use]
pub fn asked(list: &[(&[u8], &[u8])], limits: &Limits) -> Asked {
    block(list, limits, limits.headers).asked()
}

/// The head of a response, interim ones included.
///
/// # Errors
/// Malformed by RFC 9113 §8.3.2, or what may not pass: `upstream_protocol`, `response_too_large`.
pub fn read_response(
    list: &[(&[u8], &[u8])],
    ended: bool,
    head_request: bool,
    limits: &Limits,
) -> Result<ResponseHead, HeadError> {
    response::head(block(list, limits, limits.headers), ended, head_request, limits.mesh)
        .map(|(head, _)| head)
}

/// Trailers.
///
/// # Errors
/// Malformed by RFC 9113 §8.1, or 431.
pub fn read_trailers(list: &[(&[u8], &[u8])], limits: &Limits) -> Result<Headers, HeadError> {
    block(list, limits, limits.trailers).trailers()
}

/// Whether trailers may pass; `of_response`: whose they are.
///
/// # Errors
/// As [`read_trailers`], or `response_too_large`.
pub fn check_trailers(
    list: &[(&[u8], &[u8])],
    limits: &Limits,
    of_response: bool,
) -> Result<(), HeadError> {
    match read_trailers(list, limits) {
        Err(HeadError::Refused(error)) if of_response => Err(error.of_upstream().into()),
        read => read.map(|_| ()),
    }
}

/// Whether a body may have this many bytes.
///
/// # Errors
/// 413.
pub fn check_body(received: u64, limits: &Limits) -> Result<(), CodecError> {
    match limits.body {
        Some(max) if received > max => Err(CodecError::new(Reason::BodyTooLarge, "body too large")),
        _ => Ok(()),
    }
}

/// What a head says of its body's length once this much of it is here: the length, if it is all.
#[must_use]
pub fn body_length(declared: BodyLength, part: &BodyPart) -> BodyLength {
    if !part.end || part.trailers.is_some() || declared != BodyLength::Streamed {
        return declared;
    }
    match part.bytes.len() {
        0 => BodyLength::Empty,
        n => BodyLength::Known(n as u64),
    }
}

/// A request to send.
///
/// # Errors
/// What cannot be said in HTTP/2: a request that names no host; an extended CONNECT unless
/// `can_upgrade`.
pub fn write_request(
    head: &RequestHead,
    rules: &RequestRules<'_>,
    scheme: Scheme,
    can_upgrade: bool,
) -> Result<FieldPairs, CodecError> {
    request::check_sayable(head, rules, can_upgrade)?;
    let mut list = FieldPairs::new();
    request::write(&mut list, head, rules, scheme);
    Ok(list)
}

/// Whether a peer takes a list that takes lists of at most `most` bytes (RFC 9113 §6.5.2).
///
/// # Errors
/// `headers_too_large`.
pub fn check_list(list: &[(&[u8], &[u8])], most: usize) -> Result<(), CodecError> {
    let mut size = writer::ListSize::default();
    list.iter().for_each(|(name, value)| size.field(name, value));
    size.check(most)
}

/// A relayed response to send, and whether nothing may follow its head.
#[must_use]
pub fn write_response(head: &ResponseHead, rules: &ResponseRules<'_>) -> (FieldPairs, bool) {
    let mut list = FieldPairs::new();
    let ends = response::write(&mut list, head, rules);
    (list, ends)
}

/// An interim (1xx) response to send.
#[must_use]
pub fn write_informational(head: &ResponseHead, ops: &HeaderOps) -> FieldPairs {
    let mut list = FieldPairs::new();
    response::write_informational(&mut list, head, ops);
    list
}

/// A local reply to send, and whether it is its head alone.
#[must_use]
pub fn write_reply(reply: &OutgoingReply<'_>) -> (FieldPairs, bool) {
    let mut list = FieldPairs::new();
    let ends = response::write_reply_to(&mut list, reply);
    (list, ends)
}

/// Trailers to send; empty when there are none that may be sent.
#[must_use]
pub fn write_trailers(headers: &Headers) -> FieldPairs {
    let mut list = FieldPairs::new();
    writer::write_trailers(&mut list, headers);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    type List<'a> = &'a [(&'a str, &'a str)];

    fn read(list: List<'_>) -> Result<RequestHead, HeadError> {
        let list: Vec<_> = list.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        let rules = ServerRules { connect: true, ..ServerRules::default() };
        read_request(&list, true, &Limits::default(), &rules)
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/p?q")];

    #[test]
    fn a_request() {
        let head = read(&[&GET[..], &[("cookie", "a=1"), ("cookie", "b=2")]].concat()).unwrap();
        assert_eq!(head.slice(head.path), b"/p");
        assert_eq!(head.headers.get(b"cookie"), Some(&b"a=1; b=2"[..]));
    }

    #[test]
    fn malformed_requests() {
        let without = |name| GET.into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
        let with = |field| [&GET[..], &[field]].concat();
        for list in [
            without(":method"),
            without(":scheme"),
            without(":path"),
            with((":path", "/")),
            with((":status", "200")),
            with((":protocol", "websocket")),
            with((":other", "x")),
            with(("X", "y")),
            with(("x", "y\n")),
            with(("", "y")),
            with(("te", "gzip")),
            with(("connection", "close")),
            [&[("x", "y")], &GET[..]].concat(),
            vec![(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")],
            vec![(":method", "CONNECT"), (":authority", "a:1"), (":scheme", "http")],
            vec![(":method", "CONNECT"), (":authority", "a"), (":protocol", "websocket")],
        ] {
            assert!(matches!(read(&list), Err(HeadError::Malformed(_))), "{list:?}");
        }
    }

    #[test]
    fn refused_requests() {
        let long = "x".repeat(64 << 10);
        for (list, status) in [
            (vec![(":method", "CONNECT"), (":authority", "a")], 400),
            ([&GET[..], &[("host", "b")]].concat(), 400),
            ([&GET[..], &[("x", &long)]].concat(), 431),
        ] {
            let Err(HeadError::Refused(error)) = read(&list) else { panic!("{list:?}") };
            assert_eq!(error.reason.status(), status);
        }
    }

    #[test]
    fn responses_and_trailers() {
        let limits = Limits::default();
        let response = |list| read_response(list, true, false, &limits).map(|head| head.status);
        assert_eq!(response(&[(b":status", b"103"), (b"link", b"</a>")]), Ok(103));
        for list in [
            &[][..],
            &[(&b":status"[..], &b"20"[..])],
            &[(b":status", b"200"), (b":path", b"/")],
            &[(b":status", b"200"), (b":status", b"200")],
        ] {
            assert!(matches!(response(list), Err(HeadError::Malformed(_))));
        }
        let trailers = read_trailers(&[(b"grpc-status", b"0"), (b"host", b"a")], &limits).unwrap();
        assert_eq!(write_trailers(&trailers), [(b"grpc-status".to_vec(), b"0".to_vec())]);
        let pseudo = read_trailers(&[(b":status", b"200")], &limits);
        assert!(matches!(pseudo, Err(HeadError::Malformed(_))));
    }
}
