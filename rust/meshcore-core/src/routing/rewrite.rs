//! What a route writes: another path, another authority, the place that a redirect names.
//!
//! Texts are checked when the configuration is compiled, and what a request contributes is
//! escaped where it is not plain, so no output can hold a line break, a space or a control
//! character, whatever the codec let through (response splitting, CVE-2019-9900).

use std::fmt;

use super::Matched;
use crate::head::{RequestHead, Scheme};
use crate::path::{
    Oddities, PathError, PathRules, doubled, is_unreserved, normalize, push_escape, unescaped,
};

/// Why a rewrite does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteError {
    /// The new path is no path.
    Path(PathError),
    /// The new authority is empty or has a byte that none may have.
    Authority,
    /// The new scheme is neither `http` nor `https`.
    Scheme,
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => error.fmt(f),
            Self::Authority => f.write_str("not a host with an optional port"),
            Self::Scheme => f.write_str("scheme must be http or https"),
        }
    }
}

impl std::error::Error for RewriteError {}

/// Checks a `host[:port]` that replaces the request's, and writes it in lower case.
///
/// # Errors
/// [`RewriteError::Authority`].
pub fn authority(text: &str) -> Result<Box<[u8]>, RewriteError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(RewriteError::Authority);
    }
    Ok(text.to_ascii_lowercase().into_bytes().into())
}

/// What `OPTIONS *` has in place of a path (RFC 9112 §3.2.4).
const ASTERISK: &[u8] = b"*";

/// A text that replaces what a route matched of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRewrite(Box<[u8]>);

impl PathRewrite {
    /// Checks and normalises the new text, which starts with `/`; the empty text is `/`.
    ///
    /// # Errors
    /// [`RewriteError::Path`].
    pub fn new(text: &str) -> Result<Self, RewriteError> {
        normal_path(text).map(|path| Self(path.into())).map_err(RewriteError::Path)
    }

    /// Appends the new form of `path` (as sent on) to `out`.
    ///
    /// A matched prefix is replaced and the rest kept as it is spelt, with one slash between:
    /// `/v1` → `/` makes `/x` of `/v1/x` and of `/v1//x`, and `/v1` → `/v2/` makes `/v2/x` (Gateway
    /// API's table for `ReplacePrefixMatch`). A whole match is replaced as a whole, but for `*`,
    /// which is no path. O(bytes).
    pub fn apply(&self, matched: Matched, path: &[u8], out: &mut Vec<u8>) {
        if path == ASTERISK {
            return out.extend_from_slice(path);
        }
        let rest = match matched {
            Matched::Prefix(len) => &path[matched_end(path, len as usize)..],
            Matched::Whole => b"",
        };
        let rest = &rest[doubled(rest)..];
        let text = match rest {
            [] => &self.0[..],
            _ => self.0.strip_suffix(b"/").unwrap_or(&self.0),
        };
        out.extend_from_slice(text);
        out.extend_from_slice(rest);
    }
}

/// Where, in `path`, the first `len` bytes of its normal form end. What matched has no repeated
/// slashes, whatever its listener makes of them.
fn matched_end(path: &[u8], len: usize) -> usize {
    let (mut at, mut left, mut before) = (0, len, 0);
    while let Some(&byte) = path.get(at) {
        let repeated = byte == b'/' && before == b'/';
        if !repeated {
            if left == 0 {
                return at;
            }
            left -= 1;
        }
        let decoded = unescaped(&path[at..]).is_some_and(is_unreserved);
        at += if decoded { 3 } else { 1 };
        before = byte;
    }
    path.len()
}

/// Where a redirect leads; parts that are absent are the request's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    scheme: Option<Scheme>,
    authority: Option<Box<[u8]>>,
    port: Option<u16>,
    /// With its query, if it has one.
    path: Option<Box<[u8]>>,
}

