//! Responses: from the crate's to a head, and from a head to the crate's (RFC 9113 §8.3.2).

use http::{Response, StatusCode};

use super::super::encode::Fields;
use super::super::encode_response::{LocalAnswer, ResponseRules, bodiless, received_fields};
use super::super::error::CodecError;
use super::super::field::{valid_field_name, valid_field_value};
use super::super::framing::{Role, facts};
use super::super::header_ops::HeaderOps;
use super::super::limits::Limits;
use super::fields::{FieldList, receive};
use crate::head::{BodyLength, Headers, ResponseHead, Version};

/// A head from what the crate has validated. `ended`: no body follows; `head_request`: none may.
///
/// # Errors
/// `upstream_protocol`: too many fields, a value that is not one line, two lengths, or a body that
/// is declared too long.
pub(super) fn head<T>(
    response: &Response<T>,
    ended: bool,
    head_request: bool,
    limits: &Limits,
) -> Result<ResponseHead, CodecError> {
    let mut headers = Headers::with_capacity(64 * response.headers().len());
    receive(response.headers(), &mut headers, limits.headers).map_err(CodecError::of_upstream)?;
    let facts = facts(&headers, Version::Http2, Role::Response).map_err(CodecError::of_upstream)?;
    let status = response.status().as_u16();
    let body = if ended || head_request || bodiless(status) {
        BodyLength::Empty
    } else {
        match facts.content_length {
            Some(n) if n > 0 => BodyLength::Known(n),
            _ => BodyLength::Streamed,
        }
    };
    if !(100..600).contains(&status) {
        return Err(CodecError::bad("status out of range").of_upstream());
    }
    Ok(ResponseHead { version: Version::Http2, status, body, keep_alive: true, headers })
}

/// A relayed head to send, and whether it ends the stream.
pub(super) fn outgoing(head: &ResponseHead, rules: &ResponseRules<'_>) -> (Response<()>, bool) {
    let mut fields = FieldList::with_capacity(head.headers.len() + 4);
    if rules.tunnel.is_some() {
        received_fields(&mut fields, head, rules.ops, false);
        fields.0.remove("sec-websocket-accept");
        fields.changes(rules.ops);
        return (response(200, fields), false);
    }
    let no_body = rules.head_request || bodiless(head.status);
    // In answer to HEAD, and in a 304, the length is that of a body which is not sent.
    let keeps_length = no_body && !matches!(head.status, 100..=199 | 204);
    received_fields(&mut fields, head, rules.ops, keeps_length);
    if !no_body {
        match rules.framing {
            // A length that nobody declared may still be known; it is not the proxy's to say.
            BodyLength::Known(n) if head.headers.contains(b"content-length") => {
                fields.content_length(n);
            }
            BodyLength::Empty if head.headers.contains(b"content-length") => {
                fields.content_length(0);
            }
            _ => {}
        }
    }
    fields.changes(rules.ops);
    (response(head.status, fields), no_body || rules.framing == BodyLength::Empty)
}

/// An interim (1xx) head to send.
pub(super) fn informational(head: &ResponseHead) -> Response<()> {
    let mut fields = FieldList::with_capacity(head.headers.len());
    received_fields(&mut fields, head, &HeaderOps::default(), false);
    response(head.status, fields)
}

/// A local answer's head, and whether it ends the stream.
pub(super) fn local(answer: &LocalAnswer<'_>) -> (Response<()>, bool) {
    let mut fields = FieldList::with_capacity(answer.headers.len() + 1);
    for (name, value) in answer.headers {
        if valid_field_name(name) && valid_field_value(value) {
            fields.field(name, value);
        }
    }
    // An empty body is said by the end of the stream; gRPC's trailers-only answer has no length.
    if !bodiless(answer.status) && !answer.body.is_empty() {
        fields.content_length(answer.body.len() as u64);
    }
    let ends = answer.head_request || bodiless(answer.status) || answer.body.is_empty();
    (response(answer.status, fields), ends)
}

fn response(status: u16, fields: FieldList) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = fields.0;
    response
}
