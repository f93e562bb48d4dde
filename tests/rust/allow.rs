//! The `allow` layer beside a reading of its rules that is as plain as their words.

#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may panic as tests do

use std::net::IpAddr;

use meshcore_core::codec::{H1Server, Limits, ServerEvent};
use meshcore_core::error::Reason;
use meshcore_core::exchange::{Arrival, Certified, Compiler, Engine, Peer, Verdict};
use meshcore_core::head::RequestHead;
use meshcore_core::identity::Identity;
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::time::Nanos;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

const T0: Nanos = Nanos::from_secs(1_000);
const SEED: [u64; 2] = [1, 2];

const IDENTITIES: [&str; 16] = [
    "spiffe://td/ns/*/sa/web",
    "spiffe://td/ns/a/sa/web",
    "spiffe://td/**",
    "spiffe://other/ns/a/sa/web",
    "dns:*.example",
    "dns:x.b.example",
    "ip:10.0.0.0/8",
    "spiffe://td/*/a/sa/*",
    "spiffe://td/ns/**",
    "ip:10.1.2.3",
    "uri:https://td/**",
    "uri:https://*/ns/a/sa/web",
    "uri:https://td/*/x/**",
    "uri:https://td/ns/a/sa/web",
    "email:*@A.example",
    "email:me@a.example",
];
const HOLDERS: [&[&str]; 14] = [
    &[],
    &["spiffe://td/ns/a/sa/web"],
    &["spiffe://td/ns/b/sa/web", "dns:a.example"],
    &["spiffe://td/ns/a/b/sa/web"],
    &["spiffe://other/ns/a/sa/web", "ip:10.1.2.3"],
    &["dns:*.example"],
    &["dns:*.b.example"],
    &["dns:x.b.example"],
    &["uri:https://td/ns/a/sa/web", "dns:a.b.example"],
    &["uri:https://other/ns/a/sa/web", "uri:https://td/ns/x/y"],
    &["uri:https://td//x/y", "uri:https://td/"],
    &["ip:10.1.2.4", "email:me@a.example"],
    &["dns:a.example", "email:Me@A.Example"],
    &["uri:https://td/*/x/y"],
];
const NETWORKS: [&str; 5] = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1", "unix"];
const ADDRESSES: [Option<&str>; 6] = [
    None,
    Some("10.255.0.1"),
    Some("11.0.0.1"),
    Some("::ffff:192.0.2.7"),
    Some("2001:db8:1::"),
    Some("::1"),
];
const METHODS: [&str; 5] = ["GET", "POST", "get", "OPTIONS", "CONNECT"];
const PATHS: [(&str, &str); 6] = [
    ("exact", "/admin"),
    ("prefix", "/admin"),
    ("prefix", "/"),
    ("exact", "/%61dmin/"),
    ("regex", "/a.*"),
    ("regex", "\\*"),
];
/// As they are asked for, and in their normal form.
const TARGETS: [(&str, &str); 10] = [
    ("/admin", "/admin"),
    ("/admin/", "/admin/"),
    ("//admin", "/admin"),
    ("/%61dmin", "/admin"),
    ("/a/../admin/x", "/admin/x"),
    ("/Admin", "/Admin"),
    ("/administrator", "/administrator"),
    ("/admin;x=y", "/admin;x=y"),
    ("/", "/"),
    ("http://a.example/b/../admin?/x", "/admin"),
];

#[derive(Clone, Debug)]
struct Rule {
    identities: Option<Vec<&'static str>>,
    networks: Option<Vec<&'static str>>,
    methods: Option<Vec<&'static str>>,
    paths: Option<Vec<(&'static str, &'static str)>>,
}

#[derive(Clone, Debug)]
struct Asked {
    holder: Option<&'static [&'static str]>,
    address: Option<&'static str>,
    method: &'static str,
    target: (&'static str, &'static str),
}

fn some<T: Clone + std::fmt::Debug + 'static>(
    all: &'static [T],
) -> impl Strategy<Value = Option<Vec<T>>> {
    prop::option::of(subsequence(all, 1..=all.len().min(3)))
}

fn rule() -> impl Strategy<Value = Rule> {
    let any = prop::option::of(prop_oneof![
        3 => subsequence(&IDENTITIES[..], 1..=2),
        1 => Just(vec!["any"]),
    ]);
    (any, some(&NETWORKS), some(&METHODS), some(&PATHS))
        .prop_map(|(identities, networks, methods, paths)| Rule {
            identities,
            networks,
            methods,
            paths,
        })
        .prop_filter("says something", |rule| rule.json("x").as_object().unwrap().len() > 1)
}

fn asked() -> impl Strategy<Value = Asked> {
    let holder = prop::option::of(select(&HOLDERS[..]));
    let method = select(&METHODS[..4]);
    (holder, select(&ADDRESSES[..]), method, select(&TARGETS[..]))
        .prop_map(|(holder, address, method, target)| Asked { holder, address, method, target })
}

