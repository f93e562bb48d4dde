//! Sockets that are read without the loop: one callback a turn, whichever of them have something.
//!
//! A loop calls twice for each read, and takes the interpreter's lock each time. Here one set of the
//! kernel's stands in the loop for many sockets. Ends are the loop's as before: at an end of file it
//! reads the socket again and meets that itself, and at an error it closes.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use pyo3::exceptions::{PyBaseException, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::event::epoll::{self, CreateFlags, Event};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::descriptor::{unwatch, watch};
use crate::secure_transport::SecureTransport;
use crate::socket_transport::SocketTransport;

/// Of one read, and so of one socket in a turn: as much as uvloop reads.
const READ_BYTES: usize = 256_000;
/// Sockets that the kernel is asked for at one time.
const SOCKETS: usize = 256;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Not frozen: it belongs to one loop; two threads at once get a `RuntimeError`.
#[pyclass(module = "meshcore._core")]
pub struct Inbox {
    /// The loop.
    on: Py<PyAny>,
    /// What the loop's reader runs in: not what a layer happens to.
    context: Py<PyAny>,
    /// The kernel's; made for the first.
    set: Option<OwnedFd>,
    closed: bool,
    /// Who reads which descriptor, or did.
    whose: Vec<Option<Py<PyWeakrefReference>>>,
    room: Vec<u8>,
    /// How many messages went out to peers that are read.
    pub(crate) after: u32,
    /// The set tells of a socket that it cannot be made to forget: another process has it open.
    stuck: bool,
}

impl Inbox {
    /// Tells a transport when its socket has something; or cannot.
    pub(crate) fn watch(
        slf: &Bound<'_, Self>,
        whose: &Bound<'_, SocketTransport>,
        fd: RawFd,
    ) -> PyResult<bool> {
        let whose = PyWeakrefReference::new(whose)?.unbind();
        Self::open(slf)?;
        let mut own = slf.borrow_mut();
        let Some(Ok(())) = own.set.as_ref().map(|set| watch(set, fd)) else { return Ok(false) };
        let place = fd.unsigned_abs() as usize;
        if own.whose.len() <= place {
            own.whose.resize_with(place + 1, || None);
        }
        own.whose[place] = Some(whose);
        Ok(true)
    }

    /// Does not any more.
    pub(crate) fn unwatch(&mut self, fd: RawFd) -> bool {
        let was = self.set.as_ref().is_some_and(|set| unwatch(set, fd));
        if let Some(whose) = self.whose.get_mut(fd.unsigned_abs() as usize) {
            *whose = None;
        }
        was
    }

    /// The same, of one that the set has told of although no reader is there. A closed
    /// descriptor stays in a set as long as another process has its socket: a child that was forked.
    pub(crate) fn forget(&mut self, fd: RawFd) {
        if !self.unwatch(fd) {
            self.stuck = true;
        }
    }

    /// Another set in place of one that is stuck, which would wake the loop for ever. O(sockets).
    fn renew(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        slf.borrow_mut().stuck = false;
        Self::remove(slf)?;
        let several = 0..slf.borrow().whose.len();
        for fd in several {
            let socket = slf.borrow().socket(py, fd as u64);
            match socket {
                Some(socket) => SocketTransport::watch_again(&socket)?,
                None => slf.borrow_mut().whose[fd] = None,
            }
        }
        Ok(())
    }

    fn remove(slf: &Bound<'_, Self>) -> PyResult<()> {
        let set = slf.borrow_mut().set.take();
        let Some(set) = set else { return Ok(()) };
        let on = slf.borrow().on(slf.py());
        on.call_method1("remove_reader", (set.as_raw_fd(),)).map(|_| ())
    }

    fn open(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.borrow().set.is_some() || slf.borrow().closed {
            return Ok(());
        }
        let py = slf.py();
        let Ok(set) = epoll::create(CreateFlags::CLOEXEC) else { return Ok(()) };
        let add = slf.borrow().on.getattr(py, intern!(py, "add_reader"))?;
        let context = slf.borrow().context.bind(py).clone();
        context.call_method1("run", (add, set.as_raw_fd(), slf.getattr("turn")?))?;
        slf.borrow_mut().set = Some(set);
        Ok(())
    }

