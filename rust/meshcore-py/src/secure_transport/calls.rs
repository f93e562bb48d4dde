//! What both sides of a secure transport are told and asked. Whatever is called may call back, so
//! nothing is borrowed while it is.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::SecureTransport;

pub(super) type This<'a, 'py> = &'a Bound<'py, SecureTransport>;

/// Tells the protocol, unless it has been told of the end.
pub(super) fn notify<'py, A>(
    this: This<'_, 'py>,
    name: &str,
    with: A,
) -> PyResult<Option<Bound<'py, PyAny>>>
where
    A: pyo3::call::PyCallArgs<'py>,
{
    let protocol = this.borrow().protocol(this.py());
    protocol.map(|protocol| protocol.call_method1(name, with)).transpose()
}

/// Asks the loop's transport, if there is one.
pub(super) fn ask<'py, A>(
    this: This<'_, 'py>,
    name: &str,
    with: A,
) -> PyResult<Option<Bound<'py, PyAny>>>
where
    A: pyo3::call::PyCallArgs<'py>,
{
    let inner = this.borrow().inner(this.py());
    inner.map(|inner| inner.call_method1(name, with)).transpose()
}

pub(super) fn say(this: This<'_, '_>, bytes: &[u8]) -> PyResult<()> {
    if !bytes.is_empty() {
        ask(this, "write", (PyBytes::new(this.py(), bytes),))?;
    }
    Ok(())
}

/// The session failed: the alert goes out, if the other side takes it, and then the end.
pub(super) fn fail(this: This<'_, '_>) -> PyResult<()> {
    this.borrow_mut().closing = true;
    let waits = ask(this, "get_write_buffer_size", ())?;
    let waits = waits.is_some_and(|size| size.is_truthy().unwrap_or(true));
    ask(this, if waits { "abort" } else { "close" }, ())?;
    Ok(())
}

/// The same at a read. Where our alert has gone out, a close would answer what the other side still
/// sends with a reset, and it may not get to the alert: it is read on for that. The protocol is
/// told of the end at once, for it holds a place.
pub(super) fn fail_at_read(this: This<'_, '_>) -> PyResult<()> {
    let py = this.py();
    let (inner, linger) = {
        let own = this.borrow();
        let ours = own.session.failure().is_some_and(|failure| !failure.by_peer);
        let linger = own.linger.as_ref().filter(|_| ours && !own.closing);
        (own.inner(py), linger.map(|linger| linger.clone_ref(py)))
    };
    let (Some(inner), Some(linger)) = (inner, linger) else { return fail(this) };
    if inner.call_method0("get_write_buffer_size")?.is_truthy()? {
        return fail(this);
    }
    this.borrow_mut().closing = true;
    linger.call1(py, (inner,))?;
    SecureTransport::connection_lost(this, None)
}

/// The other side says no more; a protocol that does not mind has the transport closed.
pub(super) fn end(this: This<'_, '_>) -> PyResult<()> {
    if this.borrow().closing {
        return Ok(());
    }
    let stays = notify(this, "eof_received", ())?;
    if !stays.is_some_and(|stays| stays.is_truthy().unwrap_or(false)) {
        close(this)?;
    }
    Ok(())
}

pub(super) fn set_full(this: This<'_, '_>, full: bool, name: &str) -> PyResult<()> {
    let made = {
        let mut own = this.borrow_mut();
        own.full = full;
        own.made
    };
    if made {
        notify(this, name, ())?;
    }
    Ok(())
}

/// Writes what was sealed. Where the session ended instead, its last words and the end.
pub(super) fn send(this: This<'_, '_>, sealed: Option<Bound<'_, PyBytes>>) -> PyResult<()> {
    let py = this.py();
    if let Some(sealed) = sealed {
        let inner = this.borrow().inner(py);
        if let Some(inner) = inner {
            inner.call_method1(intern!(py, "write"), (sealed,))?;
        }
        return Ok(());
    }
    let last = {
        let mut own = this.borrow_mut();
        if own.closing || own.session.failure().is_none() {
            return Ok(());
        }
        own.session.take_output()
    };
    say(this, &last)?;
    fail(this)
}

pub(super) fn close(this: This<'_, '_>) -> PyResult<()> {
    let mut last = Vec::new();
    {
        let mut own = this.borrow_mut();
        if own.closing {
            return Ok(());
        }
        own.session.close(&mut last);
        own.closing = true;
    }
    say(this, &last)?;
    ask(this, "close", ())?;
    Ok(())
}
