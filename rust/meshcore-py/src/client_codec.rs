//! The endpoint's side of a connection: requests out, responses in.

use meshcore_core::codec::{self, ClientEvent, RequestRules, encode_request};
use meshcore_core::exchange::RequestKind;
use meshcore_core::head::{ResponseHead, TunnelKind};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::clock::Ns;
use crate::engine::Peer;
use crate::errors::codec_error;
use crate::message::{Body, Part, Request, Response, last_chunk};
use crate::outgoing::{BodyForm, append_body, send_by, with_rules};
use crate::relay::relay;
use crate::server_codec::{CodecLimits, body_event, is_chunked};
use crate::ticket::Ticket;

/// Not frozen: it belongs to one connection of one loop; two threads at once get a
/// `RuntimeError` instead of a torn message.
#[pyclass(module = "meshcore._core")]
pub struct ClientCodec {
    codec: codec::H1Client,
    /// Names of requests go out as clients wrote them.
    as_written: bool,
    /// A response has shown that the endpoint authenticates this connection.
    authenticates: bool,
}

impl ClientCodec {
    fn event<'py>(
        &mut self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
        event: Option<ClientEvent>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let response = match event {
            None => return Ok(None),
            Some(ClientEvent::Data(body)) => return body_event(py, data, body).map(Some),
            Some(ClientEvent::Informational(head)) => {
                self.response(data, head, codec::BodyPart::default(), true)
            }
            Some(ClientEvent::Head { head, body }) => self.response(data, head, body, false),
        };
        Ok(Some(Bound::new(py, response)?.into_any()))
    }

    fn response(
        &mut self,
        data: &Bound<'_, PyBytes>,
        head: ResponseHead,
        body: codec::BodyPart,
        informational: bool,
    ) -> Response {
        self.authenticates |= head.authenticates;
        Response::new(head, Part::new(data, body), informational, self.codec.in_tunnel())
    }
}

impl ClientCodec {
    fn encode(
        &mut self,
        py: Python<'_>,
        out: &mut Vec<u8>,
        request: &Request,
        ticket: &Ticket,
        peer: &Peer,
        now_ns: Ns,
    ) {
        let head = &request.head;
        let as_written = self.as_written;
        with_rules(request, ticket, peer, now_ns, |rules| {
            encode_request(out, head, &RequestRules { as_written, ..*rules });
        });
        let form = BodyForm { chunked: is_chunked(head.body), as_written };
        append_body(py, out, &request.part, form, |part| ticket.request_trailers(part));
        let tunnel = head.tunnel().filter(|_| ticket.ticket.kind() == RequestKind::Tunnel);
        let head_request = head.slice(head.method) == b"HEAD";
        self.codec.sent(head_request, tunnel == Some(TunnelKind::Connect));
        if let Some(TunnelKind::Upgrade(protocol)) = tunnel {
            self.codec.allow_upgrade(protocol);
        }
    }
}

#[pymethods]
impl ClientCodec {
    #[new]
    #[pyo3(signature = (limits=None))]
    fn new(limits: Option<&CodecLimits>) -> Self {
        let mut limits = limits.map(|limits| limits.0).unwrap_or_default();
        let as_written = std::mem::take(&mut limits.keep_case);
        Self { codec: codec::H1Client::new(limits), as_written, authenticates: false }
    }

    /// The head with the route's changes and what a proxy adds, and the body's first part.
    fn send_request(
        &mut self,
        py: Python<'_>,
        request: &Request,
        ticket: &Ticket,
        peer: &Peer,
        now_ns: Ns,
    ) -> PyResult<Py<PyBytes>> {
        let mut out = Vec::with_capacity(1024 + request.part.len());
        self.encode(py, &mut out, request, ticket, peer, now_ns);
        Ok(PyBytes::new(py, &out).unbind())
    }

    /// `send_request`, of which the ticket is told, through `out`; what did not go that way.
    fn forward(
        &mut self,
        py: Python<'_>,
        request: &Request,
        ticket: &mut Ticket,
        peer: &Peer,
        out: Option<&Bound<'_, PyAny>>,
        now_ns: Ns,
    ) -> PyResult<Option<Py<PyBytes>>> {
        ticket.sent(now_ns);
        let left = send_by(out, py, request.part.len(), |bytes| {
            self.encode(py, bytes, request, ticket, peer, now_ns);
        })?;
        if left.is_none() {
            ticket.ticket.sent_natively(false);
        }
        Ok(left)
    }

    /// `receive` while a response is awaited, and of its head what the ticket says; of one that is
    /// whole and passes, what [`relay`] made of it.
    fn relay<'py>(
        &mut self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
        request: &Request,
        ticket: &mut Ticket,
        to: Option<&Bound<'py, PyTuple>>,
        now_ns: Ns,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.codec.receive(data.as_bytes()).map_err(codec_error)? {
            Some(ClientEvent::Head { head, body }) => {
                let response = self.response(data, head, body, false);
                Ok(Some(match relay(py, request, &response, ticket, to, now_ns)? {
                    Ok(sent) => sent,
                    Err(passed) => {
                        (Bound::new(py, response)?, passed).into_pyobject(py)?.into_any()
                    }
                }))
            }
            event => self.event(py, data, event),
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

    fn next_event<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = self.codec.next_event().map_err(codec_error)?;
        self.event(py, &PyBytes::new(py, b""), event)
    }

    fn receive_eof<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = self.codec.receive_eof().map_err(codec_error)?;
        self.event(py, &PyBytes::new(py, b""), event)
    }

    /// The last chunk of a body and its trailers.
    fn chunked_end(&self, py: Python<'_>, body: &Body, ticket: &Ticket) -> Py<PyBytes> {
        last_chunk(py, ticket.request_trailers(&body.0), self.as_written)
    }

    #[getter]
    fn response_began(&self) -> bool {
        self.codec.response_began()
    }

    #[getter]
    fn in_tunnel(&self) -> bool {
        self.codec.in_tunnel()
    }

    #[getter]
    fn authenticates(&self) -> bool {
        self.authenticates
    }

    #[getter]
    fn can_reuse(&self) -> bool {
        self.codec.can_reuse()
    }
}
