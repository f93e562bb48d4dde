//! One spelling for each path, before anything is decided by it.
//!
//! A rule on `/admin` is worth nothing if the service behind us reads `/x/../admin`,
//! `/%61dmin` or `//admin` as the same place (CVE-2019-9901, CVE-2021-29492). So a path is
//! normalised once: escaped *unreserved* characters are decoded once, the hex digits of the other
//! escapes are written in upper case (RFC 3986 §6.2.2), dot segments are resolved (§5.2.4). The
//! result is what is matched and what is forwarded; matching alone also sees repeated slashes as
//! one. Where services disagree about what a path means, it is refused, unless the listener's
//! [`PathRules`] let it pass; what passes is escaped, so that the next reader sees data.
//!
//! Nearly every path is normal already; that costs one scan and no copy.

use std::fmt;

/// What a listener lets pass although services disagree about its meaning. Nothing, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathRules {
    /// `%2F` stays in its segment.
    pub encoded_slash: bool,
    /// `\` (written `%5C`) and `%5C` stay in their segment.
    pub backslash: bool,
    /// `..` after an empty segment removes that empty segment (RFC 3986 §5.2.4).
    pub empty_dot_dot: bool,
    /// `..;x` and `.;x` are ordinary segments.
    pub dot_params: bool,
    /// A raw `#` is data (written `%23`).
    pub fragment: bool,
    /// `%00` stays.
    pub encoded_nul: bool,
    /// `%` without two hex digits is data (written `%25`).
    pub bad_escape: bool,
    /// Space and bytes above 127 are escaped.
    pub raw_bytes: bool,
}

/// What [`normalize`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// The normal path was appended to `out`; otherwise the raw bytes are normal and `out` is as
    /// it was.
    pub changed: bool,
    /// The normal path has repeated slashes: matching needs [`merge_slashes`].
    pub repeated_slashes: bool,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathError {
    /// It does not start with `/`.
    NotAbsolute,
    /// A control character, or a space, `?` or byte above 127 where none may be.
    BadByte,
    /// `%` without two hex digits.
    BadEscape,
    /// `%00`.
    EncodedNul,
    /// `%2F`.
    EncodedSlash,
    /// `\` or `%5C`.
    Backslash,
    /// `#`.
    Fragment,
    /// `..` after an empty segment: what it removes depends on whether slashes are merged first.
    EmptyDotDot,
    /// `..;x` or `.;x`: a dot segment to servers that cut path parameters off first.
    DotParams,
}