impl Redirect {
    /// Checks the parts. A `path` with a `?` replaces the query too.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn new(
        scheme: Option<&str>,
        host: Option<&str>,
        path: Option<&str>,
    ) -> Result<Self, RewriteError> {
        let scheme = match scheme {
            None => None,
            Some("http") => Some(Scheme::Http),
            Some("https") => Some(Scheme::Https),
            Some(_) => return Err(RewriteError::Scheme),
        };
        let path = path.map(|text| {
            let (path, query) = text.split_once('?').unzip();
            let mut path = normal_path(path.unwrap_or(text)).map_err(RewriteError::Path)?;
            if let Some(query) = query {
                path.push(b'?');
                push_plain(query.as_bytes(), &mut path);
            }
            Ok(path.into())
        });
        let authority = host.map(authority).transpose()?;
        Ok(Self { scheme, authority, port: None, path: path.transpose()? })
    }

    /// The same to another port.
    #[must_use]
    pub fn with_port(self, port: Option<u16>) -> Self {
        Self { port, ..self }
    }

    /// Appends the value of `location` for a request to `out`. O(bytes).
    ///
    /// The request's port stays unless the scheme changes, as in the Gateway API: the port of one
    /// scheme is wrong for the other. A request without authority (HTTP/1.0) gets a path alone.
    pub fn location(&self, head: &RequestHead, out: &mut Vec<u8>) {
        let scheme = self.scheme.unwrap_or(head.scheme);
        let asked = head.slice(head.authority);
        let authority = self.authority.as_deref().unwrap_or(asked);
        // The URI that `*` stands for has no path (RFC 9112 §3.3).
        let own = head.slice(head.forward_path);
        let own = if own == ASTERISK { b"" } else { own };
        let mut path = self.path.as_deref().unwrap_or(own);
        if authority.is_empty() {
            // Two slashes would make the first segment a host.
            while path.starts_with(b"//") {
                path = &path[1..];
            }
            path = if path.is_empty() { b"/" } else { path };
        } else {
            let (name, mut port) = split_port(authority);
            if self.authority.is_none() && scheme != head.scheme {
                port = b"";
            } else if port.is_empty() && scheme == head.scheme {
                port = split_port(asked).1;
            }
            let prefix: &[u8] = if scheme == Scheme::Https { b"https://" } else { b"http://" };
            out.extend_from_slice(prefix);
            push_plain(name, out);
            match self.port {
                None => push_plain(port, out),
                Some(port) if port == default_port(scheme) => {}
                Some(port) => out.extend_from_slice(format!(":{port}").as_bytes()),
            }
        }
        push_plain(path, out);
        if let Some(query) = head.query.filter(|_| !path.contains(&b'?')) {
            out.push(b'?');
            push_plain(head.slice(query), out);
        }
    }
}

/// RFC 9110 §4.2.
const fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// A host, and its port with the colon; empty if it has none.
fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    let bracket = authority.iter().rposition(|&b| b == b']').unwrap_or(0);
    let colon = authority[bracket..].iter().position(|&b| b == b':');
    authority.split_at(colon.map_or(authority.len(), |at| bracket + at))
}

/// Appends `text`, escaping what no URI may hold (RFC 3986 §2).
fn push_plain(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            0..=b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{'..=b'}' | 0x7f.. => {
                push_escape(byte, out);
            }
            _ => out.push(byte),
        }
    }
}

