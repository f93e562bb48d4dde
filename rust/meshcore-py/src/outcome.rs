//! How a request ended, as layers are told it.

use meshcore_core::exchange::{self, RequestTicket};
use pyo3::prelude::*;

/// What the access log says of the end of a request.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Outcome {
    outcome: Option<exchange::Outcome>,
    #[pyo3(get)]
    status: u16,
    #[pyo3(get)]
    grpc_status: Option<u8>,
    #[pyo3(get)]
    endpoint: Option<String>,
    #[pyo3(get)]
    attempts: u8,
    took_ns: u64,
}

impl Outcome {
    pub(crate) fn of(ticket: &RequestTicket) -> Self {
        let endpoint = ticket.endpoint_address();
        Self {
            outcome: ticket.outcome().cloned(),
            status: ticket.status(),
            grpc_status: ticket.grpc_status(),
            endpoint: (!endpoint.is_empty()).then(|| endpoint.to_owned()),
            attempts: ticket.attempts(),
            took_ns: ticket.took().0,
        }
    }

    fn failed(&self) -> Option<&exchange::Outcome> {
        self.outcome.as_ref().filter(|outcome| !outcome.is_answered())
    }
}

#[pymethods]
impl Outcome {
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        self.failed().map(|outcome| outcome.reason.code())
    }

    #[getter]
    fn by(&self) -> &'static str {
        self.outcome.as_ref().map_or("", |outcome| outcome.by().word())
    }

    #[getter]
    fn phase(&self) -> Option<&'static str> {
        self.failed().map(|outcome| outcome.phase.word())
    }

    #[getter]
    fn detail(&self) -> &str {
        self.outcome.as_ref().map_or("", |outcome| &outcome.detail)
    }

    #[getter]
    fn seconds(&self) -> f64 {
        self.took_ns as f64 / 1e9
    }

    fn __repr__(&self) -> String {
        let (reason, by) = (self.reason().unwrap_or("answered"), self.by());
        let (status, attempts) = (self.status, self.attempts);
        format!("<Outcome {reason} by {by}: {status}, {attempts} attempts>")
    }
}
