//! Responses: from a field list to a head, and back (RFC 9113 §8.3.2).

use super::HeadError;
use super::block::Block;
use crate::codec::encode::{Fields, Without};
use crate::codec::encode_response::{
    OutgoingReply, ResponseRules, bodiless, final_fields, received_fields,
};
use crate::codec::error::CodecError;
use crate::codec::framing::{Role, facts};
use crate::codec::header_ops::HeaderOps;
use crate::codec::header_rules::{Received, clean_response};
use crate::codec::websocket;
use crate::head::{BodyLength, ResponseHead, Version};

/// The head of a list, and the length that its body must have. `ended`: no body follows;
/// `head_request`: none may; `mesh`: see [`Limits::mesh`](crate::codec::Limits::mesh).
///
/// # Errors
/// Malformed by RFC 9113 §8.3.2, §8.6 (there is no 101); or `response_too_large`, or
/// `upstream_protocol` for two lengths.
pub(super) fn head(
    block: Block,
    ended: bool,
    head_request: bool,
    mesh: bool,
) -> Result<(ResponseHead, Option<u64>), HeadError> {
    let of_upstream = |error: CodecError| HeadError::Refused(error.of_upstream());
    let (mut headers, pseudo) = block.finish().map_err(|error| match error {
        HeadError::Refused(error) => of_upstream(error),
        malformed => malformed,
    })?;
    let said = pseudo.status.ok_or(HeadError::Malformed("no :status"))?;
    let status = status(headers.slice(said)).ok_or(HeadError::Malformed("invalid :status"))?;
    if pseudo.is_of_request() {
        return Err(HeadError::Malformed("pseudo field of a request in a response"));
    }
    let facts = facts(&headers, Version::Http2, Role::Response).map_err(of_upstream)?;
    let no_body = head_request || bodiless(status);
    let body = match facts.content_length {
        _ if ended || no_body => BodyLength::Empty,
        Some(n) if n > 0 => BodyLength::Known(n),
        _ => BodyLength::Streamed,
    };
    let received = Received { nominates: false, upgrade: false };
    let authenticates = clean_response(&mut headers, received, mesh);
    let (version, keep_alive) = (Version::Http2, true);
    let head = ResponseHead { version, status, body, keep_alive, authenticates, headers };
    // What follows a head that has no body would be taken for the next response in HTTP/1.1.
    Ok((head, if no_body { Some(0) } else { facts.content_length }))
}

/// Three digits from 100 to 599, and no 101.
fn status(text: &[u8]) -> Option<u16> {
    let [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] = text else { return None };
    let digit = |d: &u8| u16::from(d - b'0');
    Some(digit(a) * 100 + digit(b) * 10 + digit(c)).filter(|status| *status != 101)
}

fn write_status<F: Fields>(out: &mut F, status: u16) {
    out.field(b":status", itoa::Buffer::new().format(status).as_bytes());
}

/// Writes a relayed head; true: nothing may follow it.
pub(super) fn write<F: Fields>(
    out: &mut F,
    head: &ResponseHead,
    rules: &ResponseRules<'_>,
) -> bool {
    if let Some(tunnel) = rules.tunnel {
        write_status(out, 200);
        let websocket = tunnel.kind.protocol() == Some(websocket::WEBSOCKET);
        let name = if websocket { websocket::ACCEPT } else { b"" };
        final_fields(&mut Without { out, name }, head, rules, false);
        out.changes(rules.ops);
        return false;
    }
    write_status(out, head.status);
    let no_body = rules.head_request || bodiless(head.status);
    // In answer to HEAD, and in a 304, the length is that of a body which is not sent.
    let keeps_length = no_body && !matches!(head.status, 100..=199 | 204);
    final_fields(out, head, rules, keeps_length);
    // A length that was not declared may still be known; it is not the proxy's to say.
    if !no_body && head.headers.contains(b"content-length") {
        match rules.framing {
            BodyLength::Known(n) => out.content_length(n),
            BodyLength::Empty => out.content_length(0),
            BodyLength::Streamed | BodyLength::UntilClose => {}
        }
    }
    out.changes(rules.ops);
    no_body || rules.framing == BodyLength::Empty
}

/// Writes an interim (1xx) head.
pub(super) fn write_informational<F: Fields>(out: &mut F, head: &ResponseHead, ops: &HeaderOps) {
    write_status(out, head.status);
    received_fields(out, head, ops, false);
}

/// Writes a local reply's head; true: nothing may follow it.
pub(super) fn write_reply_to<F: Fields>(out: &mut F, reply: &OutgoingReply<'_>) -> bool {
    write_status(out, reply.status);
    reply.fields(out);
    // An empty body is said by the end of the stream; gRPC's trailers-only answer has no length.
    if !bodiless(reply.status) && !reply.body.is_empty() {
        out.content_length(reply.body.len() as u64);
    }
    reply.head_request || bodiless(reply.status) || reply.body.is_empty()
}
