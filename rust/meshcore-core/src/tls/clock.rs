//! The time by which certificates and tickets are valid.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::sync::{AtomicU64, Ordering};

/// Seconds since 1970, as its owner last set them. Cloning gives another hand on the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(unix_s: u64) -> Self {
        let clock = Self::default();
        clock.set(unix_s);
        clock
    }

    /// It is so late now.
    pub fn set(&self, unix_s: u64) {
        // Relaxed: nothing else is published by it.
        self.0.store(unix_s, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}
