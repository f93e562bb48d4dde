//! What limiters have in common: their words at a rate, and what becomes of these at another.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::client_limit::ClientLimit;
use super::limit::Limit;
use super::{Maker, Op};
use crate::admission::{ClientLimiter, Quota, Refused, TokenBucket};
use crate::error::Reason;
use crate::exchange::answer::{Answer, LimitState};
use crate::exchange::compiled::Compiled;
use crate::exchange::key::{Key, LayerKey, Stack, split_rate};
use crate::exchange::ticket::Verdict;
use crate::segment::{Block, BlockKind, Carried, Segment};
use crate::snapshot::{LimitKey, Rate};
use crate::time::Nanos;

/// A limiter, and the name of its layer, which is the same at every rate.
#[derive(Debug)]
pub(in crate::exchange) struct Limited<L> {
    layer: Arc<str>,
    /// Which it is, in the words of the log.
    pub(super) label: Arc<str>,
    pub(super) limiter: Arc<L>,
}

impl<L> Clone for Limited<L> {
    fn clone(&self) -> Self {
        let (layer, label) = (Arc::clone(&self.layer), Arc::clone(&self.label));
        Self { layer, label, limiter: Arc::clone(&self.limiter) }
    }
}

/// What can be limited with.
pub(super) trait Limiter: Sized + 'static {
    const KIND: BlockKind;
    fn words(clients: u64) -> usize;
    fn open(block: Block, quota: Quota) -> Self;
    fn quota(&self) -> Quota;
    /// Whether its buckets have the places that those of another have.
    fn fits(&self, before: &Self) -> bool;
    fn take_over(&self, before: &Self, now: Nanos);
    /// The limiter of a layer, if it is of this type.
    fn of(op: &Op) -> Option<&Limited<Self>>;
}

impl Limiter for TokenBucket {
    const KIND: BlockKind = BlockKind::Bucket;

    fn words(_clients: u64) -> usize {
        Self::WORDS
    }

    fn open(block: Block, quota: Quota) -> Self {
        Self::new(block, quota)
    }

    fn quota(&self) -> Quota {
        self.quota()
    }

    fn fits(&self, _before: &Self) -> bool {
        true
    }

    fn take_over(&self, before: &Self, now: Nanos) {
        self.take_over(before, now);
    }

    fn of(op: &Op) -> Option<&Limited<Self>> {
        match op {
            Op::Limit(Limit::Shared(limited)) => Some(limited),
            _ => None,
        }
    }
}

impl Limiter for ClientLimiter {
    const KIND: BlockKind = BlockKind::ClientTable;

    fn words(clients: u64) -> usize {
        Self::words(clients)
    }

    fn open(block: Block, quota: Quota) -> Self {
        Self::new(block, quota)
    }

    fn quota(&self) -> Quota {
        self.quota()
    }

    fn fits(&self, before: &Self) -> bool {
        self.is_as_large_as(before)
    }

    fn take_over(&self, before: &Self, now: Nanos) {
        self.take_over(before, now);
    }

    fn of(op: &Op) -> Option<&Limited<Self>> {
        match op {
            Op::ClientLimit(ClientLimit(limited)) | Op::Limit(Limit::Keyed(limited, _)) => {
                Some(limited)
            }
            _ => None,
        }
    }
}

/// The limiters of the configuration in force, by the names of their layers.
pub(in crate::exchange) struct Limiters<'a> {
    in_force: &'a Compiled,
    pub(super) now: Nanos,
    all: OnceCell<HashMap<&'a str, &'a Op>>,
}

impl<'a> Limiters<'a> {
    pub(in crate::exchange) fn new(in_force: &'a Compiled, now: Nanos) -> Self {
        Self { in_force, now, all: OnceCell::new() }
    }

    /// O(layers) the first time, for a change without limiters need not look.
    fn find<L: Limiter>(&self, layer: &str) -> Option<&'a L> {
        let all = self.all.get_or_init(|| {
            let named = self.in_force.ops().filter_map(|op| Some((name(op)?, op)));
            named.collect()
        });
        L::of(all.get(layer)?).map(|limited| &*limited.limiter)
    }

    fn is_first(&self) -> bool {
        self.in_force.version == 0
    }
}

fn name(op: &Op) -> Option<&str> {
    let of_table = ClientLimiter::of(op).map(|limited| &*limited.layer);
    of_table.or_else(|| TokenBucket::of(op).map(|limited| &*limited.layer))
}

