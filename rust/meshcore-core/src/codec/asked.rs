//! What is known of a request that was refused before it was one: without it a line of the log says
//! that a request was refused, and not which one.

use memchr::memchr;

use super::field::is_token_byte;
use super::target::{self, Allowed, Target};
use crate::head::{RequestHead, Version};

/// Bytes that are kept of the path and of the query: more than is ever logged, and few enough for
/// a client that sends much that is refused.
const TARGET: usize = 2048;
/// Of the host, which has 255 at most (RFC 1035 §2.3.4) and a port.
const HOST: usize = 512;
/// Of the method; the longest registered one has 17.
const METHOD: usize = 64;

/// What a request that was refused asked for, as far as it was read. What is empty is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: Vec<u8>,
    /// The host; not if there are several.
    pub host: Vec<u8>,
    /// The path as it was received.
    pub path: Vec<u8>,
    /// What followed `?`.
    pub query: Option<Vec<u8>>,
    /// `1.0`, `1.1` or `2`.
    pub protocol: &'static str,
    /// Bytes that came of its head; over HTTP/2, of its field list (RFC 9113 §6.5.2).
    pub head_bytes: usize,
}

impl Asked {
    /// What the head says that was refused for what came behind it.
    #[must_use]
    pub fn of_head(head: &RequestHead) -> Self {
        Self {
            method: cut(head.slice(head.method), METHOD),
            host: cut(head.slice(head.host), HOST),
            path: cut(head.slice(head.path), TARGET),
            query: head.query.map(|query| cut(head.slice(query), TARGET)),
            protocol: word(head.version),
            head_bytes: 0,
        }
    }

    /// What `read` says, the beginning of a head over HTTP/1.1 or all of it. O(bytes).
    pub(super) fn of_bytes(read: &[u8]) -> Self {
        let start = read.iter().take_while(|&&b| matches!(b, b'\r' | b'\n')).count();
        let src = &read[start..];
        let (line, fields) = match memchr(b'\n', src) {
            Some(end) => (without_cr(&src[..end]), &src[end + 1..]),
            None => (src, &src[src.len()..]),
        };
        let (field_bytes, host) = host_among(fields);
        let head_bytes = src.len() - fields.len() + field_bytes;
        let mut asked = Self { head_bytes, ..Self::default() };
        let Some(space) = memchr(b' ', line) else { return asked };
        let (method, rest) = (&line[..space], &line[space + 1..]);
        if method.is_empty() || !method.iter().all(|b| is_token_byte(*b)) {
            return asked; // no HTTP: who knows what it says
        }
        let (target, protocol) = match rest.iter().rposition(|b| *b == b' ') {
            Some(at) => (&rest[..at], protocol(&rest[at + 1..])),
            None => (rest, ""),
        };
        asked.method = cut(method, METHOD);
        asked.protocol = protocol;
        asked.host = cut(host, HOST);
        asked.take_target(method, target);
        asked
    }

    /// What a field list over HTTP/2 says.
    pub(super) fn of_list(method: &[u8], host: &[u8], target: &[u8], head_bytes: usize) -> Self {
        let (method, host) = (cut(method, METHOD), cut(host, HOST));
        let mut asked = Self { method, host, protocol: "2", head_bytes, ..Self::default() };
        asked.take_path(target);
        asked
    }

    /// In the form that it has (RFC 9112 §3.2): an authority in it is the host.
    fn take_target(&mut self, method: &[u8], target: &[u8]) {
        let any = Allowed { connect: true, trace: true };
        match target::split(method, target, any) {
            Ok(Target::Absolute { named, path, .. }) => {
                self.host = cut(&target[named.authority], HOST);
                self.take_path(&target[path.start..]);
            }
            Ok(Target::Authority) => self.host = cut(target, HOST),
            _ => self.take_path(target),
        }
    }

    fn take_path(&mut self, target: &[u8]) {
        let (path, query) = match memchr(b'?', target) {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        };
        self.path = cut(path, TARGET);
        self.query = query.map(|query| cut(query, TARGET));
    }
}

