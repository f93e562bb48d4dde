//! What trailers may not say: the fields that heads are judged by, and those that a route or a layer
//! set or took out.

use std::borrow::Cow;

use super::ticket::RequestTicket;
use crate::codec::{HeaderOps, is_twin};
use crate::head::Headers;

/// The names that Python layers set or took out, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    request: Vec<Box<[u8]>>,
    response: Vec<Box<[u8]>>,
}

impl RequestTicket {
    /// A layer has set or taken out a field (lower case) of the request, or of the response: from
    /// then on its peer does not say it.
    pub fn changed(&mut self, of_response: bool, name: &[u8]) {
        let changed = self.changed.get_or_insert_default();
        let names = if of_response { &mut changed.response } else { &mut changed.request };
        if !names.iter().any(|known| **known == *name) {
            names.push(name.into());
        }
    }

    /// A request's trailers as they are sent on.
    #[must_use]
    pub fn request_trailers<'a>(&self, trailers: &'a Headers) -> Cow<'a, Headers> {
        let changed = self.changed.as_ref().map_or(&[][..], |changed| &changed.request);
        let guards = self.compiled.guards(self.listener);
        trimmed(trailers, self.request_ops(), changed, |name| {
            guards.is_some_and(|guards| guards.closes(name))
        })
    }

    /// A response's trailers as they are sent on.
    #[must_use]
    pub fn response_trailers<'a>(&self, trailers: &'a Headers) -> Cow<'a, Headers> {
        let changed = self.changed.as_ref().map_or(&[][..], |changed| &changed.response);
        trimmed(trailers, self.response_ops(), changed, |_| false)
    }
}

fn trimmed<'a>(
    trailers: &'a Headers,
    ops: &HeaderOps,
    changed: &[Box<[u8]>],
    is_closed: impl Fn(&[u8]) -> bool,
) -> Cow<'a, Headers> {
    let is_changed = |name: &[u8]| changed.iter().any(|c| **c == *name || is_twin(name, c));
    let stops = |name: &[u8]| ops.drops(name) || is_changed(name) || is_closed(name);
    if !trailers.iter().any(|(name, _)| stops(name)) {
        return Cow::Borrowed(trailers);
    }
    let mut left = trailers.clone();
    left.retain(|name, _| !stops(name));
    Cow::Owned(left)
}
