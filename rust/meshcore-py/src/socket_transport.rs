//! A transport of the loop whose small writes go out by the outbox, and which the inbox reads.
//!
//! It is the one place where both ways meet, so nothing overtakes anything: what the outbox holds of a
//! connection goes out before whatever else is asked of its transport that could be seen behind it,
//! and while the loop still holds some the outbox gives its parts to the loop. Likewise either the loop
//! reads it or the inbox does; for the loop it is paused then.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::descriptor::receive_some;
use crate::inbox::{Inbox, deliver, fail};
use crate::outbox::Outbox;
use crate::server_codec::JOIN_BYTES;

/// Who reads a socket.
enum Reader {
    /// Until so many messages that there are likely to be more.
    Loop { sent: u32 },
    /// Either has the kernel tell of it, or not, since it was paused when something came.
    Inbox { inbox: Py<Inbox>, watched: bool },
    /// For good: there is an end of file, which the loop is to report, or no inbox.
    LoopAgain,
}

/// Not frozen: it belongs to one connection of one loop.
#[pyclass(module = "meshcore._core", weakref)]
pub(crate) struct SocketTransport {
    /// The loop's.
    inner: Py<PyAny>,
    outbox: Py<Outbox>,
    /// The loop's, which is asked whether it is open before each use.
    fd: RawFd,
    /// Bytes that the outbox holds of it.
    held: usize,
    /// The loop's may hold some: until it says that it does not.
    shared: bool,
    /// Nothing more is written; the loop's says so to a caller that does.
    ended: bool,
    /// It was closed from here, if not before: of a connect that is cancelled uvloop does not say so.
    closed: bool,
    reader: Reader,
    /// Its protocol wants nothing read.
    paused: bool,
}

impl SocketTransport {
    /// One that has no socket of its own is left as it is.
    pub(crate) fn over<'py>(
        transport: &Bound<'py, PyAny>,
        outbox: &Bound<'py, Outbox>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = transport.py();
        if transport.is_exact_instance_of::<Self>() {
            return Ok(transport.clone());
        }
        let socket = transport.call_method1(intern!(py, "get_extra_info"), ("socket",))?;
        if socket.is_none() {
            return Ok(transport.clone());
        }
        let fd: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        if fd < 0 {
            return Ok(transport.clone());
        }
        let (inner, outbox) = (transport.clone().unbind(), outbox.clone().unbind());
        let own = Self {
            inner,
            outbox,
            fd,
            held: 0,
            shared: false,
            ended: false,
            closed: false,
            reader: Reader::Loop { sent: 0 },
            paused: false,
        };
        Ok(Bound::new(py, own)?.into_any())
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    pub(crate) fn holds(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// How much of what is held is sent, given to the loop or dropped now. How many messages were
    /// by now, if it is the loop that reads it.
    pub(crate) fn sends(&mut self, bytes: usize) -> Option<u32> {
        self.held -= bytes;
        match &mut self.reader {
            Reader::Loop { sent } => {
                *sent = sent.saturating_add(1);
                Some(*sent)
            }
            _ => None,
        }
    }

    /// Loops close no descriptor before they say that they do.
    pub(crate) fn is_open(&self, py: Python<'_>) -> PyResult<bool> {
        if self.closed {
            return Ok(false);
        }
        let closing = self.inner.call_method0(py, intern!(py, "is_closing"))?;
        closing.is_truthy(py).map(|closing| !closing)
    }

    /// Whether the loop holds nothing of it that would be overtaken.
    pub(crate) fn is_first(&mut self, py: Python<'_>) -> PyResult<bool> {
        if self.shared {
            self.shared = self.buffered(py)?.is_truthy(py)?;
        }
        Ok(!self.shared)
    }

    fn buffered(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inner.call_method0(py, intern!(py, "get_write_buffer_size"))
    }

    /// The loop's may hold some already.
    pub(crate) fn share(&mut self) {
        self.shared = true;
    }

    /// The loop's transport, which writes from here on.
    pub(crate) fn gives_to_loop<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.shared = true;
        self.inner.bind(py).clone()
    }

