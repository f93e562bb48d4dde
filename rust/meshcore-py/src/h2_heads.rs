//! What the engine on the package `h2` asks of the core: heads and bodies.

use meshcore_core::codec::h2::{FieldPairs, HeadError, heads};
use meshcore_core::codec::{BodyPart, Bytes, ResponseRules, misdirected};
use meshcore_core::head::{BodyLength, Scheme, Version};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::answer::Answer;
use crate::clock::{Ns, http_date};
use crate::engine::Peer;
use crate::errors::codec_error;
use crate::message::{Body, Part, Request, Response};
use crate::outgoing::{with_rules, with_tunnel};
use crate::server_codec::CodecLimits;
use crate::ticket::Ticket;

type Pair = (PyBackedBytes, PyBackedBytes);

const fn scheme(secure: bool) -> Scheme {
    if secure { Scheme::Https } else { Scheme::Http }
}

fn slices(fields: &[Pair]) -> Vec<(&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (&name[..], &value[..])).collect()
}

/// What was found, or the rule that makes it malformed.
#[derive(IntoPyObject)]
pub(crate) enum Found<T> {
    Message(T),
    Malformed(&'static str),
}

impl<T> Found<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Message(found) => Found::Message(f(found)),
            Self::Malformed(detail) => Found::Malformed(detail),
        }
    }
}

/// An exception for what may not pass.
fn read<T>(found: Result<T, HeadError>) -> PyResult<Found<T>> {
    match found {
        Ok(found) => Ok(Found::Message(found)),
        Err(HeadError::Malformed(detail)) => Ok(Found::Malformed(detail)),
        Err(HeadError::Refused(error)) => Err(codec_error(error)),
    }
}

fn nothing(py: Python<'_>) -> Part {
    Part::new(&PyBytes::new(py, b""), BodyPart::default())
}

/// Bytes of a field list that are taken, for SETTINGS_MAX_HEADER_LIST_SIZE.
#[pyfunction]
pub(crate) fn h2_list_bytes(limits: &CodecLimits) -> usize {
    limits.0.header_bytes
}

#[pyfunction]
pub(crate) fn h2_read_request(
    py: Python<'_>,
    fields: Vec<Pair>,
    ended: bool,
    limits: &CodecLimits,
    secure: bool,
) -> PyResult<Found<Request>> {
    let rules = limits.server_rules(secure);
    let head = read(heads::read_request(&slices(&fields), ended, &limits.0, &rules))?;
    Ok(head.map(|head| Request::new(head, nothing(py))))
}

/// What the first bytes begin, where HTTP without TLS was expected.
#[pyfunction(name = "misdirected")]
pub(crate) fn what_came_instead(data: &[u8]) -> Option<&'static str> {
    misdirected(data)
}

/// The answer to a request that was refused, with what it asked for.
#[pyfunction]
pub(crate) fn h2_about(answer: &Answer, fields: Vec<Pair>, limits: &CodecLimits) -> Answer {
    let asked = heads::asked(&slices(&fields), &limits.0);
    answer.clone().about(Some(Box::new(asked)))
}

#[pyfunction]
pub(crate) fn h2_read_response(
    py: Python<'_>,
    fields: Vec<Pair>,
    ended: bool,
    head_request: bool,
    limits: &CodecLimits,
) -> PyResult<Found<Response>> {
    let head = read(heads::read_response(&slices(&fields), ended, head_request, &limits.0))?;
    Ok(head.map(|head| {
        let (informational, tunnel) = (head.status < 200, (200..300).contains(&head.status));
        Response::new(head, nothing(py), informational, tunnel)
    }))
}

/// What is wrong with trailers, if they are malformed.
#[pyfunction]
pub(crate) fn h2_check_trailers(
    fields: Vec<Pair>,
    limits: &CodecLimits,
    of_response: bool,
) -> PyResult<Option<&'static str>> {
    Ok(match read(heads::check_trailers(&slices(&fields), &limits.0, of_response))? {
        Found::Message(()) => None,
        Found::Malformed(detail) => Some(detail),
    })
}

/// `received`: bytes of the whole body so far, these included.
#[pyfunction]
pub(crate) fn h2_read_body(
    data: &Bound<'_, PyBytes>,
    end: bool,
    trailers: Option<Vec<Pair>>,
    limits: &CodecLimits,
    received: u64,
) -> PyResult<Found<Body>> {
    heads::check_body(received, &limits.0).map_err(codec_error)?;
    let trailers = match trailers {
        None => None,
        Some(fields) => match read(heads::read_trailers(&slices(&fields), &limits.0))? {
            Found::Malformed(detail) => return Ok(Found::Malformed(detail)),
            Found::Message(trailers) => Some(Box::new(trailers)),
        },
    };
    Ok(Found::Message(Body(whole(data, end, trailers))))
}

