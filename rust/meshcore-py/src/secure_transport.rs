//! TLS between a transport of the loop and a protocol: a protocol to the one, a transport to the
//! other.
//!
//! Both see it as they see each other without it, and it adds no frame of Python to what passes:
//! what the loop reads is decrypted and given on, what is written is sealed and given on, each in
//! one call. Whatever is called here may call back, so nothing is borrowed while it is.

mod calls;

use meshcore_core::exchange::{Certified, Handshakes};
use meshcore_core::tls::{Clock, Opened, Session, Version};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{PyTraverseError, PyVisit, intern};

use self::calls::{ask, close, end, fail_at_read, notify, say, send, set_full};
use crate::clock::unix_ms;
use crate::engine::Peer;
use crate::errors::tls_error;
use crate::outbox::Outbox;
use crate::server_codec::JOIN_BYTES;
use crate::socket_transport::SocketTransport;
use crate::tls::{ClientRules, PeerStanding, certified_by};
use crate::tls_scratch::{SCRATCH, emptied};

#[pyclass(module = "meshcore._core")]
pub struct SecureTransport {
    session: Session,
    clock: Clock,
    /// The loop's; `None` before the connection is there and behind its end.
    inner: Option<Py<PyAny>>,
    /// Whom it is told.
    protocol: Option<Py<PyAny>>,
    /// What takes over the loop's transport behind an alert of ours, if given: until the other
    /// side has read it.
    linger: Option<Py<PyAny>>,
    /// Its end was begun: nothing is written any more.
    closing: bool,
    /// `protocol` has the transport.
    made: bool,
    /// The loop's takes no more at the moment.
    full: bool,
    /// The other side's end came without a word of it.
    torn: bool,
}

/// What a read was, in the order in which it is told.
struct Came {
    said: Vec<u8>,
    plain: Option<Py<PyBytes>>,
    opened: Opened,
}

impl SecureTransport {
    pub(crate) fn new(
        session: Session,
        clock: Clock,
        protocol: Py<PyAny>,
        linger: Option<Py<PyAny>>,
    ) -> Self {
        Self {
            session,
            clock,
            inner: None,
            protocol: Some(protocol),
            linger,
            closing: false,
            made: false,
            full: false,
            torn: false,
        }
    }

    fn receive(&mut self, py: Python<'_>, data: &[u8]) -> Came {
        if !self.made {
            self.clock.set(unix_ms() / 1000);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let (sealed, plain) = (emptied(&mut scratch.sealed), emptied(&mut scratch.plain));
            sealed.extend_from_slice(data);
            let opened = self.session.receive(sealed, plain);
            Came {
                said: if opened.may_wait { Vec::new() } else { self.session.take_output() },
                plain: (!plain.is_empty()).then(|| PyBytes::new(py, plain).unbind()),
                opened,
            }
        })
    }

    /// What is to be written for these pieces; `None`: nothing is, any more.
    fn seal<'py>(
        &mut self,
        py: Python<'py>,
        pieces: &[&[u8]],
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if self.closing {
            return Ok(None);
        }
        let mut seal = |plain: &[u8]| {
            let made = self.session.seal_as(plain, |len, fill| {
                PyBytes::new_with(py, len, |room| {
                    fill(room);
                    Ok(())
                })
            });
            made.transpose()
        };
        match pieces {
            [one] => seal(one),
            several => SCRATCH.with_borrow_mut(|scratch| {
                let plain = emptied(&mut scratch.plain);
                several.iter().for_each(|piece| plain.extend_from_slice(piece));
                seal(plain)
            }),
        }
    }

    /// From now on what is sealed goes out by an outbox.
    pub(crate) fn send_by(slf: &Bound<'_, Self>, outbox: &Bound<'_, Outbox>) -> PyResult<()> {
        let inner = slf.borrow().inner(slf.py());
        if let Some(inner) = inner {
            let inner = SocketTransport::over(&inner, outbox)?;
            if let Ok(socket) = inner.cast_exact::<SocketTransport>() {
                socket.borrow_mut().share(); // the loop's wrote the handshake
            }
            slf.borrow_mut().inner = Some(inner.unbind());
        }
        Ok(())
    }

    /// Seals what `fill` appends, for the end of the loop's turn; what cannot be is given back.
    pub(crate) fn hold(
        slf: &Bound<'_, Self>,
        body_bytes: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> PyResult<Option<Py<PyBytes>>> {
        // Taken, for the loop may be called, and what it calls may need it.
        let mut plain = SCRATCH.with_borrow_mut(|scratch| std::mem::take(&mut scratch.plain));
        fill(emptied(&mut plain));
        let held = Self::hold_sealed(slf, body_bytes, &plain);
        let given_back = held.map(|held| (!held).then(|| PyBytes::new(slf.py(), &plain).unbind()));
        SCRATCH.with_borrow_mut(|scratch| scratch.plain = plain);
        given_back
    }

    fn hold_sealed(slf: &Bound<'_, Self>, body_bytes: usize, plain: &[u8]) -> PyResult<bool> {
        let inner = {
            let own = slf.borrow();
            if own.closing { None } else { own.inner(slf.py()) }
        };
        let Some(socket) = inner.as_ref().and_then(|inner| inner.cast_exact().ok()) else {
            return Ok(false);
        };
        let mut sealed = false;
        let held = SocketTransport::hold(socket, body_bytes, |out| {
            sealed = slf.borrow_mut().session.seal(plain, out);
        })?;
        Ok(held && sealed)
    }

    /// Counts what was agreed, if it was.
    pub(crate) fn count(&self, handshakes: &Handshakes) {
        if let Some(agreed) = self.session.agreed() {
            handshakes.made(agreed.suite, agreed.alpn, agreed.resumed);
        }
    }

    fn certificate(&self) -> Option<Certified> {
        let identity = self.session.client_identity()?;
        Some(certified_by(identity, self.session.own_uri()))
    }

    fn inner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.inner.as_ref().map(|inner| inner.bind(py).clone())
    }

    fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.as_ref().map(|protocol| protocol.bind(py).clone())
    }
}