impl Rule {
    fn json(&self, name: &str) -> Value {
        let mut made = json!({"name": name});
        if let Some(identities) = &self.identities {
            let any = identities == &["any"];
            made["identities"] = if any { json!("any") } else { json!({"names": identities}) };
        }
        if let Some(networks) = &self.networks {
            made["networks"] = json!(networks);
        }
        if let Some(methods) = &self.methods {
            made["methods"] = json!(methods);
        }
        if let Some(paths) = &self.paths {
            made["paths"] = paths.iter().map(|(kind, text)| json!({*kind: text})).collect();
        }
        made
    }

    /// The reference.
    fn holds(&self, asked: &Asked) -> bool {
        let Self { identities, networks, methods, paths } = self;
        identities.as_ref().is_none_or(|all| {
            asked.holder.is_some_and(|names| {
                all.iter().any(|rule| *rule == "any" || names.iter().any(|name| is(rule, name)))
            })
        }) && networks.as_ref().is_none_or(|all| all.iter().any(|net| lies_in(asked.address, net)))
            && methods.as_ref().is_none_or(|all| all.contains(&asked.method))
            && paths.as_ref().is_none_or(|all| all.iter().any(|path| leads(path, asked.target.1)))
    }
}

/// Whether a name is one of a rule's, by their segments and labels.
fn is(rule: &str, name: &str) -> bool {
    match rule {
        "ip:10.0.0.0/8" => name.starts_with("ip:10."),
        "dns:*.example" => {
            name == rule || name.strip_prefix("dns:").is_some_and(|n| n == "a.example")
        }
        "email:*@A.example" => {
            name.starts_with("email:") && name.to_lowercase().ends_with("@a.example")
        }
        _ => {
            let (wanted, given): (Vec<_>, Vec<_>) =
                (rule.split('/').collect(), name.split('/').collect());
            let (wanted, given) = match wanted.split_last() {
                Some((&"**", front)) => {
                    if given.get(front.len()).is_none_or(|first| first.is_empty()) {
                        return false;
                    }
                    (front, &given[..front.len()])
                }
                _ => (&*wanted, &*given),
            };
            let fits = |(w, g): (&&str, &&str)| *w == "*" && !g.is_empty() || w == g;
            wanted.len() == given.len() && wanted.iter().zip(given).all(fits)
        }
    }
}

fn lies_in(address: Option<&str>, network: &str) -> bool {
    match (address, network) {
        (None, network) => network == "unix",
        (Some(at), "10.0.0.0/8") => at.starts_with("10."),
        (Some(at), "192.0.2.7") => at == "::ffff:192.0.2.7",
        (Some(at), "2001:db8::/32") => at.starts_with("2001:db8:"),
        (Some(at), _) => at == network,
    }
}

fn leads(pattern: &(&str, &str), path: &str) -> bool {
    match *pattern {
        ("prefix", "/") => path.starts_with('/'),
        ("prefix", text) => path == text || path.starts_with(&format!("{text}/")),
        ("exact", "/%61dmin/") => path == "/admin/",
        ("exact", text) => path == text,
        ("regex", "/a.*") => path.starts_with("/a"),
        _ => path == "*",
    }
}

fn engine(layers: &Value) -> Result<(Engine, Compiler), String> {
    let config = SegmentConfig { max_bytes: 16 << 20, worker_slots: 1 };
    let mut compiler = Compiler::new(Segment::anonymous(config).unwrap(), 0, SEED);
    let delta = json!({
        "config_version": 1,
        "listeners": {"edge": {"layers": layers}},
        "hosts": {"*": [{"name": "all", "action": {"respond": {"status": 200}}}]},
    });
    let engine = Engine::new(1);
    let delta = serde_json::from_value(delta).map_err(|e| e.to_string())?;
    let applied = compiler.apply(&engine.compiled(), delta, T0);
    engine.swap(applied.map_err(|all| all[0].to_string())?);
    Ok((engine, compiler))
}

fn head(method: &str, target: &str) -> RequestHead {
    let text = format!("{method} {target} HTTP/1.1\r\nhost: a.example\r\n\r\n");
    match H1Server::new(Limits::default()).receive(text.as_bytes()) {
        Ok(Some(ServerEvent::Head { head, .. })) => head,
        other => panic!("{text}: {other:?}"),
    }
}

