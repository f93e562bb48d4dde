//! The static table, and the dynamic one of either side (RFC 7541 §2.3).

use std::collections::VecDeque;

/// What an entry costs beside its bytes (§4.1).
pub(super) const ENTRY_BYTES: usize = 32;
/// The size that a table has unless SETTINGS say otherwise, and the most that is used here.
pub(super) const TABLE_BYTES: usize = 4096;

/// RFC 7541, Appendix A; the first has number 1.
#[rustfmt::skip]
pub(super) const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

#[derive(Debug)]
struct Entry {
    /// Name and value, one behind the other.
    bytes: Box<[u8]>,
    name_len: u16,
}

impl Entry {
    fn cost(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

/// Entries of the newest field first; old ones go when it is full.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
    /// Entries so far: the newest one's number from the beginning.
    inserted: u64,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, max: TABLE_BYTES, inserted: 0 }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Changes its size; what has no room goes.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
    }

    fn evict(&mut self, to: usize) {
        while self.size > to {
            let Some(old) = self.entries.pop_back() else { break };
            self.size -= old.cost();
        }
    }

    /// Adds a field. One that is larger than the table empties it (§4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let cost = name.len() + value.len() + ENTRY_BYTES;
        self.evict(self.max.saturating_sub(cost));
        if cost <= self.max {
            let bytes = [name, value].concat().into();
            self.entries.push_front(Entry { bytes, name_len: name.len() as u16 });
            self.size += cost;
            self.inserted += 1;
        }
    }

    /// The field with this number, static ones first (§2.3.3).
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        match STATIC.get(index.checked_sub(1)?) {
            Some(&(name, value)) => Some((name, value)),
            None => self
                .entries
                .get(index - 1 - STATIC.len())
                .map(|e| e.bytes.split_at(usize::from(e.name_len))),
        }
    }

    /// The number of the newest entry, counted from the beginning of the connection.
    pub(super) fn inserted(&self) -> u64 {
        self.inserted
    }

    /// The index of the entry that was the `n`th, if it is still there and is this field.
    pub(super) fn index_of(&self, n: u64, name: &[u8], value: &[u8]) -> Option<usize> {
        let age = usize::try_from(self.inserted.checked_sub(n)?).ok()?;
        let entry = self.entries.get(age)?;
        let (found, rest) = entry.bytes.split_at(usize::from(entry.name_len));
        (found == name && rest == value).then_some(STATIC.len() + 1 + age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_first_and_the_oldest_goes() {
        let mut table = Table::new();
        table.resize(2 * (ENTRY_BYTES + 2));
        for name in [b"a", b"b", b"c"] {
            table.insert(name, b"1");
        }
        assert_eq!(table.get(62), Some((&b"c"[..], &b"1"[..])));
        assert_eq!(table.get(63), Some((&b"b"[..], &b"1"[..])));
        assert_eq!((table.get(64), table.get(0)), (None, None));
        assert_eq!(table.index_of(2, b"b", b"1"), Some(63));
        assert_eq!((table.index_of(1, b"a", b"1"), table.index_of(4, b"d", b"1")), (None, None));
        table.insert(&[b'x'; 99], b"");
        assert_eq!(table.get(62), None);
    }
}
