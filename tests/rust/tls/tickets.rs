//! What a ticket opens, and what it does not.

use std::sync::Arc;

use meshcore_core::tls::{
    ClientAuth, ClientContext, ClientSpec, Clock, Roots, Rules, ServerContext, TicketKeys,
    TicketRing, Trust, Version,
};

use crate::authority::{Authority, DAY_S, END_S, NOW_S};
use crate::pair::{Ends, ServerSpec, client, client_spec, ring, server_spec};

fn context(spec: &ServerSpec, ring: &TicketRing) -> ServerContext {
    ServerContext::new(spec, ring, &Clock::at(NOW_S)).unwrap()
}

/// A connection, on which the client hears of tickets too.
fn connect(client: &ClientContext, server: &ServerContext) -> Ends {
    let mut both = Ends::new(client, server, "a.example").shake(100_000);
    if both.server.session.failure().is_none() {
        both.assert_whole();
    }
    both
}

fn plain() -> (Authority, ServerSpec, ClientContext) {
    let authority = Authority::new();
    let spec = server_spec(vec![authority.host("a.example")]);
    let client = client(&client_spec(authority.roots()));
    (authority, spec, client)
}

#[test]
fn a_ticket_of_one_worker_opens_at_another() {
    let (_, spec, client) = plain();
    assert!(!connect(&client, &context(&spec, &ring(1))).server.is_resumed());
    let both = connect(&client, &context(&spec, &ring(1)));
    assert!(both.server.is_resumed() && both.client.is_resumed());
    assert_eq!(both.server.session.agreed().unwrap().server_name, Some("a.example"));
}

#[test]
fn keys_that_are_not_in_force_open_nothing_and_old_ones_still_do() {
    let (_, spec, client) = plain();
    let key = |seed| Arc::new(TicketKeys::new(&[seed; TicketKeys::BYTES]).unwrap());
    let ring = TicketRing::default();
    let server = context(&spec, &ring);
    assert!(!connect(&client, &server).server.is_resumed());
    assert!(!connect(&client, &server).server.is_resumed(), "without keys there are no tickets");
    ring.set(vec![key(1)]);
    connect(&client, &server);
    ring.set(vec![key(2), key(1)]);
    assert!(connect(&client, &server).server.is_resumed());
    ring.set(vec![key(3)]);
    assert!(!connect(&client, &server).server.is_resumed());
}

/// Everything that decides about a client is part of what a ticket is sealed with.
#[test]
fn a_ticket_opens_only_where_it_was_given() {
    let (authority, spec, _) = plain();
    let other = Authority::new();
    let own =
        ClientSpec { pair: Some(authority.client("web", 2_027)), ..client_spec(authority.roots()) };
    let required = ClientAuth::Require(authority.roots());
    let given = ServerSpec { clients: required.clone(), ..spec.clone() };
    let lists = Roots::from_pem(&authority.pem(), &authority.list(8)).unwrap();
    let rules = Rules::parse(&["spiffe://a.example/web".to_owned()]).unwrap();
    let own_domain = ("a.example".to_owned(), authority.believed());
    let require =
        |trust: Trust| ServerSpec { clients: ClientAuth::Require(trust), ..given.clone() };
    for (what, changed) in [
        ("listener", ServerSpec { listener: "other".to_owned(), ..given.clone() }),
        ("mode", ServerSpec { clients: ClientAuth::Request(authority.roots()), ..given.clone() }),
        ("nobody asked", ServerSpec { clients: ClientAuth::None, ..given.clone() }),
        ("version", ServerSpec { least: Version::Tls13, ..given.clone() }),
        ("rules", require(Trust { rules, ..authority.roots() })),
        ("lists", require(lists.clone().into())),
        ("old lists", require(lists.using_expired_lists().into())),
        ("domains", require(Trust { domains: vec![own_domain], ..authority.roots() })),
    ] {
        for (first, second) in [(&given, &changed), (&changed, &given)] {
            let client = client(&own);
            connect(&client, &context(first, &ring(1)));
            let both = connect(&client, &context(second, &ring(1)));
            assert!(!both.server.is_resumed(), "{what}");
        }
        let client = client(&own);
        connect(&client, &context(&given, &ring(1)));
        assert!(connect(&client, &context(&given, &ring(1))).server.is_resumed());
    }
    // Without a certificate at a listener that asks for none, then at one that requires one.
    let nobody = client(&client_spec(authority.roots()));
    connect(&nobody, &context(&spec, &ring(1)));
    let both = connect(&nobody, &context(&given, &ring(1)));
    assert_eq!(both.server.failure().alert, Some("certificate_required"));
    // By one authority, then where another one decides.
    let elsewhere = ServerSpec { clients: ClientAuth::Require(other.roots()), ..spec };
    let known = client(&own);
    connect(&known, &context(&given, &ring(1)));
    let both = connect(&known, &context(&elsewhere, &ring(1)));
    assert!(both.server.session.failure().is_some());
    assert_eq!(both.server.established, 0);
}

#[test]
fn who_resumes_is_verified_again() {
    let (authority, spec, _) = plain();
    let spec = ServerSpec { clients: ClientAuth::Require(authority.roots()), ..spec };
    let (clock, client_clock) = (Clock::at(NOW_S), Clock::at(NOW_S));
    let server = ServerContext::new(&spec, &ring(1), &clock).unwrap();
    let known =
        ClientSpec { pair: Some(authority.client("web", 2_027)), ..client_spec(authority.roots()) };
    let known = ClientContext::new(&known, &client_clock).unwrap();
    connect(&known, &server);
    let both = connect(&known, &server);
    assert!(both.server.is_resumed());
    assert!(both.server.session.agreed().unwrap().peer.is_some());
    // The certificate is over; the client, whose clock is wrong, resumes.
    clock.set(NOW_S + 366 * DAY_S);
    client_clock.set(NOW_S + 60);
    let late = Ends::new(&known, &server, "a.example").shake(100_000);
    assert!(late.server.session.failure().is_some());
    assert_eq!((late.server.established, late.server.plain.len()), (0, 0));
    assert!(late.client.plain.is_empty());
    // It has a new one then, and keeps what it would resume: that opens no more.
    clock.set(NOW_S + 60);
    let whole = Ends::new(&known, &server, "a.example").shake(100_000);
    assert!(whole.server.session.failure().is_none());
    assert!(!whole.server.is_resumed());
}

#[test]
fn an_endpoint_that_resumes_is_verified_again() {
    let (authority, spec, _) = plain();
    let clock = Clock::at(END_S - 60); // a ticket that is older than a day is not shown
    let known = ClientContext::new(&client_spec(authority.roots()), &clock).unwrap();
    let server = context(&spec, &ring(1));
    connect(&known, &server);
    assert!(connect(&known, &server).client.is_resumed());
    clock.set(END_S + 60);
    let late = Ends::new(&known, &server, "a.example").shake(100_000);
    assert!(late.client.session.failure().is_some(), "it has expired meanwhile");
    assert_eq!(late.client.established, 0);
    clock.set(END_S - 30); // as if it had another one: nothing of the old is tried again
    assert!(!connect(&known, &server).client.is_resumed());
}
