//! What was read too early, and where a head ends in it.
//!
//! A head is looked for line by line, each byte once however the reads cut it, and handed to the
//! parser only when it is complete: a client that sends a byte at a time costs no more than one
//! that sends all at once, and every error falls on the same byte in both cases.

use memchr::memchr;

/// Why a head cannot become complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanError {
    /// A line ends with LF alone; RFC 9112 §2.2 lets a recipient take it, and that is a
    /// smuggling vector (CVE-2025-22871).
    BareLf,
    /// The first line alone is over the limit.
    LongLine,
    /// All lines together are over the limit.
    TooLarge,
    /// Too many lines.
    TooMany,
    /// An empty line where the start line should be.
    NoStartLine,
}

/// What kind of block is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockRules {
    /// Bytes of the whole block.
    pub(super) max_bytes: usize,
    /// Lines before the empty one that ends the block.
    pub(super) max_lines: usize,
    /// Empty lines that may precede the block (RFC 9112 §2.2: at least one before a request).
    pub(super) leading: u8,
    /// Whether the block may be empty (trailers may, heads not).
    pub(super) may_be_empty: bool,
    /// Whether a line may end with LF alone.
    pub(super) bare_lf: bool,
}

/// The progress of a look for the empty line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// The next byte to look at.
    at: usize,
    /// Where the current line begins.
    line: usize,
    /// Where the block begins: behind leading empty lines.
    start: usize,
    lines: usize,
    skipped: u8,
}

/// A complete block: from `start` up to and with the empty line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Scan {
    /// Goes on from where the last call stopped; `src` begins at the same byte every time.
    pub(super) fn run(
        &mut self,
        src: &[u8],
        rules: &BlockRules,
    ) -> Result<Option<Block>, ScanError> {
        let window = &src[..src.len().min(rules.max_bytes)];
        while let Some(i) = memchr(b'\n', &window[self.at..]) {
            let newline = self.at + i;
            let with_cr = newline > self.line && window[newline - 1] == b'\r';
            if !(with_cr || rules.bare_lf) {
                return Err(ScanError::BareLf);
            }
            let empty = newline == self.line + usize::from(with_cr);
            self.at = newline + 1;
            self.line = self.at;
            if !empty {
                self.lines += 1;
                if self.lines > rules.max_lines {
                    return Err(ScanError::TooMany);
                }
            } else if self.lines > 0 || rules.may_be_empty {
                return Ok(Some(Block { start: self.start, end: self.at }));
            } else if self.skipped < rules.leading {
                self.skipped += 1;
                self.start = self.at;
            } else {
                return Err(ScanError::NoStartLine);
            }
        }
        self.at = window.len();
        match src.len() >= rules.max_bytes {
            true if self.lines == 0 => Err(ScanError::LongLine),
            true => Err(ScanError::TooLarge),
            false => Ok(None),
        }
    }

    /// The first byte of the block, once it is there; a CR may be the start of an empty line.
    fn first(&self, src: &[u8]) -> Option<u8> {
        src.get(self.start).copied().filter(|&b| b != b'\r' && b != b'\n')
    }
}

/// Bytes kept between reads: an incomplete head, or what followed the end of a message.
#[derive(Debug, Default)]
pub(super) struct Input {
    buf: Vec<u8>,
    /// Bytes of `buf` that are already used.
    used: usize,
    scan: Scan,
}

/// Where a complete head lies: in the buffer or in the slice just passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    block: Block,
    /// `None`: in the slice. Otherwise how many bytes of the source were in the buffer before.
    carried: Option<usize>,
    /// How many bytes of the slice were appended to the buffer.
    taken: usize,
}

impl Input {
    /// Bytes kept.
    pub(super) fn len(&self) -> usize {
        self.buf.len() - self.used
    }

    /// Keeps `data` for later.
    pub(super) fn keep(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        // Moving the rest down only when half is used keeps the cost per byte constant.
        if self.used > self.buf.len() / 2 {
            self.buf.drain(..self.used);
            self.used = 0;
        }
        self.buf.extend_from_slice(data);
    }

