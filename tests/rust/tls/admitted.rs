//! Mutual TLS, tickets, server names, reloads, rules, lists and the time together: nobody comes in
//! whom a whole handshake refuses.

use std::sync::{Arc, OnceLock};

use meshcore_core::tls::{
    ClientAuth, ClientContext, ClientSpec, Clock, InForce, Pair, Roots, Rules, ServerContext,
    Trust, Version,
};
use proptest::prelude::*;
use rcgen::SanType;

use crate::authority::{Authority, DAY_S, NOW_S};
use crate::pair::{Ends, ServerSpec, client_spec, ring, server_spec};

const RULES: [&[&str]; 4] = [&[], &["spiffe://one/*"], &["spiffe://two/**"], &["dns:*.example"]];
/// 2026-06-15, when some certificates end.
const SOME_END_S: u64 = NOW_S + 14 * DAY_S;
const HOSTS: [&str; 2] = ["a.example", "b.example"];

/// What is made once: keys take long.
struct World {
    hosts: Authority,
    signers: [Authority; 2],
    pairs: Vec<Pair>,
    /// Of each signer: none, one that lists serial 7, one that lists nobody here, one that is over.
    lists: [[Vec<u8>; 4]; 2],
    shown: Vec<Option<Pair>>,
}

fn world() -> &'static World {
    static MADE: OnceLock<World> = OnceLock::new();
    MADE.get_or_init(|| {
        let (hosts, signers) = (Authority::new(), [Authority::new(), Authority::new()]);
        let lists = signers.each_ref().map(|signer| {
            [Vec::new(), signer.list(7), signer.list(99), signer.list_until(99, 2_026)]
        });
        let mut shown = vec![None];
        for (number, signer) in signers.iter().enumerate() {
            for name in ["spiffe://one/web", "spiffe://two/web", "web.example"] {
                for until in [2_027, 2_026] {
                    shown.push(Some(signer.made(|params| {
                        let text = name.try_into().unwrap();
                        let is_uri = name.contains(':');
                        params.subject_alt_names =
                            vec![if is_uri { SanType::URI(text) } else { SanType::DnsName(text) }];
                        params.serial_number = Some((7 + number as u64).into());
                        params.not_after = rcgen::date_time_ymd(until, 6, 15);
                    })));
                }
            }
        }
        let pairs = HOSTS.map(|name| hosts.host(name)).to_vec();
        World { pairs, hosts, signers, lists, shown }
    })
}

/// What a listener says of its clients.
#[derive(Clone, Copy, Debug)]
struct Listener {
    mode: u8,
    /// Which signers are roots; by bits.
    roots: usize,
    /// Whether each is also the one of a trust domain.
    domains: bool,
    rules: usize,
    lists: [usize; 2],
    uses_expired: bool,
    least: Version,
}

fn listener() -> impl Strategy<Value = Listener> {
    let lists = [0..4_usize, 0..4_usize];
    (0..3_u8, 1..4_usize, any::<bool>(), 0..4_usize, lists, any::<bool>(), any::<bool>()).prop_map(
        |(mode, roots, domains, rules, lists, uses_expired, newest)| Listener {
            mode,
            roots,
            domains,
            rules,
            lists,
            uses_expired,
            least: if newest { Version::Tls13 } else { Version::Tls12 },
        },
    )
}

/// A listener, and what becomes of it by changes of one thing each.
fn reloads() -> impl Strategy<Value = Vec<Listener>> {
    let changes = prop::collection::vec((0..7_u8, listener()), 1..4);
    (listener(), changes).prop_map(|(first, changes)| {
        let mut all = vec![first];
        for (what, to) in changes {
            let mut changed = all[all.len() - 1];
            match what {
                0 => changed.mode = to.mode,
                1 => changed.roots = to.roots,
                2 => changed.domains = to.domains,
                3 => changed.rules = to.rules,
                4 => changed.lists = to.lists,
                5 => changed.uses_expired = to.uses_expired,
                _ => changed.least = to.least,
            }
            all.push(changed);
        }
        all
    })
}