fn whole(
    data: &Bound<'_, PyBytes>,
    end: bool,
    trailers: Option<Box<meshcore_core::head::Headers>>,
) -> Part {
    let bytes = match data.as_bytes().len() {
        0 => Bytes::None,
        n => Bytes::Range(0..n),
    };
    Part::new(data, BodyPart { bytes, end, trailers })
}

fn again(py: Python<'_>, part: &Part) -> Part {
    whole(part.bytes(py).bind(py), part.body.end, part.body.trailers.clone())
}

/// A message of either side.
#[derive(FromPyObject)]
pub(crate) enum Message<'py> {
    Request(PyRefMut<'py, Request>),
    Response(PyRefMut<'py, Response>),
}

/// Gives a message the part of its body that came with its head.
#[pyfunction]
pub(crate) fn h2_add_body(py: Python<'_>, message: Message<'_>, body: &Body) {
    let part = again(py, &body.0);
    match message {
        Message::Request(mut request) => {
            request.head.body = heads::body_length(request.head.body, &part.body);
            request.part = part;
        }
        Message::Response(mut response) => {
            response.head.body = heads::body_length(response.head.body, &part.body);
            response.part = part;
        }
    }
}

/// Whether a message has a body, be it an empty one of no declared length.
#[pyfunction]
pub(crate) fn has_body(message: Message<'_>) -> bool {
    let length = match &message {
        Message::Request(request) => request.head.body,
        Message::Response(response) => response.head.body,
    };
    length != BodyLength::Empty
}

/// The part of a message's body that goes out with its head.
#[pyfunction]
pub(crate) fn body_of(py: Python<'_>, message: Message<'_>) -> Body {
    Body(match &message {
        Message::Request(request) => again(py, &request.part),
        Message::Response(response) => again(py, &response.part),
    })
}

/// The fields, and whether what follows is a tunnel's.
#[pyfunction]
pub(crate) fn h2_write_request(
    request: &Request,
    ticket: &Ticket,
    peer: &Peer,
    now_ns: Ns,
    secure: bool,
    can_upgrade: bool,
) -> PyResult<(FieldPairs, bool)> {
    with_rules(request, ticket, peer, now_ns, |rules| {
        let fields = heads::write_request(&request.head, rules, scheme(secure), can_upgrade);
        fields.map(|fields| (fields, rules.tunnel.is_some())).map_err(codec_error)
    })
}

/// Whether a peer takes a list that takes this many bytes of one.
#[pyfunction]
pub(crate) fn h2_check_list(fields: Vec<Pair>, most: usize) -> PyResult<()> {
    heads::check_list(&slices(&fields), most).map_err(codec_error)
}

/// The fields, and whether nothing may follow them.
#[pyfunction]
pub(crate) fn h2_write_response(
    request: &Request,
    response: &Response,
    ticket: &mut Ticket,
) -> (FieldPairs, bool) {
    ticket.ticket.response_changed(&response.changed);
    let rules = ResponseRules {
        version: Version::Http2,
        head_request: request.is_head(),
        keep_alive: true,
        framing: response.head.body,
        ops: ticket.response_ops(),
        tunnel: None,
        date: Some(http_date()),
    };
    with_tunnel(request, response, ticket, rules, |rules| {
        heads::write_response(&response.head, rules)
    })
}

#[pyfunction]
pub(crate) fn h2_write_informational(response: &Response, ticket: &Ticket) -> FieldPairs {
    heads::write_informational(&response.head, ticket.response_ops())
}

/// The fields, and the body that follows; without one they end the stream.
#[pyfunction]
#[pyo3(signature = (request, answer))]
pub(crate) fn h2_write_reply(request: Option<&Request>, answer: &Answer) -> (FieldPairs, Vec<u8>) {
    answer.with_reply(request, true, |local| {
        let (fields, ends) = heads::write_reply(local);
        (fields, if ends { Vec::new() } else { local.body.to_vec() })
    })
}

/// Empty when there are none.
#[pyfunction]
pub(crate) fn h2_write_trailers(body: &Body, ticket: &Ticket, of_response: bool) -> FieldPairs {
    let trailers = if of_response {
        ticket.response_trailers(&body.0)
    } else {
        ticket.request_trailers(&body.0)
    };
    trailers.map(|trailers| heads::write_trailers(&trailers)).unwrap_or_default()
}
