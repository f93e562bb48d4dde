//! The endpoint's side of an HTTP/2 connection: requests out, responses in.

use meshcore_core::codec::h2::H2Client;
use meshcore_core::codec::{BodyPart, ClientEvent};
use meshcore_core::head::Scheme;
use meshcore_core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::clock::Ns;
use crate::engine::Peer;
use crate::errors::codec_error;
use crate::h2_codec::{Data, H2Config, body_event, emitted, outgoing, shared};
use crate::message::{Body, Part, Request, Response};
use crate::outgoing::with_rules;
use crate::server_codec::CodecLimits;
use crate::ticket::Ticket;

/// Not frozen: it belongs to one connection of one loop; two threads at once get a
/// `RuntimeError` instead of a torn message.
#[pyclass(module = "meshcore._core")]
pub struct H2ClientCodec(H2Client, Shown);

/// What its responses have shown so far.
#[derive(Default)]
struct Shown {
    authenticates: bool,
}

impl H2ClientCodec {
    fn emit<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let Self(engine, shown) = self;
        emitted(py, engine.signals(), |event| {
            let (head, body, informational) = match event {
                ClientEvent::Data(body) => return body_event(py, body),
                ClientEvent::Informational(head) => (head, BodyPart::default(), true),
                ClientEvent::Head { head, body } => (head, body, false),
            };
            shown.authenticates |= head.authenticates;
            let part = Part::new(&PyBytes::new(py, b""), body);
            let tunnel = (200..300).contains(&head.status);
            Ok(Bound::new(py, Response::new(head, part, informational, tunnel))?.into_any())
        })
    }
}

#[pymethods]
impl H2ClientCodec {
    #[new]
    fn new(limits: &CodecLimits, secure: bool, config: &H2Config, now_ns: u64) -> Self {
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        Self(H2Client::new(limits.0, scheme, &config.0, Nanos(now_ns)), Shown::default())
    }

    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
        now_ns: Ns,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        self.0.receive(shared(data), now_ns.into());
        self.emit(py)
    }

    fn receive_eof<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        self.0.receive_eof();
        self.emit(py)
    }

    fn events<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        self.emit(py)
    }

    fn take_output(&mut self, py: Python<'_>) -> Py<PyBytes> {
        self.0.take_output(|output| PyBytes::new(py, output).unbind())
    }

    #[getter]
    fn wants_read(&self) -> bool {
        self.0.wants_read()
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    #[getter]
    fn open_streams(&mut self) -> usize {
        self.0.open_streams()
    }

    fn can_open(&mut self, now_ns: Ns) -> usize {
        self.0.can_open(now_ns.into())
    }

    fn can_carry(&mut self, now_ns: Ns) -> usize {
        self.0.can_carry(now_ns.into())
    }

    #[getter]
    fn flood(&self) -> Option<u8> {
        self.0.flood().map(|flood| flood as u8)
    }

    #[getter]
    fn authenticates(&self) -> bool {
        self.1.authenticates
    }

    #[getter]
    fn can_upgrade(&self) -> bool {
        self.0.can_upgrade()
    }

    fn send_request(
        &mut self,
        py: Python<'_>,
        request: &Request,
        ticket: &Ticket,
        peer: &Peer,
        now_ns: Ns,
    ) -> PyResult<Option<u32>> {
        let (body, end) = outgoing(py, &request.part, ticket.request_trailers(&request.part));
        with_rules(request, ticket, peer, now_ns, |rules| {
            self.0.send_request(&request.head, rules, body, end.get()).map_err(codec_error)
        })
    }

    /// `send_request`, of which the ticket is told.
    fn forward(
        &mut self,
        py: Python<'_>,
        request: &Request,
        ticket: &mut Ticket,
        peer: &Peer,
        now_ns: Ns,
    ) -> PyResult<Option<u32>> {
        ticket.sent(now_ns);
        self.send_request(py, request, ticket, peer, now_ns)
    }

    /// `Ticket.relay`, and `leave` where all went out; `None` of an interim response, of which no
    /// ticket is asked.
    #[expect(clippy::too_many_arguments, reason = "what a request consists of")]
    fn relay<'py>(
        &mut self,
        py: Python<'py>,
        stream: u32,
        response: &Bound<'py, Response>,
        request: &Request,
        ticket: &mut Ticket,
        to: Option<&Bound<'py, PyTuple>>,
        now_ns: Ns,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if response.borrow().informational {
            return Ok(None);
        }
        let relayed = ticket.relay(py, response, request, to, now_ns)?;
        if !relayed.is_exact_instance_of::<PyTuple>() {
            self.0.leave(stream);
        }
        Ok(Some(relayed))
    }

    #[getter]
    fn clogged(&self) -> bool {
        self.0.is_clogged()
    }

    fn is_held_up(&self, stream: u32) -> bool {
        self.0.is_held_up(stream)
    }

    fn send_data(&mut self, stream: u32, data: Data<'_>) -> usize {
        data.send(|piece| self.0.send_data(stream, piece))
    }

    fn send_end(&mut self, stream: u32, body: &Body, ticket: &Ticket) {
        self.0.send_end(stream, ticket.request_trailers(&body.0).as_deref());
    }

    fn pause(&mut self, stream: u32) {
        self.0.pause(stream);
    }

    fn resume(&mut self, stream: u32) {
        self.0.resume(stream);
    }

    fn leave(&mut self, stream: u32) {
        self.0.leave(stream);
    }

    fn reset(&mut self, stream: u32, code: u32) {
        self.0.reset(stream, code);
    }

    fn ping(&mut self) -> bool {
        self.0.ping()
    }
}
