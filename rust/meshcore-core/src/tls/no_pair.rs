//! What an endpoint gets that asks for a certificate where we have none: nothing, and it is known.

use std::cell::Cell;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use crate::sync::{AtomicBool, Ordering};

thread_local! {
    /// Whether one was asked for: rustls tells only the one that is to give it, and that is shared
    /// by all sessions. Read in the same call.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a certificate was asked for in vain, since the last call.
pub(super) fn asked_in_vain() -> bool {
    ASKED.take()
}

/// Our certificate, where there is none.
#[derive(Debug, Default)]
pub(super) struct NoPair {
    /// Ever: a session that is resumed is not asked again. `Relaxed`: it publishes nothing.
    asked: AtomicBool,
}

impl NoPair {
    /// Whether one was ever asked for.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for NoPair {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        self.asked.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