    /// Those that have something now, and room for it.
    fn ready(&mut self) -> PyResult<(Vec<Event>, Vec<u8>)> {
        let (mut events, mut room) = (Vec::with_capacity(SOCKETS), std::mem::take(&mut self.room));
        if room.is_empty() {
            room = vec![0; READ_BYTES]; // of which only what comes takes memory
        }
        if let Some(set) = &self.set {
            let free = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(set, free, Some(&AT_ONCE)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
        Ok((events, room))
    }

    /// How many there were. A descriptor may be closed meanwhile, and be another's: who reads it now
    /// is asked each time, and that something came is only a hint.
    fn read_ready(slf: &Bound<'_, Self>) -> PyResult<usize> {
        let py = slf.py();
        let (events, mut room) = slf.borrow_mut().ready()?;
        let mut done = Ok(());
        for event in &events {
            let fd = event.data.u64();
            let socket = slf.borrow().socket(py, fd);
            match socket {
                Some(socket) => done = SocketTransport::read(&socket, slf, &mut room),
                None => slf.borrow_mut().forget(RawFd::try_from(fd).unwrap_or(-1)),
            }
            if done.is_err() {
                break; // the kernel tells of the others again
            }
        }
        slf.borrow_mut().room = room;
        done.map(|()| events.len())
    }

    fn socket<'py>(&self, py: Python<'py>, fd: u64) -> Option<Bound<'py, SocketTransport>> {
        let whose = self.whose.get(usize::try_from(fd).ok()?)?.as_ref()?;
        whose.bind(py).upgrade_as().ok()?
    }

    /// The loop, which is told what a protocol raises.
    pub(crate) fn on<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.on.bind(py).clone()
    }
}

#[pymethods]
impl Inbox {
    #[new]
    #[pyo3(signature = (on, after=2))]
    fn new(py: Python<'_>, on: Py<PyAny>, after: u32) -> PyResult<Self> {
        let context = py.import("contextvars")?.call_method0("copy_context")?.unbind();
        Ok(Self {
            on,
            context,
            set: None,
            closed: false,
            whose: Vec::new(),
            room: Vec::new(),
            after,
            stuck: false,
        })
    }

    /// Reads all that have something, as a loop does in a turn: a late deadline
    /// (`downstream/deadlines.py`) awaits one. A few may be read twice.
    fn turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        let mut most = 1 + slf.borrow().whose.len() / SOCKETS;
        while Self::read_ready(slf)? == SOCKETS && most > 1 {
            most -= 1;
        }
        let is_stuck = slf.borrow().stuck;
        if is_stuck { Self::renew(slf) } else { Ok(()) }
    }

    /// What it still reads the loop does from now on.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        slf.borrow_mut().closed = true;
        let several = 0..slf.borrow().whose.len() as u64;
        for fd in several {
            let socket = slf.borrow().socket(py, fd);
            if let Some(socket) = socket {
                SocketTransport::give_back(&socket)?;
            }
        }
        Self::remove(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        visit.call(&self.on)
    }
}

/// Tells the protocol what came.
pub(crate) fn deliver(inner: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<()> {
    let py = inner.py();
    let protocol = inner.call_method0(intern!(py, "get_protocol"))?;
    if let Ok(secure) = protocol.cast_exact::<SecureTransport>() {
        return SecureTransport::data_received(secure, data);
    }
    let data = PyBytes::new(py, data);
    protocol.call_method1(intern!(py, "data_received"), (data,)).map(|_| ())
}

/// A protocol has raised: its connection ends, and the loop is told, as loops do.
pub(crate) fn fail(
    on: &Bound<'_, PyAny>,
    inner: &Bound<'_, PyAny>,
    error: &Bound<'_, PyBaseException>,
) -> PyResult<()> {
    if !error.is_instance_of::<PyOSError>() {
        let what = PyDict::new(inner.py());
        what.set_item("message", "a protocol failed at what came")?;
        what.set_item("exception", error)?;
        what.set_item("transport", inner)?;
        on.call_method1("call_exception_handler", (what,))?;
    }
    inner.call_method1("_force_close", (error,)).map(|_| ())
}
