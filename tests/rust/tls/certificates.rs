//! Which certificate a client gets, and which one it believes.

use std::sync::Arc;

use meshcore_core::tls::{ClientSpec, ContextError, Identity, Pair, Roots, Trust};
use rcgen::ExtendedKeyUsagePurpose as Usage;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use crate::authority::{Authority, self_signed};
use crate::pair::{Ends, ServerSpec, client, client_spec, server, server_spec, shake_hands};

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

/// Which of several leaves is in a server's answer of TLS 1.2, where it is not sealed.
fn shown<'a>(pairs: &'a [Pair], hello: &[u8]) -> Option<&'a str> {
    let mut session = server(&server_spec(pairs.to_vec())).session().unwrap();
    session.receive(&mut hello.to_vec(), &mut Vec::new());
    let said = session.take_output();
    let has = |pair: &&Pair| {
        let der = CertificateDer::from_pem_slice(&pair.chain_pem).unwrap();
        said.windows(der.len()).any(|part| part == &*der)
    };
    let found = pairs.iter().find(has)?;
    Some(if found.key_pem.len() > 1_000 { "RSA" } else { "ECDSA" })
}

const SUPPORTED_VERSIONS: u16 = 43;
const SIGNATURE_ALGORITHMS_CERT: u16 = 50;
const ECDHE_RSA: [u16; 1] = [0xC02F];
const OF_1_3: [u16; 1] = [0x1301];

/// The first message of a client that knows all, with other suites, and extensions put in or out.
fn hello(suites: &[u16], without: &[u16], with: &[(u16, &[u16])]) -> Vec<u8> {
    let authority = Authority::new();
    let client = client(&client_spec(authority.roots()));
    let said = client.session("a.example").unwrap().take_output();
    let bytes = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    let length = |at: usize| usize::from(u16::from_be_bytes([said[at], said[at + 1]]));
    // Behind the heads of record and message, a version and the random bytes: the session's id.
    let suites_at = 5 + 4 + 2 + 32 + 1 + usize::from(said[5 + 4 + 2 + 32]);
    let extensions_at = suites_at + 2 + length(suites_at) + 2;
    let mut extensions = Vec::new();
    let mut at = extensions_at + 2;
    while at < said.len() {
        let next = at + 4 + length(at + 2);
        if !without.contains(&u16::from_be_bytes([said[at], said[at + 1]])) {
            extensions.extend_from_slice(&said[at..next]);
        }
        at = next;
    }
    for (kind, list) in with {
        let list: Vec<u8> = list.iter().flat_map(|each| each.to_be_bytes()).collect();
        let parts = [&kind.to_be_bytes()[..], &bytes(list.len() + 2), &bytes(list.len()), &list];
        extensions.extend(parts.concat());
    }
    let suites: Vec<u8> = suites.iter().flat_map(|each| each.to_be_bytes()).collect();
    let body = [
        &said[9..suites_at],
        &bytes(suites.len()),
        &suites,
        &[1, 0],
        &bytes(extensions.len()),
        &extensions,
    ]
    .concat();
    let message = [&[1, 0][..], &bytes(body.len()), &body].concat();
    [&[22, 3, 1][..], &bytes(message.len()), &message].concat()
}

/// A client that lists suites of TLS 1.3 speaks it only if it says so (RFC 8446 §4.2.1).
#[test]
fn a_certificate_is_chosen_by_the_version_that_will_be_spoken() {
    const ECDHE_ECDSA: u16 = 0xC02B;
    let authority = Authority::new();
    let both = [authority.host("a.example"), authority.rsa_host("a.example")];
    let mixed = [OF_1_3, ECDHE_RSA].concat();
    let versions: &[&[u16]] = &[&[SUPPORTED_VERSIONS], &[]];
    for without in versions {
        // With TLS 1.3 the answer is sealed.
        let wanted = (!without.is_empty()).then_some("RSA");
        assert_eq!(shown(&both, &hello(&mixed, without, &[])), wanted);
        for suites in [vec![ECDHE_ECDSA], [&mixed[..], &[ECDHE_ECDSA]].concat()] {
            let chosen = shown(&both, &hello(&suites, &[SUPPORTED_VERSIONS], &[]));
            assert_eq!(chosen, Some("ECDSA"));
        }
    }
    // And the curves of its groups count then: here are none of them.
    let x25519: (u16, &[u16]) = (10, &[29]);
    let suites = [&mixed[..], &[ECDHE_ECDSA]].concat();
    let chosen = shown(&both, &hello(&suites, &[SUPPORTED_VERSIONS, 10], &[x25519]));
    assert_eq!(chosen, Some("RSA"));
}

/// RFC 8446 §4.2.3, of TLS 1.2 too.
#[test]
fn a_chain_is_chosen_by_what_a_client_says_of_chains() {
    const ECDSA_SHA256: u16 = 0x0403;
    const ECDSA_SHA384: u16 = 0x0503;
    const RSA_SHA256: u16 = 0x0401;
    let both = [Authority::new().host("a.example"), Authority::rsa().rsa_host("a.example")];
    let all = [&ECDHE_RSA[..], &[0xC02B]].concat();
    let said = |suites: &[u16], list: &[u16]| {
        shown(&both, &hello(suites, &[SUPPORTED_VERSIONS], &[(SIGNATURE_ALGORITHMS_CERT, list)]))
    };
    for (list, wanted) in [
        (&[ECDSA_SHA256, RSA_SHA256][..], "ECDSA"),
        (&[ECDSA_SHA256], "ECDSA"),
        (&[RSA_SHA256], "RSA"),
        (&[RSA_SHA256, ECDSA_SHA384], "RSA"),
        (&[ECDSA_SHA384], "ECDSA"), // none fits: as if nothing had been said
        (&[], "ECDSA"),
    ] {
        assert_eq!(said(&all, list), Some(wanted), "{list:?}");
    }
    assert_eq!(said(&ECDHE_RSA, &[ECDSA_SHA256]), Some("RSA")); // it has to verify the handshake
    // What signed itself is believed as it is, or not.
    let own = self_signed("a.example", 2_027, &[Usage::ServerAuth]);
    let both = [own, both[1].clone()];
    let list = (SIGNATURE_ALGORITHMS_CERT, &[RSA_SHA256][..]);
    assert_eq!(shown(&both, &hello(&all, &[SUPPORTED_VERSIONS], &[list])), Some("ECDSA"));
}

/// It is asked for once more with the second message.
#[test]
fn what_is_chosen_by_is_known_behind_a_retry() {
    let (first, second) = (Authority::new(), Authority::rsa());
    let both = [first.host("a.example"), second.rsa_host("a.example")];
    let mut roots = RootCertStore::empty();
    for authority in [first, second] {
        roots.add(CertificateDer::from_pem_slice(&authority.pem()).unwrap()).unwrap();
    }
    let mut session = server(&server_spec(both.to_vec())).session().unwrap();
    let mut provider = default_provider();
    // The first is not spoken here, and the key is on neither.
    provider.kx_groups = vec![kx_group::MLKEM1024, kx_group::SECP384R1];
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "a.example".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    shake_hands(&mut client, &mut session);
    assert_eq!(client.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
    let shown = &client.peer_certificates().unwrap()[0];
    assert_eq!(&**shown, &*CertificateDer::from_pem_slice(&both[0].chain_pem).unwrap());
}
