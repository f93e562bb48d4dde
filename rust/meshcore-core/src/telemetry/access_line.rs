//! One line of the access log.

use std::io::Write;

/// What is written of a request. Text that a client or an endpoint chose is quoted.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessLine<'a> {
    /// Unix time of its end, in milliseconds.
    pub unix_ms: u64,
    /// The listener.
    pub listener: &'a str,
    /// The client's address.
    pub client: &'a str,
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
}

impl AccessLine<'_> {
    /// The line as text, or as one JSON object; with its line feed. O(bytes).
    #[must_use]
    pub fn to_text(&self, json: bool) -> String {
        let mut out = Vec::with_capacity(512);
        if json {
            self.write_json(&mut out)
        } else {
            self.write_text(&mut out)
        }
        // What is no UTF-8 was replaced when it was written.
        String::from_utf8(out).unwrap_or_default()
    }

    /// Appends one JSON object and a line feed. O(bytes).
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(out, self.unix_ms);
        out.push(b'"');
        text(out, "listener", self.listener.as_bytes());
        text(out, "client", self.client.as_bytes());
        text(out, "method", self.method);
        text(out, "host", self.host);
        out.extend_from_slice(b",\"target\":\"");
        self.write_target(out);
        out.push(b'"');
        text(out, "protocol", self.protocol.as_bytes());
        number(out, "status", u64::from(self.status));
        if let Some(status) = self.grpc_status {
            number(out, "grpc_status", u64::from(status));
        }
        for (name, value) in [
            ("reason", self.reason),
            ("by", self.by),
            ("phase", self.phase),
            ("detail", self.detail),
            ("route", self.route),
            ("endpoint", self.endpoint),
        ] {
            text(out, name, value.as_bytes());
        }
        number(out, "attempts", u64::from(self.attempts));
        out.extend_from_slice(b",\"duration_ms\":");
        write_ms(out, self.took_ns);
        text(out, "request_id", self.request_id);
        out.extend_from_slice(b"}\n");
    }

    /// Appends words in a fixed order and a line feed; `-` stands for none. O(bytes).
    fn write_text(&self, out: &mut Vec<u8>) {
        write_time(out, self.unix_ms);
        word(out, self.listener.as_bytes());
        word(out, self.client.as_bytes());
        out.extend_from_slice(b" \"");
        if self.method.is_empty() {
            out.push(b'-'); // what was sent is no request
        } else {
            escape(out, self.method);
            out.push(b' ');
            escape(out, self.host);
            self.write_target(out);
            out.extend_from_slice(b" HTTP/");
            out.extend_from_slice(self.protocol.as_bytes());
        }
        out.extend_from_slice(b"\" ");
        write_number(out, u64::from(self.status));
        match self.grpc_status {
            Some(status) => {
                out.push(b' ');
                write_number(out, u64::from(status));
            }
            None => word(out, b""),
        }
        for value in [self.reason, self.by, self.phase, self.route, self.endpoint] {
            word(out, value.as_bytes());
        }
        out.push(b' ');
        write_number(out, u64::from(self.attempts));
        out.push(b' ');
        write_ms(out, self.took_ns);
        out.extend_from_slice(b"ms \"");
        escape(out, self.request_id);
        out.extend_from_slice(b"\" \"");
        escape(out, self.detail.as_bytes());
        out.extend_from_slice(b"\"\n");
    }

    fn write_target(&self, out: &mut Vec<u8>) {
        escape(out, self.path);
        if let Some(query) = self.query {
            out.push(b'?');
            escape(out, query);
        }
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    out.push(b'"');
    escape(out, value);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    write_number(out, value);
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A word of a text line; names of the configuration's have no blanks.
fn word(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b' ');
    if value.is_empty() {
        out.push(b'-');
    } else {
        escape(out, value);
    }
}

fn write_number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three digits behind the point.
fn write_ms(out: &mut Vec<u8>, ns: u64) {
    let us = (ns + 500) / 1000;
    // Writing to a Vec never fails.
    let _ = write!(out, "{}.{:03}", us / 1000, us % 1000);
}

/// JSON text (RFC 8259 §7) without its quotes: what is no UTF-8 is replaced, DEL and the C1
/// controls too, which a terminal would obey.
fn escape(out: &mut Vec<u8>, value: &[u8]) {
    let plain = |b: &u8| matches!(b, 0x20..=0x7E) && !matches!(b, b'"' | b'\\');
    if value.iter().all(plain) {
        out.extend_from_slice(value);
        return;
    }
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\x1F' | '\x7F'..='\u{9F}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// RFC 3339 in UTC with milliseconds.
fn write_time(out: &mut Vec<u8>, unix_ms: u64) {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", ms % 1000);
}

/// Year, month and day of a number of days since 1970, by Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (era * 400 + yoe + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: AccessLine<'_> = AccessLine {
        unix_ms: 1_700_000_000_250,
        listener: "edge",
        client: "192.0.2.1",
        method: b"GET",
        host: b"a.test",
        path: b"/x",
        query: Some(b"y=\"1\n2\""),
        protocol: "1.1",
        status: 503,
        grpc_status: None,
        reason: "breaker_open",
        by: "proxy",
        phase: "layers",
        detail: "",
        route: "api",
        endpoint: "10.0.0.1:80",
        attempts: 1,
        took_ns: 1_234_567,
        request_id: b"id\r\nforged \x7f \xff \xc2\x9b",
    };

    #[test]
    fn json_is_one_object_a_line() {
        let line = AccessLine { grpc_status: Some(14), ..LINE };
        let text = line.to_text(true);
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["time"], "2023-11-14T22:13:20.250Z");
        assert_eq!(value["target"], "/x?y=\"1\n2\"");
        assert_eq!(value["grpc_status"], 14);
        assert_eq!(value["duration_ms"], 1.235);
        assert_eq!(value["request_id"], "id\r\nforged \u{7f} \u{fffd} \u{9b}");
        assert_eq!(value["endpoint"], "10.0.0.1:80");
    }

    #[test]
    fn text_is_one_line_whatever_anybody_sends() {
        let text = LINE.to_text(false);
        assert_eq!(
            text,
            "2023-11-14T22:13:20.250Z edge 192.0.2.1 \"GET a.test/x?y=\\\"1\\n2\\\" HTTP/1.1\" 503 \
             - breaker_open proxy layers api 10.0.0.1:80 1 1.235ms \
             \"id\\r\\nforged \\u007f \u{fffd} \\u009b\" \"\"\n"
        );
    }

    #[test]
    fn what_was_no_request_has_no_target() {
        let line = AccessLine { method: b"", host: b"", path: b"", query: None, ..LINE };
        assert!(line.to_text(false).contains(" 192.0.2.1 \"-\" 503 - breaker_open "));
    }

    #[test]
    fn days_of_the_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_786, (2026, 11, 29)),
        ] {
            assert_eq!(civil(days), date);
        }
    }
}
