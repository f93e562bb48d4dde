//! How an open connection's client stands by the rules that are in force now, whatever they were
//! when its handshake was made.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

use super::server::{REFUSED, ServerContext, asks};
use crate::sync::{AtomicU64, Ordering};

/// By which rules the clients of a listener are verified; its connections keep it over reloads.
pub struct InForce(ArcSwap<Numbered>);

struct Numbered {
    /// From 1.
    version: u64,
    /// None while the listener has no TLS.
    context: Option<ServerContext>,
}

impl InForce {
    /// The rules of a context.
    #[must_use]
    pub fn new(context: ServerContext) -> Self {
        Self(ArcSwap::from_pointee(Numbered { version: 1, context: Some(context) }))
    }

    /// Others count from now on. For one caller at a time.
    pub fn put(&self, context: ServerContext) {
        self.set(Some(context));
    }

    /// There are none any more: a client that is there may stay, unverified. For one caller at
    /// a time.
    pub fn end(&self) {
        self.set(None);
    }

    fn set(&self, context: Option<ServerContext>) {
        let version = self.0.load().version + 1;
        self.0.store(Arc::new(Numbered { version, context }));
    }
}

/// A client that came in, and the rules in force.
///
/// # Orderings
/// Its words are one connection's, which one thread serves, and publish nothing: `Relaxed`. Torn
/// ones make it be verified once more.
pub struct Standing {
    in_force: Arc<InForce>,
    /// The host that it asked for in its handshake.
    asked: String,
    /// What it has shown; empty: nothing.
    chain: Vec<CertificateDer<'static>>,
    /// The version of the rules by which it was verified last.
    verified_version: AtomicU64,
    /// By which of them it was let in.
    rule: AtomicU64,
}

impl Standing {
    /// Of a client that was let in by a rule; verified when it is first asked for.
    pub(super) fn new(
        in_force: Arc<InForce>,
        asked: Option<&str>,
        chain: &[CertificateDer<'static>],
        rule: u64,
    ) -> Self {
        let asked = asked.unwrap_or_default().to_owned();
        let (verified_version, rule) = (AtomicU64::new(0), AtomicU64::new(rule));
        Self { in_force, asked, chain: chain.to_vec(), verified_version, rule }
    }

    /// Of a client that came before its listener had TLS: as one that asks for no host and shows
    /// nothing.
    #[must_use]
    pub fn of_plain(in_force: Arc<InForce>) -> Self {
        Self::new(in_force, None, &[], REFUSED)
    }

    /// The rule by which it would come in now; [`REFUSED`] if it would not. O(1), and O(verifying)
    /// once after its rule has changed.
    fn rule(&self, version: u64, context: &ServerContext) -> u64 {
        if self.verified_version.load(Ordering::Relaxed) != version {
            let rule = self.rule.load(Ordering::Relaxed);
            if context.rule(&self.asked).id != rule {
                self.verify(context);
            }
            self.verified_version.store(version, Ordering::Relaxed);
        }
        self.rule.load(Ordering::Relaxed)
    }

    fn verify(&self, context: &ServerContext) {
        let rule = context.rule(&self.asked);
        let is_admitted = rule.admits(&self.chain, &context.clock);
        self.rule.store(if is_admitted { rule.id } else { REFUSED }, Ordering::Relaxed);
    }

    /// What its rule is to `find`; `ended` where there are none.
    fn by<T>(&self, ended: T, find: impl FnOnce(&ServerContext, u64) -> T) -> T {
        let now = self.in_force.0.load();
        let Some(context) = &now.context else { return ended };
        find(context, self.rule(now.version, context))
    }

    /// Whether the client would come in now.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.by(true, |_, rule| rule != REFUSED)
    }

    /// The same, by a whole verification at this time, also where its rule is the same: what that
    /// believes may have ended. O(verifying).
    #[must_use]
    pub fn is_admitted_at(&self, unix_s: u64) -> bool {
        let now = self.in_force.0.load();
        let Some(context) = &now.context else { return true };
        context.clock.set(unix_s);
        self.verify(context);
        self.verified_version.store(now.version, Ordering::Relaxed);
        self.rule.load(Ordering::Relaxed) != REFUSED
    }

    /// Whether what it asks of a host is for another connection (RFC 9110 §15.5.20): that host's
    /// clients are verified by another rule than its own, or it would not come in any more.
    #[must_use]
    pub fn is_misdirected(&self, host: &str) -> bool {
        self.by(false, |context, rule| {
            rule == REFUSED || context.is_named && context.rule(host).id != rule
        })
    }

    /// Whether its certificate is verified: not where clients are asked for none any more.
    #[must_use]
    pub fn is_vouched_for(&self) -> bool {
        self.by(false, |_, rule| rule == REFUSED || asks(rule))
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InForce").field("version", &self.0.load().version).finish_non_exhaustive()
    }
}
