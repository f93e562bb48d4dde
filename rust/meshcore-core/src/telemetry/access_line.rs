//! One line of the access log.

use std::borrow::Cow;
use std::io::Write;

use super::trace::TraceId;
use crate::calendar::civil;
use crate::unseen::is_unseen;

/// What is written of a request. Text that a client or an endpoint chose is quoted.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessLine<'a> {
    /// Unix time of its end, in milliseconds.
    pub unix_ms: u64,
    /// The listener.
    pub listener: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// What its certificate calls it.
    pub identity: &'a str,
    /// What each `allow` layer has found of it, in order.
    pub allow: &'a [Cow<'a, str>],
    /// The method.
    pub method: &'a [u8],
    /// The host that was asked for.
    pub host: &'a [u8],
    /// The path as forwarded.
    pub path: &'a [u8],
    /// What followed `?`.
    pub query: Option<&'a [u8]>,
    /// `1.0`, `1.1` or `2`.
    pub protocol: &'a str,
    /// The status that the client got; 0 for none.
    pub status: u16,
    /// The gRPC status that the client got, if it was told one.
    pub grpc_status: Option<u8>,
    /// Why it ended; empty when the endpoint's answer was passed on whole.
    pub reason: &'a str,
    /// Who ended it.
    pub by: &'a str,
    /// Where it ended; empty as the reason.
    pub phase: &'a str,
    /// What in particular.
    pub detail: &'a str,
    /// The route that matched.
    pub route: &'a str,
    /// The address of the endpoint that was asked last.
    pub endpoint: &'a str,
    /// How often an endpoint was chosen.
    pub attempts: u8,
    /// From the request's head to the end of its response, in nanoseconds.
    pub took_ns: u64,
    /// `x-request-id`.
    pub request_id: &'a [u8],
    /// The trace that it is part of.
    pub trace_id: Option<TraceId>,
    /// Of a request that was refused before it was one: bytes that came of its head.
    pub head_bytes: Option<usize>,
}

/// Most bytes of a field as written. All of them come to less than 4 KiB a line (PIPE_BUF), which a
/// pipe takes at once: so lines of several workers never mix, and a client that asks for 64 KiB
/// fills no disk with it.
mod most {
    /// The longest registered method has 17.
    pub(super) const METHOD: usize = 32;
    /// RFC 1035 §2.3.4; so long are names of the configuration, too.
    pub(super) const NAME: usize = 255;
    /// Of the path, and of the query: a ninth of a target that is let in by default.
    pub(super) const TARGET: usize = 936;
    pub(super) const DETAIL: usize = 192;
    /// The most that a request id has, unless a layer sets it.
    pub(super) const REQUEST_ID: usize = 128;
    /// Of what a certificate calls its holder.
    pub(super) const IDENTITY: usize = 128;
    /// Of what `allow` layers have found, together.
    pub(super) const RULES: usize = 192;
    /// Of how many such layers: each has room for `shadow:none`.
    pub(super) const RULED: usize = 15;
    /// Of what is ours.
    pub(super) const WORD: usize = 64;
}

