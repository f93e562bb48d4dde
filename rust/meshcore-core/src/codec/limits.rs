//! What one message may cost, each number with its reason.

use super::mend::Lenient;

/// Bounds on one message and on what a connection keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, start line included: 64 KiB, Envoy's default is 60.
    pub header_bytes: usize,
    /// Fields of a head: 100, as Envoy, Apache and h11's neighbours.
    pub headers: usize,
    /// Bytes of a request target: 8 KiB; RFC 9112 §3 asks for 8,000 or more.
    pub target: usize,
    /// Bytes of chunk extensions in one body: 16 KiB. They are never used, so a body that spends
    /// more on them than on data is an attack (Go, CVE-2023-39326).
    pub chunk_extension: usize,
    /// Bytes of a trailer section: 16 KiB, as hyper.
    pub trailer_bytes: usize,
    /// Fields of a trailer section.
    pub trailers: usize,
    /// Bytes of a body; `None` for any.
    pub body: Option<u64>,
    /// Bytes kept for later requests while one is answered: 512 KiB, because a loop's single read
    /// is up to 256 KiB and one more may be on its way when reading is paused.
    pub pipelined: usize,
    /// Interim (1xx) responses to one request: 32; each costs the client a write.
    pub informational: u8,
    /// Whether an endpoint may say what meshcore says of itself (`x-mesh-`): it is one.
    pub mesh: bool,
    /// What is mended in a response's head.
    pub lenient: Lenient,
    /// Whether it is kept how the names of a request's fields were written.
    pub keep_case: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * 1024,
            headers: 100,
            target: 8 * 1024,
            chunk_extension: 16 * 1024,
            trailer_bytes: 16 * 1024,
            trailers: 100,
            body: None,
            pipelined: 512 * 1024,
            informational: 32,
            mesh: false,
            lenient: Lenient::default(),
            keep_case: false,
        }
    }
}
