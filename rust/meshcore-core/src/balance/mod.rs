//! Which endpoint serves the next attempt.
//!
//! # Map
//!
//! [`EndpointState`] is what all workers know of one endpoint: requests in flight, whether it is
//! ejected ([`ejection`]: a machine in one word) or draining. A [`Picker`] chooses among the
//! endpoints of one upstream, by turns ([`snapshot::Balance::RoundRobin`]), by load
//! (`LeastRequest`) or by chance (`Random`), and leaves out those that are ejected, draining or
//! already tried. Random numbers come from a [`Rng`] that the caller seeds.
//!
//! A pick is O(1) expected; only when most draws fail is the list scanned.
//!
//! [`snapshot::Balance::RoundRobin`]: crate::snapshot::Balance::RoundRobin

pub mod ejection;
mod endpoint;
mod health;
mod picker;
mod random;
mod rng;
mod round_robin;
mod tried;

pub use ejection::{EndpointOutcome, EndpointPermit, PROBE_LEASE, Settled};
pub use endpoint::EndpointState;
pub use picker::{Endpoint, Picked, Picker};
pub use rng::Rng;
pub use tried::Tried;
