//! Who comes in by a certificate.

use crate::authority::{Authority, Leaf, self_signed};
use crate::pair::{Ends, ServerSpec, client, client_spec, server, server_spec};
use meshcore_core::tls::{
    ClientAuth, ClientSpec, Identity, InForce, ListFacts, Pair, Roots, Trust,
};
use std::sync::Arc;

fn both(authority: &Authority, clients: ClientAuth, pair: Option<Pair>) -> Ends {
    let spec = ServerSpec { clients, ..server_spec(vec![authority.host("a.example")]) };
    let client = client(&ClientSpec { pair, ..client_spec(authority.roots()) });
    Ends::new(&client, &server(&spec), "a.example").shake(100_000)
}

#[test]
fn a_client_with_a_good_certificate_has_a_name() {
    let authority = Authority::new();
    for clients in [ClientAuth::Require(authority.roots()), ClientAuth::Request(authority.roots())]
    {
        let mut both = both(&authority, clients, Some(authority.client("web", 2_027)));
        both.assert_whole();
        let identity = Identity::of(both.server.session.agreed().unwrap().peer.unwrap()).unwrap();
        assert_eq!(identity.uris, ["spiffe://a.example/web"]);
    }
}

#[test]
fn a_client_without_one_comes_in_only_where_it_is_asked_and_not_told() {
    let authority = Authority::new();
    let mut asked = both(&authority, ClientAuth::Request(authority.roots()), None);
    asked.assert_whole();
    assert_eq!(asked.server.session.agreed().unwrap().peer, None);
    let told = both(&authority, ClientAuth::Require(authority.roots()), None);
    assert_eq!(told.server.failure().alert, Some("certificate_required"));
    assert_eq!(told.client.failure().alert, Some("certificate_required"));
}

#[test]
fn a_bad_certificate_does_not_come_in_also_where_none_is_needed() {
    let (authority, other) = (Authority::new(), Authority::new());
    for auth in [ClientAuth::Require, ClientAuth::Request] {
        for (pair, alert) in [
            (other.client("web", 2_027), "unknown_ca"),
            (authority.client("web", 2_026), "certificate_expired"),
            (authority.host("web.example"), "unsupported_certificate"),
        ] {
            let both = both(&authority, auth(authority.roots()), Some(pair));
            assert_eq!(both.server.failure().alert, Some(alert));
            assert!(both.server.plain.is_empty() && both.server.established == 0);
        }
    }
}

#[test]
fn a_certificate_that_was_taken_back_does_not_come_in() {
    let authority = Authority::new();
    let roots = Trust::from(Roots::from_pem(&authority.pem(), &authority.list(7)).unwrap());
    let both = both(&authority, ClientAuth::Require(roots), Some(authority.client("web", 2_027)));
    assert_eq!(both.server.failure().alert, Some("certificate_revoked"));
}

#[test]
fn a_client_that_signs_itself_comes_in_where_it_was_given_itself() {
    let authority = Authority::new();
    let own = self_signed("web.example", 2_027, &[]);
    let roots = Trust::from(Roots::from_pem(&own.chain_pem, b"").unwrap());
    both(&authority, ClientAuth::Require(roots.clone()), Some(own)).assert_whole();
    let other = self_signed("web.example", 2_027, &[]);
    let refused = both(&authority, ClientAuth::Require(roots), Some(other));
    let detail = &refused.server.failure().detail;
    assert!(detail.starts_with("the certificate is an authority's (CA:TRUE)"), "{detail}");
}

/// One that is believed as it is signs for nobody, and an authority not behind its end.
#[test]
fn who_may_not_sign_lets_nobody_in() {
    let authority = Authority::new();
    let past = Authority::until(2_026);
    let roots = past.roots();
    let refused = both(&authority, ClientAuth::Require(roots), Some(past.client("web", 2_027)));
    assert_eq!(refused.server.failure().alert, Some("unknown_ca"));

    let leaf = Leaf::new("web.example");
    let roots = Trust::from(Roots::from_pem(&leaf.pair.chain_pem, b"").unwrap());
    both(&authority, ClientAuth::Require(roots.clone()), Some(leaf.pair.clone())).assert_whole();
    let minted = leaf.signs("web.example");
    let refused = both(&authority, ClientAuth::Require(roots), Some(minted));
    assert_eq!(refused.server.failure().alert, Some("unknown_ca"));
}

