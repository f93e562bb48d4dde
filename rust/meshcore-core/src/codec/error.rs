//! Why a message was refused.

use crate::error::Reason;
use crate::path::PathError;

/// A message that may not pass. The connection that it came on must be closed after the answer:
/// where the next message begins is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecError {
    /// The stable reason; its status is what the client gets.
    pub reason: Reason,
    /// What is wrong, in few words; for logs, may change.
    pub message: &'static str,
    /// The rule for targets that was broken: the client is told.
    pub rule: Option<PathError>,
}

impl From<PathError> for CodecError {
    fn from(rule: PathError) -> Self {
        Self { rule: Some(rule), ..Self::bad(rule.text()) }
    }
}

impl CodecError {
    pub(super) const fn new(reason: Reason, message: &'static str) -> Self {
        Self { reason, message, rule: None }
    }

    /// Malformed or ambiguous: 400.
    pub(super) const fn bad(message: &'static str) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// The same finding in a response: whatever is wrong with it, the client gets a 502. That it is
    /// larger than we take is our rule, and not the endpoint's fault.
    pub(super) const fn of_upstream(self) -> Self {
        let reason = match self.reason {
            Reason::HeadersTooLarge
            | Reason::UriTooLong
            | Reason::BodyTooLarge
            | Reason::ResponseTooLarge => Reason::ResponseTooLarge,
            _ => Reason::UpstreamProtocol,
        };
        Self::new(reason, self.message)
    }
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason.code(), self.message)
    }
}

impl std::error::Error for CodecError {}
