//! `limit`: one bucket for all, or one for each value of a key.

use std::borrow::Cow;

use super::limiter::{Limited, refused};
use super::{Maker, Place};
use crate::admission::{Charge, ClientLimiter, Refused, TokenBucket, bytes_key};
use crate::error::Reason;
use crate::exchange::answer::Answer;
use crate::exchange::client_address::Client;
use crate::exchange::key::LayerKey;
use crate::exchange::ticket::{RequestTicket, Verdict};
use crate::exchange::walk::Walk;
use crate::snapshot::{HeaderKey, LimitKey, MissingKey, Rate};

/// A compiled `limit`.
#[derive(Clone, Debug)]
pub(in crate::exchange) enum Limit {
    /// One bucket.
    Shared(Limited<TokenBucket>),
    /// A bucket for each value of a key.
    Keyed(Limited<ClientLimiter>, LimitKey),
}

impl Limit {
    pub(super) fn compile(
        maker: &Maker<'_, '_>,
        key: (LayerKey<'_>, usize),
        rate: Rate,
        (by, clients): (Option<&LimitKey>, u64),
    ) -> Result<Self, String> {
        Ok(match by {
            None => Self::Shared(maker.limiter(key, rate, 1)?),
            Some(by) => Self::Keyed(maker.limiter(key, rate, clients)?, by.clone()),
        })
    }

    #[inline]
    pub(super) fn admit(
        &self,
        walk: &Walk<'_>,
        ticket: &mut RequestTicket,
        place: Place,
    ) -> Option<Verdict> {
        match self.acquire(walk, &ticket.from) {
            Ok(None) => {}
            Ok(Some(Ok(charge))) => ticket.charged(place, charge),
            Ok(Some(Err(no))) => return Some(refused(&no)),
            Err(detail) => {
                return Some(Verdict::Answer(Answer { detail, ..Reason::BadRequest.into() }));
            }
        }
        None
    }

    /// What it took; `None` if the request is not counted. An error says what is wrong with it.
    #[inline]
    fn acquire(
        &self,
        walk: &Walk<'_>,
        from: &Client,
    ) -> Result<Option<Result<Option<Charge>, Refused>>, &'static str> {
        Ok(match self {
            Self::Shared(limit) => Some(limit.limiter.try_acquire(walk.now, 1).map(|_| None)),
            Self::Keyed(limit, by) => value(by, walk, from)?.map(|key| {
                limit.limiter.try_acquire(key, walk.now, 1).map(|(_, charge)| Some(charge))
            }),
        })
    }

    pub(super) fn give_back(&self, charge: Option<Charge>) {
        match (self, charge) {
            (Self::Shared(limit), None) => limit.limiter.give_back(1),
            (Self::Keyed(limit, _), Some(charge)) => limit.limiter.give_back(charge),
            _ => {}
        }
    }

    /// Which it is, in the words of the log.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Shared(limit) => &limit.label,
            Self::Keyed(limit, _) => &limit.label,
        }
    }

    /// The field that it counts by.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Keyed(_, LimitKey::Header(key)) => Some(key.name.as_bytes()),
            _ => None,
        }
    }
}

/// What the request counts by.
fn value(by: &LimitKey, walk: &Walk<'_>, from: &Client) -> Result<Option<u64>, &'static str> {
    let seed = walk.compiled.seed;
    Ok(match by {
        LimitKey::Client => Some(walk.client),
        LimitKey::Host => Some(bytes_key(seed, walk.head.slice(walk.head.host))),
        LimitKey::Identity => Some(bytes_key(seed, from.identity().as_bytes())),
        LimitKey::Header(key) => header(key, walk)?.map(|value| bytes_key(seed, &value)),
    })
}

fn header<'a>(key: &'a HeaderKey, walk: &Walk<'a>) -> Result<Option<Cow<'a, [u8]>>, &'static str> {
    let mut values = walk.head.headers.get_all(key.name.as_bytes());
    let Some(first) = values.next() else {
        return match key.missing {
            MissingKey::Share => Ok(Some(Cow::Borrowed(b""))),
            MissingKey::Skip => Ok(None),
            MissingKey::Reject => Err("without the field that a limit counts by"),
        };
    };
    let mut value = Cow::Borrowed(first);
    for further in values {
        if !key.join {
            return Err("the field that a limit counts by comes more than once");
        }
        let all = value.to_mut();
        all.extend_from_slice(b", ");
        all.extend_from_slice(further);
    }
    Ok(Some(value))
}
