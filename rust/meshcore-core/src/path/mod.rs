//! One spelling for each path, before anything is decided by it.
//!
//! A rule on `/admin` is worth nothing if the service behind us reads `/x/../admin`,
//! `/%61dmin` or `//admin` as the same place (CVE-2019-9901, CVE-2021-29492). So a path is
//! normalised once: escaped *unreserved* characters are decoded once, the hex digits of the other
//! escapes are written in upper case (RFC 3986 §6.2.2), dot segments are resolved (§5.2.4),
//! repeated slashes are one. The result is what routes, layers, limits and the log see. What is
//! sent on is spelt as the client spelt it, since signatures are made over that; only dot segments
//! are resolved, and slashes at its beginning are one, or a service's redirect would lead to
//! another host. Where services disagree about what a path means, it is refused, unless the
//! listener's [`PathRules`] let it pass.
//!
//! Nearly every path is normal already; that costs one scan and no copy.

mod error;
mod rebuild;

use std::ops::Range;

pub use error::{Oddities, PathError};
pub(crate) use rebuild::{is_unreserved, push_escape, unescaped};

/// What a listener makes of paths about whose meaning services disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// What may not be in one. What is not among these stays in its segment.
    pub refused: Oddities,
    /// Repeated slashes are seen where paths are matched; all but those at the beginning.
    pub keep_slashes: bool,
    /// Written by an operator, not by a client: space, `\` and bytes above 127 are escaped.
    pub own: bool,
}

impl Default for PathRules {
    /// What a listener has that says nothing else.
    fn default() -> Self {
        let refused = Oddities::ENCODED_SLASH | Oddities::ENCODED_BACKSLASH | Oddities::BAD_ESCAPE;
        Self { refused, keep_slashes: false, own: false }
    }
}

/// A spelling of a path: part of what came, or what was written behind something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// What came, from this byte on.
    Raw(usize),
    /// These bytes of the buffer that was given.
    Out(Range<usize>),
}

impl Text {
    /// The bytes, in `raw` or in the buffer.
    #[must_use]
    pub fn of<'a>(&self, raw: &'a [u8], out: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Raw(from) => &raw[*from..],
            Self::Out(range) => &out[range.clone()],
        }
    }
}

/// What [`normalize`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// What is matched: the normal form.
    pub path: Text,
    /// What is sent on: as it came, but for dot segments and slashes at the beginning.
    pub forward: Text,
    /// What was met that others refuse.
    pub seen: Oddities,
}

/// Normalises `raw`, the path of a request target without `?` and the query.
///
/// Appends to `out` what differs from `raw`. The empty path (absolute-form without one) becomes
/// `/`. Normalising a normal path changes nothing, and the normal form of what is sent on is what
/// is matched. O(bytes).
///
/// # Errors
/// [`PathError`]; `out` is then as it was.
#[inline]
pub fn normalize(
    raw: &[u8],
    rules: &PathRules,
    out: &mut Vec<u8>,
) -> Result<Normalized, PathError> {
    let start = out.len();
    let found = match scan(raw) {
        Some(seen) if seen.also_in(Oddities::REPEATED_SLASHES).is_none() => {
            Ok(Normalized { path: Text::Raw(0), forward: Text::Raw(0), seen })
        }
        Some(seen) => Ok(merge(raw, rules, seen, out)),
        None => rebuild::rebuild(raw, rules, out),
    };
    let found = found.and_then(|found| rules.refused.refuse(found.seen).map(|()| found));
    if found.is_err() {
        out.truncate(start);
    }
    found
}

/// What a query has that others refuse; it is sent on as it came. One pass.
///
/// # Errors
/// RFC 3986 §3.4 has neither `#` nor bytes above ASCII in one; or what the rules refuse.
pub fn check_query(query: &[u8], rules: &PathRules) -> Result<Oddities, PathError> {
    let mut seen = Oddities::NONE;
    for (i, &byte) in query.iter().enumerate() {
        match byte {
            b'#' => return Err(PathError::QueryFragment),
            0x80.. => return Err(PathError::QueryByte),
            b'%' if unescaped(&query[i..]).is_none() => seen |= Oddities::NOT_IN_URI,
            b'\\' => seen |= Oddities::NOT_IN_URI,
            _ if CLASS[usize::from(byte)] == LAX => seen |= Oddities::NOT_IN_URI,
            _ => {}
        }
    }
    rules.refused.refuse(seen).map(|()| seen)
}

const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const LAX: u8 = 2;
const SPECIAL: u8 = 3;

/// What the scan does with each byte: visible ASCII is plain but for the bytes with a rule.
static CLASS: [u8; 256] = {
    let mut class = [SPECIAL; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        class[byte] = match byte as u8 {
            b'/' => SLASH,
            b'%' | b'\\' | b'#' | b'?' => SPECIAL,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => LAX,
            _ => PLAIN,
        };
        byte += 1;
    }
    class
};

