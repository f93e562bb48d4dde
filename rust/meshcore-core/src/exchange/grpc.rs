//! What a proxy must know of gRPC: deadlines, statuses, and answers made of trailers.
//!
//! The source is the protocol's own description (gRPC over HTTP2, PROTOCOL-HTTP2.md) and, for
//! statuses read from HTTP, http-grpc-status-mapping.md.

use super::local_reply::LocalReply;
use crate::error::Reason;
use crate::head::Headers;
use crate::time::Nanos;

/// Statuses there are: 0 (OK) to 16 (UNAUTHENTICATED).
pub const STATUSES: usize = 17;
const UNKNOWN: u8 = 2;

/// The units of a `grpc-timeout`, largest first, in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'H', 3_600_000_000_000),
    (b'M', 60_000_000_000),
    (b'S', 1_000_000_000),
    (b'm', 1_000_000),
    (b'u', 1_000),
    (b'n', 1),
];

/// Reads a `grpc-timeout`: one to eight digits and a unit. `None`: it is none.
#[must_use]
pub fn parse_timeout(value: &[u8]) -> Option<Nanos> {
    let (unit, digits) = value.split_last()?;
    let (_, ns) = UNITS.iter().find(|(name, _)| name == unit)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    Some(Nanos(n.saturating_mul(*ns)))
}

/// Writes a `grpc-timeout` in the finest unit that fits eight digits, rounded down but never to
/// nothing: the service must not wait longer than we do.
#[must_use]
pub fn format_timeout(left: Nanos) -> String {
    for (unit, ns) in UNITS.iter().rev() {
        let n = left.0 / ns;
        if n < 100_000_000 {
            return format!("{}{}", n.max(1), char::from(*unit));
        }
    }
    "99999999H".to_owned()
}

/// The `grpc-status` among fields; one that is no number of the seventeen is UNKNOWN.
pub(super) fn status_of(fields: &Headers) -> Option<u8> {
    let value = fields.get(b"grpc-status")?;
    Some(std::str::from_utf8(value).map_or(UNKNOWN, number_of))
}

fn number_of(text: &str) -> u8 {
    text.parse().ok().filter(|n| usize::from(*n) < STATUSES).unwrap_or(UNKNOWN)
}

/// The status of a call that ended with these trailers: without one it is UNKNOWN to its client.
#[must_use]
pub fn final_status(trailers: Option<&Headers>) -> u8 {
    trailers.and_then(status_of).unwrap_or(UNKNOWN)
}

/// The status of a response, where it is there already: trailers-only, or of trailers that came
/// with the head; `ends`: nothing more comes.
#[must_use]
pub fn status_in(head: &Headers, trailers: Option<&Headers>, ends: bool) -> Option<u8> {
    status_of(head).or_else(|| ends.then(|| final_status(trailers)))
}

/// The status that an HTTP status without one means to a client.
const fn from_http(status: u16) -> u8 {
    match status {
        400 | 431 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => UNKNOWN,
    }
}

/// The status that an endpoint's RST_STREAM means to a client (RFC 9113 §7 for the codes).
#[must_use]
pub const fn status_of_reset(code: u32) -> u8 {
    match code {
        7 => 14, // REFUSED_STREAM: UNAVAILABLE
        8 => 1,  // CANCEL: CANCELLED
        11 => 8, // ENHANCE_YOUR_CALM: RESOURCE_EXHAUSTED
        12 => 7, // INADEQUATE_SECURITY: PERMISSION_DENIED
        _ => 13, // INTERNAL
    }
}

impl LocalReply {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The status that it is to a gRPC call.
    #[must_use]
    pub fn grpc_status(&self, reason: Reason) -> u8 {
        if let Some(own) = self.field("grpc-status") {
            return number_of(own);
        }
        match reason {
            Reason::LayerResponse | Reason::DirectResponse | Reason::Redirect => {
                from_http(self.status)
            }
            reason => reason.grpc_status(),
        }
    }

    /// The same answer to a gRPC call: 200, and all of it in the one field list (trailers-only).
    /// Its own `grpc-status` stays; else it is the reason's, or for a layer's the HTTP status's.
    #[must_use]
    pub fn for_grpc(&self, reason: Reason) -> Self {
        let get = |name: &str| self.field(name).map(str::to_owned);
        let status = get("grpc-status").unwrap_or_else(|| self.grpc_status(reason).to_string());
        let message = get("grpc-message").unwrap_or_else(|| reason.code().replace('_', " "));
        let mut fields = vec![
            ("content-type".to_owned(), "application/grpc".to_owned()),
            ("grpc-status".to_owned(), status),
            ("grpc-message".to_owned(), message),
        ];
        let drop = ["content-type", "grpc-status", "grpc-message", "location"];
        let kept = self.fields.iter().filter(|(n, _)| !drop.contains(&n.as_str()));
        fields.extend(kept.cloned());
        Self { status: 200, fields, body: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (text, ns) in [
            ("1H", Some(3_600_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("3S", Some(3_000_000_000)),
            ("250m", Some(250_000_000)),
            ("1u", Some(1_000)),
            ("99999999n", Some(99_999_999)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("1 S", None),
            ("123456789S", None),
            ("1.5S", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), ns.map(Nanos), "{text}");
        }
    }

    #[test]
    fn a_timeout_is_written_as_it_is_read_and_never_longer() {
        for ns in [1, 999, 99_999_999, 100_000_000, 1_234_567_890_123, u64::MAX / 2] {
            let text = format_timeout(Nanos(ns));
            let back = parse_timeout(text.as_bytes()).unwrap();
            assert!(back.0 <= ns && back.0 > ns / 2, "{ns} {text}");
        }
        assert_eq!(format_timeout(Nanos(0)), "1n");
    }

    #[test]
    fn statuses() {
        let of = |value: &str| {
            let mut fields = Headers::default();
            fields.push(b"grpc-status", value.as_bytes());
            status_of(&fields)
        };
        for (text, status) in [("0", 0), ("16", 16), ("17", 2), ("-1", 2), ("x", 2), ("", 2)] {
            assert_eq!(of(text), Some(status), "{text}");
        }
        assert_eq!(status_of(&Headers::default()), None);
    }

    #[test]
    fn a_local_answer_is_trailers_only() {
        let reply = LocalReply::new(&Reason::RateLimited.into(), None, None);
        let grpc = reply.for_grpc(Reason::RateLimited);
        let get = |n: &str| grpc.fields.iter().find(|(k, _)| k == n).map(|(_, v)| v.as_str());
        assert_eq!((grpc.status, grpc.body.len()), (200, 0));
        assert_eq!(get("grpc-status"), Some("8"));
        assert_eq!(get("grpc-message"), Some("rate limited"));
        assert_eq!(get("content-type"), Some("application/grpc"));
        assert_eq!(get("x-mesh-reason"), Some("rate_limited"));
        let layer = LocalReply { status: 403, fields: Vec::new(), body: b"no".to_vec() };
        let grpc = layer.for_grpc(Reason::LayerResponse);
        assert_eq!(grpc.fields[1], ("grpc-status".to_owned(), "7".to_owned()));
    }

    #[test]
    fn the_table_says_what_an_answer_of_its_status_is() {
        for reason in [Reason::Redirect, Reason::DirectResponse, Reason::LayerResponse] {
            let reply =
                LocalReply { status: reason.status(), fields: Vec::new(), body: Vec::new() };
            assert_eq!(reply.grpc_status(reason), reason.grpc_status(), "{reason:?}");
        }
    }
}
