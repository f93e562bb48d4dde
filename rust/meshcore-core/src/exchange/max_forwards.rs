//! `max-forwards` of OPTIONS and TRACE (RFC 9110 §7.6.2): how many more may pass a request on. For
//! other methods it means nothing.

use crate::error::Reason;
use crate::head::RequestHead;

/// What is left before us: `None` if the request sets no bound. Larger numbers are the largest.
///
/// # Errors
/// What is no number, or is there twice. To pass it on would break the bound that was meant, and to
/// answer might be too soon: who sends it hears that it is wrong.
pub fn max_forwards(head: &RequestHead) -> Result<Option<u32>, &'static str> {
    if !is_bounded(head) {
        return Ok(None);
    }
    let mut values = head.headers.get_all(b"max-forwards");
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(digits), None) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let digit = |b: &u8| u32::from(b - b'0');
            let add = |n: u32, b| n.saturating_mul(10).saturating_add(digit(b));
            Ok(Some(digits.iter().fold(0, add)))
        }
        _ => Err("invalid max-forwards"),
    }
}

/// Whether the field means something for its method.
#[inline]
fn is_bounded(head: &RequestHead) -> bool {
    matches!(head.slice(head.method), b"OPTIONS" | b"TRACE")
}

/// Why a request that an upstream would get goes no further, if it does not.
#[inline]
pub(super) fn stops(head: &RequestHead) -> Option<(Reason, &'static str)> {
    if !is_bounded(head) {
        return None;
    }
    match max_forwards(head) {
        Ok(Some(0)) => Some((Reason::MaxForwards, "")),
        Ok(_) => None,
        Err(detail) => Some((Reason::BadRequest, detail)),
    }
}

/// What the last recipient tells of a TRACE (RFC 9110 §9.3.8). Of the fields those alone that show
/// the way: the others may be the client's secrets, or what a proxy or a layer has added.
pub(super) fn reflection(head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"TRACE ");
    out.extend_from_slice(head.slice(head.raw_path));
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(head.slice(query));
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(head.slice(head.authority));
    out.extend_from_slice(b"\r\n");
    for name in [&b"max-forwards"[..], b"via"] {
        for value in head.headers.get_all(name) {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}