impl AccessLine<'_> {
    /// The line as text, or as one JSON object; with its line feed. O(bytes written).
    ///
    /// A value that is too long is cut between two characters and ends with `…`, and the names of
    /// the fields that were cut come last: a client may write `…` itself.
    #[must_use]
    pub fn to_text(&self, json: bool) -> String {
        // What is no UTF-8 was replaced when it was written.
        String::from_utf8(self.to_bytes(json)).unwrap_or_default()
    }

    /// The same as the bytes that are written.
    #[must_use]
    pub fn to_bytes(&self, json: bool) -> Vec<u8> {
        let mut line = Line { out: Vec::with_capacity(512), cut: Vec::new() };
        if json {
            self.write_json(&mut line)
        } else {
            self.write_text(&mut line)
        }
        line.out
    }

    /// Appends one JSON object and a line feed.
    fn write_json(&self, line: &mut Line) {
        line.put(b"{\"time\":\"");
        write_time(&mut line.out, self.unix_ms);
        line.put(b"\"");
        line.text("listener", self.listener.as_bytes(), most::NAME);
        line.text("client", self.client.as_bytes(), most::WORD);
        line.text("method", self.method, most::METHOD);
        line.text("host", self.host, most::NAME);
        line.put(b",\"target\":\"");
        self.write_target(line);
        line.put(b"\"");
        line.text("protocol", self.protocol.as_bytes(), most::WORD);
        line.number("status", u64::from(self.status));
        if let Some(status) = self.grpc_status {
            line.number("grpc_status", u64::from(status));
        }
        for (name, value, most) in [
            ("reason", self.reason, most::WORD),
            ("by", self.by, most::WORD),
            ("phase", self.phase, most::WORD),
            ("detail", self.detail, most::DETAIL),
            ("route", self.route, most::NAME),
            ("endpoint", self.endpoint, most::NAME),
        ] {
            line.text(name, value.as_bytes(), most);
        }
        line.number("attempts", u64::from(self.attempts));
        line.put(b",\"duration_ms\":");
        write_ms(&mut line.out, self.took_ns);
        line.text("request_id", self.request_id, most::REQUEST_ID);
        if let Some(trace) = self.trace_id {
            line.text("trace_id", &trace.hex(), most::WORD);
        }
        if !self.identity.is_empty() {
            line.text("identity", self.identity.as_bytes(), most::IDENTITY);
        }
        if !self.allow.is_empty() {
            line.put(b",\"allow\":\"");
            self.write_rules(line);
            line.put(b"\"");
        }
        if let Some(bytes) = self.head_bytes {
            line.number("head_bytes", bytes as u64);
        }
        if !line.cut.is_empty() {
            let names = line.cut.join("\",\"");
            line.put(format!(",\"cut\":[\"{names}\"]").as_bytes());
        }
        line.put(b"}\n");
    }

    /// Appends words in a fixed order and a line feed; `-` stands for none.
    fn write_text(&self, line: &mut Line) {
        write_time(&mut line.out, self.unix_ms);
        line.word("listener", self.listener, most::NAME);
        line.word("client", self.client, most::WORD);
        line.put(b" \"");
        if self.method.is_empty() {
            line.put(b"-"); // what was sent is no request
        } else {
            line.escape("method", self.method, most::METHOD);
            line.put(b" ");
            line.escape("host", self.host, most::NAME);
            self.write_target(line);
            if !self.protocol.is_empty() {
                line.put(b" HTTP/");
                line.put(self.protocol.as_bytes());
            }
        }
        line.put(b"\" ");
        write_number(&mut line.out, u64::from(self.status));
        match self.grpc_status {
            Some(status) => {
                line.put(b" ");
                write_number(&mut line.out, u64::from(status));
            }
            None => line.put(b" -"),
        }
        line.word("reason", self.reason, most::WORD);
        line.word("by", self.by, most::WORD);
        line.word("phase", self.phase, most::WORD);
        line.word("route", self.route, most::NAME);
        line.word("endpoint", self.endpoint, most::NAME);
        line.put(b" ");
        write_number(&mut line.out, u64::from(self.attempts));
        line.put(b" ");
        write_ms(&mut line.out, self.took_ns);
        line.put(b"ms \"");
        line.escape("request_id", self.request_id, most::REQUEST_ID);
        line.put(b"\" \"");
        line.escape("detail", self.detail.as_bytes(), most::DETAIL);
        line.put(b"\"");
        if let Some(trace) = self.trace_id {
            line.put(b" trace_id=");
            line.put(&trace.hex());
        }
        if !self.identity.is_empty() {
            line.put(b" identity=\"");
            line.escape("identity", self.identity.as_bytes(), most::IDENTITY);
            line.put(b"\"");
        }
        if !self.allow.is_empty() {
            line.put(b" allow=");
            self.write_rules(line);
        }
        if let Some(bytes) = self.head_bytes {
            line.put(format!(" head_bytes={bytes}").as_bytes());
        }
        if !line.cut.is_empty() {
            let names = line.cut.join(",");
            line.put(format!(" cut={names}").as_bytes());
        }
        line.put(b"\n");
    }

    fn write_target(&self, line: &mut Line) {
        line.escape("target", self.path, most::TARGET);
        if let Some(query) = self.query {
            line.put(b"?");
            line.escape("target", query, most::TARGET);
        }
    }

    /// Of long names each keeps its beginning, so that what the next layer has found is told, too.
    fn write_rules(&self, line: &mut Line) {
        let shown = &self.allow[..self.allow.len().min(most::RULED)];
        let most = fair_share(shown, most::RULES - shown.len() - CUT.len());
        for (place, rule) in shown.iter().enumerate() {
            if place > 0 {
                line.put(b",");
            }
            line.escape("allow", rule.as_bytes(), most);
        }
        if shown.len() < self.allow.len() {
            line.put(b",");
            line.leave_out("allow");
        }
    }
}

