//! What is sent at the end of the loop's turn: a buffer, and whose each part of it is.
//!
//! A write of the loop's own costs more than the system call that it makes, and one at once wakes its
//! reader, who finds no more and sleeps again. What a turn brings about goes out behind it, each part
//! by one `send`. What the kernel does not take is the loop's: a short write, a full socket and an
//! error are all met again by its own `write`, so its flow control and its end are what they were.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::descriptor::send_some;
use crate::inbox::Inbox;
use crate::secure_transport::SecureTransport;
use crate::socket_transport::SocketTransport;

/// Beyond this it takes nothing more in a turn: it is to stay in the processor's cache.
const FULL_BYTES: usize = 256 * 1024;
/// A body up to this goes in with its head; more than that a turn of many would hold.
const BODY_BYTES: usize = 64 * 1024;
/// What it keeps for the next turn.
const KEPT_BYTES: usize = 512 * 1024;

/// Whose rest the loop's transport is to write, and what was raised.
type Short<'py> = (Bound<'py, SocketTransport>, Bound<'py, PyBytes>, Option<PyErr>);

struct Part {
    whose: Py<SocketTransport>,
    /// Where it ends; it begins where the one before does.
    end: usize,
}

/// Not frozen: it belongs to one loop; two threads at once get a `RuntimeError`.
#[pyclass(module = "meshcore._core")]
pub struct Outbox {
    /// The loop's.
    call_soon: Py<PyAny>,
    /// What reads the sockets that are often written to.
    inbox: Option<Py<Inbox>>,
    /// From how many messages on: a connection that is not kept costs less when the loop reads it.
    kept_after: u32,
    /// Those that are read by it from the end of the turn on.
    kept: Vec<Py<SocketTransport>>,
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// The first part that is not sent yet.
    next: usize,
    /// The loop is to call at the end of its turn.
    called: bool,
    /// What a handler of a signal raised within a transport of Python's: it is to end the program,
    /// or a task, and not to be lost here. The loop has it when the turn ends.
    raised: Option<PyErr>,
}

impl Outbox {
    /// Whether a message with a body of this length has room in this turn.
    pub(crate) fn has_room(&self, body_bytes: usize) -> bool {
        body_bytes <= BODY_BYTES && !self.is_full()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() > FULL_BYTES
    }

    /// Holds what `fill` appends, for the end of the turn.
    pub(crate) fn hold(
        slf: &Bound<'_, Self>,
        whose: &Bound<'_, SocketTransport>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> PyResult<()> {
        let mut own = slf.borrow_mut();
        let begin = own.bytes.len();
        fill(&mut own.bytes);
        let end = own.bytes.len();
        if end == begin {
            return Ok(());
        }
        whose.borrow_mut().holds(end - begin);
        let is_sent = own.next == own.parts.len();
        match own.parts.last_mut() {
            Some(last) if !is_sent && last.whose.is(whose) => last.end = end,
            _ => own.parts.push(Part { whose: whose.clone().unbind(), end }),
        }
        drop(own);
        Self::call(slf)
    }

    /// Has the loop call at the end of its turn, unless it does.
    fn call(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.borrow().called {
            return Ok(());
        }
        let call_soon = slf.borrow().call_soon.bind(slf.py()).clone();
        call_soon.call1((slf.getattr(intern!(slf.py(), "turn_ends"))?,))?;
        slf.borrow_mut().called = true;
        Ok(())
    }

