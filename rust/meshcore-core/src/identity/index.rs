//! Many rules at once, so that a client that chooses the names of its certificate does not choose
//! how long they are looked at.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::rules::Rule;
use super::{Identity, Rules, spiffe};

/// The number of a list of owners.
type List = u32;
type Map<K> = HashMap<K, List, RandomState>;

/// Numbered [`Rules`], found by the names of a client's certificate.
#[derive(Clone, Debug, Default)]
pub struct Index {
    owners: Owners,
    dns: Map<String>,
    /// Of DNS names of one label more.
    parents: Map<String>,
    /// The trust domain is the first segment.
    spiffe: Tree,
    uris: Tree,
    /// By length, of which there are few.
    networks: Vec<(Length, Map<u128>)>,
    /// Local part, empty for any, and host in lower case.
    emails: Map<String>,
}

/// Whose rules a certificate has a name of.
#[derive(Debug)]
pub struct Admitted(Box<[u64]>);

impl Admitted {
    /// Whether these are among them.
    #[must_use]
    pub fn has(&self, number: u16) -> bool {
        let word = self.0.get(usize::from(number / 64)).copied().unwrap_or_default();
        word >> (number % 64) & 1 == 1
    }
}

/// Whose each name and form is; a name that many rules have is one list.
#[derive(Clone, Debug, Default)]
struct Owners(Vec<Vec<u16>>);

impl Owners {
    fn list(&mut self) -> List {
        self.0.push(Vec::new());
        self.0.len() as List - 1
    }

    fn own<K: Eq + std::hash::Hash>(&mut self, map: &mut Map<K>, key: K, number: u16) {
        let list = *map.entry(key).or_insert_with(|| self.list());
        self.add(list, number);
    }

    fn add(&mut self, list: List, number: u16) {
        self.0[list as usize].push(number);
    }
}

