//! From a host to the tables that may own its requests, most specific first.
//!
//! A sharded hash table of shared host tables: a change copies the pointers of one shard in 256,
//! so that replacing one host among 100,000 costs microseconds, and two tables share the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::hash;
use super::host_table::HostTable;

/// With 100,000 hosts a shard has 400: some microseconds to copy.
const SHARDS: usize = 256;

/// Longest host name (RFC 1035 §2.3.4, as text) and longest label.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A host pattern: its key tells the kinds apart by a dot at one end, which no name has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum HostPattern {
    /// `example.com`.
    Exact(String),
    /// `*.example.com`, as `.example.com`.
    Suffix(String),
    /// `example.*`, as `example.`.
    Prefix(String),
    /// `*`.
    Any,
}

impl HostPattern {
    /// Reads `text`; names are compared in lower case, a dot at the end of a name is left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(suffix) = text.strip_prefix('*') {
            let name = suffix.strip_prefix('.').ok_or("`*` must be a whole label")?;
            let name = name.strip_suffix('.').unwrap_or(name);
            check_labels(name)?;
            return Ok(Self::Suffix(format!(".{name}")));
        }
        if let Some(prefix) = text.strip_suffix('*') {
            let name = prefix.strip_suffix('.').ok_or("`*` must be a whole label")?;
            check_labels(name)?;
            return Ok(Self::Prefix(format!("{name}.")));
        }
        let name = text.strip_suffix('.').unwrap_or(&text);
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = address {
            // As the codec writes it.
            let ip: std::net::Ipv6Addr = address.parse().map_err(|_| "not an IPv6 address")?;
            return Ok(Self::Exact(format!("[{ip}]")));
        }
        check_labels(name)?;
        Ok(Self::Exact(name.to_owned()))
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::Exact(key) | Self::Suffix(key) | Self::Prefix(key) => key.as_bytes(),
            Self::Any => b"",
        }
    }
}

fn check_labels(name: &str) -> Result<(), &'static str> {
    if name.len() > LONGEST_NAME {
        return Err("longer than 253 bytes");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("empty label");
        }
        if label.len() > LONGEST_LABEL {
            return Err("label longer than 63 bytes");
        }
        if label.contains('*') {
            return Err("`*` must be the first or last label");
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err("byte not allowed in a name (write it in punycode, without port)");
        }
    }
    Ok(())
}

type Shard<T> = HashTable<Slot<T>>;

#[derive(Debug)]
struct Slot<T> {
    key: Arc<[u8]>,
    table: Arc<HostTable<T>>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), table: self.table.clone() }
    }
}

/// How many wildcard patterns have so many labels.
type Depths = BTreeMap<usize, usize>;

/// The host index: patterns to shared tables.
#[derive(Debug)]
pub(super) struct HostIndex<T> {
    shards: Arc<[Arc<Shard<T>>]>,
    any: Option<Arc<HostTable<T>>>,
    suffixes: Depths,
    prefixes: Depths,
    len: usize,
}

impl<T> Clone for HostIndex<T> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            any: self.any.clone(),
            suffixes: self.suffixes.clone(),
            prefixes: self.prefixes.clone(),
            len: self.len,
        }
    }
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self {
            shards: std::iter::repeat_n(empty, SHARDS).collect(),
            any: None,
            suffixes: Depths::new(),
            prefixes: Depths::new(),
            len: 0,
        }
    }
}

impl<T> HostIndex<T> {
    /// A copy in which each pattern has the table given for it, or none. O(changes × hosts/256).
    pub(super) fn with(
        &self,
        changes: impl IntoIterator<Item = (HostPattern, Option<Arc<HostTable<T>>>)>,
    ) -> Self {
        let mut new = self.clone();
        // Copied once for all changes; `make_mut` then copies a touched shard once.
        let mut shards = self.shards.to_vec();
        for (pattern, table) in changes {
            let there = table.is_some();
            let was = if pattern == HostPattern::Any {
                std::mem::replace(&mut new.any, table).is_some()
            } else {
                let hash = hash(pattern.key());
                replace(Arc::make_mut(&mut shards[shard_of(hash)]), hash, &pattern, table)
            };
            new.len = new.len + usize::from(there) - usize::from(was);
            match pattern {
                HostPattern::Suffix(key) => count(&mut new.suffixes, &key, there, was),
                HostPattern::Prefix(key) => count(&mut new.prefixes, &key, there, was),
                HostPattern::Exact(_) | HostPattern::Any => {}
            }
        }
        new.shards = shards.into();
        new
    }