/// Each name's clients are verified by its own rule, also where one of them resumes; hosts without
/// their own have the listener's.
#[test]
fn a_name_has_a_rule_of_its_own() {
    let (authority, one, two) = (Authority::new(), Authority::new(), Authority::new());
    let pairs = ["a.example", "b.example", "open.example"].map(|name| authority.host(name));
    let server = server(&ServerSpec {
        clients: ClientAuth::None,
        named: vec![
            ("a.example".to_owned(), ClientAuth::Require(one.roots())),
            ("b.example".to_owned(), ClientAuth::Require(two.roots())),
        ],
        ..server_spec(pairs.to_vec())
    });
    let of = |pair: Option<Pair>| client(&ClientSpec { pair, ..client_spec(authority.roots()) });
    let first = of(Some(one.client("x", 2_027)));
    for (name, comes_in) in [("a.example", true), ("b.example", false), ("open.example", true)] {
        let mut ends = Ends::new(&first, &server, name).shake(7);
        assert_eq!(ends.server.session.failure().is_none(), comes_in, "{name}");
        assert!(!ends.client.session.lacks_certificate());
        let in_force = Arc::new(InForce::new(server.clone()));
        let standing = ends.server.session.standing(in_force);
        assert_eq!(standing.is_some(), comes_in);
        if let Some(standing) = standing {
            assert!(!standing.is_misdirected(name));
            let others = ["a.example", "open.example"].into_iter().filter(|other| *other != name);
            others.for_each(|other| assert!(standing.is_misdirected(other), "{other}"));
            ends.assert_whole();
        }
    }
    let passer_by = Ends::new(&of(None), &server, "open.example").shake(1_000);
    assert!(!passer_by.client.session.lacks_certificate());
    let nobody = Ends::new(&of(None), &server, "a.example").shake(1_000);
    assert!(nobody.client.session.lacks_certificate());
    assert_eq!(nobody.server.failure().alert, Some("certificate_required"));
}

/// Each of these could be above each: every order of them was tried, for a second and a half.
#[test]
fn a_chain_of_one_name_is_not_tried_in_every_order() {
    let strangers: Vec<_> = (0..12).map(|_| Authority::called("nobody", 2_030)).collect();
    let mut pair = strangers[0].client("web", 2_027);
    strangers.iter().for_each(|each| pair.chain_pem.extend(each.pem()));
    let known = Authority::new();
    let both = both(&known, ClientAuth::Require(known.roots()), Some(pair));
    let failure = both.server.failure();
    assert_eq!(failure.alert, Some("unknown_ca"), "and not that there were too many");
}

#[test]
fn two_lists_of_an_issuer_are_refused() {
    let authority = Authority::new();
    let both = [authority.list(7), authority.list(8)].concat();
    let refused = ListFacts::read(&both, &authority.pem()).unwrap_err();
    assert!(refused.to_string().starts_with("two revocation lists of CN=authority"), "{refused}");
    let trust = Trust::from(Roots::from_pem(&authority.pem(), &both).unwrap());
    let spec = server_spec(vec![authority.host("a.example")]);
    let spec = ServerSpec { clients: ClientAuth::Require(trust), ..spec };
    assert!(crate::pair::try_server(&spec).is_err());
    let other = Authority::new();
    let of_two = [authority.list(7), other.list(7)].concat();
    assert_eq!(ListFacts::read(&of_two, b"").unwrap().len(), 2);
}

#[test]
fn a_certificate_that_was_given_needs_a_list_in_force_too() {
    let authority = Authority::new();
    let client = authority.client("web", 2_027);
    let with = |year| Roots::from_pem(&client.chain_pem, &authority.list_until(8, year)).unwrap();
    let comes =
        |roots: Roots| both(&authority, ClientAuth::Require(roots.into()), Some(client.clone()));
    comes(with(2_027)).assert_whole();
    assert_eq!(comes(with(2_026)).server.failure().alert, Some("unknown_ca"));
    comes(with(2_026).using_expired_lists()).assert_whole();
}
