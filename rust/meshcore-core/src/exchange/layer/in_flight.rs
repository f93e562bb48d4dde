//! `in_flight`: a cap on requests under way.

use std::sync::Arc;

use super::limiter::label;
use super::{Maker, Place};
use crate::admission::InFlight;
use crate::error::Reason;
use crate::exchange::answer::Answer;
use crate::exchange::key::{Key, LayerKey};
use crate::exchange::ticket::{RequestTicket, Verdict};
use crate::exchange::walk::Walk;
use crate::segment::BlockKind;

/// A cap, and which it is.
#[derive(Debug)]
pub(in crate::exchange) struct Cap {
    in_flight: InFlight,
    /// In the words of the log.
    pub(super) label: Box<str>,
}

/// Of an answer, until the log says which it is.
pub(super) const DETAIL: &str = "in_flight";

impl Cap {
    pub(super) fn leave(&self) {
        self.in_flight.leave();
    }
}

pub(super) fn compile(
    maker: &Maker<'_, '_>,
    key: LayerKey<'_>,
    max: u64,
) -> Result<Arc<Cap>, String> {
    let label = label(key, maker.stack).into();
    let key = Key::Layer(maker.stack, key);
    let words = maker.compiler.block(BlockKind::Upstream, key, InFlight::WORDS)?;
    let in_flight = InFlight::new(words, maker.compiler.worker_slot, max);
    Ok(Arc::new(Cap { in_flight, label }))
}

/// Enters, once a body that is awaited is there: who sends it slowly holds no place.
#[inline]
pub(super) fn admit(
    cap: &Cap,
    walk: &Walk<'_>,
    ticket: &mut RequestTicket,
    place: Place,
) -> Option<Verdict> {
    if walk.must_await(ticket) {
        return Some(Verdict::Await);
    }
    if !cap.in_flight.try_enter() {
        return Some(Verdict::Answer(Answer { detail: DETAIL, ..Reason::Overflow.into() }));
    }
    ticket.entered.push(place);
    None
}