fn cut(bytes: &[u8], most: usize) -> Vec<u8> {
    bytes[..bytes.len().min(most)].to_vec()
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

const fn word(version: Version) -> &'static str {
    match version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2",
    }
}

fn protocol(text: &[u8]) -> &'static str {
    match text {
        b"HTTP/1.0" => word(Version::Http10),
        b"HTTP/1.1" => word(Version::Http11),
        _ => "",
    }
}

/// How many bytes of fields there are, with the empty line that ends them, and the host that whole
/// lines of them name: none if they name two.
fn host_among(fields: &[u8]) -> (usize, &[u8]) {
    let (mut at, mut host): (usize, Option<&[u8]>) = (0, None);
    let mut several = false;
    while let Some(end) = memchr(b'\n', &fields[at..]) {
        let line = without_cr(&fields[at..at + end]);
        at += end + 1;
        if line.is_empty() {
            break;
        }
        let Some(colon) = memchr(b':', line) else { continue };
        if line[..colon].eq_ignore_ascii_case(b"host") {
            let value = line[colon + 1..].trim_ascii();
            several |= host.is_some_and(|other| other != value);
            host = Some(value);
        }
    }
    let ended = fields[..at].ends_with(b"\n\r\n") || fields[..at] == *b"\r\n";
    let size = if ended { at } else { fields.len() };
    (size, host.filter(|_| !several).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method, host, target, protocol and length.
    fn told(read: &str) -> (String, String, String, &'static str, usize) {
        let asked = Asked::of_bytes(read.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let query = asked.query.as_deref().map(|query| format!("?{}", text(query)));
        let target = text(&asked.path) + &query.unwrap_or_default();
        (text(&asked.method), text(&asked.host), target, asked.protocol, asked.head_bytes)
    }

    #[test]
    fn what_was_read_and_no_more() {
        for (read, method, host, target, protocol, bytes) in [
            ("", "", "", "", "", 0),
            ("GE", "", "", "", "", 2),
            ("GET ", "GET", "", "", "", 4),
            ("GET /a?b", "GET", "", "/a?b", "", 8),
            ("\r\nGET /a HTTP/1.0\r\n", "GET", "", "/a", "1.0", 17),
            ("GET /a HTTP/1.1\r\nhos", "GET", "", "/a", "1.1", 20),
            ("GET /a HTTP/1.1\r\nhost: b", "GET", "", "/a", "1.1", 24),
            ("GET /a HTTP/1.1\r\nHOST: \tb:1 \r\n\r\nbody", "GET", "b:1", "/a", "1.1", 32),
            ("GET /a HTTP/1.1\nhost:b\n\nx", "GET", "b", "/a", "1.1", 25),
            ("GET /a HTTP/1.1\r\nhost: b\r\nhost: c\r\n\r\n", "GET", "", "/a", "1.1", 37),
            ("GET /a b HTTP/1.1\r\nhost: b\r\n\r\n", "GET", "b", "/a b", "1.1", 30),
            ("GET http://b:1/a?x HTTP/1.1\r\nhost: c\r\n\r\n", "GET", "b:1", "/a?x", "1.1", 40),
            ("CONNECT b:1 HTTP/1.1\r\n\r\n", "CONNECT", "b:1", "", "1.1", 24),
            ("OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS", "", "*", "1.1", 22),
            ("GET /a HTTP/3.0\r\n\r\n", "GET", "", "/a", "", 19),
            ("\x16\x03\x01 /a HTTP/1.1\r\n\r\n", "", "", "", "", 19),
        ] {
            let expected = (method.into(), host.into(), target.into(), protocol, bytes);
            assert_eq!(told(read), expected, "{read:?}");
        }
    }

    #[test]
    fn much_is_kept_in_part() {
        let long = "x".repeat(100_000);
        let asked = Asked::of_bytes(format!("{long} /{long}?{long}").as_bytes());
        assert_eq!((asked.method.len(), asked.path.len()), (METHOD, TARGET));
        assert_eq!(asked.query.map(|query| query.len()), Some(TARGET));
        assert_eq!(asked.head_bytes, 300_003);
    }
}