impl Index {
    /// Of rules and their numbers. O(bytes).
    #[must_use]
    pub fn new<'a>(rules: impl IntoIterator<Item = (u16, &'a Rules)>) -> Self {
        Self::of(rules.into_iter().map(|(number, rules)| (number, rules.each())))
    }

    pub(super) fn of<'a>(rules: impl IntoIterator<Item = (u16, &'a [Rule])>) -> Self {
        let mut made = Self::default();
        for (number, rules) in rules {
            rules.iter().for_each(|rule| made.add(rule, number));
        }
        made
    }

    fn add(&mut self, rule: &Rule, number: u16) {
        let owners = &mut self.owners;
        match rule {
            Rule::Dns(name) => {
                owners.own(&mut self.dns, name.clone(), number);
                if let Some(parent) = name.strip_prefix("*.") {
                    owners.own(&mut self.parents, parent.to_owned(), number);
                }
            }
            Rule::Spiffe { domain, path } => {
                let parts = std::iter::once(domain).chain(path);
                self.spiffe.add(owners, parts.map(String::as_str), number);
            }
            Rule::Uri(parts) => self.uris.add(owners, parts.iter().map(String::as_str), number),
            Rule::Ip(network, bits) => {
                let length = Length { is_v4: network.is_ipv4(), bits: *bits };
                let same = self.networks.iter().position(|(other, _)| *other == length);
                let at = same.unwrap_or_else(|| {
                    self.networks.push((length, Map::default()));
                    self.networks.len() - 1
                });
                if let Some(begin) = length.begin(*network) {
                    owners.own(&mut self.networks[at].1, begin, number);
                }
            }
            Rule::Email(local, host) => {
                let name = format!("{}@{host}", local.as_deref().unwrap_or_default());
                owners.own(&mut self.emails, name, number);
            }
        }
    }

    /// Whether any of the rules has one of the names. As [`admitted`](Self::admitted).
    pub(super) fn knows(&self, identity: &Identity) -> bool {
        !self.lists(identity).is_empty()
    }

    /// Whose rules have one of the names: O(names · their segments or lengths of networks) and what
    /// is found. A `*` in a form makes a second way at its segment; there are no more ways than
    /// forms.
    #[must_use]
    pub fn admitted(&self, identity: &Identity) -> Admitted {
        let lists = self.lists(identity);
        let numbers = || lists.iter().flat_map(|list| &self.owners.0[*list as usize]);
        let most = numbers().max().map_or(0, |most| usize::from(*most) / 64 + 1);
        let mut words = vec![0; most];
        for number in numbers() {
            words[usize::from(number / 64)] |= 1 << (number % 64);
        }
        Admitted(words.into())
    }

    /// Each list once.
    fn lists(&self, identity: &Identity) -> Vec<List> {
        let mut found = Vec::new();
        match identity.spiffe() {
            Some(id) => {
                let (domain, path) = spiffe::split(id);
                self.spiffe.find(std::iter::once(domain).chain(path.split('/')), &mut found);
            }
            // A SPIFFE ID is one by its own rule alone.
            None => identity.uris.iter().for_each(|uri| self.uris.find(uri.split('/'), &mut found)),
        }
        for name in &identity.dns {
            found.extend(self.dns.get(name));
            let parent = name.split_once('.').filter(|(label, _)| *label != "*");
            found.extend(parent.and_then(|(_, parent)| self.parents.get(parent)));
        }
        for ip in &identity.ips {
            let of = |(length, map): &(Length, Map<u128>)| map.get(&length.begin(*ip)?).copied();
            found.extend(self.networks.iter().filter_map(of));
        }
        for (local, host) in identity.emails.iter().filter_map(|name| name.rsplit_once('@')) {
            let host = host.to_ascii_lowercase();
            found.extend(self.emails.get(&format!("{local}@{host}")));
            found.extend(self.emails.get(&format!("@{host}")));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// How long a network's part of an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Length {
    is_v4: bool,
    bits: u8,
}

impl Length {
    /// That part of an address, if it is of the same kind.
    fn begin(self, ip: IpAddr) -> Option<u128> {
        let (number, all): (u128, u32) = match ip {
            IpAddr::V4(ip) => (ip.to_bits().into(), 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        let free = all.checked_sub(self.bits.into()).filter(|_| ip.is_ipv4() == self.is_v4)?;
        Some(number.checked_shr(free).unwrap_or(0))
    }
}

/// Names by segments, of which `*` is any one and `**` at the end one or more.
#[derive(Clone, Debug)]
struct Tree(Vec<Node>);

#[derive(Clone, Debug, Default)]
struct Node {
    next: Map<Box<str>>,
    /// Behind `*`.
    any: Option<u32>,
    /// Of names that end here, and of those that go on with `**`.
    end: Option<List>,
    rest: Option<List>,
}

impl Default for Tree {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

impl Tree {
    fn add<'a>(&mut self, owners: &mut Owners, parts: impl Iterator<Item = &'a str>, number: u16) {
        let (mut at, mut parts) = (0, parts.peekable());
        let mut is_rest = false;
        while let Some(part) = parts.next() {
            is_rest = part == "**" && parts.peek().is_none();
            if !is_rest {
                at = self.step(at, part);
            }
        }
        let node = &mut self.0[at];
        let list = if is_rest { &mut node.rest } else { &mut node.end };
        let list = *list.get_or_insert_with(|| owners.list());
        owners.add(list, number);
    }

    fn step(&mut self, at: usize, part: &str) -> usize {
        let made = self.0.len() as u32;
        let node = &mut self.0[at];
        let next = match part {
            "*" => *node.any.get_or_insert(made),
            part => *node.next.entry(part.into()).or_insert(made),
        };
        if next == made {
            self.0.push(Node::default());
        }
        next as usize
    }

    fn find<'a>(&self, parts: impl Iterator<Item = &'a str>, found: &mut Vec<List>) {
        let mut here: Vec<&Node> = vec![&self.0[0]];
        for part in parts {
            let named = !part.is_empty();
            found.extend(here.iter().filter_map(|node| node.rest.filter(|_| named)));
            let next = |node: &&Node| {
                let any = node.any.filter(|_| named);
                node.next.get(part).copied().into_iter().chain(any)
            };
            here = here.iter().flat_map(next).map(|at| &self.0[at as usize]).collect();
        }
        found.extend(here.iter().filter_map(|node| node.end));
    }
}
