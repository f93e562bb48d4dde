//! A whole response on its way to its client, in one call.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::clock::Ns;
use crate::h2_server_codec::H2ServerCodec;
use crate::message::{Request, Response};
use crate::numbers::Passed;
use crate::outgoing::send_by;
use crate::server_codec::ServerCodec;
use crate::ticket::Ticket;

/// What a response is to its ticket, in one call with what follows of one that is whole and passes:
/// it goes out to a client, `to` (a codec, and its transport or the number of a stream), and its
/// request is over. Either way `Ok` has what is left: bytes that a transport of HTTP/1.1 could not
/// hold, none or all, or how many wait on the stream, -1 if that is over. `Err` has the ticket's
/// word on what did not go out.
pub(crate) fn relay<'py>(
    py: Python<'py>,
    request: &Request,
    response: &Response,
    ticket: &mut Ticket,
    to: Option<&Bound<'py, PyTuple>>,
    now_ns: Ns,
) -> PyResult<Result<Bound<'py, PyAny>, u8>> {
    let passed = ticket.responded(response, now_ns);
    let passes = passed == Passed::Relay as u8 && response.part.body.end;
    let Some(to) = to.filter(|_| passes) else { return Ok(Err(passed)) };
    let (codec, whither) = (to.get_item(0)?, to.get_item(1)?);
    let left = if let Ok(codec) = codec.cast::<ServerCodec>() {
        let mut codec = codec.borrow_mut();
        let left = send_by(Some(&whither), py, response.part.len(), |bytes| {
            codec.encode(py, bytes, request, response, ticket, false);
        })?;
        if left.is_none() {
            ticket.ticket.sent_natively(true);
        }
        left.map_or_else(|| PyBytes::new(py, b""), |left| left.into_bound(py)).into_any()
    } else if let Ok(codec) = codec.cast::<H2ServerCodec>() {
        let stream = whither.extract()?;
        let waits = codec.borrow_mut().send_whole(py, stream, request, response, ticket);
        waits.into_pyobject(py)?.into_any()
    } else {
        return Err(PyTypeError::new_err("no codec of a client's connection"));
    };
    ticket.ticket.relayed_at_once();
    ticket.finish(now_ns);
    Ok(Ok(left))
}
