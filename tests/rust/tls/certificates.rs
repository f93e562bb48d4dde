//! Which certificate a client gets, and which one it believes.

use meshcore_core::tls::{ClientSpec, ContextError, Identity, Pair, Roots, Trust};
use rcgen::ExtendedKeyUsagePurpose as Usage;

use crate::authority::{Authority, self_signed};
use crate::pair::{Ends, ServerSpec, client, client_spec, server, server_spec};

fn names(authority: &Authority, pairs: Vec<Pair>, asked: &str) -> Vec<String> {
    let client = client(&ClientSpec { trust: None, ..client_spec(authority.roots()) });
    let both = Ends::new(&client, &server(&server_spec(pairs)), asked).shake(100_000);
    Identity::of(both.client.session.agreed().unwrap().peer.unwrap()).unwrap().dns
}

#[test]
fn a_certificate_is_chosen_as_dns_compares_names() {
    let authority = Authority::new();
    let pairs = || ["first.example", "b.example", "*.c.example"].map(|name| authority.host(name));
    for (asked, expected) in [
        ("b.example", "b.example"),
        ("B.Example", "b.example"),
        ("x.c.example", "*.c.example"),
        ("y.x.c.example", "first.example"),
        ("c.example", "first.example"),
        ("unknown.example", "first.example"),
        ("127.0.0.1", "first.example"), // asks for no name
    ] {
        assert_eq!(names(&authority, pairs().to_vec(), asked), [expected], "{asked}");
    }
}

#[test]
fn a_certificate_of_the_list_may_name_its_host_as_dns_does() {
    let authority = Authority::new();
    let mut dotted = authority.host("b.example");
    dotted.server_name = "B.example.".to_owned();
    assert_eq!(
        names(&authority, vec![authority.host("a.example"), dotted], "b.example"),
        ["b.example"]
    );
}

#[test]
fn of_several_keys_for_a_name_ecdsa_is_preferred_whichever_is_first() {
    let authority = Authority::new();
    let pairs = [authority.rsa_host("a.example"), authority.host("a.example")];
    for pairs in [pairs.to_vec(), pairs.iter().rev().cloned().collect()] {
        let client = client(&client_spec(authority.roots()));
        let both = Ends::new(&client, &server(&server_spec(pairs)), "a.example").shake(100_000);
        let chosen = both.client.session.agreed().unwrap().peer.unwrap();
        assert_eq!(Identity::of(chosen).unwrap().dns, ["a.example"]);
        assert!(chosen.len() < 500, "of an RSA key: {}", chosen.len());
    }
}

#[test]
fn an_endpoint_of_another_authority_or_name_is_not_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = server(&server_spec(vec![authority.host("a.example")]));
    for (roots, asked, alert) in [
        (other.roots(), "a.example", "unknown_ca"),
        (authority.roots(), "b.example", "bad_certificate"),
    ] {
        let both = Ends::new(&client(&client_spec(roots)), &server, asked).shake(100_000);
        assert_eq!(both.client.failure().alert, Some(alert));
        assert_eq!(both.server.failure().alert, Some(alert), "the endpoint is told");
        assert!(both.server.failure().by_peer);
    }
}

#[test]
fn whoever_answers_is_believed_if_that_is_wanted() {
    let server = server(&server_spec(vec![Authority::new().host("a.example")]));
    let anybody = ClientSpec { trust: None, ..client_spec(Trust::default()) };
    Ends::new(&client(&anybody), &server, "b.example").shake(100_000).assert_whole();
}

/// What `openssl req -x509` makes is believed where it is itself what is to be believed.
#[test]
fn a_certificate_that_signs_itself_is_believed_by_being_the_same() {
    let both = |pair: &Pair, asked: &str| {
        let roots = Trust::from(Roots::from_pem(&pair.chain_pem, b"").unwrap());
        let server = server(&server_spec(vec![pair.clone()]));
        Ends::new(&client(&client_spec(roots)), &server, asked).shake(100_000)
    };
    both(&self_signed("a.example", 2_027, &[]), "a.example").assert_whole();
    both(&self_signed("a.example", 2_027, &[Usage::ServerAuth]), "a.example").assert_whole();
    both(&self_signed("a.example", 2_027, &[Usage::Any]), "a.example").assert_whole();
    for (pair, asked, alert) in [
        (self_signed("a.example", 2_027, &[]), "b.example", "bad_certificate"),
        (self_signed("a.example", 2_026, &[]), "a.example", "certificate_expired"),
        (
            self_signed("a.example", 2_027, &[Usage::ClientAuth]),
            "a.example",
            "unsupported_certificate",
        ),
    ] {
        assert_eq!(both(&pair, asked).client.failure().alert, Some(alert), "{asked}");
    }
    // Another one of the same name is another one.
    let (one, other) = (self_signed("a.example", 2_027, &[]), self_signed("a.example", 2_027, &[]));
    let roots = Trust::from(Roots::from_pem(&one.chain_pem, b"").unwrap());
    let server = server(&server_spec(vec![other]));
    let both = Ends::new(&client(&client_spec(roots)), &server, "a.example").shake(100_000);
    assert!(both.client.session.failure().is_some());
}

