//! What a refusal tells the client.

use crate::error::Reason;
use crate::path::PathError;
use crate::time::Nanos;

/// Where a limiter stands, for the `RateLimit` fields of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Most tokens at once.
    pub limit: u64,
    /// Time until the bucket is full again.
    pub reset_after: Nanos,
}

/// An answer given here instead of forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why.
    pub reason: Reason,
    /// The HTTP status: the reason's own, or the route's for redirects and direct responses.
    pub status: u16,
    /// When to come back (RFC 9110 §10.2.3); `None` when waiting does not help.
    pub retry_after: Option<Nanos>,
    /// The limiter that refused.
    pub limit: Option<LimitState>,
    /// Which rule in particular, for the log.
    pub detail: &'static str,
    /// The rule for targets that was broken: the client is told.
    pub rule: Option<PathError>,
}

impl From<PathError> for Answer {
    fn from(rule: PathError) -> Self {
        Self { rule: Some(rule), detail: rule.text(), ..Reason::BadRequest.into() }
    }
}

impl From<Reason> for Answer {
    fn from(reason: Reason) -> Self {
        let status = reason.status();
        Self { reason, status, retry_after: None, limit: None, detail: "", rule: None }
    }
}
