//! A whole response on its way to its client, in one call.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::clock::Ns;
use crate::h2_server_codec::H2ServerCodec;
use crate::message::{Request, Response};
use crate::numbers::Passed;
use crate::server_codec::ServerCodec;
use crate::ticket::Ticket;

/// What a response is to its ticket, in one call with what follows of one that is whole and passes:
/// it goes out on a client's connection, `to`, or on a stream of that, and its request is over.
/// Either way `Ok` has what `to` made of it: bytes of HTTP/1.1, or what waits on the stream, -1 if
/// the stream is over. `Err` has the ticket's word on what did not go out.
pub(crate) fn relay<'py>(
    py: Python<'py>,
    request: &Request,
    response: &Response,
    ticket: &mut Ticket,
    to: Option<&Bound<'py, PyAny>>,
    stream: u32,
    now_ns: Ns,
) -> PyResult<Result<Bound<'py, PyAny>, u8>> {
    let passed = ticket.responded(response, now_ns);
    let passes = passed == Passed::Relay as u8 && response.part.body.end;
    let Some(to) = to.filter(|_| passes) else { return Ok(Err(passed)) };
    let sent = if let Ok(codec) = to.cast::<ServerCodec>() {
        let out = codec.borrow_mut().send_response(py, request, response, ticket, false);
        out.into_bound(py).into_any()
    } else if let Ok(codec) = to.cast::<H2ServerCodec>() {
        let waits = codec.borrow_mut().send_whole(py, stream, request, response, ticket);
        waits.into_pyobject(py)?.into_any()
    } else {
        return Err(PyTypeError::new_err("no codec of a client's connection"));
    };
    ticket.ticket.relayed_at_once();
    ticket.finish(now_ns);
    Ok(Ok(sent))
}