#[test]
fn protocols_are_chosen_by_the_server_and_none_in_common_is_told() {
    let authority = Authority::new();
    let words = |all: &[&str]| all.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let both = |served: &[&str], offered: &[&str]| {
        let pairs = vec![authority.host("a.example")];
        let server = server(&ServerSpec { alpn: words(served), ..server_spec(pairs) });
        let client = client(&ClientSpec { alpn: words(offered), ..client_spec(authority.roots()) });
        Ends::new(&client, &server, "a.example").shake(100_000)
    };
    let chosen = |served: &[&str], offered: &[&str]| {
        both(served, offered).server.session.agreed().unwrap().alpn.map(<[u8]>::to_vec)
    };
    assert_eq!(chosen(&["h2", "http/1.1"], &["http/1.1", "h2"]), Some(b"h2".to_vec()));
    assert_eq!(chosen(&["h2", "http/1.1"], &["http/1.1"]), Some(b"http/1.1".to_vec()));
    assert_eq!(chosen(&["h2", "http/1.1"], &[]), None);
    let unnamed = both(&["h2"], &[]);
    assert_eq!(unnamed.server.failure().alert, Some("no_application_protocol"));
    assert_eq!(chosen(&[], &["h2"]), None);
    let none = both(&["h2"], &["http/1.1"]);
    assert_eq!(none.server.failure().alert, Some("no_application_protocol"));
    assert_eq!(none.client.failure().alert, Some("no_application_protocol"));
}

#[test]
fn what_makes_no_context_is_told_as_what_it_is() {
    let authority = Authority::new();
    let (good, other) = (authority.host("a.example"), authority.host("a.example"));
    let made = |pair: Pair| crate::pair::try_server(&server_spec(vec![pair])).err();
    let with = |chain: &[u8], key: &[u8]| Pair {
        chain_pem: chain.to_vec(),
        key_pem: key.to_vec(),
        ..good.clone()
    };
    assert_eq!(made(good.clone()), None);
    assert_eq!(made(with(b"", &good.key_pem)), Some(ContextError::NoCertificate));
    assert_eq!(made(with(&good.chain_pem, b"")), Some(ContextError::NoKey));
    assert_eq!(made(with(&good.chain_pem, &other.key_pem)), Some(ContextError::KeyMismatch));
    let torn = b"-----BEGIN CERTIFICATE-----\nAAA\n";
    assert!(matches!(made(with(torn, &good.key_pem)), Some(ContextError::Unreadable(_))));
    assert_eq!(Roots::from_pem(b"nothing", b"").err(), Some(ContextError::NoCertificate));
    assert_eq!(
        crate::pair::try_server(&server_spec(Vec::new())).err(),
        Some(ContextError::NoCertificate)
    );
}

/// Two files put together of which the first has no last newline, an item that is indented, and one
/// that is called as another tool calls it: the parser passes over each without a word.
#[test]
fn no_item_of_a_text_is_passed_over() {
    let (one, two) = (Authority::new(), Authority::new());
    let ways: [fn(&str) -> String; 3] = [
        |text| text.trim_start().to_owned(),
        |text| format!("\n {}", text.trim_start()),
        |text| format!("\n{}", text.replace("X509 CRL", "CRL").replace("CERT", "TRUSTED CERT")),
    ];
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    let read = |ca: &str, lists: &str| Roots::from_pem(ca.as_bytes(), lists.as_bytes()).map(|_| ());
    let both = format!("{}\n{}", text(one.pem()), text(two.pem()));
    let lists = format!("{}\n{}", text(one.list(7)), text(two.list(7)));
    assert_eq!(read(&both, &lists), Ok(()));
    let commented = format!("# the first\r\n{}", both.replace('\n', "\r\n"));
    assert_eq!(read(&commented, &lists), Ok(()));
    let passed_over = |found: Result<(), ContextError>| {
        let Err(ContextError::Unreadable(why)) = found else { panic!("{found:?}") };
        assert!(why.starts_with("item 2 "), "{why}");
    };
    for way in ways {
        let glued = |one: Vec<u8>, two: Vec<u8>| text(one).trim_end().to_owned() + &way(&text(two));
        passed_over(read(&glued(one.pem(), two.pem()), ""));
        passed_over(read(&both, &glued(one.list(7), two.list(7))));
        let mut pair = one.host("a.example");
        pair.chain_pem = glued(pair.chain_pem, one.pem()).into_bytes();
        passed_over(pair.check());
    }
}
