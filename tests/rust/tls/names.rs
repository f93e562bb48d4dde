//! Who comes in by the names of a certificate, and by whose roots.

use meshcore_core::tls::{
    ClientAuth, ClientSpec, Clock, Identity, Listing, Pair, Roots, Rules, ServerContext, Trust,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SanType};

use crate::authority::{Authority, Leaf};
use crate::pair::{Ends, ServerSpec, client, client_spec, ring, server, server_spec};

fn rules(all: &[&str]) -> Rules {
    Rules::parse(&all.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// A client that shows this, where these come in.
fn come(trust: &Trust, pair: &Pair) -> Ends {
    let host = Authority::new();
    let clients = ClientAuth::Require(trust.clone());
    let spec = ServerSpec { clients, ..server_spec(vec![host.host("a.example")]) };
    let own = ClientSpec { pair: Some(pair.clone()), ..client_spec(host.roots()) };
    Ends::new(&client(&own), &server(&spec), "a.example").shake(100_000)
}

fn refused(trust: &Trust, pair: &Pair) -> (Option<&'static str>, String) {
    let ends = come(trust, pair);
    assert_eq!(ends.server.established, 0);
    let failure = ends.server.failure();
    assert_eq!(ends.client.failure().alert, failure.alert, "it is told");
    (failure.alert, failure.detail.clone())
}

#[test]
fn a_name_comes_in_where_a_rule_is_of_it() {
    let authority = Authority::new();
    let named = |names: &[SanType]| authority.made(|p| p.subject_alt_names = names.to_vec());
    let pairs = [
        named(&[uri("spiffe://td/ns/shop/sa/web"), dns("web.example")]),
        named(&[dns("api.example.com"), SanType::IpAddress([10, 1, 2, 3].into())]),
        named(&[dns("*.example.com")]),
        named(&[uri("https://a.example/x/y"), uri("https://b.example/")]),
        named(&[SanType::Rfc822Name("Jo@Example.com".try_into().unwrap())]),
        named(&[]),
    ];
    for (rule, expected) in [
        ("spiffe://td/ns/shop/sa/web", &[0][..]),
        ("spiffe://td/ns/*/sa/web", &[0]),
        ("spiffe://td/*/*/*/*", &[0]),
        ("spiffe://td/ns/**", &[0]),
        ("spiffe://td/ns/*", &[]),
        ("spiffe://td/ns/shop/sa/web/**", &[]),
        ("spiffe://TD/ns/shop/sa/web", &[9]),
        ("spiffe://other/ns/*/sa/web", &[]),
        ("spiffe://td/NS/*/sa/web", &[]),
        ("dns:api.example.com", &[1]),
        ("DNS:API.example.com.", &[1]),
        ("dns:*.example.com", &[1, 2]),
        ("dns:*.com", &[]),
        ("dns:other.example.com", &[]),
        ("dns:web.example", &[0]),
        ("ip:10.1.2.3", &[1]),
        ("ip:10.0.0.0/8", &[1]),
        ("ip:10.1.2.4", &[]),
        ("ip:::/0", &[]),
        ("uri:https://a.example/x/y", &[3]),
        ("uri:https://a.example/*/y", &[3]),
        ("uri:https://b.example/", &[3]),
        ("uri:https://b.example/*", &[]),
        ("email:Jo@example.com", &[4]),
        ("email:*@EXAMPLE.com", &[4]),
        ("email:jo@example.com", &[]),
    ] {
        if expected == [9] {
            assert!(Rules::parse(&[rule.to_owned()]).is_err(), "{rule}");
            continue;
        }
        let trust = Trust { rules: rules(&[rule]), ..authority.roots() };
        for (at, pair) in pairs.iter().enumerate() {
            let ends = come(&trust, pair);
            assert_eq!(ends.server.established == 1, expected.contains(&at), "{rule} {at}");
        }
    }
    // Of several rules one will do.
    let trust = Trust { rules: rules(&["dns:x", "spiffe://td/**"]), ..authority.roots() };
    come(&trust, &pairs[0]).assert_whole();
}

#[test]
fn who_is_refused_by_a_rule_is_told_of_both() {
    let authority = Authority::new();
    let names = ["a", "b", "c", "d"].map(|name| dns(&format!("{name}.example")));
    let pair = authority.made(|p| p.subject_alt_names = names.to_vec());
    let trust = Trust { rules: rules(&["spiffe://td/ns/*/sa/web"]), ..authority.roots() };
    let (alert, detail) = refused(&trust, &pair);
    assert_eq!(alert, Some("access_denied"));
    let told = "the certificate is of dns:a.example, dns:b.example, dns:c.example and 1 more, \
                and wanted is spiffe://td/ns/*/sa/web (it is of a.example, serial ";
    assert!(detail.starts_with(told), "{detail}");
    let (_, detail) = refused(&trust, &authority.made(|_| {}));
    assert!(detail.starts_with("the certificate is of nobody by name"), "{detail}");
    let long = authority.made(|p| p.subject_alt_names = vec![uri(&"x:".repeat(2_000)); 9]);
    assert!(refused(&trust, &long).1.len() < 1_000);
}

/// X.509-SVID §2, §4.1, §4.3 and SPIFFE-ID §2: whoever claims a SPIFFE ID has it rightly.
#[test]
fn what_claims_a_spiffe_id_and_may_not_have_it_does_not_come_in() {
    let authority = Authority::new();
    let trust = authority.roots();
    let id = || uri("spiffe://td/web");
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        authority.made(|params| {
            params.subject_alt_names = vec![id()];
            change(params);
        })
    };
    come(&trust, &with(&|_| {})).assert_whole();
    come(&trust, &with(&|p| p.subject_alt_names.push(dns("web.example")))).assert_whole();
    let bad = [
        with(&|p| p.subject_alt_names.push(uri("spiffe://td/other"))),
        with(&|p| p.subject_alt_names.push(uri("https://td/web"))),
        with(&|p| p.subject_alt_names.insert(0, uri("https://td/web"))),
        with(&|p| p.subject_alt_names.push(uri("with space"))),
        with(&|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
        with(&|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
    ];
    for pair in &bad {
        assert_eq!(refused(&trust, pair).0, Some("bad_certificate"));
    }
    for text in [
        "spiffe://td",
        "spiffe://td/",
        "spiffe:///web",
        "spiffe://TD/web",
        "SPIFFE://td/web",
        "spiffe:td/web",
        "spiffe://td/a//b",
        "spiffe://td/../web",
        "spiffe://td/./web",
        "spiffe://td/a/",
        "spiffe://td:80/web",
        "spiffe://user@td/web",
        "spiffe://td/web?x",
        "spiffe://td/web#x",
        "spiffe://td/%77eb",
        "spiffe://td/web\u{0}",
    ] {
        let pair = authority.made(|p| p.subject_alt_names = vec![uri(text)]);
        assert_eq!(refused(&trust, &pair).0, Some("bad_certificate"), "{text}");
    }
    // An authority's own certificate is nobody's identity, also where it was itself given.
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.subject_alt_names = vec![id()];
    let key = rcgen::KeyPair::generate().unwrap();
    let chain_pem = params.self_signed(&key).unwrap().pem().into_bytes();
    let pair = Pair {
        server_name: String::new(),
        chain_pem: chain_pem.clone(),
        key_pem: key.serialize_pem().into_bytes(),
        ocsp_der: None,
    };
    let (alert, detail) = refused(&Roots::from_pem(&chain_pem, b"").unwrap().into(), &pair);
    assert_eq!(alert, Some("bad_certificate"));
    assert!(detail.contains("authority"), "{detail}");
}

#[test]
fn a_spiffe_id_is_vouched_for_by_its_own_domain_alone() {
    let (one, other, rest) = (Authority::new(), Authority::new(), Authority::new());
    let trust = Trust {
        roots: Some(rest.believed()),
        domains: vec![("one".to_owned(), one.believed()), ("other".to_owned(), other.believed())],
        ..Trust::default()
    };
    let of = |authority: &Authority, name: SanType| {
        authority.made(|params| params.subject_alt_names = vec![name])
    };
    come(&trust, &of(&one, uri("spiffe://one/web"))).assert_whole();
    come(&trust, &of(&other, uri("spiffe://other/web"))).assert_whole();
    come(&trust, &of(&rest, dns("web.example"))).assert_whole();
    for (pair, words) in [
        (of(&one, uri("spiffe://other/web")), "nobody who is believed has signed"),
        (of(&other, uri("spiffe://one/web")), "nobody who is believed has signed"),
        (of(&rest, uri("spiffe://one/web")), "nobody who is believed has signed"),
        (of(&rest, uri("spiffe://third/web")), "has spiffe://third/web, and known is one, other"),
        (of(&one, dns("web.example")), "nobody who is believed has signed"),
    ] {
        let (alert, detail) = refused(&trust, &pair);
        assert_eq!(alert, Some("unknown_ca"));
        assert!(detail.contains(words), "{detail}");
    }
    let alone = Trust { roots: None, ..trust };
    let (alert, detail) = refused(&alone, &of(&rest, dns("web.example")));
    assert_eq!(alert, Some("unknown_ca"));
    assert!(detail.contains("no SPIFFE ID"), "{detail}");
}

#[test]
fn of_several_roots_each_may_sign() {
    let (one, other) = (Authority::new(), Authority::new());
    let both = Roots::from_pem(&[one.pem(), other.pem()].concat(), b"").unwrap();
    for authority in [&one, &other] {
        come(&both.clone().into(), &authority.client("web", 2_027)).assert_whole();
    }
    assert_eq!(refused(&both.into(), &Authority::new().client("web", 2_027)).0, Some("unknown_ca"));
}

#[test]
fn a_list_that_is_over_lets_nobody_in_unless_it_is_to_be_used() {
    let authority = Authority::new();
    let lists = authority.list_until(8, 2_026);
    let roots = Roots::from_pem(&authority.pem(), &lists).unwrap();
    let web = authority.client("web", 2_027);
    let (alert, detail) = refused(&roots.clone().into(), &web);
    assert_eq!(alert, Some("unknown_ca"));
    assert!(detail.contains("revocation list"), "{detail}");
    come(&roots.using_expired_lists().into(), &web).assert_whole();
    let revoked = authority.list_until(7, 2_026);
    let roots = Roots::from_pem(&authority.pem(), &revoked).unwrap().using_expired_lists();
    assert_eq!(refused(&roots.into(), &web).0, Some("certificate_revoked"));
}

/// RFC 5280 §5.1.2.5: by that second there is to be another.
#[test]
fn a_list_counts_to_the_end_of_the_second_in_which_another_is_due() {
    let authority = Authority::new();
    let lists = authority.list_until(8, 2_026);
    let listing = Listing::read(&lists, &authority.pem()).unwrap();
    let due_s = listing.lists[0].next_update_s.unwrap();
    assert_eq!(listing.unlisted[0].since_s, due_s + 1);
    let roots = Roots::from_pem(&authority.pem(), &lists).unwrap();
    let (host, web) = (authority.host("a.example"), authority.client("web", 2_027));
    let given = Roots::from_pem(&web.chain_pem, &lists).unwrap();
    for clients in [roots, given].map(|roots| ClientAuth::Require(roots.into())) {
        let clock = Clock::at(due_s);
        let spec = ServerSpec { clients, ..server_spec(vec![host.clone()]) };
        let server = ServerContext::new(&spec, &ring(1), &clock).unwrap();
        let own = ClientSpec { pair: Some(web.clone()), ..client_spec(authority.roots()) };
        let come = || Ends::new(&client(&own), &server, "a.example").shake(100_000);
        come().assert_whole();
        clock.set(due_s + 1);
        assert_eq!(come().server.failure().alert, Some("unknown_ca"));
    }
}

/// A list counts for its issuer, and also against what was itself given.
#[test]
fn what_is_given_and_listed_does_not_come_in() {
    let (authority, other) = (Authority::new(), Authority::new());
    let web = authority.client("web", 2_027);
    for (lists, comes) in
        [(authority.list(8), true), (other.list(7), true), (authority.list(7), false)]
    {
        let roots = Roots::from_pem(&web.chain_pem, &lists).unwrap();
        assert_eq!(come(&roots.into(), &web).server.established == 1, comes);
    }
    // Signed by somebody else under the issuer's name it is none of the issuer's: nobody comes in
    // rather than somebody wrongly.
    let leaf = Leaf::new("web.example");
    come(&Roots::from_pem(&leaf.pair.chain_pem, b"").unwrap().into(), &leaf.pair).assert_whole();
}

#[test]
fn an_endpoint_is_who_its_names_say() {
    let authority = Authority::new();
    let named = |name: SanType| authority.made(|params| params.subject_alt_names = vec![name]);
    let web = named(uri("spiffe://td/web"));
    let wild = named(dns("*.b.example"));
    let asks = |trust: Trust, pair: &Pair| {
        let server = server(&server_spec(vec![pair.clone()]));
        Ends::new(&client(&client_spec(trust)), &server, "a.example").shake(100_000)
    };
    let by = |rule: &str| Trust { rules: rules(&[rule]), ..authority.roots() };
    asks(by("spiffe://td/web"), &web).assert_whole();
    asks(by("dns:x.b.example"), &wild).assert_whole();
    asks(by("dns:*.b.example"), &wild).assert_whole();
    for (rule, pair) in [
        ("spiffe://td/other", &web),
        ("dns:a.example", &web),
        ("dns:x.y.b.example", &wild),
        ("dns:b.example", &wild),
    ] {
        let ends = asks(by(rule), pair);
        assert_eq!(ends.client.failure().alert, Some("access_denied"), "{rule}");
        assert!(ends.client.failure().detail.contains(rule));
    }
    let domains = vec![("td".to_owned(), authority.believed())];
    // Nobody else of the domain is the host.
    let unruled = Trust { roots: None, domains: domains.clone(), ..Trust::default() };
    assert_eq!(asks(unruled.clone(), &web).client.failure().alert, Some("bad_certificate"));
    let host = authority.made(|params| {
        params.subject_alt_names = vec![uri("spiffe://td/web"), dns("a.example")];
    });
    asks(unruled, &host).assert_whole();
    let trust = Trust { roots: None, domains, ..by("spiffe://td/*") };
    asks(trust.clone(), &web).assert_whole();
    let stranger = Authority::new().client("web", 2_027);
    assert_eq!(asks(trust, &stranger).client.failure().alert, Some("unknown_ca"));
}

#[test]
fn who_has_no_better_name_is_called_by_what_is_left() {
    let authority = Authority::new();
    let of = |names: &[SanType], common: Option<&str>| {
        let pair = authority.made(|params| {
            params.subject_alt_names = names.to_vec();
            params.distinguished_name = rcgen::DistinguishedName::new();
            if let Some(common) = common {
                params.distinguished_name.push(DnType::OrganizationName, "Shop, Inc.");
                params.distinguished_name.push(DnType::CommonName, common);
            }
        });
        let mut ends = come(&authority.roots(), &pair);
        ends.assert_whole();
        ends.server.session.client_identity().unwrap()
    };
    let spiffe = uri("spiffe://td/web");
    let identity: Identity = of(&[dns("b.example"), spiffe], Some("web"));
    assert_eq!(identity.name(), "spiffe://td/web");
    assert_eq!(identity.names(), ["spiffe://td/web", "dns:b.example"]);
    let identity = of(&[uri("https://x/"), dns("B.example"), dns("c.example")], Some("web"));
    assert_eq!(identity.name(), "b.example");
    let identity = of(&[SanType::IpAddress([10, 0, 0, 1].into())], Some("a\r\nb"));
    assert_eq!(identity.names(), ["ip:10.0.0.1"]);
    assert_eq!(identity.name(), r"CN=a\0d\0ab,O=Shop\, Inc.");
    let identity = of(&[uri("https://x/")], None);
    assert_eq!(identity.name(), format!("sha256:{}", identity.fingerprint));
    assert_eq!(identity.fingerprint.len(), 64);
}

#[test]
fn what_is_no_rule_is_told() {
    for (text, words) in [
        ("web", "expected dns:"),
        ("http://x", "expected dns:"),
        ("dns:", "expected dns:"),
        ("dns:a..b", "no DNS name"),
        ("dns:a.*.b", "no DNS name"),
        ("ip:10.0.0.0/33", "no address"),
        ("ip:x", "no address"),
        ("email:jo", "mail"),
        ("email:j*@x", "mail"),
        ("email:jo@*", "mail"),
        ("uri:https://x/a*", "whole segment"),
        ("uri:spiffe://td/web", "without uri:"),
        ("spiffe://td", "spiffe://domain/path"),
        ("spiffe://*/web", "trust domain"),
        ("spiffe://td/a*", "whole segment"),
        ("spiffe://td/**/web", "whole segment"),
        ("spiffe://td/a b", "visible"),
        ("spiffe://td//web", "segments"),
        ("Spiffe://td/web", "spiffe://domain/path"),
    ] {
        let why = Rules::parse(&[text.to_owned()]).unwrap_err();
        assert!(why.contains(words), "{text}: {why}");
    }
}

#[test]
fn a_certificate_of_very_many_names_does_not_come_in() {
    let authority = Authority::new();
    let of = |count: usize| {
        let names = (0..count).map(|n| dns(&format!("n{n}.example")));
        authority.made(|params| params.subject_alt_names = names.collect())
    };
    come(&authority.roots(), &of(256)).assert_whole();
    let (_, detail) = refused(&authority.roots(), &of(257));
    assert!(detail.contains("more than 256 names"), "{detail}");
}

/// Who runs it chose its names, and they are looked at once for a connection.
#[test]
fn an_endpoint_may_have_very_many_names() {
    let authority = Authority::new();
    let names = (0..300).map(|n| dns(&format!("n{n}.example")));
    let pair = authority.made(|params| params.subject_alt_names = names.collect());
    let trust = Trust { rules: rules(&["dns:n299.example"]), ..authority.roots() };
    let server = server(&server_spec(vec![pair]));
    Ends::new(&client(&client_spec(trust)), &server, "n0.example").shake(100_000).assert_whole();
}
