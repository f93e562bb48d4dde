//! A whole response on its way to its client, in one call.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyTuple};

use crate::clock::Ns;
use crate::deadlines::IdleTime;
use crate::h2_server_codec::H2ServerCodec;
use crate::message::{Request, Response};
use crate::numbers::Passed;
use crate::outgoing::send_by;
use crate::server_codec::ServerCodec;
use crate::ticket::Ticket;

/// What a response is to its ticket, in one call with what follows of one that is whole and passes:
/// it goes out to a client, `to`, and its request is over. `to` is a codec, and the number of a
/// stream; or a transport, and the idle time and slot of a connection that awaits the next request.
/// `Ok` has what is left. Over HTTP/1.1 that is whether something of the next request is here
/// already, or bytes, where the connection ends or its transport could not hold them; over HTTP/2
/// how many wait on the stream, -1 if that is over and its slot given back. `Err` has the ticket's word on what did not go
/// out.
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
        match left {
            Some(left) => left.into_bound(py).into_any(),
            None => {
                ticket.ticket.sent_natively(true);
                match codec.start_next() {
                    Some(started) => {
                        let idle = to.get_item(2)?;
                        idle.cast::<IdleTime>()?.borrow().arm(
                            py,
                            to.get_item(3)?.extract()?,
                            now_ns,
                        );
                        PyBool::new(py, started).to_owned().into_any()
                    }
                    None => PyBytes::new(py, b"").into_any(),
                }
            }
        }
    } else if let Ok(codec) = codec.cast::<H2ServerCodec>() {
        let stream = whither.extract()?;
        let waits = codec.borrow_mut().send_whole(py, stream, request, response, ticket);
        if waits < 0
            && let Some((deadlines, slot)) = ticket.place.take()
        {
            deadlines.borrow_mut(py).0.remove(slot);
        }
        waits.into_pyobject(py)?.into_any()
    } else {
        return Err(PyTypeError::new_err("no codec of a client's connection"));
    };
    ticket.ticket.relayed_at_once();
    ticket.finish(now_ns);
    Ok(Ok(left))
}
