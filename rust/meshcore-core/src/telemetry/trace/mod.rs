//! Contexts of distributed traces: read from what came in, written into what goes out.
//!
//! Read are W3C Trace Context (`traceparent`, `tracestate`), B3 in one field or in several, and
//! Jaeger's `uber-trace-id`; the first of them that is right counts. No I/O, no random source.

mod b3;
mod jaeger;
mod sampler;
mod sent;
mod w3c;

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use super::ids::hex;
use crate::head::Headers;

pub use sampler::Ratio;
pub use sent::SentContext;

/// A trace, as all forms of contexts name it: 16 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// Of random bits.
    #[must_use]
    pub fn of(bits: u128) -> Self {
        Self(NonZeroU128::new(bits).unwrap_or(NonZeroU128::MIN))
    }

    /// Its bits.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0.get()
    }

    /// 32 hexadecimal digits, in lower case.
    #[must_use]
    pub fn hex(self) -> [u8; 32] {
        hex(self.bits())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.bits())
    }
}

/// A span of a trace: 8 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// Of random bits.
    #[must_use]
    pub fn of(bits: u64) -> Self {
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// Its bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0.get()
    }

    /// 16 hexadecimal digits, in lower case.
    #[must_use]
    pub fn hex(self) -> [u8; 16] {
        hex(u128::from(self.bits()))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.bits())
    }
}

/// Bits of hexadecimal digits in lower case, as W3C has them.
fn lower_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |bits: u128, digit| match digit {
        b'0'..=b'9' => Some(bits << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(bits << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

/// The same in either case, at least one digit and at most `most`, as B3 and Jaeger have them.
fn any_hex(digits: &[u8], most: usize) -> Option<u128> {
    if !(1..=most).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0, |bits: u128, &digit| {
        Some(bits << 4 | u128::from(char::from(digit).to_digit(16)?))
    })
}

/// Forms of contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms(u8);

impl Forms {
    /// W3C Trace Context.
    pub const W3C: Self = Self(1);
    /// B3 in one field, `b3`.
    pub const B3: Self = Self(2);
    /// B3 in several, `x-b3-traceid` and so on.
    pub const B3_MULTI: Self = Self(4);
    /// Jaeger's `uber-trace-id`.
    pub const JAEGER: Self = Self(8);

    /// A form by its name in the configuration.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "w3c" => Self::W3C,
            "b3" => Self::B3,
            "b3multi" => Self::B3_MULTI,
            "jaeger" => Self::JAEGER,
            _ => return None,
        })
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `form` is among them.
    #[must_use]
    pub fn has(self, form: Self) -> bool {
        self.0 & form.0 == form.0
    }
}

/// The span that a caller names as the parent of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether the rightmost seven bytes of the trace's id are said to be random (W3C level 2,
    /// §3.2.2.5.2).
    pub random: bool,
}

impl Caller {
    /// By ids as [`any_hex`] reads them: B3 and Jaeger say nothing of how random they are.
    fn named(trace: &[u8], span: &[u8]) -> Option<Self> {
        let trace = any_hex(trace, 32)?.try_into().ok()?;
        let span = u64::try_from(any_hex(span, 16)?).ok()?.try_into().ok()?;
        Some(Self { trace: TraceId(trace), span: SpanId(span), random: false })
    }
}

/// What a request says of its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Who called, where a context is right.
    pub caller: Option<Caller>,
    /// Whether the caller wants it sampled, where it says so. B3 may say it without a context.
    pub sampled: Option<bool>,
    /// The form that was taken.
    pub form: Forms,
    /// Whether `tracestate` belongs to the context and is right (W3C §3.3.1).
    pub keeps_state: bool,
}

/// The fields of contexts, as one pass finds them.
#[derive(Default)]
struct Found<'a> {
    parent: Option<&'a [u8]>,
    /// A second `traceparent` makes both wrong.
    parents: usize,
    has_state: bool,
    b3: Option<&'a [u8]>,
    multi: b3::Multi<'a>,
    jaeger: Option<&'a [u8]>,
}

impl Received {
    /// From a request's fields. O(fields).
    #[must_use]
    pub fn read(headers: &Headers) -> Self {
        let mut found = Found::default();
        for (name, value) in headers.iter() {
            match name {
                b"traceparent" => {
                    found.parent = Some(value);
                    found.parents += 1;
                }
                b"tracestate" => found.has_state = true,
                b"b3" => found.b3 = found.b3.or(Some(value)),
                b"uber-trace-id" => found.jaeger = found.jaeger.or(Some(value)),
                [b'x', b'-', b'b', b'3', b'-', rest @ ..] => found.multi.take(rest, value),
                _ => {}
            }
        }
        found.read(headers)
    }
}

impl Found<'_> {
    fn read(&self, headers: &Headers) -> Received {
        let w3c = self.parent.filter(|_| self.parents == 1).and_then(w3c::parse);
        if let Some((caller, sampled)) = w3c {
            return Received {
                caller: Some(caller),
                sampled: Some(sampled),
                form: Forms::W3C,
                keeps_state: self.has_state && w3c::is_state(headers.get_all(b"tracestate")),
            };
        }
        if let Some((caller, sampled)) = self.b3.and_then(b3::parse) {
            return Received { caller, sampled, form: Forms::B3, keeps_state: false };
        }
        if let Some((caller, sampled)) = self.multi.parse() {
            return Received { caller, sampled, form: Forms::B3_MULTI, keeps_state: false };
        }
        if let Some((caller, sampled)) = self.jaeger.and_then(jaeger::parse) {
            let (caller, form) = (Some(caller), Forms::JAEGER);
            return Received { caller, sampled: Some(sampled), form, keeps_state: false };
        }
        Received::default()
    }
}

/// Whether a field (lower case) is part of a context in some form: where we take part in traces,
/// what came in stops here and ours goes out.
#[must_use]
pub fn is_context(name: &[u8]) -> bool {
    match name {
        b"traceparent" | b"tracestate" | b"b3" | b"uber-trace-id" => true,
        [b'x', b'-', b'b', b'3', b'-', rest @ ..] => b3::is_part(rest),
        _ => false,
    }
}