/// How long each text may be for all to have room: what short ones leave is for the others.
/// O(n log n).
fn fair_share(texts: &[Cow<'_, str>], mut room: usize) -> usize {
    let mut lengths: Vec<_> = texts.iter().map(|text| text.len()).collect();
    lengths.sort_unstable();
    let mut share = room;
    for (place, length) in lengths.iter().enumerate() {
        share = room / (lengths.len() - place);
        if *length > share {
            return share;
        }
        room -= length;
    }
    share.max(lengths.last().copied().unwrap_or(0))
}

/// What is written so far, and which fields were cut.
struct Line {
    out: Vec<u8>,
    cut: Vec<&'static str>,
}

impl Line {
    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn text(&mut self, name: &'static str, value: &[u8], most: usize) {
        self.key(name);
        self.put(b"\"");
        self.escape(name, value, most);
        self.put(b"\"");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.key(name);
        write_number(&mut self.out, value);
    }

    fn key(&mut self, name: &str) {
        self.put(b",\"");
        self.put(name.as_bytes());
        self.put(b"\":");
    }

    /// A word of a text line; names of the configuration's have no blanks.
    fn word(&mut self, name: &'static str, value: &str, most: usize) {
        self.put(b" ");
        if value.is_empty() {
            self.put(b"-");
        } else {
            self.escape(name, value.as_bytes(), most);
        }
    }

    /// JSON text (RFC 8259 §7) without its quotes, of at most `most` bytes: what is no UTF-8 is
    /// replaced, DEL and the C1 controls too, which a terminal would obey, and what is not seen.
    fn escape(&mut self, name: &'static str, value: &[u8], most: usize) {
        let plain = |b: &u8| matches!(b, 0x20..=0x7E) && !matches!(b, b'"' | b'\\');
        if value.len() <= most && value.iter().all(plain) {
            return self.put(value);
        }
        // Nothing gets shorter, so what lies further back is never reached.
        let seen = &value[..value.len().min(most + CUT.len())];
        let start = self.out.len();
        let mut room = start; // behind this character the mark has its place
        for c in String::from_utf8_lossy(seen).chars() {
            push_escaped(&mut self.out, c);
            match self.out.len() - start {
                n if n > most => {
                    self.out.truncate(room);
                    return self.leave_out(name);
                }
                n if n + CUT.len() <= most => room = start + n,
                _ => {}
            }
        }
    }

    /// The mark of what is missing.
    fn leave_out(&mut self, name: &'static str) {
        self.put(CUT.as_bytes());
        if self.cut.last() != Some(&name) {
            self.cut.push(name);
        }
    }
}

/// Stands for what was left out.
const CUT: &str = "…";

fn push_escaped(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\x1F' | '\x7F'..='\u{9F}' => {
            // Writing to a Vec never fails.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c if is_unseen(c) => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn write_number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three digits behind the point.
fn write_ms(out: &mut Vec<u8>, ns: u64) {
    let us = (ns + 500) / 1000;
    write_number(out, us / 1000);
    out.push(b'.');
    write_digits::<3>(out, us % 1000);
}

/// The last so many digits, with leading zeros: formatting by `write!` costs ten times as much.
fn write_digits<const N: usize>(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

/// RFC 3339 in UTC with milliseconds.
fn write_time(out: &mut Vec<u8>, unix_ms: u64) {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    write_digits::<4>(out, year);
    for (mark, value) in [(b'-', month), (b'-', day), (b'T', h), (b':', m), (b':', s)] {
        out.push(mark);
        write_digits::<2>(out, value);
    }
    out.push(b'.');
    write_digits::<3>(out, ms % 1000);
    out.push(b'Z');
}