impl PathError {
    /// A short text, lower case.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path does not start with /",
            Self::BadByte => "byte not allowed in a path",
            Self::BadEscape => "% without two hex digits in path",
            Self::EncodedNul => "%00 in path",
            Self::EncodedSlash => "encoded slash in path",
            Self::Backslash => "backslash in path",
            Self::Fragment => "# in path",
            Self::EmptyDotDot => ".. after an empty segment in path",
            Self::DotParams => "dot segment with parameters in path",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for PathError {}

/// Normalises `raw`, the path of a request target without `?` and the query.
///
/// Appends the normal path to `out` only if it differs from `raw`. The empty path (absolute-form
/// without one) becomes `/`. Normalising a normal path changes nothing. O(bytes); the result is
/// no longer than `raw`, but for the escapes that `rules` ask for (three bytes for one).
///
/// # Errors
/// [`PathError`]; `out` is then as it was.
#[inline]
pub fn normalize(
    raw: &[u8],
    rules: &PathRules,
    out: &mut Vec<u8>,
) -> Result<Normalized, PathError> {
    if let Some(repeated_slashes) = scan(raw) {
        return Ok(Normalized { changed: false, repeated_slashes });
    }
    let start = out.len();
    match rebuild(raw, rules, out) {
        Ok(()) => {
            let repeated_slashes = out[start..].windows(2).any(|w| w == b"//");
            let changed = out[start..] != *raw;
            if !changed {
                out.truncate(start);
            }
            Ok(Normalized { changed, repeated_slashes })
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Appends `path` with every run of slashes as one; says whether there was a run.
///
/// If there was none, `out` is as it was and `path` is what matching sees. O(bytes).
pub fn merge_slashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = path.windows(2).position(|w| w == b"//") else { return false };
    out.extend_from_slice(&path[..=first]);
    let mut before = b'/';
    for &byte in &path[first + 1..] {
        if byte != b'/' || before != b'/' {
            out.push(byte);
        }
        before = byte;
    }
    true
}

const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const SPECIAL: u8 = 2;

/// What the scan does with each byte: visible ASCII is plain but for the bytes with a rule.
static CLASS: [u8; 256] = {
    let mut class = [SPECIAL; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        class[byte] = match byte as u8 {
            b'/' => SLASH,
            b'%' | b'\\' | b'#' | b'?' => SPECIAL,
            _ => PLAIN,
        };
        byte += 1;
    }
    class
};

/// `Some(has repeated slashes)` if `raw` is normal beyond doubt.
#[inline]
fn scan(raw: &[u8]) -> Option<bool> {
    if raw.first() != Some(&b'/') {
        return None;
    }
    let mut repeated = false;
    for (i, &byte) in raw.iter().enumerate() {
        match CLASS[byte as usize] {
            PLAIN => {}
            SLASH => match raw.get(i + 1) {
                Some(b'/') => repeated = true,
                Some(b'.') if is_dot_like(&raw[i + 1..]) => return None,
                _ => {}
            },
            _ => return None,
        }
    }
    Some(repeated)
}

/// Whether a segment that starts with `.` is, or could be read as, a dot segment.
fn is_dot_like(rest: &[u8]) -> bool {
    let after = rest.strip_prefix(b"..").or_else(|| rest.strip_prefix(b".")).unwrap_or(rest);
    matches!(after.first(), None | Some(b'/' | b';' | b'%'))
}

/// Appends the normal form of `raw` to `out`.
fn rebuild(raw: &[u8], rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    let root = out.len();
    let Some((&first, mut rest)) = raw.split_first() else {
        out.push(b'/');
        return Ok(());
    };
    if first != b'/' {
        return Err(PathError::NotAbsolute);
    }
    loop {
        let end = memchr::memchr(b'/', rest);
        out.push(b'/');
        let start = out.len();
        push_segment(&rest[..end.unwrap_or(rest.len())], rules, out)?;
        if close_segment(root, start, rules, out)? && end.is_none() {
            out.push(b'/');
        }
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => return Ok(()),
        }
    }
}

/// Resolves the segment `out[start..]` if it is a dot segment; says whether it was one.
fn close_segment(
    root: usize,
    start: usize,
    rules: &PathRules,
    out: &mut Vec<u8>,
) -> Result<bool, PathError> {
    let segment = &out[start..];
    match segment {
        b"." => out.truncate(start - 1),
        b".." => {
            out.truncate(start - 1);
            // Above the root there is nothing to remove (RFC 3986 §5.2.4).
            if let Some(slash) = memchr::memrchr(b'/', &out[root..]) {
                if root + slash + 1 == out.len() && !rules.empty_dot_dot {
                    return Err(PathError::EmptyDotDot);
                }
                out.truncate(root + slash);
            }
        }
        _ => {
            let after = segment.strip_prefix(b"..").or_else(|| segment.strip_prefix(b"."));
            let params = after.is_some_and(|a| a.starts_with(b";") || a.starts_with(b"%3B"));
            if params && !rules.dot_params {
                return Err(PathError::DotParams);
            }
            return Ok(false);
        }
    }
    Ok(true)
}

/// Appends one segment, its escapes normalised.
fn push_segment(segment: &[u8], rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut bytes = segment.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'%' => match escaped(bytes.as_slice()) {
                Some(value) => {
                    bytes.nth(1);
                    push_escaped(value, rules, out)?;
                }
                None if rules.bad_escape => out.extend_from_slice(b"%25"),
                None => return Err(PathError::BadEscape),
            },
            b'\\' if !rules.backslash => return Err(PathError::Backslash),
            b'#' if !rules.fragment => return Err(PathError::Fragment),
            b'\\' | b'#' => push_escape(byte, out),
            b'?' | 0..=0x1f | 0x7f => return Err(PathError::BadByte),
            b' ' | 0x80.. if rules.raw_bytes => push_escape(byte, out),
            b' ' | 0x80.. => return Err(PathError::BadByte),
            _ => out.push(byte),
        }
    }
    Ok(())
}

fn push_escaped(value: u8, rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    match value {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(value),
        b'/' if !rules.encoded_slash => return Err(PathError::EncodedSlash),
        b'\\' if !rules.backslash => return Err(PathError::Backslash),
        0 if !rules.encoded_nul => return Err(PathError::EncodedNul),
        _ => push_escape(value, out),
    }
    Ok(())
}

