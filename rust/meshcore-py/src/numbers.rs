//! The numbers that Python and the core agree on, as `enum.IntEnum` classes of this module.

use meshcore_core::error::{By, Reason};
use meshcore_core::exchange::{self, Phase};
use pyo3::prelude::*;

/// An enumeration whose numbers Python sees: its variants in order.
macro_rules! numbered {
    ($($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $variant:ident),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum $name { $($(#[$what])* $variant),+ }

        impl $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($variant)),+];
        }
    )+};
}

numbered! {
    /// What the walk of a request says.
    Verdict {
        Forward,
        Answer,
        Pause,
        Await,
        /// Forward, over connections that are the client's alone.
        Bind,
    }
    /// What follows an attempt that failed.
    Next {
        /// Another one now.
        Again,
        /// Another one after a pause.
        Later,
        /// The same on a new connection.
        Fresh,
        Answer,
    }
    /// What follows a response's head.
    Passed {
        Relay,
        Tunnel,
        Again,
        Later,
        /// The endpoint agreed to a tunnel inside of the request.
        TooEarly,
    }
    /// What is to be done with a piece of a request's body.
    Keep { Yes, Full, No }
    /// What a passed deadline means.
    Due { NotYet, Over, Attempt }
    /// What an HTTP/2 connection tells beside messages.
    Signal {
        /// The stream takes more.
        Writable,
        /// All of a stream that was left, or of a client's side of a tunnel, is sent.
        Sent,
        /// The peer takes no more streams.
        GoingAway,
        Pong,
        /// The client answered the PING with which a drain begins.
        Heard,
        Closed,
        /// The stream is over without its message.
        Reset,
        /// As `Reset`; nothing of it was processed.
        Refused,
        /// As `Reset`; what the peer sent made no sense.
        Malformed,
    }
}

impl From<exchange::Keep> for Keep {
    fn from(keep: exchange::Keep) -> Self {
        match keep {
            exchange::Keep::Yes => Self::Yes,
            exchange::Keep::Full => Self::Full,
            exchange::Keep::No => Self::No,
        }
    }
}

/// The error codes of HTTP/2 in the order of their numbers (RFC 9113 §7).
const ERROR_CODES: [&str; 14] = [
    "no_error",
    "protocol_error",
    "internal_error",
    "flow_control_error",
    "settings_timeout",
    "stream_closed",
    "frame_size_error",
    "refused_stream",
    "cancel",
    "compression_error",
    "connect_error",
    "enhance_your_calm",
    "inadequate_security",
    "http_1_1_required",
];

/// `UpstreamConnect` as Python writes it: `UPSTREAM_CONNECT`.
fn constant(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

fn export<'a>(
    m: &Bound<'_, PyModule>,
    class: &str,
    names: impl Iterator<Item = &'a str>,
) -> PyResult<()> {
    let members: Vec<(String, usize)> = names.map(constant).zip(0..).collect();
    let made = m.py().import("enum")?.getattr("IntEnum")?.call1((class, members))?;
    made.setattr("__module__", "meshcore._core")?;
    m.add(class, made)
}

/// Adds the classes to the module.
pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    export(m, "Reason", Reason::ALL.iter().map(|r| r.code()))?;
    export(m, "Phase", Phase::ALL.iter().map(|p| p.word()))?;
    export(m, "By", [By::Client, By::Endpoint, By::Proxy].iter().map(|b| b.word()))?;
    export(m, "Verdict", Verdict::NAMES.iter().copied())?;
    export(m, "Next", Next::NAMES.iter().copied())?;
    export(m, "Passed", Passed::NAMES.iter().copied())?;
    export(m, "Keep", Keep::NAMES.iter().copied())?;
    export(m, "Due", Due::NAMES.iter().copied())?;
    export(m, "ErrorCode", ERROR_CODES.into_iter())?;
    export(m, "Signal", Signal::NAMES.iter().copied())
}

/// The reason of a number of Python's; ours are always known.
pub(crate) fn reason(number: usize) -> Reason {
    Reason::ALL.get(number).copied().unwrap_or(Reason::InternalError)
}

/// The phase of a number of Python's.
pub(crate) fn phase(number: usize) -> Phase {
    Phase::ALL.get(number).copied().unwrap_or_default()
}