    /// Sends all, in order. A transport that takes the rest of a part tells its protocol that it is
    /// full, which may call back: nothing is borrowed meanwhile.
    pub(crate) fn flush(slf: &Bound<'_, Self>) {
        let py = slf.py();
        loop {
            let short = slf.borrow_mut().send_until_short(py);
            let Some((whose, rest, error)) = short else { break };
            let transport = whose.borrow_mut().gives_to_loop(py);
            let written = transport.call_method1(intern!(py, "write"), (rest,)).err();
            whose.borrow_mut().was_written(py);
            for error in error.into_iter().chain(written) {
                if error.is_instance_of::<PyException>(py) {
                    error.write_unraisable(py, Some(&transport)); // the others are to go out
                } else {
                    slf.borrow_mut().raised.get_or_insert(error);
                }
            }
        }
        let is_raised = slf.borrow().raised.is_some();
        if is_raised && let Err(error) = Self::call(slf) {
            error.write_unraisable(py, None);
        }
    }

    /// Reads those that go on from now on.
    fn read_kept(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let kept = std::mem::take(&mut slf.borrow_mut().kept);
        let inbox = slf.borrow().inbox.as_ref().map(|inbox| inbox.bind(py).clone());
        let Some(inbox) = inbox else { return Ok(()) };
        let read = kept.iter().map(|whose| SocketTransport::read_by(whose.bind(py), &inbox));
        read.fold(Ok(()), Result::and) // each is tried
    }

    /// Sends parts up to one that does not go out whole: to whom its rest is to be given, and what
    /// was raised, if anything was.
    fn send_until_short<'py>(&mut self, py: Python<'py>) -> Option<Short<'py>> {
        while let Some(part) = self.parts.get(self.next) {
            let begin = self.next.checked_sub(1).map_or(0, |before| self.parts[before].end);
            let bytes = &self.bytes[begin..part.end];
            self.next += 1;
            let mut whose = part.whose.borrow_mut(py);
            if whose.sends(bytes.len()) >= Some(self.kept_after) {
                self.kept.push(part.whose.clone_ref(py));
            }
            // Asked last whether it is open: its descriptor is used with nothing run since.
            let is_first = whose.is_first(py);
            // An error of a question is no answer: the loop's transport knows.
            let (sent, error) = match (whose.is_open(py), is_first) {
                (Ok(false), Ok(_)) => continue, // and what is written to it goes nowhere
                (Ok(true), Ok(true)) => (send_some(whose.fd(), bytes), None),
                (Ok(true), Ok(false)) => (0, None),
                (Err(error), _) | (_, Err(error)) => (0, Some(error)),
            };
            if sent < bytes.len() {
                return Some((
                    part.whose.bind(py).clone(),
                    PyBytes::new(py, &bytes[sent..]),
                    error,
                ));
            }
        }
        self.parts.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.next = 0;
        None
    }
}

#[pymethods]
impl Outbox {
    #[new]
    #[pyo3(signature = (call_soon, inbox=None))]
    fn new(py: Python<'_>, call_soon: Py<PyAny>, inbox: Option<Py<Inbox>>) -> Self {
        let kept_after = inbox.as_ref().map_or(u32::MAX, |inbox| inbox.borrow(py).after);
        Self {
            call_soon,
            inbox,
            kept_after,
            kept: Vec::new(),
            bytes: Vec::new(),
            parts: Vec::new(),
            next: 0,
            called: false,
            raised: None,
        }
    }

    fn over<'py>(
        slf: &Bound<'py, Self>,
        transport: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(secure) = transport.cast_exact::<SecureTransport>() {
            SecureTransport::send_by(secure, slf)?;
            return Ok(transport.clone());
        }
        SocketTransport::over(transport, slf)
    }

    fn turn_ends(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::flush(slf); // with what is written within it
        let read = Self::read_kept(slf);
        let mut own = slf.borrow_mut();
        own.called = false; // whatever was raised
        own.raised.take().map_or(Ok(()), Err).and(read)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.parts.iter().try_for_each(|part| visit.call(&part.whose))?;
        self.kept.iter().try_for_each(|whose| visit.call(whose))?;
        visit.call(&self.inbox)?;
        visit.call(&self.call_soon)
    }

    fn __clear__(&mut self) {
        self.parts.clear();
        self.kept.clear();
        self.bytes.clear();
        self.next = 0;
    }
}
