//! Secrets of sessions as NSS writes them, for who reads a packet capture.

use std::fmt::Write;

pub use rustls::KeyLog;

/// A line of a key log: what the secret is, the client's random and the secret itself, in hex
/// (`SSLKEYLOGFILE`, draft-ietf-tls-keylogfile §2).
#[must_use]
pub fn key_log_line(label: &str, client_random: &[u8], secret: &[u8]) -> String {
    let mut line =
        String::with_capacity(label.len() + 2 * (client_random.len() + secret.len()) + 3);
    line.push_str(label);
    for bytes in [client_random, secret] {
        line.push(' ');
        for byte in bytes {
            let _ = write!(line, "{byte:02x}"); // a string takes all
        }
    }
    line.push('\n');
    line
}
