//! A client's first message, looked at before the machine gets it.

use rustls::server::Acceptor;

/// What the first message says that the machine does not tell later.
#[derive(Default)]
pub(super) struct Hello {
    /// Until the message is whole.
    reader: Option<Acceptor>,
}

/// The host that the client asks for, or that there is more to come.
pub(super) enum Asked {
    /// The message is not whole.
    Incomplete,
    /// Whom it asks for, in lower case. Nobody, also where the message is none: what is wrong with
    /// it the machine says.
    For(Option<String>),
}

impl Hello {
    /// Takes the next bytes of the message. Parses it once: O(bytes).
    pub(super) fn read(&mut self, mut data: &[u8]) -> Asked {
        let reader = self.reader.get_or_insert_default();
        while !data.is_empty() {
            if reader.read_tls(&mut data).is_err() {
                return Asked::For(None);
            }
            match reader.accept() {
                Ok(None) => {}
                Ok(Some(whole)) => {
                    return Asked::For(whole.client_hello().server_name().map(str::to_owned));
                }
                Err(_) => return Asked::For(None),
            }
        }
        Asked::Incomplete
    }
}
