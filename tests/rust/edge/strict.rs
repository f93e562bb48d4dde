//! A peer that takes nothing but what the RFCs say, read by hand: it panics at the first byte that
//! could mean two things to somebody else.

use std::fmt::{self, Debug, Formatter};

/// A field as it came.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// A message as it came, framing taken away.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The start line, or the pseudo-fields joined by spaces.
    pub(crate) line: Vec<u8>,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Field>,
    /// Its end came.
    pub(crate) whole: bool,
}

impl Message {
    /// The values of a field.
    pub(crate) fn all(&self, name: &[u8]) -> Vec<&[u8]> {
        values(&self.fields, name)
    }
}

impl Debug for Message {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line.escape_ascii())?;
        for (name, value) in self.fields.iter().chain(&self.trailers) {
            writeln!(f, "{}: {}", name.escape_ascii(), value.escape_ascii())?;
        }
        write!(f, "{} (whole: {})", self.body.escape_ascii(), self.whole)
    }
}

fn values<'a>(fields: &'a [Field], name: &[u8]) -> Vec<&'a [u8]> {
    fields.iter().filter(|(n, _)| n == name).map(|(_, v)| &v[..]).collect()
}

/// What a body's end is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
    /// Responses only: the end of the connection.
    Close,
}

/// How names of fields are spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// In lower case, by our own rule.
    Lower,
    /// As a client wrote them (`preserve_case`): the endpoint knows one spelling of what frames a
    /// message or steers its connection, and another would mean nothing to it.
    AsWritten,
}

/// What an endpoint of [`Case::AsWritten`] reads.
const KNOWN: [&[u8]; 9] = [
    b"Host",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Connection",
    b"Upgrade",
    b"TE",
    b"Trailer",
    b"Expect",
    b"Keep-Alive",
];

/// The next request of a connection, and what is behind it (RFC 9112).
pub(crate) fn request(bytes: &[u8], case: Case) -> (Message, &[u8]) {
    let (mut message, rest) = head(bytes, case);
    assert_eq!(message.all(b"host").len(), 1, "{message:?}");
    let framing = match framing(&message.fields) {
        Framing::Close => Framing::None, // RFC 9112 §6.3: a request without a length has no body
        other => other,
    };
    if message.line.starts_with(b"TRACE ") || message.line.starts_with(b"CONNECT ") {
        // RFC 9110 §9.3.6, §9.3.8: some read none here, whatever is announced.
        assert_eq!(framing, Framing::None, "{message:?}");
    }
    let rest = body(&mut message, framing, case, rest, false);
    (message, rest)
}

/// The responses to one request: interim ones and the final one (RFC 9112 §6.3). `closed`: the
/// connection ended behind the bytes.
pub(crate) fn responses(
    mut bytes: &[u8],
    to_head: bool,
    to_connect: bool,
    closed: bool,
) -> (Vec<Message>, &[u8]) {
    let mut all = Vec::new();
    loop {
        let (mut message, rest) = head(bytes, Case::Lower);
        let line = &message.line;
        assert!(line.starts_with(b"HTTP/1.1 ") && line.get(12) == Some(&b' '), "{message:?}");
        let status = &line[9..12];
        assert!(status.iter().all(u8::is_ascii_digit), "{message:?}");
        let bare = matches!(status, [b'1', ..] | b"204");
        if bare || (to_connect && status[0] == b'2') {
            // RFC 9112 §6.1, RFC 9110 §8.6.
            let length = message.all(b"content-length").len();
            assert_eq!(length + message.all(b"transfer-encoding").len(), 0, "{message:?}");
        }
        let interim = status[0] == b'1' && status != b"101";
        let framing = match framing(&message.fields) {
            _ if interim || to_head || bare || status == b"304" => Framing::None,
            _ if to_connect && status[0] == b'2' => Framing::None,
            other => other,
        };
        let rest = body(&mut message, framing, Case::Lower, rest, closed);
        all.push(message);
        if !interim {
            return (all, rest);
        }
        bytes = rest;
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    let place = bytes.windows(at.len()).position(|w| w == at);
    let Some(place) = place else { panic!("no {at:?} in {:?}", String::from_utf8_lossy(bytes)) };
    (&bytes[..place], &bytes[place + at.len()..])
}

fn head(bytes: &[u8], case: Case) -> (Message, &[u8]) {
    let (block, rest) = split(bytes, b"\r\n\r\n");
    let block = [block, b"\r\n"].concat();
    let (line, lines) = split(&block, b"\r\n");
    assert!(line.iter().all(|b| matches!(b, 0x20..=0x7e)), "{:?}", line.escape_ascii());
    (Message { line: line.to_vec(), fields: fields(lines, case), ..Message::default() }, rest)
}

fn fields(mut lines: &[u8], case: Case) -> Vec<Field> {
    let mut all = Vec::new();
    while !lines.is_empty() {
        let (line, rest) = split(lines, b"\r\n");
        let colon = line.iter().position(|b| *b == b':').expect("a colon in each line");
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let name = match case {
            Case::Lower => name.to_vec(),
            Case::AsWritten => {
                let other = |known: &&[u8]| name.eq_ignore_ascii_case(known) && name != *known;
                assert!(!KNOWN.iter().any(other), "{}", name.escape_ascii());
                name.to_ascii_lowercase()
            }
        };
        all.push((name, value.to_vec()));
        lines = rest;
    }
    check(&all);
    all
}

/// What holds of fields in either protocol (RFC 9110 §5.1, §5.5; RFC 9113 §8.2.1), names in lower
/// case.
fn check(fields: &[Field]) {
    for (name, value) in fields {
        let shown = || format!("{}: {}", name.escape_ascii(), value.escape_ascii());
        let token =
            |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(b);
        assert!(!name.is_empty() && name.iter().all(token), "{}", shown());
        let text = |b: &u8| matches!(b, b'\t' | 0x20..=0x7e | 0x80..);
        assert!(value.iter().all(text), "{}", shown());
        let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
        assert!(!blank(value.first()) && !blank(value.last()), "{}", shown());
    }
}

fn framing(fields: &[Field]) -> Framing {
    let lengths = values(fields, b"content-length");
    match (&lengths[..], &values(fields, b"transfer-encoding")[..]) {
        ([], []) => Framing::Close,
        ([], [b"chunked"]) => Framing::Chunked,
        ([length], []) => {
            assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "{fields:?}");
            Framing::Length(std::str::from_utf8(length).unwrap().parse().unwrap_or(usize::MAX))
        }
        _ => panic!("framed twice: {fields:?}"),
    }
}