    /// How many patterns.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The table of a pattern.
    pub(super) fn get(&self, pattern: &HostPattern) -> Option<&Arc<HostTable<T>>> {
        if *pattern == HostPattern::Any { self.any.as_ref() } else { self.look_up(pattern.key()) }
    }

    /// Every table, in no order.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Arc<HostTable<T>>> {
        let slots = self.shards.iter().flat_map(|shard| shard.iter());
        slots.map(|slot| &slot.table).chain(&self.any)
    }

    /// The first of the tables whose pattern matches `host`, most specific first, that `accepts`.
    /// O(bytes) for each number of labels that a wildcard has.
    #[inline]
    pub(super) fn find(
        &self,
        host: &[u8],
        accepts: impl Fn(&HostTable<T>) -> bool,
    ) -> Option<&HostTable<T>> {
        let accepted = |table: &&Arc<HostTable<T>>| accepts(table);
        // A dot at an end would be taken for a wildcard's key.
        let may_be_named = !matches!(host, [] | [b'.', ..] | [.., b'.']);
        if may_be_named && self.len > usize::from(self.any.is_some()) {
            let found = self.look_up(host).filter(accepted);
            let found = found.or_else(|| self.wildcard(host, accepted));
            if let Some(table) = found {
                return Some(table);
            }
        }
        self.any.as_ref().filter(accepted).map(|table| &**table)
    }

    fn wildcard(
        &self,
        host: &[u8],
        accepted: impl Fn(&&Arc<HostTable<T>>) -> bool,
    ) -> Option<&Arc<HostTable<T>>> {
        let deepest = |depths: &Depths| depths.last_key_value().map_or(0, |(depth, _)| *depth);
        let dots: SmallVec<[usize; 8]> =
            memchr::memrchr_iter(b'.', host).take(deepest(&self.suffixes)).collect();
        let suffixes = self.suffixes.keys().rev();
        let mut suffixes = suffixes.filter_map(|depth| Some(&host[*dots.get(depth - 1)?..]));
        if let Some(table) = suffixes.find_map(|key| self.look_up(key).filter(&accepted)) {
            return Some(table);
        }
        let dots: SmallVec<[usize; 8]> =
            memchr::memchr_iter(b'.', host).take(deepest(&self.prefixes)).collect();
        let prefixes = self.prefixes.keys().rev();
        let mut prefixes = prefixes.filter_map(|depth| Some(&host[..=*dots.get(depth - 1)?]));
        prefixes.find_map(|key| self.look_up(key).filter(&accepted))
    }

    #[inline]
    fn look_up(&self, key: &[u8]) -> Option<&Arc<HostTable<T>>> {
        let hash = hash(key);
        let slot = self.shards[shard_of(hash)].find(hash, |slot| *slot.key == *key)?;
        Some(&slot.table)
    }
}

/// The shard of a hash, by bits that the table inside uses least.
#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

/// Puts `table` in the place of the pattern's; says whether there was one.
fn replace<T>(
    shard: &mut Shard<T>,
    hash: u64,
    pattern: &HostPattern,
    table: Option<Arc<HostTable<T>>>,
) -> bool {
    let found = shard.find_entry(hash, |slot| *slot.key == *pattern.key());
    match (found, table) {
        (Ok(mut slot), Some(table)) => {
            slot.get_mut().table = table;
            true
        }
        (Ok(slot), None) => {
            slot.remove();
            true
        }
        (Err(_), Some(table)) => {
            let slot = Slot { key: pattern.key().into(), table };
            shard.insert_unique(hash, slot, |slot| super::hash(&slot.key));
            false
        }
        (Err(_), None) => false,
    }
}

/// Keeps count of the labels of wildcards.
fn count(depths: &mut Depths, key: &str, there: bool, was: bool) {
    // A key has one dot for each label.
    let depth = key.bytes().filter(|b| *b == b'.').count();
    let number = depths.entry(depth).or_default();
    *number = *number + usize::from(there) - usize::from(was);
    if *number == 0 {
        depths.remove(&depth);
    }
}