/// Appends `%XX`.
pub(crate) fn push_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// The byte that the two hex digits at the start of `digits` stand for.
pub(crate) fn escaped(digits: &[u8]) -> Option<u8> {
    let hex = |at: usize| digits.get(at).and_then(|&d| char::from(d).to_digit(16));
    Some((hex(0)? << 4 | hex(1)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(raw: &str, rules: &PathRules) -> Result<String, PathError> {
        let mut out = b"kept".to_vec();
        let result = normalize(raw.as_bytes(), rules, &mut out);
        let tail = out.strip_prefix(b"kept").expect("what was there stays");
        let found = result.inspect_err(|_| assert!(tail.is_empty()))?;
        let path = if found.changed { tail } else { raw.as_bytes() };
        assert!(found.changed || tail.is_empty());
        assert_eq!(found.repeated_slashes, path.windows(2).any(|w| w == b"//"));
        Ok(String::from_utf8(path.to_vec()).unwrap())
    }

    #[test]
    fn dot_segments_and_unreserved_escapes_are_resolved() {
        for (raw, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/public/../admin", "/admin"),
            ("/a/%2e%2e/admin", "/admin"),
            ("/a/.%2E/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/%7euser/%41%2D%5f", "/~user/A-_"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/../../x", "/x"),
            ("//admin", "//admin"),
            ("/a//.", "/a//"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b%25%32%65", "/a%20b%252e"),
            ("/%252e%252e/x", "/%252e%252e/x"),
            ("/a;b=c/!$&'()*+,:@|", "/a;b=c/!$&'()*+,:@|"),
        ] {
            assert_eq!(normal(raw, &PathRules::default()).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_services_read_differently_is_refused_unless_allowed() {
        let all = PathRules {
            encoded_slash: true,
            backslash: true,
            empty_dot_dot: true,
            dot_params: true,
            fragment: true,
            encoded_nul: true,
            bad_escape: true,
            raw_bytes: true,
        };
        for (raw, error, allowed) in [
            ("/a%2Fadmin", PathError::EncodedSlash, "/a%2Fadmin"),
            ("/a%2f..%2fadmin", PathError::EncodedSlash, "/a%2F..%2Fadmin"),
            ("/a/..%5cadmin", PathError::Backslash, "/a/..%5Cadmin"),
            ("/a\\..\\admin", PathError::Backslash, "/a%5C..%5Cadmin"),
            ("/a//../admin", PathError::EmptyDotDot, "/a/admin"),
            ("//../admin", PathError::EmptyDotDot, "/admin"),
            ("/a//b/../../c", PathError::EmptyDotDot, "/a/c"),
            ("/a/..;/admin", PathError::DotParams, "/a/..;/admin"),
            ("/a/%2e.;x=1/admin", PathError::DotParams, "/a/..;x=1/admin"),
            ("/a/..%3b/admin", PathError::DotParams, "/a/..%3B/admin"),
            ("/.;/admin", PathError::DotParams, "/.;/admin"),
            ("/a#frag", PathError::Fragment, "/a%23frag"),
            ("/a%00", PathError::EncodedNul, "/a%00"),
            ("/a%", PathError::BadEscape, "/a%25"),
            ("/a%2", PathError::BadEscape, "/a%252"),
            ("/a%2%65", PathError::BadEscape, "/a%252e"),
            ("/a%+1", PathError::BadEscape, "/a%25+1"),
            ("/a b\u{e9}", PathError::BadByte, "/a%20b%C3%A9"),
        ] {
            assert_eq!(normal(raw, &PathRules::default()), Err(error), "{raw}");
            assert_eq!(normal(raw, &all).as_deref(), Ok(allowed), "{raw}");
        }
        for raw in ["/a\r\nx", "/a\tb", "/\0", "/\x7f", "/a?b"] {
            assert_eq!(normal(raw, &all), Err(PathError::BadByte), "{raw:?}");
        }
        for raw in ["*", "a/b", "http://x/"] {
            assert_eq!(normal(raw, &all), Err(PathError::NotAbsolute), "{raw}");
        }
    }

    #[test]
    fn runs_of_slashes_merge() {
        for (path, expected) in [("//", "/"), ("//a///b//", "/a/b/"), ("/a//b", "/a/b")] {
            let mut out = Vec::new();
            assert!(merge_slashes(path.as_bytes(), &mut out));
            assert_eq!(out, expected.as_bytes());
        }
        let mut out = Vec::new();
        assert!(!merge_slashes(b"/a/b/", &mut out));
        assert!(out.is_empty());
    }
}
