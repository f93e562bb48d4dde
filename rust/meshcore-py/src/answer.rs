//! Answers given here, as Python hands them around.

use std::borrow::Cow;

use meshcore_core::codec::{BodyPart, LocalAnswer, valid_field_name, valid_field_value};
use meshcore_core::error::Reason;
use meshcore_core::exchange::{Answer as CoreAnswer, LocalReply};
use meshcore_core::head::{Headers, Version};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use crate::errors::CodecError;
use crate::message::{Body, Part, Request};
use crate::numbers;

/// A response made here instead of by an endpoint.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Answer {
    reason: Reason,
    /// What in particular, for the log.
    detail: Cow<'static, str>,
    pub(crate) reply: LocalReply,
}

impl Answer {
    pub(crate) fn local(reason: Reason, detail: &'static str, reply: LocalReply) -> Self {
        Self { reason, reply, detail: Cow::Borrowed(detail) }
    }

    /// The answer to a message that may not pass.
    pub(crate) fn to_fault(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..Self::of(reason) }
    }

    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }

    /// Runs `send` with the answer as codecs take it: made of trailers for a gRPC call.
    pub(crate) fn with_local<T>(
        &self,
        request: Option<&Request>,
        keep_alive: bool,
        send: impl FnOnce(&LocalAnswer<'_>) -> T,
    ) -> T {
        let grpc = request.filter(|r| r.head.is_grpc()).map(|_| self.reply.for_grpc(self.reason));
        let reply = grpc.as_ref().unwrap_or(&self.reply);
        let fields: Vec<(&[u8], &[u8])> =
            reply.fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        send(&LocalAnswer {
            status: reply.status,
            headers: &fields,
            body: &reply.body,
            version: request.map_or(Version::Http11, |r| r.head.version),
            head_request: request.is_some_and(Request::is_head),
            keep_alive,
        })
    }

    pub(crate) fn of(reason: Reason) -> Self {
        Self::local(reason, "", LocalReply::new(&CoreAnswer::from(reason), None, None))
    }
}

#[pymethods]
impl Answer {
    #[new]
    #[pyo3(signature = (status, headers=Vec::new(), body=Vec::new()))]
    fn new(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> PyResult<Self> {
        if !(200..=599).contains(&status) {
            return Err(PyValueError::new_err(format!("status {status} is not 200 to 599")));
        }
        for (name, value) in &headers {
            if !valid_field_name(name.as_bytes()) || !valid_field_value(value.as_bytes()) {
                return Err(PyValueError::new_err(format!("invalid field {name:?}")));
            }
        }
        let fields = headers.into_iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
        Ok(Self::local(Reason::LayerResponse, "", LocalReply { status, fields, body }))
    }

    #[getter]
    fn status(&self) -> u16 {
        self.reply.status
    }

    #[getter(reason)]
    fn code(&self) -> &'static str {
        self.reason.code()
    }

    #[getter]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The end of a gRPC response under way.
    fn trailers(&self, py: Python<'_>) -> Body {
        let mut trailers = Headers::default();
        for (name, value) in self.reply.for_grpc(self.reason).fields {
            if name != "content-type" {
                trailers.push(name.as_bytes(), value.as_bytes());
            }
        }
        let body =
            BodyPart { end: true, trailers: Some(Box::new(trailers)), ..BodyPart::default() };
        Body(Part::new(&PyBytes::new(py, b""), body))
    }

    /// The number of its reason.
    #[getter]
    fn number(&self) -> u8 {
        self.reason as u8
    }

    #[classmethod]
    fn for_codec_error(_: &Bound<'_, PyType>, error: &Bound<'_, CodecError>) -> PyResult<Self> {
        let args = error.getattr("args")?;
        let number: usize = args.get_item(1)?.extract()?;
        let detail: String = args.get_item(2)?.extract()?;
        Ok(Self::to_fault(numbers::reason(number), detail))
    }

    #[classmethod]
    #[pyo3(signature = (reason, detail=""))]
    fn for_reason(_: &Bound<'_, PyType>, reason: usize, detail: &str) -> PyResult<Self> {
        match Reason::ALL.get(reason) {
            Some(known) => Ok(Self::to_fault(*known, detail.to_owned())),
            None => Err(PyValueError::new_err(format!("no reason {reason}"))),
        }
    }
}
