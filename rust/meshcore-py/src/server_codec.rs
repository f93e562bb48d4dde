//! The client's side of a connection: requests in, responses out.

use meshcore_core::codec::{
    self, Lenient, Limits, ResponseRules, ServerEvent, ServerRules, encode_informational,
    encode_reply, encode_response,
};
use meshcore_core::head::{BodyLength, RequestHead, Scheme, Version};
use meshcore_core::path::{Oddities, PathRules};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::answer::Answer;
use crate::clock::{Ns, http_date};
use crate::deadlines::DeadlineTable;
use crate::engine::{ListenerStack, Peer};
use crate::errors::codec_error;
use crate::message::{Body, Part, Request, Response, last_chunk};
use crate::outgoing::{BodyForm, append_body, with_tunnel};
use crate::ticket::Ticket;

/// What is written apart is copied into the outbox up to this many bytes: one copy costs less than
/// a second call of the system.
pub(crate) const JOIN_BYTES: usize = 16_384;

/// What a listener allows of a request, or an upstream of a response.
#[pyclass(frozen, module = "meshcore._core")]
#[derive(Clone, Copy)]
pub struct CodecLimits(pub(crate) Limits, PathRules);

impl CodecLimits {
    /// What a listener decides about the requests of a connection; CONNECT and TRACE are the
    /// routes' to decide about.
    pub(crate) fn server_rules(&self, secure: bool) -> ServerRules {
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        ServerRules { scheme, paths: self.1, connect: true, trace: true }
    }
}

#[pymethods]
impl CodecLimits {
    #[new]
    #[pyo3(signature = (*, header_bytes=None, headers=None, target=None, body=None, trailer_bytes=None, trailers=None, mesh=false))]
    fn new(
        header_bytes: Option<usize>,
        headers: Option<usize>,
        target: Option<usize>,
        body: Option<u64>,
        trailer_bytes: Option<usize>,
        trailers: Option<usize>,
        mesh: bool,
    ) -> Self {
        let mut limits = Limits { mesh, ..Limits::default() };
        limits.header_bytes = header_bytes.unwrap_or(limits.header_bytes);
        limits.headers = headers.unwrap_or(limits.headers);
        limits.target = target.unwrap_or(limits.target);
        limits.body = body.or(limits.body);
        limits.trailer_bytes = trailer_bytes.unwrap_or(limits.trailer_bytes);
        limits.trailers = trailers.unwrap_or(limits.trailers);
        Self(limits, PathRules::default())
    }

    fn with_lenient(&self, words: Vec<String>) -> PyResult<Self> {
        let lenient = Lenient::try_from(words).map_err(PyValueError::new_err)?;
        Ok(Self(Limits { lenient, ..self.0 }, self.1))
    }

    fn with_case(&self) -> Self {
        Self(Limits { keep_case: true, ..self.0 }, self.1)
    }

    fn with_paths(&self, refused: Vec<String>, keep_slashes: bool) -> PyResult<Self> {
        let refused = Oddities::try_from(refused).map_err(PyValueError::new_err)?;
        Ok(Self(self.0, PathRules { refused, keep_slashes, own: false }))
    }
}

/// Not frozen: it belongs to one connection of one loop; two threads at once get a
/// `RuntimeError` instead of a torn message.
#[pyclass(module = "meshcore._core")]
pub struct ServerCodec {
    codec: codec::H1Server,
    version: Version,
    head_request: bool,
    #[pyo3(get)]
    keep_alive: bool,
    #[pyo3(get)]
    may_ask_again: bool,
    #[pyo3(get)]
    chunking: bool,
}

impl ServerCodec {
    fn event<'py>(
        &mut self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
        event: Option<ServerEvent>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(Some(match event {
            None => return Ok(None),
            Some(ServerEvent::Head { head, body }) => {
                Bound::new(py, self.request(data, head, body))?.into_any()
            }
            Some(ServerEvent::Data(body)) => body_event(py, data, body)?,
        }))
    }

    fn request(
        &mut self,
        data: &Bound<'_, PyBytes>,
        head: RequestHead,
        body: codec::BodyPart,
    ) -> Request {
        self.version = head.version;
        self.head_request = head.slice(head.method) == b"HEAD";
        self.keep_alive = head.keep_alive;
        self.may_ask_again = head.keep_alive;
        Request::new(head, Part::new(data, body))
    }
}

impl ServerCodec {
    /// Appends what `send_response` writes.
    pub(crate) fn encode(
        &mut self,
        py: Python<'_>,
        out: &mut Vec<u8>,
        request: &Request,
        response: &Response,
        ticket: &mut Ticket,
        close: bool,
    ) {
        ticket.ticket.response_changed(&response.changed);
        let rules = ResponseRules {
            version: self.version,
            head_request: self.head_request,
            keep_alive: self.keep_alive && !close,
            framing: response.head.body,
            ops: ticket.response_ops(),
            tunnel: None,
            date: Some(http_date()),
        };
        let outgoing = with_tunnel(request, response, ticket, rules, |rules| {
            encode_response(out, &response.head, rules)
        });
        self.keep_alive = outgoing.keep_alive;
        self.chunking = outgoing.chunked;
        if outgoing.has_body {
            let form = BodyForm { chunked: outgoing.chunked, as_written: false };
            append_body(py, out, &response.part, form, |part| ticket.response_trailers(part));
        }
    }
}

