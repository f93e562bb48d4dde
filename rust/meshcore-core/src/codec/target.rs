//! The four forms of a request target (RFC 9112 §3.2).

use std::ops::Range;

use super::error::CodecError;
use crate::error::Reason;

/// A target's parts, as ranges in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/path?query`, the common one.
    Origin { path: Range<usize>, query: Option<Range<usize>> },
    /// `http://authority/path?query`; an empty path means `/`.
    Absolute { named: Named, path: Range<usize>, query: Option<Range<usize>> },
    /// `host:port`, for CONNECT only.
    Authority,
    /// `*`, for OPTIONS only; or `http://authority`, which means the same (§3.2.4).
    Asterisk(Option<Named>),
}

/// The authority of an absolute-form, as a range in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) authority: Range<usize>,
    /// What may be left out behind it.
    pub(super) default_port: &'static [u8],
}

/// The port that a scheme's authority need not say, with its colon (RFC 9110 §4.2).
pub(super) fn default_port(scheme: &[u8]) -> Option<&'static [u8]> {
    if scheme.eq_ignore_ascii_case(b"http") {
        Some(b":80")
    } else if scheme.eq_ignore_ascii_case(b"https") {
        Some(b":443")
    } else {
        None
    }
}

/// Which of the two methods that need a route's leave are let through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowed {
    pub(super) connect: bool,
    pub(super) trace: bool,
}

/// Splits a target by the form that its method asks for.
///
/// # Errors
/// 405 for CONNECT and TRACE unless allowed; 400 for a form that does not belong to the method.
pub(super) fn split(method: &[u8], target: &[u8], allowed: Allowed) -> Result<Target, CodecError> {
    match method {
        b"CONNECT" if !allowed.connect => return Err(refused("CONNECT is not allowed")),
        b"TRACE" if !allowed.trace => return Err(refused("TRACE is not allowed")),
        b"CONNECT" => return Ok(Target::Authority),
        _ => {}
    }
    match target {
        [b'/', ..] => {
            let (path, query) = path_and_query(target, 0);
            Ok(Target::Origin { path, query })
        }
        b"*" if method == b"OPTIONS" => Ok(Target::Asterisk(None)),
        _ => match absolute(target).ok_or(CodecError::bad("invalid target"))? {
            Target::Absolute { named, path, query: None }
                if path.is_empty() && method == b"OPTIONS" =>
            {
                Ok(Target::Asterisk(Some(named)))
            }
            other => Ok(other),
        },
    }
}

const fn refused(message: &'static str) -> CodecError {
    CodecError::new(Reason::MethodNotAllowed, message)
}

fn path_and_query(target: &[u8], from: usize) -> (Range<usize>, Option<Range<usize>>) {
    match memchr::memchr(b'?', &target[from..]) {
        Some(i) => (from..from + i, Some(from + i + 1..target.len())),
        None => (from..target.len(), None),
    }
}

/// The scheme says nothing that the connection does not know better; any but http and https is
/// not ours.
fn absolute(target: &[u8]) -> Option<Target> {
    let colon = memchr::memchr(b':', &target[..target.len().min(6)])?;
    let default_port = default_port(&target[..colon])?;
    let rest = target[colon + 1..].strip_prefix(b"//")?;
    let start = colon + 3;
    let len = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (path, query) = path_and_query(target, start + len);
    let named = Named { authority: start..start + len, default_port };
    Some(Target::Absolute { named, path, query })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Allowed = Allowed { connect: false, trace: false };

    #[test]
    fn forms() {
        let get = |target: &str| split(b"GET", target.as_bytes(), NONE);
        assert_eq!(get("/a?b?c"), Ok(Target::Origin { path: 0..2, query: Some(3..6) }));
        assert_eq!(get("/"), Ok(Target::Origin { path: 0..1, query: None }));
        let named = |authority, default_port| Named { authority, default_port };
        let http = |authority| named(authority, b":80");
        let absolute = Target::Absolute { named: http(7..10), path: 10..12, query: Some(13..13) };
        assert_eq!(get("http://a:1/p?"), Ok(absolute));
        let https = named(8..9, b":443");
        let bare = Target::Absolute { named: https, path: 9..9, query: Some(10..11) };
        assert_eq!(get("HTTPS://a?q"), Ok(bare));
        let options = |target: &str| split(b"OPTIONS", target.as_bytes(), NONE);
        assert_eq!(options("*"), Ok(Target::Asterisk(None)));
        assert_eq!(options("http://a:80"), Ok(Target::Asterisk(Some(http(7..11)))));
        let root = Target::Absolute { named: http(7..8), path: 8..9, query: None };
        assert_eq!(options("http://a/"), Ok(root));
        let asked = Target::Absolute { named: http(7..8), path: 8..8, query: Some(9..9) };
        assert_eq!(options("http://a?"), Ok(asked));
        let other = Target::Absolute { named: http(7..8), path: 8..8, query: None };
        assert_eq!(get("http://a"), Ok(other));
        let connect = Allowed { connect: true, trace: false };
        assert_eq!(split(b"CONNECT", b"a:1", connect), Ok(Target::Authority));
    }

    #[test]
    fn refusals() {
        for (method, target, status) in [
            ("GET", "*", 400),
            ("OPTIONS", "**", 400),
            ("GET", "a", 400),
            ("GET", "a:80", 400),
            ("GET", "ftp://a/", 400),
            ("GET", "http:/a", 400),
            ("GET", "http", 400),
            ("CONNECT", "a:1", 405),
            ("TRACE", "/", 405),
        ] {
            let got = split(method.as_bytes(), target.as_bytes(), NONE);
            assert_eq!(got.map_err(|e| e.reason.status()), Err(status), "{method} {target}");
        }
    }
}
