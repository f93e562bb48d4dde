//! Why certificates, keys or roots make no context.

use std::fmt;

use x509_cert::der;

/// What is wrong with what a context is made of. Each says where, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextError {
    /// There is no certificate in a chain.
    NoCertificate,
    /// There is no private key, or one that is encrypted.
    NoKey,
    /// What is no PEM, or no certificate inside of it.
    Unreadable(String),
    /// The key is not the certificate's.
    KeyMismatch,
    /// A key that is not taken: its kind or its size.
    UnusableKey(String),
    /// Roots that verify nothing.
    UnusableRoots(String),
    /// A revocation list that cannot be applied.
    UnusableList(String),
    /// An OCSP response that is none.
    BadStaple(String),
    /// An OCSP response about other certificates alone, or that says that there is none now.
    OtherStaple,
    /// There is no revocation list in a text.
    NoList,
    /// There are two of an issuer, of which only one would be looked at.
    TwoLists {
        /// Its name.
        issuer: String,
        /// They may be of two keys, which neither they nor the authorities that were given tell.
        is_untied: bool,
    },
    /// What cannot be verified as a server's name.
    BadName(String),
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no certificate in it"),
            Self::NoKey => f.write_str("no private key in it, or an encrypted one"),
            Self::Unreadable(why) => write!(f, "not readable: {why}"),
            Self::KeyMismatch => f.write_str("the key does not belong to the certificate"),
            Self::UnusableKey(why) => write!(f, "the key cannot be used: {why}"),
            Self::UnusableRoots(why) => write!(f, "verifies nothing: {why}"),
            Self::BadStaple(why) | Self::UnusableList(why) => f.write_str(why),
            Self::OtherStaple => f.write_str("it says nothing of this certificate"),
            Self::NoList => f.write_str("no revocation list in it"),
            Self::TwoLists { issuer, is_untied } => {
                write!(f, "two revocation lists of {issuer}: give the newest alone")?;
                if *is_untied {
                    f.write_str(", or for each in `ca` the certificate whose key has signed it")?;
                }
                Ok(())
            }
            Self::BadName(name) => write!(f, "{name:?} is no server's name"),
        }
    }
}

impl std::error::Error for ContextError {}

#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it on
pub(super) fn unreadable_list(_: der::Error) -> ContextError {
    ContextError::UnusableList("it is not readable".to_owned())
}