/// What was seen in `raw` if it is normal beyond doubt, but for repeated slashes.
#[inline]
fn scan(raw: &[u8]) -> Option<Oddities> {
    if raw.first() != Some(&b'/') {
        return None;
    }
    let mut seen = Oddities::NONE;
    for (i, &byte) in raw.iter().enumerate() {
        match CLASS[usize::from(byte)] {
            PLAIN => {}
            SLASH => match raw.get(i + 1) {
                Some(b'/') => seen |= Oddities::REPEATED_SLASHES,
                Some(b'.') if is_dot_like(&raw[i + 1..]) => return None,
                _ => {}
            },
            LAX => seen |= Oddities::NOT_IN_URI,
            _ => return None,
        }
    }
    Some(seen)
}

/// Whether a segment that starts with `.` is, or could be read as, a dot segment.
fn is_dot_like(rest: &[u8]) -> bool {
    let after = rest.strip_prefix(b"..").or_else(|| rest.strip_prefix(b".")).unwrap_or(rest);
    matches!(after.first(), None | Some(b'/' | b';' | b'%'))
}

/// A path that is normal but for repeated slashes.
fn merge(raw: &[u8], rules: &PathRules, seen: Oddities, out: &mut Vec<u8>) -> Normalized {
    let forward = Text::Raw(doubled(raw));
    let start = out.len();
    out.extend_from_slice(forward.of(raw, &[]));
    let path = if rules.keep_slashes || !merge_slashes(out, start) {
        out.truncate(start);
        forward.clone()
    } else {
        Text::Out(start..out.len())
    };
    Normalized { path, forward, seen }
}

/// How many slashes too many a path begins with.
pub(crate) fn doubled(path: &[u8]) -> usize {
    path.iter().take_while(|byte| **byte == b'/').count().saturating_sub(1)
}

