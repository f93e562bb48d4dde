//! Tickets with which clients resume, sealed with keys that every worker knows.
//!
//! A ticket opens only for the listener that gave it, and only while everything that decides about
//! a client there is what it was: that is part of what is authenticated (`bound`), for rustls
//! believes what it finds in a ticket. A key seals for a while and opens for a while longer.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use memchr::memmem;
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;

use super::ContextError;

const NAME_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = NAME_BYTES + NONCE_BYTES;
/// What opens a ticket is no longer than this: the chain of a client certificate is in it.
const MOST_BYTES: usize = 65_535;

/// A key for tickets: 16 bytes that name it, and 32 that seal.
pub struct TicketKeys {
    name: [u8; NAME_BYTES],
    seal: LessSafeKey,
}

impl TicketKeys {
    /// How many random bytes a key is made of.
    pub const BYTES: usize = NAME_BYTES + 32;

    /// Of random bytes.
    ///
    /// # Errors
    /// [`ContextError::UnusableKey`], which AES takes no bytes for.
    pub fn new(bytes: &[u8; Self::BYTES]) -> Result<Self, ContextError> {
        let (name, seal) = bytes.split_at(NAME_BYTES);
        let unusable = |_| ContextError::UnusableKey("for tickets".to_owned());
        Ok(Self {
            name: name.try_into().map_err(|_| ContextError::NoKey)?,
            seal: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, seal).map_err(unusable)?),
        })
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(..)") // no dump shows them
    }
}

/// The keys in force: the first seals, all open. Cloning gives another hand on the same ring.
#[derive(Clone, Debug, Default)]
pub struct TicketRing(Arc<ArcSwap<Vec<Arc<TicketKeys>>>>);

impl TicketRing {
    /// These keys are in force from now on; without any there are no tickets.
    pub fn set(&self, keys: Vec<Arc<TicketKeys>>) {
        self.0.store(Arc::new(keys));
    }
}

/// How many peers are remembered whose tickets open no more.
const MOST_REFUSED: usize = 64;

/// Certificates that came in a ticket and did not pass any more. A client that shows such a ticket
/// would be refused for as long as it keeps it; so it opens no more, and a whole handshake follows.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused(Arc<ArcSwap<Vec<CertificateDer<'static>>>>);

impl Refused {
    /// Tickets of this one open no more.
    pub(super) fn add(&self, leaf: &CertificateDer<'static>) {
        self.0.rcu(|known| {
            let kept = known.iter().filter(|each| *each != leaf).take(MOST_REFUSED - 1);
            [leaf].into_iter().chain(kept).cloned().collect::<Vec<_>>()
        });
    }

    /// Whether a ticket holds one of them, in the form that rustls gives it. O(bytes) for each.
    fn is_in(&self, ticket: &[u8]) -> bool {
        self.0.load().iter().any(|leaf| memmem::find(ticket, leaf).is_some())
    }
}

/// Seals tickets of one listener.
pub(super) struct Tickets {
    ring: TicketRing,
    refused: Refused,
    /// A digest of everything that decides about a client.
    bound: [u8; 32],
    lifetime_s: u32,
}

impl Tickets {
    pub(super) const fn new(
        ring: TicketRing,
        refused: Refused,
        bound: [u8; 32],
        lifetime_s: u32,
    ) -> Self {
        Self { ring, refused, bound, lifetime_s }
    }

    fn authenticated(&self, name: [u8; NAME_BYTES]) -> Aad<[u8; NAME_BYTES + 32]> {
        let mut all = [0; NAME_BYTES + 32];
        all[..NAME_BYTES].copy_from_slice(&name);
        all[NAME_BYTES..].copy_from_slice(&self.bound);
        Aad::from(all)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(..)")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.ring.0.load().is_empty()
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_s
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.ring.0.load();
        let key = keys.first()?;
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).ok()?;
        let mut out = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        out.extend_from_slice(&key.name);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let (aad, nonce) = (self.authenticated(key.name), Nonce::assume_unique_for_key(nonce));
        let (_, sealed) = out.split_at_mut(HEAD_BYTES);
        let tag = key.seal.seal_in_place_separate_tag(nonce, aad, sealed).ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MOST_BYTES {
            return None;
        }
        let (head, sealed) = ticket.split_at_checked(HEAD_BYTES)?;
        let name: [u8; NAME_BYTES] = head[..NAME_BYTES].try_into().ok()?;
        let nonce: [u8; NONCE_BYTES] = head[NAME_BYTES..].try_into().ok()?;
        let keys = self.ring.0.load();
        let key = keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut opened = sealed.to_vec();
        let len = key.seal.open_in_place(nonce, self.authenticated(name), &mut opened).ok()?.len();
        opened.truncate(len);
        (!self.refused.is_in(&opened)).then_some(opened)
    }
}
