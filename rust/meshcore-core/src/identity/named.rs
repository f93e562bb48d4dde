//! An identity without a certificate.

use std::net::IpAddr;

use rustls_pki_types::DnsName;

use super::{Identity, spiffe};

impl Identity {
    /// Of a client with these names, written as [`Identity::names`] writes them: for tests of a
    /// configuration, to which no certificate is shown. O(bytes).
    ///
    /// # Errors
    /// What is wrong with the first that no certificate may have.
    pub fn named(names: &[String]) -> Result<Self, String> {
        let mut made = Self::default();
        for name in names {
            let bad = |why: &str| format!("{name:?}: {why}");
            let text = name.split_once(':').map_or("", |(_, text)| text);
            match name.split_once(':').map_or("", |(kind, _)| kind) {
                "spiffe" => {
                    spiffe::check(name).map_err(bad)?;
                    made.is_spiffe = true;
                    made.uris.push(name.clone());
                }
                "uri" if is_text(text) && !spiffe::is_claimed(text) => {
                    made.uris.push(text.to_owned());
                }
                "dns" => {
                    let bare = text.strip_prefix("*.").unwrap_or(text);
                    DnsName::try_from(bare).map_err(|_| bad("this is no DNS name"))?;
                    let name = text.strip_suffix('.').unwrap_or(text);
                    made.dns.push(name.to_ascii_lowercase());
                }
                "ip" => {
                    let ip: IpAddr = text.parse().map_err(|_| bad("this is no address"))?;
                    made.ips.push(ip.to_canonical());
                }
                "email" if is_text(text) && text.contains('@') => made.emails.push(text.to_owned()),
                _ => return Err(bad("expected spiffe://…, dns:…, uri:…, ip:… or email:…")),
            }
        }
        if made.is_spiffe && made.uris.len() > 1 {
            return Err("a SPIFFE ID is a certificate's only URI (X.509-SVID §2)".to_owned());
        }
        Ok(made)
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}
