//! Who a client is by its certificate, and how endpoints are told: `x-forwarded-client-cert`.

use super::client_address::Client;
use crate::head::RequestHead;
use crate::identity::Identity;
use crate::snapshot::ForwardedCert;

const FORWARDED: &[u8] = b"x-forwarded-client-cert";

/// What a verified certificate said, once for a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certified {
    /// What the client is called.
    pub identity: String,
    /// All that it says of its holder.
    pub holder: Identity,
    /// The same as an element of `x-forwarded-client-cert`.
    pub element: String,
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
