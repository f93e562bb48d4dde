//! Which names a certificate must have one of.

use std::net::IpAddr;

use rustls_pki_types::DnsName;

use super::index::Index;
use super::{Identity, spiffe};

/// One name, or many of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// `*` is one segment, `**` at the end one or more.
    Spiffe { domain: String, path: Vec<String> },
    /// In lower case; `*.` at its beginning is one label.
    Dns(String),
    /// By segments, as a SPIFFE ID's.
    Uri(Vec<String>),
    /// An address, or a network of this many bits.
    Ip(IpAddr, u8),
    /// Local part (`None`: any) and host, in lower case.
    Email(Option<String>, String),
}

/// Names of which a certificate must have one; without any, every certificate will do.
///
/// As text: `spiffe://td/ns/*/sa/web`, `dns:*.example.com`, `uri:https://a.example/*`,
/// `ip:10.0.0.0/8`, `email:*@example.com`.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    texts: Vec<String>,
    /// The same, for clients.
    index: Index,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Rules {}

impl Rules {
    /// From texts. O(bytes).
    ///
    /// # Errors
    /// What is wrong with the first that is no rule.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let rules: Vec<_> = texts.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        let index = Index::of([(0, &*rules)]);
        Ok(Self { rules, texts: texts.to_vec(), index })
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What they were made of.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Each of them.
    pub(super) fn each(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether one of the names is among them. A DNS name with `*` is compared as it is, unless
    /// `stands_for` others, as in a server's certificate (RFC 9525 §6.3): then O(names · rules),
    /// else as [`Index::admitted`].
    #[must_use]
    pub fn admit(&self, identity: &Identity, stands_for: bool) -> bool {
        self.is_empty()
            || if stands_for {
                self.rules.iter().any(|rule| rule.holds(identity))
            } else {
                self.index.knows(identity)
            }
    }
}

impl Rule {
    /// Of a server's certificate.
    fn holds(&self, identity: &Identity) -> bool {
        match self {
            Self::Spiffe { domain, path } => identity.spiffe().is_some_and(|id| {
                let (of, at) = spiffe::split(id);
                of == domain && fits(path, at)
            }),
            // A SPIFFE ID is one by its own rule alone.
            Self::Uri(parts) => {
                identity.spiffe().is_none() && identity.uris.iter().any(|uri| fits(parts, uri))
            }
            Self::Dns(wanted) => identity.dns.iter().any(|name| {
                name == wanted
                    || wildcard(wanted, name)
                    || !wanted.starts_with("*.") && wildcard(name, wanted)
            }),
            Self::Ip(network, bits) => identity.ips.iter().any(|ip| is_in(*ip, *network, *bits)),
            Self::Email(local, host) => identity.emails.iter().any(|name| {
                let Some((its, at)) = name.rsplit_once('@') else { return false };
                at.eq_ignore_ascii_case(host) && local.as_ref().is_none_or(|local| local == its)
            }),
        }
    }
}

/// `*.example.com` and a name with one label more.
fn wildcard(pattern: &str, name: &str) -> bool {
    let parent = pattern.strip_prefix("*.");
    parent.is_some_and(|parent| {
        name.split_once('.').is_some_and(|(label, rest)| label != "*" && rest == parent)
    })
}

fn fits(pattern: &[String], text: &str) -> bool {
    let mut segments = text.split('/');
    for (at, part) in pattern.iter().enumerate() {
        let Some(segment) = segments.next() else { return false };
        if part == "**" && at + 1 == pattern.len() {
            return !segment.is_empty();
        }
        let is_any = part == "*" && !segment.is_empty();
        if !is_any && part != segment {
            return false;
        }
    }
    segments.next().is_none()
}

fn is_in(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            same(ip.to_bits().into(), network.to_bits().into(), 32 - bits)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => same(ip.to_bits(), network.to_bits(), 128 - bits),
        _ => false,
    }
}

fn same(one: u128, other: u128, free: u8) -> bool {
    (one ^ other).checked_shr(free.into()).unwrap_or(0) == 0
}

fn parse(text: &str) -> Result<Rule, String> {
    let bad = |why: &str| Err(format!("{text:?}: {why}"));
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return bad("names are of visible ASCII characters");
    }
    if spiffe::is_claimed(text) {
        return spiffe_rule(text).map_or_else(bad, Ok);
    }
    let Some((kind, name)) = text.split_once(':').filter(|(_, name)| !name.is_empty()) else {
        return bad("expected dns:…, uri:…, ip:…, email:… or spiffe://…");
    };
    match kind.to_ascii_lowercase().as_str() {
        "dns" => dns_rule(name).map_or_else(|| bad("this is no DNS name"), Ok),
        "uri" if spiffe::is_claimed(name) => bad("a SPIFFE ID is written without uri:"),
        "uri" => segments(name).map_or_else(bad, |parts| Ok(Rule::Uri(parts))),
        "ip" => ip_rule(name).map_or_else(|| bad("this is no address and no network"), Ok),
        "email" => email_rule(name).map_or_else(|| bad("this is no address of mail"), Ok),
        _ => bad("expected dns:…, uri:…, ip:…, email:… or spiffe://…"),
    }
}

fn spiffe_rule(text: &str) -> Result<Rule, &'static str> {
    let rest = text.strip_prefix("spiffe://").ok_or("expected spiffe://domain/path")?;
    let (domain, path) = rest.split_once('/').ok_or("expected spiffe://domain/path")?;
    if !spiffe::is_domain(domain) {
        return Err("a trust domain is of a-z, 0-9, '.', '-' and '_', and is none with *");
    }
    let path = segments(path)?;
    let is_one = |part: &String| matches!(part.as_str(), "*" | "**") || spiffe::is_segment(part);
    if !path.iter().all(is_one) {
        return Err("segments of a SPIFFE ID are of letters, digits, '.', '-' and '_'");
    }
    Ok(Rule::Spiffe { domain: domain.to_owned(), path })
}

/// Where `*` is, it is all of a segment.
fn segments(text: &str) -> Result<Vec<String>, &'static str> {
    let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
    let last = parts.len() - 1;
    for (at, part) in parts.iter().enumerate() {
        if part.contains('*') && part != "*" && !(part == "**" && at == last) {
            return Err("* stands for one whole segment, ** at the end for one or more");
        }
    }
    Ok(parts)
}

fn dns_rule(name: &str) -> Option<Rule> {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    DnsName::try_from(bare).ok()?;
    Some(Rule::Dns(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()))
}

fn ip_rule(text: &str) -> Option<Rule> {
    let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
    let ip: IpAddr = ip.parse().ok()?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok()).filter(|bits| *bits <= most)?;
    Some(Rule::Ip(ip, bits))
}

fn email_rule(text: &str) -> Option<Rule> {
    let (local, host) = text.rsplit_once('@').filter(|(local, host)| {
        !local.is_empty() && !host.is_empty() && (*local == "*" || !local.contains('*'))
    })?;
    if host.contains('*') {
        return None;
    }
    Some(Rule::Email((local != "*").then(|| local.to_owned()), host.to_ascii_lowercase()))
}