/// What is answered, and what each layer found.
fn ask(engine: &Engine, asked: &Asked) -> (Reason, Vec<String>) {
    let ip = asked.address.map(|text| text.parse::<IpAddr>().unwrap());
    let mut peer = Peer::new(ip, SEED);
    if let Some(names) = asked.holder {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let holder = Identity::named(&names).unwrap();
        assert_eq!(holder.names(), names);
        peer = peer.certified(Certified::new(holder, String::new()));
    }
    let compiled = engine.compiled();
    let mut head = head(asked.method, asked.target.0);
    let client = compiled.clean(0, &peer, &mut head);
    let arrival = Arrival { head: &head, now: T0 };
    let (mut ticket, verdict) = engine.begin(&compiled, 0, true, client, &arrival);
    let Verdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
    ticket.finish(T0, 0);
    (answer.reason, ticket.allowed_by().map(std::borrow::Cow::into_owned).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_a_rule_names_passes_and_nothing_else(
        rules in prop::collection::vec(rule(), 0..4),
        all in prop::collection::vec(asked(), 1..12),
    ) {
        let rules_json: Vec<_> =
            rules.iter().enumerate().map(|(i, rule)| rule.json(&i.to_string())).collect();
        let shadow = json!({"allow": {"rules": &rules_json, "shadow": true}});
        let (engine, _compiler) =
            engine(&json!([shadow, {"allow": {"rules": &rules_json}}])).unwrap();
        for asked in &all {
            let first = rules.iter().position(|rule| rule.holds(asked));
            let name = first.map_or_else(|| "none".to_owned(), |at| at.to_string());
            let reason = if first.is_some() { Reason::DirectResponse } else { Reason::Forbidden };
            let told = vec![format!("shadow:{name}"), name];
            prop_assert_eq!(ask(&engine, asked), (reason, told), "{:?}", asked);
        }
    }
}

#[test]
fn what_would_let_everybody_pass_is_no_rule() {
    for (rule, why) in [
        (json!({"name": "a"}), "it says nothing of what may pass"),
        (json!({"name": "a", "networks": []}), "an empty list"),
        (json!({"name": "a", "methods": [], "networks": ["::/0"]}), "an empty list"),
        (json!({"name": "a", "paths": []}), "an empty list"),
        (json!({"name": "a", "identities": {"names": []}}), "an empty list"),
        (json!({"name": "none", "methods": ["GET"]}), "this name means something else in the log"),
        (json!({"name": "shadow:a", "methods": ["GET"]}), "this name means something else"),
        (json!({"name": "a", "networks": ["10.0.0.0/33"]}), "10.0.0.0/33 is no network"),
        (json!({"name": "a", "methods": ["G T"]}), "not a method"),
        (json!({"name": "a", "paths": [{"exact": "x"}]}), "allow rule a: "),
        (json!({"name": "a", "paths": [{"regex": "("}]}), "regex: "),
        (json!({"name": "a", "identities": {"names": ["web"]}}), "expected dns:…"),
        (json!({"name": "a", "network": ["::/0"]}), "unknown field `network`"),
    ] {
        let refused = engine(&json!([{"allow": {"rules": [rule.clone()]}}])).unwrap_err();
        assert!(refused.contains(why), "{rule}: {refused}");
    }
}

#[test]
fn what_has_no_path_is_named_by_no_prefix() {
    let rule = |rule: Value| engine(&json!([{"allow": {"rules": [rule]}}])).unwrap();
    let everything = json!({"name": "a", "paths": [{"prefix": "/"}]});
    let star = json!({"name": "a", "paths": [{"regex": "\\*"}]});
    let options = json!({"name": "a", "methods": ["OPTIONS"]});
    let target = ("*", "*");
    let asked = Asked { holder: None, address: None, method: "OPTIONS", target };
    for (json, passes) in [(everything, false), (star, true), (options, true)] {
        let (engine, _compiler) = rule(json);
        assert_eq!(ask(&engine, &asked).0 == Reason::Forbidden, !passes);
    }
}

#[test]
fn a_reload_changes_what_an_open_connection_may() {
    let layers = |name: &str| json!([{"allow": {"rules": [{"name": "a", "identities": {"names": [name]}}]}}]);
    let (engine, mut compiler) = engine(&layers("dns:a.example")).unwrap();
    let holder = Identity::named(&["dns:a.example".to_owned()]).unwrap();
    let peer = Peer::new(None, SEED).certified(Certified::new(holder, String::new()));
    let mut head = head("GET", "/");
    for (name, passes) in
        [("dns:a.example", true), ("dns:b.example", false), ("dns:*.example", true)]
    {
        let delta = json!({"config_version": 1, "listeners": {"edge": {"layers": layers(name)}}});
        let delta = serde_json::from_value(delta).unwrap();
        engine.swap(compiler.apply(&engine.compiled(), delta, T0).unwrap());
        for _ in 0..2 {
            let compiled = engine.compiled();
            let client = compiled.clean(0, &peer, &mut head);
            let arrival = Arrival { head: &head, now: T0 };
            let (mut ticket, verdict) = engine.begin(&compiled, 0, true, client, &arrival);
            let Verdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
            ticket.finish(T0, 0);
            assert_eq!(answer.reason == Reason::DirectResponse, passes, "{name}");
        }
    }
}