    /// What is kept.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[self.used..]
    }

    /// Uses up `n` of the bytes kept; an empty buffer gives its memory back, because most
    /// connections of a proxy are idle.
    pub(super) fn consume(&mut self, n: usize) {
        self.used += n;
        if self.used >= self.buf.len() {
            self.buf = Vec::new();
            self.used = 0;
        }
    }

    /// Looks for a complete head in what is kept and `data`; keeps an incomplete one.
    ///
    /// `wrong` checks the first byte, so that a peer that does not speak HTTP at all (a TLS hello)
    /// is not waited for.
    pub(super) fn locate<E>(
        &mut self,
        data: &[u8],
        rules: &BlockRules,
        wrong: impl Fn(u8) -> Option<E>,
    ) -> Result<Option<Located>, E>
    where
        E: From<ScanError>,
    {
        let carried = self.len();
        let direct = carried == 0;
        // The source never needs more than one head of the new bytes.
        let taken =
            if direct { 0 } else { data.len().min(rules.max_bytes.saturating_sub(carried)) };
        self.keep(&data[..taken]);
        let src = if direct { data } else { &self.buf[self.used..] };
        let found = self.scan.run(src, rules);
        if let Some(error) = self.scan.first(src).and_then(wrong) {
            return Err(error);
        }
        let Some(block) = found? else {
            let rest = &data[taken..];
            self.keep(rest);
            return Ok(None);
        };
        self.scan = Scan::default();
        Ok(Some(Located { block, carried: (!direct).then_some(carried), taken }))
    }

    /// The block's bytes.
    pub(super) fn block<'a>(&'a self, at: &Located, data: &'a [u8]) -> &'a [u8] {
        let src = if at.carried.is_some() { self.bytes() } else { data };
        &src[at.block.start..at.block.end]
    }

    /// Leaves the block behind. `Some(n)`: the message goes on at `data[n]`, nothing is kept.
    /// `None`: it goes on in the buffer, which now holds all of `data` too.
    pub(super) fn leave(&mut self, at: &Located, data: &[u8]) -> Option<usize> {
        let Some(carried) = at.carried else { return Some(at.block.end) };
        if at.block.end >= carried {
            self.consume(self.len());
            return Some(at.block.end - carried);
        }
        self.keep(&data[at.taken..]);
        self.consume(at.block.end);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: BlockRules =
        BlockRules { max_bytes: 32, max_lines: 3, leading: 1, may_be_empty: false, bare_lf: false };

    fn scan(src: &[u8]) -> Result<Option<Block>, ScanError> {
        let whole = Scan::default().run(src, &RULES);
        let mut cut = Scan::default();
        let mut last = Ok(None);
        for end in 1..=src.len() {
            last = cut.run(&src[..end], &RULES);
            if last != Ok(None) {
                break;
            }
        }
        assert_eq!(whole, last, "{src:?}");
        whole
    }

    #[test]
    fn finds_the_empty_line() {
        assert_eq!(scan(b"a\r\n\r\nrest"), Ok(Some(Block { start: 0, end: 5 })));
        assert_eq!(scan(b"\r\na\r\n\r\n"), Ok(Some(Block { start: 2, end: 7 })));
        assert_eq!(scan(b"a\r\nb\r\n"), Ok(None));
        assert_eq!(scan(b"\r\n\r\na"), Err(ScanError::NoStartLine));
    }

    #[test]
    fn refuses_a_bare_line_feed() {
        for src in [&b"\na"[..], b"a\n", b"a\r\n\n", b"a\r\nb\nc", b"a\r\n\r\r\nb\n"] {
            assert_eq!(scan(src), Err(ScanError::BareLf), "{src:?}");
        }
    }

    #[test]
    fn takes_a_bare_line_feed_where_it_may_be() {
        let rules = BlockRules { bare_lf: true, ..RULES };
        for (src, end) in
            [(&b"a\n\nrest"[..], 3), (b"a\r\nb\n\r\n\n", 7), (b"a\nb\r\n\nc", 6), (b"a\r\r\n\n", 5)]
        {
            let found = Scan::default().run(src, &rules);
            assert_eq!(found, Ok(Some(Block { start: 0, end })), "{src:?}");
        }
    }

    #[test]
    fn limits_hold_at_the_byte() {
        let mut fits = vec![b'a'; 28];
        fits.extend_from_slice(b"\r\n\r\n");
        assert_eq!(scan(&fits), Ok(Some(Block { start: 0, end: 32 })));
        fits.insert(0, b'a');
        assert_eq!(scan(&fits), Err(ScanError::TooLarge));
        assert_eq!(scan(&[b'a'; 40]), Err(ScanError::LongLine));
        assert_eq!(scan(b"a\r\nb\r\nc\r\nd\r\n"), Err(ScanError::TooMany));
        assert_eq!(scan(b"a\r\nb\r\nc\r\n\r\n"), Ok(Some(Block { start: 0, end: 11 })));
    }

    #[test]
    fn keeping_and_using_up_is_linear_and_gives_memory_back() {
        let mut input = Input::default();
        for _ in 0..1000 {
            input.keep(b"0123456789");
            input.consume(9);
        }
        assert_eq!(input.len(), 1000);
        assert!(input.buf.len() <= 2 * 1000 + 20);
        input.consume(1000);
        assert_eq!(input.buf.capacity(), 0);
    }
}