#[pymethods]
impl SecureTransport {
    // --- as a protocol, to the loop's transport

    /// The connection is there: a client's side begins.
    fn connection_made(slf: &Bound<'_, Self>, transport: Py<PyAny>) -> PyResult<()> {
        let first = {
            let mut own = slf.borrow_mut();
            own.inner = Some(transport);
            own.session.take_output()
        };
        say(slf, &first)
    }

    pub(crate) fn data_received(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let came = slf.borrow_mut().receive(py, data);
        say(slf, &came.said)?;
        if came.opened.established {
            slf.borrow_mut().made = true;
            notify(slf, "connection_made", (slf,))?;
            let full = slf.borrow().full;
            if full {
                notify(slf, "pause_writing", ())?; // by the handshake: it is not said again
            }
        }
        if let Some(plain) = came.plain {
            // If it was closed when it was made, what came with that is of no use.
            let protocol = {
                let own = slf.borrow();
                if own.closing { None } else { own.protocol(py) }
            };
            if let Some(protocol) = protocol {
                protocol.call_method1(intern!(py, "data_received"), (plain,))?;
            }
        }
        if came.opened.peer_closed {
            end(slf)?;
        }
        if came.opened.failed {
            fail_at_read(slf)?;
        }
        Ok(())
    }

    /// The connection has ended on that side. `True`: this side stays open.
    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        {
            let mut own = slf.borrow_mut();
            if !own.made {
                own.closing = true;
            }
            if own.closing {
                return Ok(false);
            }
            if own.session.peer_closed() {
                return Ok(true); // the protocol has said what is to follow
            }
            own.torn = true;
        }
        end(slf)?;
        Ok(!slf.borrow().closing)
    }

    fn connection_lost(slf: &Bound<'_, Self>, error: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let (protocol, failure) = {
            let mut own = slf.borrow_mut();
            own.closing = true;
            (own.protocol(py), own.session.failure().cloned())
        };
        let error = match (failure, error) {
            (Some(failure), None) => Some(tls_error(py, &failure)?),
            (_, error) => error,
        };
        let ended = protocol.map(|p| p.call_method1(intern!(py, "connection_lost"), (error,)));
        let mut own = slf.borrow_mut();
        (own.inner, own.protocol, own.linger) = (None, None, None);
        ended.transpose().map(|_| ())
    }

    fn pause_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        set_full(slf, true, "pause_writing")
    }

    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        set_full(slf, false, "resume_writing")
    }

    // --- as a transport, to the protocol

    fn write(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        if data.len() <= JOIN_BYTES && Self::hold_sealed(slf, data.len(), data)? {
            return Ok(());
        }
        let sealed = slf.borrow_mut().seal(slf.py(), &[data])?;
        send(slf, sealed)
    }

    fn writelines(slf: &Bound<'_, Self>, pieces: Vec<Bound<'_, PyBytes>>) -> PyResult<()> {
        let py = slf.py();
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let sealed = slf.borrow_mut().seal(py, &pieces)?;
        send(slf, sealed)
    }

    #[allow(clippy::unused_self)] // as a method of a transport
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Nothing more is written; the other side may go on.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let mut last = Vec::new();
        {
            let mut own = slf.borrow_mut();
            if own.closing {
                return Ok(());
            }
            own.session.close(&mut last);
        }
        say(slf, &last)?;
        ask(slf, "write_eof", ())?;
        Ok(())
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        close(slf)
    }

    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.borrow_mut().closing = true;
        ask(slf, "abort", ())?;
        Ok(())
    }

    fn is_closing(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.borrow().closing {
            return Ok(true);
        }
        ask(slf, "is_closing", ())?.map_or(Ok(true), |closing| closing.is_truthy())
    }

    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        ask(slf, "pause_reading", ()).map(|_| ())
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        ask(slf, "resume_reading", ()).map(|_| ())
    }

    fn is_reading(slf: &Bound<'_, Self>) -> PyResult<bool> {
        ask(slf, "is_reading", ())?.map_or(Ok(false), |reading| reading.is_truthy())
    }

    fn get_write_buffer_size(slf: &Bound<'_, Self>) -> PyResult<usize> {
        ask(slf, "get_write_buffer_size", ())?.map_or(Ok(0), |size| size.extract())
    }

    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<usize>,
        low: Option<usize>,
    ) -> PyResult<()> {
        ask(slf, "set_write_buffer_limits", (high, low)).map(|_| ())
    }

    /// Of the loop's transport; and whether the other side's end was `torn`.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if name == "torn" {
            let torn = slf.borrow().torn;
            return Ok(Some(torn.into_pyobject(slf.py())?.to_owned().into_any()));
        }
        match ask(slf, "get_extra_info", (name, default.clone()))? {
            Some(found) => Ok(Some(found)),
            None => Ok(default),
        }
    }

    fn set_protocol(&mut self, protocol: Py<PyAny>) {
        self.protocol = Some(protocol);
    }

    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol.as_ref().map(|protocol| protocol.clone_ref(py))
    }

    // --- what was agreed

    /// The protocol that ALPN chose.
    #[getter]
    fn alpn(&self) -> Option<String> {
        let chosen = self.session.agreed()?.alpn?;
        Some(String::from_utf8_lossy(chosen).into_owned())
    }

    /// The host that the client asks for, once it is known.
    #[getter]
    fn server_name(&self) -> Option<&str> {
        self.session.server_name()
    }

    /// Until when the client's certificate is valid, in seconds since 1970.
    fn certificate_ends_s(&self) -> Option<u64> {
        self.session.certificate_ends_s()
    }

    /// Whether the client has shown a certificate.
    #[getter]
    fn is_certified(&self) -> bool {
        self.session.has_certificate()
    }

    /// Whether the endpoint has asked for a certificate, and got none.
    #[getter]
    fn lacks_certificate(&self) -> bool {
        self.session.lacks_certificate()
    }

    /// Why its TLS is over, unless it ended in order.
    #[getter]
    fn failure(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.session.failure().map(|failure| tls_error(py, failure)).transpose()
    }

    /// Whether nothing came that was not told: neither a part of a record nor the other side's end.
    #[getter]
    fn is_quiet(&self) -> bool {
        self.session.held() == 0 && !self.session.peer_closed()
    }

    /// Whether the other side has said that nothing follows.
    #[getter]
    fn peer_closed(&self) -> bool {
        self.session.peer_closed()
    }

    /// The version, the suite, whether it was resumed, and whom the client asked for.
    fn agreed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let agreed = self.session.agreed();
        let agreed = agreed.ok_or_else(|| PyRuntimeError::new_err("the handshake is not over"))?;
        let agreement = PyDict::new(py);
        let version = match agreed.version {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        };
        agreement.set_item("version", version)?;
        agreement.set_item("suite", agreed.suite)?;
        agreement.set_item("resumed", agreed.resumed)?;
        agreement.set_item("server_name", agreed.server_name)?;
        Ok(agreement)
    }

    /// The same peer, with what the certificate says that it has shown, verified by these rules.
    fn verified_peer(&self, peer: &Peer, rules: &ClientRules) -> Peer {
        let mut peer = peer.0.clone();
        if let Some(certified) = self.certificate() {
            peer = peer.certified(certified);
        }
        if let Some(standing) = self.session.standing(rules.in_force()) {
            peer = peer.standing(PeerStanding(standing));
        }
        Peer(peer)
    }

    /// What these bytes are, of a connection that is lost: nothing else is reported.
    fn open<'py>(&mut self, py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
        match self.receive(py, data).plain {
            Some(plain) => plain.into_bound(py),
            None => PyBytes::new(py, b""),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.inner)?;
        visit.call(&self.linger)?;
        visit.call(&self.protocol)
    }

    fn __clear__(&mut self) {
        (self.inner, self.protocol, self.linger) = (None, None, None);
    }
}
