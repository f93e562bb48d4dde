//! Where a client was last sent whose credentials authenticate connections.
//!
//! Both legs of a handshake, and what follows it without credentials, must reach one endpoint, for
//! what was authenticated is a connection to it.

use super::upstream::Upstream;
use crate::sync::{AtomicU64, Ordering};

/// Of how many upstreams the endpoint is remembered. A client that uses more in turn is still told
/// apart from others; it may have to authenticate again.
const UPSTREAMS: usize = 4;

/// Of each upstream the endpoint that was asked last.
///
/// # Orderings
/// The words are hints, of one client's connection, which one thread serves; they publish nothing:
/// `Relaxed`. Torn ones name an endpoint that is not asked, or another one of the same upstream.
#[derive(Debug, Default)]
pub(super) struct Binding {
    places: [Place; UPSTREAMS],
    /// The place that the next upstream takes.
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Place {
    /// What tells upstreams apart, whatever is reloaded.
    salt: AtomicU64,
    /// The endpoint's id above 32 bits that hold its index and 1; 0 for none.
    endpoint: AtomicU64,
}

impl Binding {
    /// The index of the endpoint of an upstream that was asked last. O(1); once more O(endpoints)
    /// when these have changed.
    pub(super) fn endpoint_of(&self, upstream: &Upstream) -> Option<usize> {
        let word = self.place_of(upstream)?.endpoint.load(Ordering::Relaxed);
        let (id, index) = ((word >> 32) as u32, (word as u32).checked_sub(1)? as usize);
        if upstream.ids.get(index) == Some(&id) {
            return Some(index);
        }
        upstream.ids.iter().position(|&other| other == id)
    }

    /// An endpoint of an upstream is asked now.
    pub(super) fn remember(&self, upstream: &Upstream, index: usize) {
        let place = self.place_of(upstream).unwrap_or_else(|| {
            let next = self.next.fetch_add(1, Ordering::Relaxed) as usize;
            let place = &self.places[next % UPSTREAMS];
            place.salt.store(upstream.salt, Ordering::Relaxed);
            place
        });
        let word = u64::from(upstream.ids[index]) << 32 | (index as u64 + 1);
        place.endpoint.store(word, Ordering::Relaxed);
    }

    fn place_of(&self, upstream: &Upstream) -> Option<&Place> {
        self.places.iter().find(|place| place.salt.load(Ordering::Relaxed) == upstream.salt)
    }
}
