//! `allow`: lets pass what one of its rules names, and refuses the rest.
//!
//! A rule goes by what is known of the connection and by the path that routes were found by; never by
//! a field of the request, which its sender writes. Whatever is given of a rule must hold, so one of
//! which nothing is given would let everything pass: it is refused, and so is an empty list.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use super::{Maker, Place};
use crate::error::Reason;
use crate::exchange::answer::Answer;
use crate::exchange::client_address::Client;
use crate::exchange::key::{Key, LayerKey};
use crate::exchange::networks::Networks;
use crate::exchange::ticket::{RequestTicket, Verdict};
use crate::exchange::walk::Walk;
use crate::head::RequestHead;
use crate::identity::{self, Index};
use crate::routing::{MethodSet, PathPatterns, PathRules};
use crate::segment::BlockKind;
use crate::snapshot::{AllowRule, Whose};
use crate::telemetry::Counters;

/// What the log calls the rule where none has matched.
const NONE: &str = "none";
/// In front of what a layer would have done that refuses nothing.
const SHADOW: &str = "shadow:";

/// A compiled `allow`.
#[derive(Debug)]
pub(in crate::exchange) struct Allow {
    rules: Box<[Rule]>,
    /// By number, as the rules are.
    paths: PathRules,
    /// Asked once for a connection.
    holders: Arc<Index>,
    shadow: bool,
    counts: Counters,
}

/// All that is given must hold, and the paths.
#[derive(Debug)]
struct Rule {
    name: Box<str>,
    methods: Option<MethodSet>,
    networks: Option<Networks>,
    holder: Holder,
}

/// Whose certificate.
#[derive(Debug)]
enum Holder {
    /// None is required.
    Anybody,
    /// Any holder of one.
    Certified,
    Named,
}

/// What a layer found of a request: the first rule that matched.
#[derive(Clone, Copy, Debug)]
pub(in crate::exchange) struct Evaluated {
    place: Place,
    rule: Option<u16>,
}

/// What is counted, in the order of its words; in shadow mode two places further on.
const OUTCOMES: [&str; Allow::WORDS] = ["allowed", "denied", "shadow_allowed", "shadow_denied"];

impl Allow {
    /// Words of its counts, which all such layers of a stack share.
    pub(in crate::exchange) const WORDS: usize = 4;

    pub(super) fn compile(
        maker: &Maker<'_, '_>,
        rules: &[AllowRule],
        shadow: bool,
    ) -> Result<Arc<Self>, String> {
        let compiled = rules.iter().map(|rule| {
            let named = |why| format!("allow rule {}: {why}", rule.name);
            Rule::compile(rule).map_err(named)
        });
        let compiled: Vec<_> = compiled.collect::<Result<_, String>>()?;
        if u16::try_from(compiled.len()).is_err() {
            return Err(format!("allow: more than {} rules", u16::MAX));
        }
        let names = compiled.iter().map(|(.., names)| names);
        let holders = Arc::new(Index::new((0..).zip(names)));
        let (rules, paths) =
            compiled.into_iter().map(|(rule, paths, _)| (rule, paths)).unzip::<_, _, Vec<_>, _>();
        let paths = PathRules::compile(paths).map_err(|why| format!("allow: {why}"))?;
        let key = Key::Layer(maker.stack, LayerKey::Allow);
        let block = maker.compiler.block(BlockKind::Counters, key, Self::WORDS)?;
        let counts = Counters::new(block, maker.compiler.worker_slot);
        Ok(Arc::new(Self { rules: rules.into(), paths, holders, shadow, counts }))
    }

    /// Lets a request pass of which a rule holds. O(bytes of the path) whatever the rules, and
    /// O(methods + log networks) for each that names the path; what they say of a certificate is
    /// found by the first request of its connection.
    pub(super) fn admit(
        &self,
        walk: &Walk<'_>,
        ticket: &mut RequestTicket,
        place: Place,
    ) -> Option<Verdict> {
        let rule = self.first(walk.head, &ticket.from);
        ticket.evaluated.push(Evaluated { place, rule });
        self.counts.inc(self.outcome(rule.is_none()));
        if rule.is_some() || self.shadow {
            return None;
        }
        let detail = if place.of_route { "allow of the route" } else { "allow of the listener" };
        Some(Verdict::Answer(Answer { detail, ..Reason::Forbidden.into() }))
    }