    /// Holds what `fill` appends for the end of the turn. `false`, without a call of it: it cannot.
    pub(crate) fn hold(
        slf: &Bound<'_, Self>,
        body_bytes: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> PyResult<bool> {
        let py = slf.py();
        let outbox = {
            let own = slf.borrow();
            if own.ended || !own.outbox.borrow(py).has_room(body_bytes) {
                return Ok(false);
            }
            own.outbox.bind(py).clone()
        };
        Outbox::hold(&outbox, slf, fill)?;
        Ok(true)
    }

    /// The loop's transport, behind what is held.
    fn settled<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyAny> {
        let py = slf.py();
        let (inner, outbox, flushes) = {
            let own = slf.borrow();
            let outbox = own.outbox.bind(py).clone();
            let is_full = outbox.borrow().is_full();
            (own.inner.bind(py).clone(), outbox, own.held > 0 || is_full)
        };
        if flushes {
            Outbox::flush(&outbox);
        }
        inner
    }

    /// The same, to have it write.
    fn writing<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyAny> {
        let inner = Self::settled(slf);
        slf.borrow_mut().shared = true;
        inner
    }

    // --- read by the inbox

    fn is_read_by_loop(&self) -> bool {
        !matches!(self.reader, Reader::Inbox { .. })
    }

    pub(crate) fn read_by(slf: &Bound<'_, Self>, inbox: &Bound<'_, Inbox>) -> PyResult<()> {
        let py = slf.py();
        let is_read = {
            let own = slf.borrow();
            matches!(own.reader, Reader::Loop { .. }) && !own.paused && own.is_open(py)?
        };
        let inner = Self::inner(slf);
        if !is_read || !inner.call_method0(intern!(py, "is_reading"))?.is_truthy()? {
            return Ok(());
        }
        let taken = inner.call_method0(intern!(py, "pause_reading")).and_then(|_| {
            let inbox = inbox.clone().unbind();
            slf.borrow_mut().reader = Reader::Inbox { inbox, watched: false };
            Self::watch(slf)
        });
        if taken.is_err() {
            let _ = Self::give_back(slf); // it has to be read
        }
        taken
    }

    /// Of another set.
    pub(crate) fn watch_again(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.borrow_mut().forgotten();
        Self::watch(slf)
    }

    /// Has the kernel tell of it again.
    fn watch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (inbox, fd) = match &slf.borrow().reader {
            Reader::Inbox { inbox, watched: false } => {
                (inbox.bind(slf.py()).clone(), slf.borrow().fd)
            }
            _ => return Ok(()),
        };
        if !slf.borrow().is_open(slf.py())? {
            return Ok(());
        }
        if !Inbox::watch(&inbox, slf, fd)? {
            return Self::give_back(slf);
        }
        if let Reader::Inbox { watched, .. } = &mut slf.borrow_mut().reader {
            *watched = true;
        }
        Ok(())
    }

    /// The loop reads it from now on.
    pub(crate) fn give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let is_paused = {
            let mut own = slf.borrow_mut();
            own.unwatch(py);
            own.reader = Reader::LoopAgain;
            own.paused
        };
        if is_paused {
            return Ok(());
        }
        Self::inner(slf).call_method0(intern!(py, "resume_reading")).map(|_| ())
    }

    /// It is closed from here.
    fn closes(&mut self, py: Python<'_>) {
        if self.is_open(py).unwrap_or(false) {
            self.unwatch(py); // else the number may be another's
        }
        self.closed = true;
    }

    /// Has it not, while the descriptor is its own.
    fn unwatch(&mut self, py: Python<'_>) {
        if let Reader::Inbox { inbox, watched } = &mut self.reader
            && std::mem::take(watched)
        {
            inbox.borrow_mut(py).unwatch(self.fd);
        }
    }

    fn forgotten(&mut self) {
        if let Reader::Inbox { watched, .. } = &mut self.reader {
            *watched = false;
        }
    }

    /// A write may have ended it, and its descriptor is not closed in the same call.
    pub(crate) fn was_written(&mut self, py: Python<'_>) {
        if !self.is_open(py).unwrap_or(true) {
            self.unwatch(py);
        }
    }

    /// Something is there, perhaps.
    pub(crate) fn read(
        slf: &Bound<'_, Self>,
        inbox: &Bound<'_, Inbox>,
        room: &mut [u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let came = {
            let mut own = slf.borrow_mut();
            if own.paused {
                own.unwatch(py);
                return Ok(());
            }
            if !own.is_open(py)? {
                own.forgotten();
                inbox.borrow_mut().forget(own.fd);
                return Ok(());
            }
            match receive_some(own.fd, room) {
                Ok(None) => return Ok(()),
                Ok(Some(came)) => Ok(came),
                Err(error) => {
                    own.unwatch(py);
                    Err(std::io::Error::from(error))
                }
            }
        };
        let inner = Self::inner(slf);
        match came {
            Ok(0) => Self::give_back(slf),
            Ok(came) => match deliver(&inner, &room[..came]) {
                Ok(()) => Ok(()),
                Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => Err(error),
                Err(error) if error.is_instance_of::<PySystemExit>(py) => Err(error),
                Err(error) => {
                    slf.borrow_mut().unwatch(py);
                    let on = inbox.borrow().on(py);
                    fail(&on, &inner, error.into_value(py).bind(py))
                }
            },
            Err(error) => {
                let error = PyErr::from(error).into_value(py);
                inner.call_method1(intern!(py, "_force_close"), (error,)).map(|_| ())
            }
        }
    }

    fn inner<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyAny> {
        slf.borrow().inner.bind(slf.py()).clone()
    }
}

