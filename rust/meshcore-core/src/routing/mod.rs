//! From a request head to its route: a compiled index, immutable, swapped as a whole.
//!
//! # Map
//!
//! [`RouteTable`] (`table`) finds the host (`hosts`), then the route inside it (`host_table`): by
//! its path (`paths`: one hash look-up for an exact path, one for each possible prefix; `regexes`:
//! one pass for each group of expressions that begin as the path does), then by its predicates
//! (`predicates`, `fields`, `query`) and listener (`listeners`).
//! [`rewrite`] turns the path or makes the redirect that the found route asks for. [`RouteMap`]
//! (`route_map`) is the same table for people who want nothing but a router.
//!
//! # Precedence
//!
//! Higher `priority` first; then the most specific path: exact, longest prefix, regex, any; then
//! the number of header and query predicates; then a route that names methods before one that
//! does not; then file order. Every prefix comes before every regex, also `/`: a catch-all under
//! regexes is a route without a path. A listener with `match_first` asks for Envoy's rule
//! instead: higher `priority`, then file order, whatever the path.
//!
//! # Which host
//!
//! Exact name, then longest `*.suffix`, then longest `prefix.*`, then `*`; the first that has any
//! route for the listener owns the request. If none of its routes matches, the answer is "no
//! route": there is no fall-through to a less specific host, as in Envoy's virtual hosts and
//! between Gateway API listeners, because a closed-down host would otherwise be served by a
//! wildcard that was written without it in mind.
//!
//! # Cost
//!
//! A look-up allocates nothing (but for regexes) and its time is bounded by the configuration and
//! linear in the request. The hash is not keyed: only the operator's configuration is ever
//! inserted, so a request cannot build collisions.

mod error;
mod fields;
mod host_table;
mod hosts;
mod listeners;
mod paths;
mod predicates;
mod query;
mod regexes;
pub mod rewrite;
mod route;
mod route_map;
mod sets;
mod table;

pub use error::{HOST_REGEX_LIMIT, REGEX_LIMIT, RouteError, RouteProblem};
pub use listeners::ListenerId;
pub use paths::check_path;
pub use predicates::check_regex;
pub use route::{CompiledRoute, Matched};
pub use route_map::{Change, RouteMap, Stored};
pub use sets::{MethodSet, PathPatterns, PathRules};
pub use table::{Found, RequestView, RouteTable};

/// The hash of every index of this room.
fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(bytes);
    hasher.finish()
}
