//! The client's side of an HTTP/2 connection: requests in, responses out.

use meshcore_core::codec::h2::{H2Server, Signal};
use meshcore_core::codec::{BodyPart, ResponseRules, ServerEvent};
use meshcore_core::head::{RequestHead, Version};
use meshcore_core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::answer::Answer;
use crate::clock::{Ns, http_date};
use crate::deadlines::DeadlineTable;
use crate::engine::{ListenerStack, Peer};
use crate::h2_codec::{Data, H2Config, body_event, emitted, event_of, outgoing, shared};
use crate::message::{Body, Part, Request, Response};
use crate::outgoing::with_tunnel;
use crate::server_codec::CodecLimits;
use crate::ticket::Ticket;

/// Not frozen: it belongs to one connection of one loop; two threads at once get a
/// `RuntimeError` instead of a torn message.
#[pyclass(module = "meshcore._core")]
pub struct H2ServerCodec(H2Server);

fn request(py: Python<'_>, head: RequestHead, body: BodyPart) -> Request {
    Request::new(head, Part::new(&PyBytes::new(py, b""), body))
}

impl H2ServerCodec {
    fn emit<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        emitted(py, self.0.signals(), |event| match event {
            ServerEvent::Data(body) => body_event(py, body),
            ServerEvent::Head { head, body } => {
                Ok(Bound::new(py, request(py, head, body))?.into_any())
            }
        })
    }

    /// `send_response` of a whole one, and `leave`: what waits on the stream, -1 if it is over.
    pub(crate) fn send_whole(
        &mut self,
        py: Python<'_>,
        stream: u32,
        request: &Request,
        response: &Response,
        ticket: &mut Ticket,
    ) -> i64 {
        self.send_response(py, stream, request, response, ticket);
        if self.0.leave(stream) { -1 } else { self.0.queued_on(stream) as i64 }
    }
}

/// What a read meant, one after the other. A request is begun when its turn comes, for what became
/// of those before it may decide about it; the deadline is armed of one that goes on to an endpoint
/// at once.
#[pyclass(module = "meshcore._core")]
pub struct H2Begun {
    signals: std::vec::IntoIter<(u32, Signal<ServerEvent>)>,
    listener: Py<ListenerStack>,
    peer: Py<Peer>,
    deadlines: Py<DeadlineTable>,
    now_ns: Ns,
}

#[pymethods]
impl H2Begun {
    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<(u32, Bound<'py, PyAny>)>> {
        let Some((stream, signal)) = self.signals.next() else { return Ok(None) };
        let event = event_of(py, signal, |event| match event {
            ServerEvent::Data(body) => body_event(py, body),
            ServerEvent::Head { head, body } => self.begin(py, request(py, head, body)),
        })?;
        Ok(Some((stream, event)))
    }
}

impl H2Begun {
    fn begin<'py>(&self, py: Python<'py>, mut request: Request) -> PyResult<Bound<'py, PyAny>> {
        let (listener, peer) = (self.listener.bind(py), self.peer.bind(py));
        let mut ticket = ListenerStack::begin(listener, &mut request, peer, self.now_ns);
        let due = if ticket.forwards() { ticket.ticket.arm() } else { Nanos::MAX };
        let slot = self.deadlines.bind(py).borrow_mut().0.add(due);
        ticket.place = Some((self.deadlines.clone_ref(py), slot));
        let begun = (Bound::new(py, request)?, Bound::new(py, ticket)?, slot);
        Ok(begun.into_pyobject(py)?.into_any())
    }
}

#[pymethods]
impl H2ServerCodec {
    #[new]
    fn new(limits: &CodecLimits, secure: bool, config: &H2Config, now_ns: u64) -> Self {
        Self(H2Server::new(limits.0, limits.server_rules(secure), &config.0, Nanos(now_ns)))
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

    /// `receive`, and with the head of each request what follows it, as `ServerCodec.begin` does.
    fn begin(
        &mut self,
        data: &Bound<'_, PyBytes>,
        listener: Py<ListenerStack>,
        peer: Py<Peer>,
        deadlines: Py<DeadlineTable>,
        now_ns: Ns,
    ) -> Option<H2Begun> {
        self.0.receive(shared(data), now_ns.into());
        let signals = self.0.signals();
        let any = !signals.is_empty();
        let signals = signals.into_iter();
        any.then(|| H2Begun { signals, listener, peer, deadlines, now_ns })
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
    fn in_head(&self) -> bool {
        self.0.in_head()
    }

    #[getter]
    fn flood(&self) -> Option<u8> {
        self.0.flood().map(|flood| flood as u8)
    }

    #[getter]
    fn open_streams(&mut self) -> usize {
        self.0.open_streams()
    }

    #[getter]
    fn queued(&mut self) -> usize {
        self.0.queued()
    }

    fn queued_on(&mut self, stream: u32) -> usize {
        self.0.queued_on(stream)
    }

    fn send_response(
        &mut self,
        py: Python<'_>,
        stream: u32,
        request: &Request,
        response: &Response,
        ticket: &mut Ticket,
    ) -> usize {
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
        let (body, end) = outgoing(py, &response.part, ticket.response_trailers(&response.part));
        with_tunnel(request, response, ticket, rules, |rules| {
            self.0.send_response(stream, &response.head, rules, body, end.get())
        })
    }

    fn send_informational(&mut self, stream: u32, response: &Response, ticket: &Ticket) {
        self.0.send_informational(stream, &response.head, ticket.response_ops());
    }

    fn send_answer(&mut self, stream: u32, request: Option<&Request>, answer: &Answer) {
        answer.with_reply(request, true, |local| self.0.send_answer(stream, local));
    }

    fn send_data(&mut self, stream: u32, data: Data<'_>) -> usize {
        data.send(|piece| self.0.send_data(stream, piece))
    }

    fn send_end(&mut self, stream: u32, body: &Body, ticket: &Ticket) {
        self.0.send_end(stream, ticket.response_trailers(&body.0).as_deref());
    }

    fn pause(&mut self, stream: u32) {
        self.0.pause(stream);
    }

    fn resume(&mut self, stream: u32) {
        self.0.resume(stream);
    }

    fn leave(&mut self, stream: u32) -> bool {
        self.0.leave(stream)
    }

    fn reset(&mut self, stream: u32, code: u32) {
        self.0.reset(stream, code);
    }

    fn drain(&mut self) {
        self.0.drain();
    }

    fn warn(&mut self) {
        self.0.warn();
    }

    fn send_goaway(&mut self, reason: &[u8]) {
        self.0.send_goaway(reason);
    }

    fn abandon(&mut self, code: u32) {
        self.0.abandon(code);
    }

    fn ping(&mut self) -> bool {
        self.0.ping()
    }
}
