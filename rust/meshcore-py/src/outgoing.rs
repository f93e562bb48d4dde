//! A message on its way out: what the core's ticket says of it, with Python's objects unpacked.

use std::borrow::Cow;

use meshcore_core::codec::{
    RequestRules, ResponseRules, encode_chunk_end, encode_chunk_header, encode_last_chunk,
};
use meshcore_core::head::Headers;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::clock::Ns;
use crate::engine::Peer;
use crate::message::{Part, Request, Response};
use crate::secure_transport::SecureTransport;
use crate::server_codec::JOIN_BYTES;
use crate::socket_transport::SocketTransport;
use crate::ticket::Ticket;

/// Writes to a transport what `fill` appends, of which so much is a body. Where that cannot go out
/// natively it is given back, to be written as what it is.
pub(crate) fn send_by(
    out: Option<&Bound<'_, PyAny>>,
    py: Python<'_>,
    body_bytes: usize,
    fill: impl FnOnce(&mut Vec<u8>),
) -> PyResult<Option<Py<PyBytes>>> {
    let mut fill = Some(fill);
    let mut fill_once = |bytes: &mut Vec<u8>| fill.take().into_iter().for_each(|fill| fill(bytes));
    if let Some(socket) = out.and_then(|out| out.cast_exact::<SocketTransport>().ok()) {
        if SocketTransport::hold(socket, body_bytes, &mut fill_once)? {
            return Ok(None);
        }
    } else if let Some(secure) = out.and_then(|out| out.cast_exact::<SecureTransport>().ok()) {
        return SecureTransport::hold(secure, body_bytes, &mut fill_once);
    }
    let mut bytes = Vec::with_capacity(1024 + body_bytes.min(JOIN_BYTES));
    fill_once(&mut bytes);
    Ok(Some(PyBytes::new(py, &bytes).unbind()))
}

/// How a body goes out.
#[derive(Clone, Copy)]
pub(crate) struct BodyForm {
    /// In chunks (RFC 9112 §7.1).
    pub(crate) chunked: bool,
    /// Names of trailers as they were received.
    pub(crate) as_written: bool,
}

/// Appends what of a body came with its head, and the end of one that is whole.
#[inline]
pub(crate) fn append_body<'a>(
    py: Python<'_>,
    out: &mut Vec<u8>,
    part: &'a Part,
    form: BodyForm,
    trailers: impl FnOnce(&'a Part) -> Option<Cow<'a, Headers>>,
) {
    let in_chunk = form.chunked && part.len() > 0;
    if in_chunk {
        encode_chunk_header(out, part.len());
    }
    part.append_to(py, out);
    if in_chunk {
        encode_chunk_end(out);
    }
    if form.chunked && part.body.end {
        encode_last_chunk(out, trailers(part).as_deref(), form.as_written);
    }
}

/// Draws the rules from a request's ticket and runs `write` with them.
pub(crate) fn with_rules<T>(
    request: &Request,
    ticket: &Ticket,
    peer: &Peer,
    now_ns: Ns,
    write: impl FnOnce(&RequestRules<'_>) -> T,
) -> T {
    let (id, now) = (ticket.request_id(), now_ns.into());
    ticket.ticket.with_request_rules(&request.head, &peer.0, id, now, write)
}

/// Adds to the rules of a response the tunnel that it begins, if it does, and runs `write`.
pub(crate) fn with_tunnel<T>(
    request: &Request,
    response: &Response,
    ticket: &Ticket,
    rules: ResponseRules<'_>,
    write: impl FnOnce(&ResponseRules<'_>) -> T,
) -> T {
    let agreed = response.begins_tunnel();
    ticket.ticket.with_tunnel(&request.head, &response.head, agreed, rules, write)
}