/// Makes one of each run of slashes in `out[start..]`; says whether there was one.
fn merge_slashes(out: &mut Vec<u8>, start: usize) -> bool {
    let mut end = start;
    for at in start..out.len() {
        if out[at] != b'/' || end == start || out[end - 1] != b'/' {
            out[end] = out[at];
            end += 1;
        }
    }
    let merged = end < out.len();
    out.truncate(end);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the strict default refuses and can be allowed, is.
    const LAXER: PathRules = PathRules { refused: Oddities::NONE, keep_slashes: false, own: false };

    /// The path as it is matched and as it is sent on.
    fn spelt(raw: &str, rules: &PathRules) -> Result<(String, String), PathError> {
        let mut out = b"kept".to_vec();
        let result = normalize(raw.as_bytes(), rules, &mut out);
        assert!(out.starts_with(b"kept"));
        let found = result.inspect_err(|_| assert_eq!(out, b"kept"))?;
        let text = |text: &Text| String::from_utf8(text.of(raw.as_bytes(), &out).to_vec()).unwrap();
        Ok((text(&found.path), text(&found.forward)))
    }

    #[test]
    fn equivalent_paths_match_alike_and_are_sent_on_as_they_came() {
        for (raw, matched, sent) in [
            ("", "/", "/"),
            ("/", "/", "/"),
            ("/a/b", "/a/b", "/a/b"),
            ("/.well-known/x", "/.well-known/x", "/.well-known/x"),
            ("/...", "/...", "/..."),
            ("/public/../admin", "/admin", "/admin"),
            ("/a/%2e%2e/admin", "/admin", "/admin"),
            ("/a/.%2E/%61dmin", "/admin", "/%61dmin"),
            ("/%7euser/%41%2D%5f", "/~user/A-_", "/%7euser/%41%2D%5f"),
            ("/a/./b/.", "/a/b/", "/a/b/"),
            ("/a/b/..", "/a/", "/a/"),
            ("/a/..", "/", "/"),
            ("/../../x", "/x", "/x"),
            ("//admin", "/admin", "/admin"),
            ("///", "/", "/"),
            ("/a/..//admin", "/admin", "/admin"),
            ("/.//%61dmin//x", "/admin/x", "/%61dmin//x"),
            ("/a//.", "/a/", "/a//"),
            ("//a///b//", "/a/b/", "/a///b//"),
            ("/caf%c3%a9", "/caf%C3%A9", "/caf%c3%a9"),
            ("/a%20b%25%32%65", "/a%20b%252e", "/a%20b%25%32%65"),
            ("/%252e%252e/x", "/%252e%252e/x", "/%252e%252e/x"),
            ("/a;b=c/!$&'()*+,:@|[]{}^", "/a;b=c/!$&'()*+,:@|[]{}^", "/a;b=c/!$&'()*+,:@|[]{}^"),
        ] {
            let expected = Ok((matched.to_owned(), sent.to_owned()));
            assert_eq!(spelt(raw, &PathRules::default()), expected, "{raw}");
        }
    }

    #[test]
    fn slashes_that_are_kept_are_kept_behind_the_first() {
        let rules = PathRules { keep_slashes: true, ..PathRules::default() };
        for (raw, both) in
            [("//a//b", "/a//b"), ("/a//", "/a//"), ("/a/.//b", "/a//b"), ("/a/..//b", "/b")]
        {
            assert_eq!(spelt(raw, &rules), Ok((both.to_owned(), both.to_owned())), "{raw}");
        }
        let refused = Oddities::REPEATED_SLASHES;
        let rules = PathRules { refused, ..PathRules::default() };
        for raw in ["//a", "/a//b", "/a/.//b", "/a//%62"] {
            assert_eq!(spelt(raw, &rules), Err(PathError::RepeatedSlashes), "{raw}");
        }
    }

    #[test]
    fn what_services_read_differently_is_refused_unless_allowed() {
        for (raw, error, matched, sent) in [
            ("/a%2fadmin", PathError::EncodedSlash, "/a%2Fadmin", "/a%2fadmin"),
            ("/@s%2fp/../q", PathError::EncodedSlash, "/q", "/q"),
            ("/a/%5cadmin", PathError::EncodedBackslash, "/a/%5Cadmin", "/a/%5cadmin"),
            ("/a%", PathError::BadEscape, "/a%25", "/a%25"),
            ("/a%2", PathError::BadEscape, "/a%252", "/a%252"),
            ("/a%2%65", PathError::BadEscape, "/a%252e", "/a%252%65"),
            ("/a%+1", PathError::BadEscape, "/a%25+1", "/a%25+1"),
            ("/%u002e%u002e/x", PathError::BadEscape, "/%25u002e%25u002e/x", "/%25u002e%25u002e/x"),
        ] {
            assert_eq!(spelt(raw, &PathRules::default()), Err(error), "{raw}");
            let expected = Ok((matched.to_owned(), sent.to_owned()));
            assert_eq!(spelt(raw, &LAXER), expected, "{raw}");
        }
    }

    #[test]
    fn what_is_always_refused() {
        for (raw, error) in [
            ("/a%2f..%2fadmin", PathError::EncodedDots),
            ("/a%2f%2e%2E", PathError::EncodedDots),
            ("/..%2fadmin", PathError::EncodedDots),
            ("/a/.%5cadmin", PathError::EncodedDots),
            ("/a%2F..;x%2fb", PathError::EncodedDots),
            ("/a\\..\\admin", PathError::Backslash),
            ("/a//../admin", PathError::EmptyDotDot),
            ("//../admin", PathError::EmptyDotDot),
            ("/a//b/../../c", PathError::EmptyDotDot),
            ("/a/..;/admin", PathError::DotParams),
            ("/a/%2e.;x=1/admin", PathError::DotParams),
            ("/a/..%3b/admin", PathError::DotParams),
            ("/.;/admin", PathError::DotParams),
            ("/a#frag", PathError::Fragment),
            ("/a%00", PathError::EncodedNul),
            ("/a b", PathError::BadByte),
            ("/\u{e9}", PathError::BadByte),
            ("/a\r\nx", PathError::BadByte),
            ("/a\tb", PathError::BadByte),
            ("/\0", PathError::BadByte),
            ("/\x7f", PathError::BadByte),
            ("/a?b", PathError::BadByte),
            ("*", PathError::NotAbsolute),
            ("a/b", PathError::NotAbsolute),
            ("http://x/", PathError::NotAbsolute),
        ] {
            let keeping = PathRules { keep_slashes: true, ..LAXER };
            for rules in [PathRules::default(), LAXER, keeping] {
                assert_eq!(spelt(raw, &rules), Err(error), "{raw:?}");
            }
        }
    }

    #[test]
    fn what_operators_write_is_escaped() {
        let own = PathRules { own: true, ..LAXER };
        let written = spelt("/a b\\\u{e9}", &own).map(|(matched, _)| matched);
        assert_eq!(written.as_deref(), Ok("/a%20b%5C%C3%A9"));
    }

    #[test]
    fn the_letter_of_rfc_3986() {
        let strict = PathRules { refused: Oddities::NOT_IN_URI, ..LAXER };
        for byte in b"\"<>[]^`{|}" {
            let text = format!("/a{}", char::from(*byte));
            assert!(spelt(&text, &LAXER).is_ok());
            assert_eq!(spelt(&text, &strict), Err(PathError::NotInUri), "{text}");
            let rebuilt = format!("/./{text}");
            assert_eq!(spelt(&rebuilt, &strict), Err(PathError::NotInUri), "{rebuilt}");
            assert_eq!(check_query(text.as_bytes(), &LAXER), Ok(Oddities::NOT_IN_URI));
            assert_eq!(check_query(text.as_bytes(), &strict), Err(PathError::NotInUri));
        }
        for query in ["\\", "100%", "%2x"] {
            assert_eq!(check_query(query.as_bytes(), &LAXER), Ok(Oddities::NOT_IN_URI));
            assert_eq!(check_query(query.as_bytes(), &strict), Err(PathError::NotInUri));
        }
        let allowed = "a-._~!$&'()*+,;=:@/?%2F%5c";
        assert_eq!(check_query(allowed.as_bytes(), &strict), Ok(Oddities::NONE));
        assert_eq!(check_query(b"a#b", &LAXER), Err(PathError::QueryFragment));
        assert_eq!(check_query("\u{e9}".as_bytes(), &LAXER), Err(PathError::QueryByte));
    }
}
