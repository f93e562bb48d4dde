//! Whose words they are: what the registry knows each block by, besides its kind.

use std::fmt::{self, Display, Formatter};

use crate::snapshot::{LimitKey, Rate};

/// What a block belongs to.
///
/// A key is written as a path whose parts hold no slash: two keys never have one name, whatever
/// an operator calls things, and [`OldNames`](super::old_names::OldNames) knows how they were
/// written before.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    /// The turns of an upstream's balancer.
    Balance(&'a str),
    /// An upstream's requests in flight.
    Requests(&'a str),
    /// An upstream's retries in flight.
    Retries(&'a str),
    /// An upstream's own breaker.
    UpstreamBreaker(&'a str),
    /// A route's breaker at an upstream.
    RouteBreaker { upstream: &'a str, route: &'a str },
    /// An endpoint of an upstream.
    Endpoint { upstream: &'a str, address: &'a str },
    /// What is counted of a listener or a route.
    Stats(Stack<'a>),
    /// The TLS handshakes of a listener.
    ListenerHandshakes(&'a str),
    /// The TLS handshakes with an upstream.
    UpstreamHandshakes(&'a str),
    /// What Python counts of an upstream, or of the program.
    Count { upstream: Option<&'a str>, name: &'a str },
    /// What a layer in Python counts.
    LayerCounts(&'a str),
    /// A layer, whatever its rate.
    Layer(Stack<'a>, LayerKey<'a>),
    /// A limiter at a rate: its words mean nothing at another.
    Limiter(Stack<'a>, LayerKey<'a>, Rate),
}

/// Where layers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack<'a> {
    /// Before routing.
    Listener(&'a str),
    /// On a route.
    Route(&'a str),
}

/// What tells a layer from the others of its stack; not its place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerKey<'a> {
    /// The name it was given.
    Named(&'a str),
    /// The limit of each client.
    ClientLimit,
    /// The limit of all together.
    Limit,
    /// The limit of each value of a key.
    LimitBy(&'a LimitKey),
    /// The cap on requests in flight.
    InFlight,
    /// The route's breaker, of which there is one.
    CircuitBreaker,
    /// Every `allow` of the stack.
    Allow,
}

/// A part of a name: a slash and the sign that stands for one are written otherwise.
struct Part<'a>(&'a str);

impl Display for Part<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['/', '%']) {
            f.write_str(&rest[..at])?;
            f.write_str(if rest.as_bytes()[at] == b'/' { "%2F" } else { "%25" })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

impl Display for Stack<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listener/{}", Part(name)),
            Self::Route(name) => write!(f, "route/{}", Part(name)),
        }
    }
}

impl Display for LayerKey<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "name/{}", Part(name)),
            Self::ClientLimit => f.write_str("client_limit"),
            Self::Limit => f.write_str("limit"),
            Self::LimitBy(LimitKey::Client) => f.write_str("limit/client"),
            Self::LimitBy(LimitKey::Host) => f.write_str("limit/host"),
            Self::LimitBy(LimitKey::Identity) => f.write_str("limit/identity"),
            Self::LimitBy(LimitKey::Header(key)) => write!(f, "limit/header/{}", Part(&key.name)),
            Self::InFlight => f.write_str("in_flight"),
            Self::CircuitBreaker => f.write_str("circuit_breaker"),
            Self::Allow => f.write_str("allow"),
        }
    }
}

impl Display for Key<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Balance(name) => write!(f, "upstream/{}/balance", Part(name)),
            Self::Requests(name) => write!(f, "upstream/{}/requests", Part(name)),
            Self::Retries(name) => write!(f, "upstream/{}/retries", Part(name)),
            Self::UpstreamBreaker(name) => write!(f, "upstream/{}/breaker", Part(name)),
            Self::RouteBreaker { upstream, route } => {
                write!(f, "upstream/{}/breaker/{}", Part(upstream), Part(route))
            }
            Self::Endpoint { upstream, address } => {
                write!(f, "upstream/{}/endpoint/{}", Part(upstream), Part(address))
            }
            Self::Stats(stack) => stack.fmt(f),
            Self::ListenerHandshakes(name) => {
                write!(f, "{}/handshakes", Stack::Listener(name))
            }
            Self::UpstreamHandshakes(name) => write!(f, "upstream/{}/handshakes", Part(name)),
            Self::Count { upstream: Some(upstream), name } => {
                write!(f, "upstream/{}/count/{}", Part(upstream), Part(name))
            }
            Self::Count { upstream: None, name } => write!(f, "program/count/{}", Part(name)),
            Self::LayerCounts(name) => write!(f, "python/{}/counts", Part(name)),
            Self::Layer(stack, layer) => write!(f, "{stack}/layer/{layer}"),
            Self::Limiter(stack, layer, Rate { tokens, period_ns, burst }) => {
                write!(f, "{}{AT}{tokens}:{period_ns}:{burst}", Self::Layer(stack, layer))
            }
        }
    }
}

