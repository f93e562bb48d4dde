//! What trailers may not say: the fields of heads that decide, and those that a route or a layer
//! set or took out.

use std::borrow::Cow;

use super::body_hooks::AtWork;
use super::ticket::RequestTicket;
use crate::codec::{HeaderOps, is_alike};
use crate::head::Headers;

/// The names of a message's fields that Python layers set or took out, each once.
#[derive(Clone, Debug, Default)]
pub struct Changed(ThinNames);

/// Nothing but a null pointer in most messages.
type ThinNames = Option<Box<Vec<Box<[u8]>>>>;

impl Changed {
    /// A layer has set or taken out this one (lower case). O(names).
    pub fn note(&mut self, name: &[u8]) {
        let names = self.0.get_or_insert_default();
        if !names.iter().any(|known| **known == *name) {
            names.push(name.into());
        }
    }

    fn has(&self, name: &[u8]) -> bool {
        let mut names = self.0.iter().flat_map(|names| names.iter());
        names.any(|known| is_alike(name, known))
    }
}

/// What layers changed of a request, and of its response.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangedByLayers {
    request: Changed,
    response: Changed,
    /// Since when a hook of theirs has a piece of either body.
    pub(super) at_work: AtWork,
}

impl RequestTicket {
    /// Layers have set and taken out these fields of the request: its client does not say them in
    /// trailers.
    pub fn request_changed(&mut self, changed: &Changed) {
        if changed.0.is_some() {
            self.changed.get_or_insert_default().request = changed.clone();
        }
    }

    /// The same of the response, and of its endpoint.
    pub fn response_changed(&mut self, changed: &Changed) {
        if changed.0.is_some() {
            self.changed.get_or_insert_default().response = changed.clone();
        }
    }

    /// A request's trailers as they are sent on.
    #[must_use]
    pub fn request_trailers<'a>(&self, trailers: &'a Headers) -> Cow<'a, Headers> {
        let changed = self.changed.as_ref().map(|changed| &changed.request);
        let guards = self.compiled.guards(self.listener);
        trimmed(trailers, self.request_ops(), changed, |name| {
            guards.is_some_and(|guards| guards.closes(name))
        })
    }

    /// A response's trailers as they are sent on.
    #[must_use]
    pub fn response_trailers<'a>(&self, trailers: &'a Headers) -> Cow<'a, Headers> {
        let changed = self.changed.as_ref().map(|changed| &changed.response);
        trimmed(trailers, self.response_ops(), changed, |_| false)
    }
}

fn trimmed<'a>(
    trailers: &'a Headers,
    ops: &HeaderOps,
    changed: Option<&Changed>,
    is_closed: impl Fn(&[u8]) -> bool,
) -> Cow<'a, Headers> {
    let is_changed = |name: &[u8]| changed.is_some_and(|changed| changed.has(name));
    let stops = |name: &[u8]| ops.drops(name) || is_changed(name) || is_closed(name);
    if !trailers.iter().any(|(name, _)| stops(name)) {
        return Cow::Borrowed(trailers);
    }
    let mut left = trailers.clone();
    left.retain(|name, _| !stops(name));
    Cow::Owned(left)
}
