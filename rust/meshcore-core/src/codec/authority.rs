//! `host[:port]`, in the one spelling that routing and the upstream both see.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::error::CodecError;
use crate::head::without_root;

/// An authority's parts as lengths: the host is `authority[..host_len]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) host_len: usize,
    /// Whether it must be folded to lower case.
    pub(super) has_upper: bool,
}

/// Checks an authority (RFC 9110 §4.2, RFC 3986 §3.2), narrower than the grammar: no userinfo, no
/// percent-encoding or sub-delims in a name, no empty label but the root behind the last (RFC 1034
/// §3.1), no empty port, no IPv6 zone. What is left reads the same in every parser.
pub(super) fn check(authority: &[u8]) -> Result<Parts, CodecError> {
    let host_len = match authority {
        [] => return Err(CodecError::bad("empty host")),
        [b'[', ..] => bracketed(authority)?,
        [b':', ..] => return Err(CodecError::bad("port without a host")),
        _ => authority.iter().position(|&b| b == b':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_len);
    if let [b':', digits @ ..] = port {
        check_port(digits)?;
    } else if !port.is_empty() {
        return Err(CodecError::bad("bytes behind an IPv6 literal"));
    }
    let mut has_upper = false;
    if host[0] != b'[' {
        let mut begins = true;
        for &b in host {
            if b == b'.' && begins {
                return Err(CodecError::bad("empty label in the host"));
            }
            begins = b == b'.';
            has_upper |= b.is_ascii_uppercase();
            if !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')) {
                return Err(CodecError::bad("invalid host"));
            }
        }
    } else {
        has_upper = host.iter().any(u8::is_ascii_uppercase);
    }
    Ok(Parts { host_len, has_upper })
}

/// The host that an authority names, in the spelling that routes and limits see whatever a client
/// writes: in lower case, without its port and the root's dot, an IPv6 address as RFC 5952 asks. That
/// of nothing is nothing: HTTP/1.0 need not say a host.
///
/// # Errors
/// As for a request that says it.
pub fn host_of(authority: &str) -> Result<Cow<'_, str>, CodecError> {
    if authority.is_empty() {
        return Ok(Cow::Borrowed(authority));
    }
    let parts = check(authority.as_bytes())?;
    let host = &authority[..parts.host_len];
    if let Some(best) = better_ipv6(host.as_bytes()) {
        return Ok(Cow::Owned(best));
    }
    let host = &host[..without_root(host.as_bytes()).len()];
    Ok(if parts.has_upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// An IPv6 address as RFC 5952 asks, if it is written in another way.
pub(super) fn better_ipv6(host: &[u8]) -> Option<String> {
    let [b'[', inner @ .., b']'] = host else { return None };
    let ip = std::str::from_utf8(inner).ok()?.parse::<Ipv6Addr>().ok()?;
    Some(format!("[{ip}]")).filter(|best| best.as_bytes() != host)
}

/// Whether a checked authority names a port.
pub(super) fn has_port(authority: &[u8]) -> bool {
    match authority {
        [b'[', ..] => authority.last() != Some(&b']'),
        _ => authority.contains(&b':'),
    }
}

/// Whether two authorities name the same, by a scheme's default port (`:80`; empty for none): one may
/// say it and the other not (RFC 9110 §4.2.3).
pub(super) fn same(a: &[u8], b: &[u8], default_port: &[u8]) -> bool {
    let bare = |text: &'_ [u8]| text.strip_suffix(default_port).unwrap_or(text).len();
    a[..bare(a)].eq_ignore_ascii_case(&b[..bare(b)])
}

fn bracketed(authority: &[u8]) -> Result<usize, CodecError> {
    let invalid = CodecError::bad("invalid IPv6 literal");
    let close = authority.iter().position(|&b| b == b']').ok_or(invalid)?;
    std::str::from_utf8(&authority[1..close])
        .ok()
        .and_then(|text| text.parse::<Ipv6Addr>().ok())
        .map(|_| close + 1)
        .ok_or(invalid)
}

fn check_port(digits: &[u8]) -> Result<(), CodecError> {
    let valid = (1..=5).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0u32, |n, &d| n * 10 + u32::from(d - b'0')) <= 65_535;
    if valid { Ok(()) } else { Err(CodecError::bad("invalid port")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_authority() {
        for (text, host) in [
            ("a", "a"),
            ("a.b-c_d:80", "a.b-c_d"),
            ("a.b.:80", "a.b."),
            ("1.2.3.4:65535", "1.2.3.4"),
            ("[::1]", "[::1]"),
            ("[2001:DB8::1]:443", "[2001:DB8::1]"),
        ] {
            let parts = check(text.as_bytes()).unwrap();
            assert_eq!(&text[..parts.host_len], host);
            assert_eq!(parts.has_upper, text != text.to_lowercase());
        }
    }

    #[test]
    fn one_spelling_of_a_host() {
        for (text, host) in [
            ("", ""),
            ("a:80", "a"),
            ("A.B.", "a.b"),
            ("a.b.:8080", "a.b"),
            ("[::1]:80", "[::1]"),
            ("[2001:DB8:0:0::1]:443", "[2001:db8::1]"),
        ] {
            assert_eq!(host_of(text).unwrap(), host);
        }
        for text in [".", "a..", "a:", "u@a", "::1", "a b", "a:65536", "[::1", "ä"] {
            assert!(host_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_default_port_may_be_left_out() {
        let http = |a: &str, b: &str| same(a.as_bytes(), b.as_bytes(), b":80");
        for (a, b) in [("a", "a"), ("a:80", "A"), ("a", "a:80"), ("[::1]:80", "[::1]")] {
            assert!(http(a, b), "{a} {b}");
        }
        for (a, b) in [("a:443", "a"), ("a:8080", "a"), ("a:80", "a:81"), ("a:80", "b"), ("a", "")]
        {
            assert!(!http(a, b), "{a} {b}");
        }
        assert!(!same(b"a:80", b"a", b""));
    }

    #[test]
    fn what_is_not() {
        for text in [
            "",
            ":80",
            "a:",
            "a..",
            "a..:80",
            "a..b",
            ".a",
            ".",
            "..",
            ".:80",
            "a:80:90",
            "a:65536",
            "a:000080",
            "a:+1",
            "u@a",
            "u:p@a",
            "a,b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a%41",
            "a\\b",
            "[::1",
            "[::1]x",
            "[::1%25lo]",
            "[1.2.3.4]",
            "[]",
            "::1",
            "a;b",
            "\u{e9}",
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
    }
}