/// Between a limiter's layer and its rate.
const AT: &str = "/at/";

/// The name of a limiter's layer, and its rate, from its own name.
pub(super) fn split_rate(name: &str) -> Option<(&str, Rate)> {
    let (layer, rate) = name.rsplit_once(AT)?;
    let mut numbers = rate.split(':').map(str::parse);
    let mut next = || numbers.next()?.ok();
    let rate = Rate { tokens: next()?, period_ns: next()?, burst: next()? };
    Some((layer, rate))
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{HeaderKey, MissingKey};

    /// Names that try to look like something else.
    fn name() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/"),
            Just("%"),
            Just("%2F"),
            Just("at"),
            Just("1:1:1"),
            Just("layer"),
            Just("name"),
            Just("limit"),
            Just("breaker"),
            Just("route"),
            Just("a"),
            Just(""),
        ];
        prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
    }

    /// Every key that two names make, as what tells it from others and its name.
    fn keys(a: &str, b: &str) -> Vec<(String, String)> {
        let header = HeaderKey { name: b.to_owned(), missing: MissingKey::Share, join: false };
        let header = LimitKey::Header(header);
        let rate = Rate { tokens: 1, period_ns: 1, burst: 1 };
        let mut all = vec![
            Key::Balance(a),
            Key::Requests(a),
            Key::Retries(a),
            Key::UpstreamBreaker(a),
            Key::ListenerHandshakes(a),
            Key::UpstreamHandshakes(a),
            Key::LayerCounts(a),
            Key::Count { upstream: None, name: a },
            Key::Count { upstream: Some(a), name: b },
            Key::RouteBreaker { upstream: a, route: b },
            Key::Endpoint { upstream: a, address: b },
        ];
        for stack in [Stack::Listener(a), Stack::Route(a)] {
            all.push(Key::Stats(stack));
            for layer in [
                LayerKey::Named(b),
                LayerKey::ClientLimit,
                LayerKey::Limit,
                LayerKey::InFlight,
                LayerKey::CircuitBreaker,
                LayerKey::Allow,
                LayerKey::LimitBy(&LimitKey::Client),
                LayerKey::LimitBy(&LimitKey::Host),
                LayerKey::LimitBy(&LimitKey::Identity),
                LayerKey::LimitBy(&header),
            ] {
                all.push(Key::Layer(stack, layer));
                all.push(Key::Limiter(stack, layer, rate));
                let name = Key::Limiter(stack, layer, rate).to_string();
                let layer = Key::Layer(stack, layer).to_string();
                assert_eq!(split_rate(&name), Some((&*layer, rate)));
            }
        }
        all.iter().map(|key| (format!("{key:?}"), key.to_string())).collect()
    }

    proptest! {
        #[test]
        fn two_keys_never_have_one_name(names in prop::collection::vec(name(), 2..6)) {
            let mut seen = HashMap::new();
            for (i, a) in names.iter().enumerate() {
                for (key, name) in keys(a, &names[(i + 1) % names.len()]) {
                    let first = seen.entry(name.clone()).or_insert_with(|| key.clone());
                    prop_assert_eq!(&*first, &key, "{}", name);
                }
            }
        }
    }
}
