//! A certificate as an element of `x-forwarded-client-cert`, in Envoy's form.

use super::Identity;

/// No more names are told than fit: many servers take 8 KiB of a field.
const MOST_BYTES: usize = 4_096;

impl Identity {
    /// `By=…;Hash=…;Subject="…";URI=…;DNS=…`; `own` is the URI of the listener's certificate.
    /// Nothing that a certificate holds can end a value: quotes and backslashes are written as hex.
    #[must_use]
    pub fn forwarded(&self, own: Option<&str>) -> String {
        let mut out = String::with_capacity(256);
        if let Some(own) = own {
            pair(&mut out, "By", own);
        }
        pair(&mut out, "Hash", &self.fingerprint);
        let subject = subject(&self.subject);
        if subject.len() < MOST_BYTES / 2 {
            out.push_str(";Subject=\"");
            out.push_str(&subject);
            out.push('"');
        }
        let names = self.uris.iter().map(|uri| ("URI", uri));
        for (key, name) in names.chain(self.dns.iter().map(|name| ("DNS", name))) {
            let before = out.len();
            pair(&mut out, key, name);
            if out.len() > MOST_BYTES {
                out.truncate(before);
                break;
            }
        }
        out
    }
}

fn pair(out: &mut String, key: &str, value: &str) {
    if !out.is_empty() {
        out.push(';');
    }
    out.push_str(key);
    out.push('=');
    let value = value.replace('"', "%22").replace('\\', "%5C");
    if value.contains([',', ';', '=']) {
        out.push('"');
        out.push_str(&value);
        out.push('"');
    } else {
        out.push_str(&value);
    }
}

/// RFC 4514 §2.4: a backslash and two hex digits stand for any byte.
fn subject(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => out.push_str(&format!("\\{escaped:02X}")),
                Some(escaped) if escaped.is_ascii_graphic() || escaped == b' ' => {
                    out.push('\\');
                    out.push(escaped.into());
                }
                Some(escaped) => out.push_str(&format!("\\{escaped:02X}")),
                None => out.push_str("\\5C"),
            },
            b'"' => out.push_str("\\22"),
            b' '..=b'~' => out.push(byte.into()),
            other => out.push_str(&format!("\\{other:02X}")),
        }
    }
    out
}
