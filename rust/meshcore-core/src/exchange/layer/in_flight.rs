//! `in_flight`: a cap on requests under way.

use std::sync::Arc;

use super::{Maker, Place};
use crate::admission::InFlight;
use crate::error::Reason;
use crate::exchange::answer::Answer;
use crate::exchange::key::{Key, LayerKey};
use crate::exchange::ticket::{RequestTicket, Verdict};
use crate::exchange::walk::Walk;
use crate::segment::Kind;

pub(super) fn compile(
    maker: &Maker<'_, '_>,
    key: LayerKey<'_>,
    max: u64,
) -> Result<Arc<InFlight>, String> {
    let key = Key::Layer(maker.stack, key);
    let words = maker.control.block(Kind::Upstream, key, InFlight::WORDS)?;
    Ok(Arc::new(InFlight::new(words, maker.control.worker_slot, max)))
}

/// Enters, once a body that is awaited is there: who sends it slowly holds no place.
#[inline]
pub(super) fn admit(
    cap: &InFlight,
    walk: &Walk<'_>,
    ticket: &mut RequestTicket,
    place: Place,
) -> Option<Verdict> {
    if walk.must_await(ticket) {
        return Some(Verdict::Await);
    }
    if !cap.try_enter() {
        let detail = "in_flight";
        return Some(Verdict::Answer(Answer { detail, ..Reason::Overflow.into() }));
    }
    ticket.entered.push(place);
    None
}