    /// The first rule that holds.
    fn first(&self, head: &RequestHead, from: &Client) -> Option<u16> {
        let certified = from.certified.as_ref();
        let named = certified.map(|certified| certified.admitted(&self.holders));
        let method = head.slice(head.method);
        let first = self.paths.first(head.slice(head.path), |number| {
            let rule = &self.rules[number as usize];
            let is_holder = match &rule.holder {
                Holder::Anybody => true,
                Holder::Certified => certified.is_some(),
                Holder::Named => named.as_ref().is_some_and(|named| named.has(number as u16)),
            };
            is_holder
                && rule.methods.as_ref().is_none_or(|methods| methods.has(method))
                && rule.networks.as_ref().is_none_or(|networks| networks.has(from.ip))
        });
        first.map(|number| number as u16)
    }

    fn outcome(&self, denied: bool) -> usize {
        usize::from(self.shadow) * 2 + usize::from(denied)
    }

    /// What such layers of this one's kind have found in its stack, by outcome.
    pub(in crate::exchange) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [false, true].into_iter().map(|denied| {
            let outcome = self.outcome(denied);
            (OUTCOMES[outcome], self.counts.get(outcome))
        })
    }

    fn label(&self, rule: Option<u16>) -> Cow<'_, str> {
        let name = rule.and_then(|at| self.rules.get(usize::from(at))).map_or(NONE, |r| &r.name);
        if self.shadow { format!("{SHADOW}{name}").into() } else { name.into() }
    }
}

impl Rule {
    /// With the paths and the names that it asks for.
    fn compile(rule: &AllowRule) -> Result<(Self, PathPatterns, identity::Rules), String> {
        let AllowRule { name, identities, networks, methods, paths } = rule;
        if name == NONE || name.starts_with(SHADOW) {
            return Err("this name means something else in the log".to_owned());
        }
        let empty = [
            matches!(identities, Some(Whose::Names(names)) if names.is_empty()),
            networks.as_ref().is_some_and(Vec::is_empty),
            methods.as_ref().is_some_and(Vec::is_empty),
            paths.as_ref().is_some_and(Vec::is_empty),
        ];
        if empty.contains(&true) {
            return Err("an empty list".to_owned());
        }
        if identities.is_none() && networks.is_none() && methods.is_none() && paths.is_none() {
            return Err("it says nothing of what may pass".to_owned());
        }
        let paths = PathPatterns::compile(paths.as_deref()).map_err(|why| why.to_string())?;
        let (holder, names) = match identities {
            None => (Holder::Anybody, identity::Rules::default()),
            Some(Whose::Any) => (Holder::Certified, identity::Rules::default()),
            Some(Whose::Names(names)) => (Holder::Named, identity::Rules::parse(names)?),
        };
        let rule = Self {
            name: name.as_str().into(),
            methods: given(methods.as_deref(), MethodSet::compile)?,
            networks: given(networks.as_deref(), Networks::new)?,
            holder,
        };
        Ok((rule, paths, names))
    }
}

fn given<T: ?Sized, S, E: Display>(
    given: Option<&T>,
    compile: impl Fn(&T) -> Result<S, E>,
) -> Result<Option<S>, String> {
    given.map(compile).transpose().map_err(|why| why.to_string())
}

impl RequestTicket {
    /// What each `allow` layer has found so far, in their order: the name of the rule that matched, or
    /// `none`; behind `shadow:` if that refuses nothing.
    pub fn allowed_by(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.evaluated
            .iter()
            .filter_map(|evaluated| Some(self.allow(*evaluated)?.label(evaluated.rule)))
    }

    fn allow(&self, evaluated: Evaluated) -> Option<&Allow> {
        self.op(evaluated.place)?.allow()
    }
}