fn body<'a>(
    message: &mut Message,
    framing: Framing,
    case: Case,
    bytes: &'a [u8],
    closed: bool,
) -> &'a [u8] {
    match framing {
        Framing::None => {
            message.whole = true;
            bytes
        }
        Framing::Length(length) => {
            message.whole = bytes.len() >= length;
            let (mine, rest) = bytes.split_at(length.min(bytes.len()));
            message.body = mine.to_vec();
            rest
        }
        Framing::Close => {
            message.whole = closed;
            message.body = bytes.to_vec();
            &[]
        }
        Framing::Chunked => chunks(message, case, bytes),
    }
}

fn chunks<'a>(message: &mut Message, case: Case, mut bytes: &'a [u8]) -> &'a [u8] {
    while !bytes.is_empty() {
        let (size, rest) = split(bytes, b"\r\n");
        assert!(!size.is_empty() && size.iter().all(u8::is_ascii_hexdigit), "{size:?}");
        let size = usize::from_str_radix(std::str::from_utf8(size).unwrap(), 16).unwrap();
        if size == 0 {
            let (block, rest) = match rest.strip_prefix(b"\r\n") {
                Some(rest) => (&[][..], rest),
                None => split(rest, b"\r\n\r\n"),
            };
            let block = if block.is_empty() { Vec::new() } else { [block, b"\r\n"].concat() };
            message.trailers = fields(&block, case);
            check_trailers(&message.trailers);
            message.whole = true;
            return rest;
        }
        message.body.extend_from_slice(&rest[..size]);
        bytes = rest[size..].strip_prefix(b"\r\n").expect("a line's end behind a chunk");
    }
    bytes
}

/// RFC 9110 §6.5.1: what says how a message is read or whom it is for is no trailer.
pub(crate) fn check_trailers(trailers: &[Field]) {
    check(trailers);
    let heads: [&[u8]; 7] = [
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"connection",
        b"te",
        b"trailer",
        b"authorization",
    ];
    for (name, _) in trailers {
        assert!(!heads.contains(&&name[..]) && name[0] != b':', "{}", name.escape_ascii());
    }
}

/// A head as a field list (RFC 9113 §8.2, §8.3): pseudo-fields first, each once, nothing of one
/// connection. `known`: those that may come.
pub(crate) fn list(all: &[Field], known: &[&[u8]]) -> Message {
    let pseudo = all.iter().take_while(|(name, _)| name.starts_with(b":")).count();
    let (pseudo, fields) = all.split_at(pseudo);
    let mut seen: Vec<&[u8]> = Vec::new();
    for (name, value) in pseudo {
        assert!(known.contains(&&name[..]) && !seen.contains(&&name[..]), "{all:?}");
        assert!(value.iter().all(|b| matches!(b, 0x21..=0x7e)), "{all:?}");
        seen.push(name);
    }
    check(fields);
    for (name, value) in fields {
        let of_connection: [&[u8]; 7] = [
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"transfer-encoding",
            b"upgrade",
            b"host",
            b"http2-settings",
        ];
        assert!(!of_connection.contains(&&name[..]), "{all:?}");
        assert!(name != b"te" || value == b"trailers", "{all:?}");
    }
    assert!(values(fields, b"content-length").len() <= 1, "{all:?}");
    let line: Vec<_> = pseudo.iter().map(|(_, value)| &value[..]).collect();
    Message { line: line.join(&b' '), fields: fields.to_vec(), ..Message::default() }
}
