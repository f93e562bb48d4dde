//! Who a client is by its certificate, and how endpoints are told: `x-forwarded-client-cert`.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;

use super::client_address::Client;
use crate::head::RequestHead;
use crate::identity::{Admitted, Identity, Index};
use crate::snapshot::ForwardedCert;

const FORWARDED: &[u8] = b"x-forwarded-client-cert";

/// What a verified certificate said, once for a connection.
#[derive(Debug)]
pub struct Certified {
    /// What the client is called.
    pub identity: String,
    /// All that it says of its holder.
    pub holder: Identity,
    /// The same as an element of `x-forwarded-client-cert`.
    pub element: String,
    /// What rules say of it that it was asked for by.
    found: ArcSwapOption<Vec<(Weak<Index>, Arc<Admitted>)>>,
}

impl Certified {
    /// Of a holder, and how endpoints are told.
    #[must_use]
    pub fn new(holder: Identity, element: String) -> Self {
        Self { identity: holder.name(), holder, element, found: ArcSwapOption::empty() }
    }

    /// Whose rules it has a name of. O(indexes that were asked), and the first time of each
    /// [`Index::admitted`]; what an index said that is gone is forgotten then.
    pub(super) fn admitted(&self, index: &Arc<Index>) -> Arc<Admitted> {
        let before = self.found.load();
        let all = || before.iter().flat_map(|all| all.iter());
        if let Some((_, known)) = all().find(|(of, _)| of.as_ptr() == Arc::as_ptr(index)) {
            return Arc::clone(known);
        }
        let admitted = Arc::new(index.admitted(&self.holder));
        let mut next: Vec<_> = all().filter(|(of, _)| of.strong_count() > 0).cloned().collect();
        next.push((Arc::downgrade(index), Arc::clone(&admitted)));
        self.found.store(Some(Arc::new(next)));
        admitted
    }
}

impl ForwardedCert {
    /// Takes out of a received head what is not passed on of other connections' certificates, and
    /// adds what is said of this one. Of a peer that is not believed, what it said is out already;
    /// `vouched`: the head has something that only proxies say. O(fields), and for a client
    /// without certificate and such fields nothing.
    pub(super) fn apply(self, client: &Client, vouched: bool, head: &mut RequestHead) {
        let headers = &mut head.headers;
        if vouched && matches!(self, Self::Sanitize | Self::Set) {
            headers.remove(FORWARDED);
        }
        let Some(own) = &client.certified else { return };
        if !matches!(self, Self::Append | Self::Set) {
            return;
        }
        // One field: of several, many readers take the first alone.
        let mut elements: Vec<_> = headers.get_all(FORWARDED).map(<[u8]>::to_vec).collect();
        elements.push(own.element.as_bytes().to_vec());
        if elements.len() > 1 {
            headers.remove(FORWARDED);
        }
        headers.push_folded(FORWARDED, &elements.join(&b','));
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::identity::Rules;

    fn index(name: &str) -> Arc<Index> {
        let rules = Rules::parse(&[name.to_owned()]).expect("a rule");
        Arc::new(Index::new([(0, &rules)]))
    }

    #[test]
    fn rules_are_asked_once_for_a_connection_and_forgotten_with_their_configuration() {
        let holder = Identity::named(&["dns:a.example".to_owned()]).expect("a name");
        let certified = Certified::new(holder, String::new());
        let (one, other) = (index("dns:a.example"), index("dns:b.example"));
        let said = [certified.admitted(&one), certified.admitted(&other)];
        assert!(said[0].has(0) && !said[1].has(0));
        for _ in 0..2 {
            assert!(Arc::ptr_eq(&said[0], &certified.admitted(&one)));
            assert!(Arc::ptr_eq(&said[1], &certified.admitted(&other)));
        }
        drop(one);
        let _third = certified.admitted(&index("dns:c.example"));
        assert_eq!(certified.found.load().as_ref().map(|all| all.len()), Some(2));
    }
}
