//! A compiled upstream: its endpoints and everything that guards them as a group.

use std::sync::Arc;

use super::counted::Counted;
use super::handshakes::Handshakes;
use super::layer::Guard;
use crate::admission::{Breaker, ClientShare, InFlight, RetryBudget};
use crate::balance::{Endpoint, Picker};
use crate::snapshot;

/// An upstream and what guards it.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// What it was compiled from: an unchanged one is kept as it is.
    pub(super) spec: snapshot::Upstream,
    pub(super) picker: Picker,
    pub(super) endpoints: Arc<[Endpoint]>,
    /// Ids of the endpoints, stable over reloads as long as the address stays.
    pub(super) ids: Vec<u32>,
    pub(super) guard: Option<Guard>,
    pub(super) in_flight: InFlight,
    /// How much of `in_flight` one client may take.
    pub(super) share: ClientShare,
    /// Tells its clients apart from other upstreams'.
    pub(super) salt: u64,
    pub(super) retries: RetryBudget,
    /// TLS handshakes with its endpoints, if they speak it.
    pub handshakes: Option<Handshakes>,
    /// What Python counts of it.
    pub counted: Counted,
}

impl Upstream {
    /// Endpoints in order: id and address.
    pub fn endpoints(&self) -> impl Iterator<Item = (u32, &Endpoint)> {
        self.ids.iter().copied().zip(self.endpoints.iter())
    }

    /// The breaker of the whole upstream, if it has one.
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        self.guard.as_ref().map(|guard| &guard.breaker)
    }
}