/// What another program left of limiters, until a configuration is in force.
#[derive(Debug, Default)]
pub(in crate::exchange) struct Inherited {
    /// At which rate, by kind and name of the layer.
    rates: HashMap<(BlockKind, String), Rate>,
    /// By the name of the stack and the place in it, of a program that knew no names of layers.
    placed: HashMap<(String, usize), Carried>,
}

impl Inherited {
    /// With what is in a segment.
    pub(in crate::exchange) fn look(mut self, segment: &Segment) -> Self {
        for kind in [BlockKind::Bucket, BlockKind::ClientTable] {
            for name in segment.names(kind) {
                if let Some((layer, rate)) = split_rate(&name) {
                    self.rates.insert((kind, layer.to_owned()), rate);
                }
            }
        }
        self
    }

    pub(in crate::exchange) fn place(&mut self, stack: Stack<'_>, place: usize, found: Carried) {
        self.placed.insert((stack.to_string(), place), found);
    }

    /// How many are known by their places.
    pub(in crate::exchange) fn placed(&self) -> usize {
        self.placed.len()
    }
}

impl Maker<'_, '_> {
    /// A limiter at a rate, which goes on from what was taken at the one before.
    pub(super) fn limiter<L: Limiter>(
        &self,
        (key, place): (LayerKey<'_>, usize),
        rate: Rate,
        clients: u64,
    ) -> Result<Limited<L>, String> {
        let quota = Quota::new(rate).map_err(|e| e.to_string())?;
        let words = L::words(clients);
        let block = self.compiler.block(L::KIND, Key::Limiter(self.stack, key, rate), words)?;
        let limiter = L::open(block.clone(), quota);
        let layer = Key::Layer(self.stack, key).to_string();
        if self.compiler.writes() {
            match self.before.find::<L>(&layer) {
                // With another number of clients counting begins anew: they have other places.
                Some(before) if before.quota() != quota && limiter.fits(before) => {
                    limiter.take_over(before, self.before.now);
                }
                None if self.before.is_first() => {
                    self.inherit((&limiter, &block, words), (key, place), rate);
                }
                _ => {}
            }
        }
        let label = label(key, self.stack).into();
        Ok(Limited { layer: layer.into(), label, limiter: Arc::new(limiter) })
    }

    /// Goes on from what another program left.
    fn inherit<L: Limiter>(
        &self,
        (limiter, block, words): (&L, &Block, usize),
        (key, place): (LayerKey<'_>, usize),
        rate: Rate,
    ) {
        let inherited = &self.compiler.inherited;
        if let Some(found) = inherited.placed.get(&(self.stack.to_string(), place)) {
            if found.kind == L::KIND && found.has(words) {
                found.fill(block);
            }
            return;
        }
        let layer = Key::Layer(self.stack, key).to_string();
        let at = inherited.rates.get(&(L::KIND, layer)).filter(|at| **at != rate);
        let quota = at.and_then(|at| Some((*at, Quota::new(*at).ok()?)));
        if let Some((at, quota)) = quota
            && let Ok(found) = self.compiler.find(L::KIND, Key::Limiter(self.stack, key, at), words)
        {
            limiter.take_over(&L::open(found, quota), self.before.now);
        }
    }
}

/// A layer that counts by the name it was given, or its kind and key, and whose layer it is.
pub(super) fn label(key: LayerKey<'_>, stack: Stack<'_>) -> String {
    let owner = match stack {
        Stack::Listener(_) => "listener",
        Stack::Route(_) => "route",
    };
    let which = match key {
        LayerKey::Named(name) => format!("layer {name}"),
        LayerKey::LimitBy(LimitKey::Header(key)) => format!("limit by header {}", key.name),
        LayerKey::LimitBy(LimitKey::Client) => "limit by client".to_owned(),
        LayerKey::LimitBy(LimitKey::Identity) => "limit by identity".to_owned(),
        LayerKey::LimitBy(LimitKey::Host) => "limit by host".to_owned(),
        one => one.to_string(),
    };
    format!("{which} of the {owner}")
}

/// What a client is told that a limiter refused.
pub(super) fn refused(refused: &Refused) -> Verdict {
    let wait = refused.retry_after;
    Verdict::Answer(Answer {
        retry_after: (wait != Nanos::MAX).then_some(wait),
        limit: Some(LimitState { limit: refused.limit, reset_after: wait }),
        ..Reason::RateLimited.into()
    })
}