/// A read that is nothing but body goes on as the bytes object that it is.
pub(crate) fn body_event<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
    body: codec::BodyPart,
) -> PyResult<Bound<'py, PyAny>> {
    let whole = matches!(&body.bytes, codec::Bytes::Range(r) if r.len() == data.as_bytes().len());
    if whole && !body.end {
        return Ok(data.clone().into_any());
    }
    Ok(Bound::new(py, Body(Part::new(data, body)))?.into_any())
}

#[pymethods]
impl ServerCodec {
    #[new]
    fn new(limits: &CodecLimits, secure: bool) -> Self {
        Self {
            codec: codec::H1Server::with_rules(limits.0, limits.server_rules(secure)),
            version: Version::Http11,
            head_request: false,
            keep_alive: true,
            may_ask_again: true,
            chunking: false,
        }
    }

    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = self.codec.receive(data.as_bytes()).map_err(codec_error)?;
        self.event(py, data, event)
    }

    /// `receive`, and with the head of a request what follows it: its listener begins it, and the
    /// deadline is armed of one that goes on to an endpoint at once.
    #[expect(clippy::too_many_arguments, reason = "what three calls took")]
    fn begin<'py>(
        &mut self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
        listener: &Bound<'py, ListenerStack>,
        peer: &Bound<'py, Peer>,
        deadlines: &Bound<'py, DeadlineTable>,
        slot: u32,
        now_ns: Ns,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.codec.receive(data.as_bytes()).map_err(codec_error)? {
            Some(ServerEvent::Head { head, body }) => {
                let mut request = self.request(data, head, body);
                let mut ticket = ListenerStack::begin(listener, &mut request, peer, now_ns);
                if ticket.forwards() {
                    deadlines.borrow_mut().0.arm(slot, ticket.ticket.arm());
                }
                ticket.place(deadlines, slot);
                let begun = (Bound::new(py, request)?, Bound::new(py, ticket)?);
                Ok(Some(begun.into_pyobject(py)?.into_any()))
            }
            event => self.event(py, data, event),
        }
    }

    fn next_event<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = self.codec.next_event().map_err(codec_error)?;
        self.event(py, &PyBytes::new(py, b""), event)
    }

    /// Whether something of the next request is here; none if there is to be no other.
    pub(crate) fn start_next(&mut self) -> Option<bool> {
        (self.keep_alive && self.codec.start_next()).then(|| !self.codec.is_idle())
    }

    fn begin_tunnel(&mut self) -> Vec<u8> {
        self.codec.begin_tunnel()
    }

    fn receive_eof<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = self.codec.receive_eof().map_err(codec_error)?;
        self.event(py, &PyBytes::new(py, b""), event)
    }

    /// The answer, with what is known of the request that it refuses.
    fn about(&mut self, answer: &Answer) -> Answer {
        answer.clone().about(self.codec.asked())
    }

    #[getter]
    fn wants_read(&self) -> bool {
        self.codec.wants_read()
    }

    #[getter]
    fn request_complete(&self) -> bool {
        self.codec.request_complete()
    }

    #[getter]
    fn pipelined(&self) -> bool {
        self.codec.has_pipelined()
    }

    #[getter]
    fn started(&self) -> bool {
        !self.codec.is_idle()
    }

    /// The head, and the body that came with it.
    fn send_response(
        &mut self,
        py: Python<'_>,
        request: &Request,
        response: &Response,
        ticket: &mut Ticket,
        close: bool,
    ) -> Py<PyBytes> {
        let mut out = Vec::with_capacity(512 + response.part.len().min(JOIN_BYTES));
        self.encode(py, &mut out, request, response, ticket, close);
        PyBytes::new(py, &out).unbind()
    }

    /// The last chunk of a body and its trailers.
    fn chunked_end(&self, py: Python<'_>, body: &Body, ticket: &Ticket) -> Py<PyBytes> {
        last_chunk(py, ticket.response_trailers(&body.0), false)
    }

    fn send_informational(
        &self,
        py: Python<'_>,
        response: &Response,
        ticket: &Ticket,
    ) -> Py<PyBytes> {
        let mut out = Vec::with_capacity(128);
        encode_informational(&mut out, &response.head, self.version, ticket.response_ops());
        PyBytes::new(py, &out).unbind()
    }

    /// `keep_alive`: whether the connection may go on as far as the caller knows.
    fn send_answer(
        &mut self,
        py: Python<'_>,
        request: Option<&Request>,
        answer: &Answer,
        keep_alive: bool,
    ) -> Py<PyBytes> {
        self.keep_alive = self.keep_alive && keep_alive && request.is_some();
        let mut out = Vec::new();
        answer.with_reply(request, self.keep_alive, |local| encode_reply(&mut out, local));
        PyBytes::new(py, &out).unbind()
    }
}

/// Whether a request's body goes out in chunks.
pub(crate) fn is_chunked(length: BodyLength) -> bool {
    matches!(length, BodyLength::Streamed | BodyLength::UntilClose)
}