/// A path that the operator wrote, normal; the empty text is `/`.
fn normal_path(text: &str) -> Result<Vec<u8>, PathError> {
    let refused = Oddities::ENCODED_BACKSLASH | Oddities::BAD_ESCAPE;
    let rules = PathRules { refused, keep_slashes: true, own: true };
    let mut out = Vec::with_capacity(text.len());
    let found = normalize(text.as_bytes(), &rules, &mut out)?;
    Ok(found.path.of(text.as_bytes(), &out).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{BodyLength, Headers, Version};

    fn rewritten(to: &str, matched: Matched, path: &str) -> String {
        let mut out = Vec::new();
        PathRewrite::new(to).unwrap().apply(matched, path.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_prefix_is_replaced_with_one_slash_between() {
        for (prefix, to, path, expected) in [
            ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
            ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
            ("/foo", "/xyz", "/foo", "/xyz"),
            ("/foo", "/xyz", "/foo/", "/xyz/"),
            ("/foo", "/xyz/", "/foo", "/xyz/"),
            ("/foo", "/", "/foo/bar", "/bar"),
            ("/foo", "", "/foo/bar", "/bar"),
            ("/foo", "/", "/foo/", "/"),
            ("/foo", "/", "/foo", "/"),
            ("", "/xyz", "/foo", "/xyz/foo"),
            ("", "/xyz", "/", "/xyz/"),
            ("/a/b", "/c", "/a///b//d", "/c/d"),
            ("/v1", "/", "/v1//evil.com", "/evil.com"),
            ("/v1", "/v2/", "/v1///x//y", "/v2/x//y"),
            ("/~u/v", "/x", "/%7eu/%76/%7e", "/x/%7e"),
            ("/caf%C3%A9", "/x", "/caf%c3%a9/%c3%a9", "/x/%c3%a9"),
            ("/a%2Fb", "/x", "/a%2fb/c%2fd", "/x/c%2fd"),
            ("/a/b", "/a b", "/a/b/d", "/a%20b/d"),
        ] {
            let matched = Matched::Prefix(prefix.len() as u32);
            assert_eq!(rewritten(to, matched, path), expected, "{prefix} -> {to}: {path}");
        }
        assert_eq!(rewritten("/new", Matched::Whole, "/old/x"), "/new");
        assert_eq!(PathRewrite::new("x"), Err(RewriteError::Path(PathError::NotAbsolute)));
        assert_eq!(PathRewrite::new("/a\r\nb"), Err(RewriteError::Path(PathError::BadByte)));
    }

    fn head(authority: &str, host: &str, target: &str) -> RequestHead {
        let mut headers = Headers::default();
        let (path, query) = target.split_once('?').unzip();
        let path = headers.append(path.unwrap_or(target).as_bytes());
        RequestHead {
            version: Version::Http11,
            method: headers.append(b"GET"),
            scheme: Scheme::Http,
            authority: headers.append(authority.as_bytes()),
            host: headers.append(host.as_bytes()),
            path,
            forward_path: path,
            raw_path: path,
            oddities: Oddities::NONE,
            query: query.map(|q| headers.append(q.as_bytes())),
            body: BodyLength::Empty,
            keep_alive: true,
            expect_continue: false,
            upgrade: None,
            vouched: false,
            via: false,
            binds: false,
            headers,
        }
    }

    fn location(redirect: &Redirect, head: &RequestHead) -> String {
        let mut out = Vec::new();
        redirect.location(head, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_replace() {
        let request = head("a.com:8080", "a.com", "/p?q=1");
        let to =
            |scheme, host, path| location(&Redirect::new(scheme, host, path).unwrap(), &request);
        assert_eq!(to(None, None, None), "http://a.com:8080/p?q=1");
        assert_eq!(to(Some("https"), None, None), "https://a.com/p?q=1");
        assert_eq!(to(Some("http"), None, None), "http://a.com:8080/p?q=1");
        assert_eq!(to(None, Some("B.com:81"), None), "http://b.com:81/p?q=1");
        assert_eq!(to(None, Some("b.com"), None), "http://b.com:8080/p?q=1");
        assert_eq!(to(Some("https"), Some("b.com"), None), "https://b.com/p?q=1");
        assert_eq!(to(Some("https"), Some("b.com:8443"), None), "https://b.com:8443/p?q=1");
        assert_eq!(to(None, None, Some("/new")), "http://a.com:8080/new?q=1");
        assert_eq!(to(None, None, Some("/new?x=2")), "http://a.com:8080/new?x=2");
        assert_eq!(to(None, None, Some("/new?")), "http://a.com:8080/new?");
        assert_eq!(Redirect::new(Some("ftp"), None, None), Err(RewriteError::Scheme));
        for host in ["", "a b", "a\r\nb", "u@a", "a/b"] {
            assert_eq!(Redirect::new(None, Some(host), None), Err(RewriteError::Authority));
        }
    }

    #[test]
    fn a_redirects_own_port() {
        let to = |scheme, host, port, authority, name| {
            let redirect = Redirect::new(scheme, host, None).unwrap().with_port(Some(port));
            location(&redirect, &head(authority, name, "/p"))
        };
        assert_eq!(to(Some("https"), None, 8443, "a.com:8080", "a.com"), "https://a.com:8443/p");
        assert_eq!(to(Some("https"), None, 443, "a.com:8080", "a.com"), "https://a.com/p");
        assert_eq!(to(None, None, 80, "a.com:8080", "a.com"), "http://a.com/p");
        assert_eq!(to(None, Some("b.com"), 81, "a.com", "a.com"), "http://b.com:81/p");
        assert_eq!(to(None, None, 81, "[::1]:80", "[::1]"), "http://[::1]:81/p");
        assert_eq!(to(None, None, 81, "[::1]", "[::1]"), "http://[::1]:81/p");
        assert_eq!(to(None, None, 81, "", ""), "/p");
    }

    #[test]
    fn an_asterisk_is_no_path() {
        let to = |scheme, path, authority| {
            let redirect = Redirect::new(scheme, None, path).unwrap();
            location(&redirect, &head(authority, authority, "*"))
        };
        assert_eq!(to(Some("https"), None, "a"), "https://a");
        assert_eq!(to(None, Some("/x"), "a"), "http://a/x");
        assert_eq!(to(None, None, ""), "/");
        for matched in [Matched::Whole, Matched::Prefix(0)] {
            assert_eq!(rewritten("/x", matched, "*"), "*");
        }
    }

    #[test]
    fn no_request_can_split_or_turn_the_location() {
        let nasty = "/a\r\nset-cookie: x?\r\n\t\0\u{e9}\\\"";
        let request = head("a\r\nb", "a\r\nb", nasty);
        let plain = location(&Redirect::default(), &request);
        assert!(plain.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'\\'), "{plain}");
        assert!(plain.starts_with("http://a%0D%0Ab/a%0D%0Aset-cookie:%20x?%0D%0A"), "{plain}");
        let nameless = head("", "", "///evil.example/x");
        assert_eq!(location(&Redirect::default(), &nameless), "/evil.example/x");
    }
}
