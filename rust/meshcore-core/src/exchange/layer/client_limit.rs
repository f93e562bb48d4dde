//! `client_limit`: a bucket for each client.

use super::limiter::{Limited, refused};
use super::{Maker, Place};
use crate::admission::{Charge, ClientLimiter};
use crate::exchange::key::LayerKey;
use crate::exchange::ticket::{RequestTicket, Verdict};
use crate::exchange::walk::Walk;
use crate::snapshot::Rate;

/// A compiled `client_limit`.
#[derive(Clone, Debug)]
pub(in crate::exchange) struct ClientLimit(pub(super) Limited<ClientLimiter>);

impl ClientLimit {
    pub(super) fn compile(
        maker: &Maker<'_, '_>,
        key: (LayerKey<'_>, usize),
        rate: Rate,
        clients: u64,
    ) -> Result<Self, String> {
        maker.limiter(key, rate, clients).map(Self)
    }

    #[inline]
    pub(super) fn admit(
        &self,
        walk: &Walk<'_>,
        ticket: &mut RequestTicket,
        place: Place,
    ) -> Option<Verdict> {
        match self.0.limiter.try_acquire(walk.client, walk.now, 1) {
            Ok((_, charge)) => ticket.charged(place, Some(charge)),
            Err(no) => return Some(refused(&no)),
        }
        None
    }

    pub(super) fn give_back(&self, charge: Option<Charge>) {
        if let Some(charge) = charge {
            self.0.limiter.give_back(charge);
        }
    }
}