impl Listener {
    fn spec(self) -> ServerSpec {
        let world = world();
        let lists = [0, 1].map(|n| world.lists[n][self.lists[n]].clone()).concat();
        let of = |pem: &[u8]| {
            let roots = Roots::from_pem(pem, &lists).unwrap();
            if self.uses_expired { roots.using_expired_lists() } else { roots }
        };
        let chosen = (0..2).filter(|n| self.roots & (1 << n) != 0);
        let chosen = chosen.map(|n| world.signers[n].pem()).collect::<Vec<_>>().concat();
        let domains = ["one", "two"].iter().zip(&world.signers);
        let domains = domains.map(|(name, by)| ((*name).to_owned(), of(&by.pem()))).collect();
        let texts: Vec<_> = RULES[self.rules].iter().map(|&text| text.to_owned()).collect();
        let trust = Trust {
            roots: Some(of(&chosen)),
            domains: if self.domains { domains } else { Vec::new() },
            rules: Rules::parse(&texts).unwrap(),
        };
        ServerSpec {
            clients: match self.mode {
                0 => ClientAuth::None,
                1 => ClientAuth::Request(trust),
                _ => ClientAuth::Require(trust),
            },
            least: self.least,
            ..server_spec(world.pairs.clone())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_resumes_who_would_be_refused(
        listeners in reloads(),
        shown in 0..13_usize,
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0..2_usize, 0..3_u64), 3..9),
    ) {
        let pair = world().shown[shown].clone();
        let spec = ClientSpec { pair, ..client_spec(world().hosts.roots()) };
        let client_clock = Clock::at(SOME_END_S - 90);
        let known = ClientContext::new(&spec, &client_clock).unwrap();
        let clock = Clock::at(SOME_END_S - 90);
        let made: Vec<_> = listeners
            .iter()
            .map(|each| ServerContext::new(&each.spec(), &ring(1), &clock).unwrap())
            .collect();
        for (which, host, minutes) in steps {
            // Across the end of some certificates.
            clock.set(SOME_END_S - 90 + minutes * 60);
            let server = &made[which.index(made.len())];
            let met = Ends::new(&known, server, HOSTS[host]).shake(100_000).server;
            let stranger = ClientContext::new(&spec, &client_clock).unwrap();
            let whole = Ends::new(&stranger, server, HOSTS[host]).shake(100_000).server;
            let comes = |end: &crate::pair::End| end.session.failure().is_none();
            prop_assert!(!comes(&met) || comes(&whole), "{:?}", whole.session.failure());
            if comes(&met) {
                prop_assert_eq!(met.session.client_identity(), whole.session.client_identity());
            } else {
                prop_assert_eq!(met.established, 0);
            }
        }
    }

    /// Whoever is in stays as long as a whole handshake would let it in, as who it would be then.
    #[test]
    fn nobody_stays_who_would_be_refused(
        listeners in reloads(),
        shown in 0..13_usize,
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u64), 3..9),
    ) {
        let pair = world().shown[shown].clone();
        let client_clock = Clock::at(SOME_END_S - 90);
        let clock = Clock::at(SOME_END_S - 90);
        let made: Vec<_> = listeners
            .iter()
            .map(|each| ServerContext::new(&each.spec(), &ring(1), &clock).unwrap())
            .collect();
        let shake = |server: &ServerContext, pair| {
            let spec = ClientSpec { pair, ..client_spec(world().hosts.roots()) };
            let client = ClientContext::new(&spec, &client_clock).unwrap();
            Ends::new(&client, server, HOSTS[0]).shake(100_000).server.session
        };
        let first = shake(&made[0], pair.clone());
        let in_force = Arc::new(InForce::new(made[0].clone()));
        let Some(standing) = first.standing(Arc::clone(&in_force)) else { return Ok(()) };
        // Who was not asked has shown nothing.
        let has_shown = first.client_identity().is_some();
        let pair = pair.filter(|_| has_shown);
        for (which, minutes) in steps {
            clock.set(SOME_END_S - 90 + minutes * 60);
            let now = &made[which.index(made.len())];
            in_force.put(now.clone());
            let lazily = standing.is_admitted();
            let stays = standing.is_admitted_at(SOME_END_S - 90 + minutes * 60);
            prop_assert!(lazily || !stays, "what is looked at is a part of the whole");
            prop_assert_eq!(standing.is_misdirected(HOSTS[1]), !stays);
            let whole = shake(now, pair.clone());
            prop_assert_eq!(stays, whole.failure().is_none(), "{:?}", whole.failure());
            if stays && has_shown {
                let is_known = whole.client_identity().is_some();
                prop_assert_eq!(standing.is_vouched_for(), is_known);
            }
        }
    }
}