/// Whether a transport is open and has written all: two questions, in one call for each request.
#[pyfunction]
pub(crate) fn has_written_all(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = transport.py();
    if let Ok(own) = transport.cast_exact::<SocketTransport>() {
        return Ok(own.borrow().is_open(py)? && SocketTransport::get_write_buffer_size(own)? == 0);
    }
    if transport.call_method0(intern!(py, "is_closing"))?.is_truthy()? {
        return Ok(false);
    }
    transport.call_method0(intern!(py, "get_write_buffer_size"))?.is_truthy().map(|some| !some)
}

#[pymethods]
impl SocketTransport {
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let bytes = data.as_bytes();
        if bytes.len() <= JOIN_BYTES
            && Self::hold(slf, bytes.len(), |out| out.extend_from_slice(bytes))?
        {
            return Ok(());
        }
        Self::writing(slf).call_method1(intern!(slf.py(), "write"), (data,)).map(|_| ())
    }

    fn writelines(slf: &Bound<'_, Self>, pieces: Vec<Bound<'_, PyBytes>>) -> PyResult<()> {
        let len = pieces.iter().map(|piece| piece.as_bytes().len()).sum();
        let join = |out: &mut Vec<u8>| {
            pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
        };
        if len <= JOIN_BYTES && Self::hold(slf, len, join)? {
            return Ok(());
        }
        let pieces = PyList::new(slf.py(), pieces)?;
        Self::writing(slf).call_method1(intern!(slf.py(), "writelines"), (pieces,)).map(|_| ())
    }

    fn can_write_eof(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::inner(slf).call_method0("can_write_eof")?.is_truthy()
    }

    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let inner = Self::writing(slf);
        slf.borrow_mut().ended = true;
        inner.call_method0("write_eof").map(|_| ())
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let inner = Self::writing(slf);
        slf.borrow_mut().closes(slf.py());
        inner.call_method0("close").map(|_| ())
    }

    /// What is held is dropped, as what the loop holds is.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.borrow_mut().closes(slf.py());
        Self::inner(slf).call_method0("abort").map(|_| ())
    }

    fn is_closing(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.borrow().is_open(slf.py()).map(|is_open| !is_open)
    }

    /// The kernel is told when something comes meanwhile, which is seldom.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let is_loops = {
            let mut own = slf.borrow_mut();
            own.paused = true;
            own.is_read_by_loop()
        };
        match is_loops {
            true => Self::inner(slf).call_method0(intern!(slf.py(), "pause_reading")).map(|_| ()),
            false => Ok(()),
        }
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let is_loops = {
            let mut own = slf.borrow_mut();
            own.paused = false;
            own.is_read_by_loop()
        };
        match is_loops {
            true => Self::inner(slf).call_method0(intern!(slf.py(), "resume_reading")).map(|_| ()),
            false => Self::watch(slf),
        }
    }

    fn is_reading(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let own = slf.borrow();
        if !own.is_read_by_loop() {
            return Ok(!own.paused && own.is_open(slf.py())?);
        }
        drop(own);
        Self::inner(slf).call_method0("is_reading")?.is_truthy()
    }

    /// Of what is written so far: what is held goes out first.
    fn get_write_buffer_size(slf: &Bound<'_, Self>) -> PyResult<usize> {
        let py = slf.py();
        Self::settled(slf);
        let mut own = slf.borrow_mut();
        if own.is_first(py)? { Ok(0) } else { own.buffered(py)?.extract(py) }
    }

    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<usize>,
        low: Option<usize>,
    ) -> PyResult<()> {
        Self::settled(slf).call_method1("set_write_buffer_limits", (high, low)).map(|_| ())
    }

    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::inner(slf).call_method1("get_extra_info", (name, default))
    }

    fn set_protocol(slf: &Bound<'_, Self>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        Self::inner(slf).call_method1("set_protocol", (protocol,)).map(|_| ())
    }

    fn get_protocol<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::inner(slf).call_method0("get_protocol")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Reader::Inbox { inbox, .. } = &self.reader {
            visit.call(inbox)?;
        }
        visit.call(&self.outbox)?;
        visit.call(&self.inner)
    }
}
