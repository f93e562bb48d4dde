//! Bodies that layers change: heads that say nothing of their length, and ends of them.

use meshcore_core::codec::{BodyPart, may_be_trailer};
use meshcore_core::head::{BodyLength, Headers};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::message::{Body, Part, Request, Response, field};

const LENGTH: &[u8] = b"content-length";

impl Request {
    /// Takes out what of the body came with the head. `keeps_length`: what follows is as long.
    /// `None`: it has no body.
    pub(crate) fn open(&mut self, py: Python<'_>, keeps_length: bool) -> Option<Body> {
        let head = &mut self.head;
        open(py, &mut head.body, &mut head.headers, &mut self.part, keeps_length)
    }
}

impl Response {
    /// The same of a response; that to HEAD, and a 304, say the length of a body that is not sent.
    pub(crate) fn open(
        &mut self,
        py: Python<'_>,
        request: &Request,
        keeps_length: bool,
    ) -> Option<Body> {
        let head = &mut self.head;
        if (request.is_head() || head.status == 304) && !keeps_length {
            head.headers.remove(LENGTH);
        }
        open(py, &mut head.body, &mut head.headers, &mut self.part, keeps_length)
    }
}

fn open(
    py: Python<'_>,
    length: &mut BodyLength,
    headers: &mut Headers,
    part: &mut Part,
    keeps_length: bool,
) -> Option<Body> {
    if *length == BodyLength::Empty {
        return None;
    }
    if !keeps_length {
        headers.remove(LENGTH);
        if let BodyLength::Known(_) = *length {
            *length = BodyLength::Streamed;
        }
    }
    Some(Body(std::mem::replace(part, nothing(py, BodyPart::default()))))
}

fn nothing(py: Python<'_>, body: BodyPart) -> Part {
    Part::new(&PyBytes::new(py, b""), body)
}

/// The end of a body with these trailers: what may be set as a field, and come behind a body.
pub(crate) fn ending(py: Python<'_>, trailers: &[(String, Bound<'_, PyString>)]) -> PyResult<Body> {
    let mut fields = Headers::default();
    for (name, value) in trailers {
        let (name, value) = field(name, value)?;
        if !may_be_trailer(&name) {
            let name = String::from_utf8_lossy(&name);
            return Err(PyValueError::new_err(format!("{name} may not be a trailer")));
        }
        fields.push_folded(&name, &value);
    }
    let trailers = (!fields.is_empty()).then(|| Box::new(fields));
    Ok(Body(nothing(py, BodyPart { end: true, trailers, ..BodyPart::default() })))
}
