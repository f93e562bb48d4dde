//! The context that goes to an endpoint.

use super::{Forms, SpanId, TraceId, w3c};
use crate::head::Headers;

/// What an endpoint is told: the span that its own is a child of.
#[derive(Clone, Copy, Debug)]
pub struct SentContext {
    /// The trace.
    pub trace: TraceId,
    /// The span of the attempt.
    pub span: SpanId,
    /// Whose child that is.
    pub parent: SpanId,
    /// Whether it is sampled.
    pub sampled: bool,
    /// Whether the rightmost seven bytes of the trace's id are random.
    pub random: bool,
    /// How it is told.
    pub forms: Forms,
    /// `tracestate` goes on as it came, its fields in one.
    pub keeps_state: bool,
}

impl SentContext {
    /// Gives each field to `field`; `received` has the state. O(bytes).
    pub fn write(&self, received: &Headers, mut field: impl FnMut(&[u8], &[u8])) {
        let sampled: &[u8] = if self.sampled { b"1" } else { b"0" };
        if self.forms.has(Forms::W3C) {
            let value = w3c::write(self.trace, self.span, self.sampled, self.random);
            field(b"traceparent", &value);
            if self.keeps_state {
                field(b"tracestate", &joined(received.get_all(b"tracestate")));
            }
        }
        if self.forms.has(Forms::B3) {
            let parts: [&[u8]; 4] =
                [&self.trace.hex(), &self.span.hex(), sampled, &self.parent.hex()];
            field(b"b3", &parts.join(&b'-'));
        }
        if self.forms.has(Forms::B3_MULTI) {
            field(b"x-b3-traceid", &self.trace.hex());
            field(b"x-b3-spanid", &self.span.hex());
            field(b"x-b3-parentspanid", &self.parent.hex());
            field(b"x-b3-sampled", sampled);
        }
        if self.forms.has(Forms::JAEGER) {
            let parts: [&[u8]; 4] =
                [&self.trace.hex(), &self.span.hex(), &self.parent.hex(), sampled];
            field(b"uber-trace-id", &parts.join(&b':'));
        }
    }
}

/// One list of several fields (RFC 9110 §5.3).
fn joined<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut all = Vec::with_capacity(128);
    for value in values.filter(|value| !value.is_empty()) {
        if !all.is_empty() {
            all.push(b',');
        }
        all.extend_from_slice(value);
    }
    all
}
