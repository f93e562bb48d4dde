//! How rustls' machine is driven, either side's, by what comes and by what goes.
//!
//! Its unbuffered API gives one state at a time, and each must be dealt with before the next is asked
//! for: what it wants sent is lost otherwise. So there is one loop for what comes, [`drive`], and one
//! for what goes, [`write`]. Each gives rustls all that is left of what came: of a message whose end is
//! missing it remembers where it began. What the protocol says by itself (handshake, tickets, key
//! updates, alerts) goes before anything of ours.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error, InvalidMessage};

/// The two sides of rustls' machine, which differ in their types alone.
pub(super) trait Records {
    type Data;
    fn records<'c, 'i>(&'c mut self, data: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    /// Whether it has something to say.
    fn wants_write(&self) -> bool;
    fn is_handshaking(&self) -> bool;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn records<'c, 'i>(&'c mut self, data: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(data)
    }
    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }
    fn is_handshaking(&self) -> bool {
        CommonState::is_handshaking(self)
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn records<'c, 'i>(&'c mut self, data: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(data)
    }
    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }
    fn is_handshaking(&self) -> bool {
        CommonState::is_handshaking(self)
    }
}

/// What one call of [`drive`] met.
#[derive(Default)]
pub(super) struct Taken {
    /// How many bytes of what was given are done with.
    pub(super) used: usize,
    pub(super) peer_closed: bool,
}

/// Goes on until the machine lacks bytes: plaintext to `plain`, what it wants sent to `own`. What
/// came before an error counts.
pub(super) fn drive<M: Records>(
    machine: &mut M,
    data: &mut [u8],
    plain: &mut Vec<u8>,
    own: &mut Vec<u8>,
) -> (Taken, Result<(), Error>) {
    let mut taken = Taken::default();
    loop {
        let UnbufferedStatus { discard, state } = machine.records(&mut data[taken.used..]);
        let mut done = discard;
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                taken.used += done;
                return (taken, Err(error));
            }
        };
        let lacks = match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            done += record.discard;
                            plain.extend_from_slice(record.payload);
                        }
                        Err(error) => return (taken, Err(error)),
                    }
                }
                false
            }
            ConnectionState::EncodeTlsData(message) => {
                encode(message, own);
                false
            }
            ConnectionState::TransmitTlsData(sent) => {
                sent.done();
                false
            }
            ConnectionState::PeerClosed => {
                taken.peer_closed = true;
                false
            }
            _ => true,
        };
        taken.used += done;
        if lacks {
            return (taken, Ok(()));
        }
    }
}

/// What the machine has to say behind an error: the alert that belongs to it. It looks at nothing
/// else before, and must not behind: what is left would be another error, and another alert.
pub(super) fn last_words<M: Records>(machine: &mut M, own: &mut Vec<u8>) {
    while machine.wants_write() {
        match machine.records(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(message)) => encode(message, own),
            _ => return,
        }
    }
}

/// Whether this is one of the refusals for which rustls 0.23 has no alert: a record of no type, one
/// between the parts of a handshake's message, too many of what may come a few times, a message
/// longer than any may be.
pub(super) fn is_silent(error: &Error) -> bool {
    matches!(
        error,
        Error::PeerMisbehaved(_) | Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge)
    )
}

/// Has the machine say an alert where it refuses what came without one. Alerts are its own to
/// seal, so it is given what it does answer, in place of the `rest` bytes that it has not taken: a
/// change_cipher_spec that is not allowed here, for `unexpected_message` (RFC 8446 §5). What it
/// does not look at, since it waits for the rest of a message and looks further on, or takes no
/// more messages, is followed by what is no record, for `decode_error`: that it finds before
/// anything else.
///
/// What it said that was about.
pub(super) fn unsaid<M: Records>(machine: &mut M, rest: usize, own: &mut Vec<u8>) -> Option<Error> {
    const NO_RECORD: u8 = 0xFF;
    const RECORD_BYTES: usize = 6;
    let said = own.len();
    // In a handshake one of a wrong value, and behind it any.
    let change = [20, 3, 3, 0, 1, if machine.is_handshaking() { 2 } else { 1 }];
    for first in [change, [NO_RECORD; RECORD_BYTES]] {
        let mut instead = vec![NO_RECORD; rest + RECORD_BYTES];
        instead[..RECORD_BYTES].copy_from_slice(&first);
        let refused = machine.records(&mut instead).state.err();
        last_words(machine, own);
        if own.len() > said {
            return refused;
        }
    }
    None
}

fn encode<D>(mut message: EncodeTlsData<'_, D>, own: &mut Vec<u8>) {
    let Err(EncodeError::InsufficientSize(lack)) = message.encode(&mut []) else { return };
    let at = own.len();
    own.resize(at + lack.required_size, 0);
    let written = message.encode(&mut own[at..]).unwrap_or(0);
    own.truncate(at + written);
}

pub(super) enum Words<'a> {
    Data(&'a [u8]),
    Close,
}

pub(super) fn append(out: &mut Vec<u8>, len: usize, fill: &mut dyn FnMut(&mut [u8])) {
    let at = out.len();
    out.resize(at + len, 0);
    fill(&mut out[at..]);
}

/// How long words are once they are sealed, with what the machine says before.
fn sealed_len<D>(words: &Words<'_>, traffic: &mut WriteTraffic<'_, D>) -> usize {
    let nowhere = match words {
        Words::Data(plain) => traffic.encrypt(plain, &mut []),
        Words::Close => traffic.queue_close_notify(&mut []),
    };
    match nowhere {
        Err(EncryptError::InsufficientSize(lack)) => lack.required_size,
        _ => 0,
    }
}

fn not_sealed(why: &EncryptError) -> String {
    match why {
        EncryptError::EncryptExhausted => {
            "the keys of this connection of TLS 1.2 are worn out".to_owned()
        }
        other => other.to_string(),
    }
}

/// Seals once the machine lets us; what it wants sent itself goes first, behind `first`. `rest` is
/// what it lacks the end of: it looks there again.
pub(super) fn write<M: Records, T>(
    machine: &mut M,
    words: &Words<'_>,
    rest: &mut [u8],
    mut first: Vec<u8>,
    make: impl FnOnce(usize, &mut dyn FnMut(&mut [u8])) -> T,
) -> (Taken, Result<Option<T>, Error>) {
    let mut taken = Taken::default();
    loop {
        let UnbufferedStatus { discard, state } = machine.records(&mut rest[taken.used..]);
        taken.used += discard;
        match state {
            Err(error) => return (taken, Err(error)),
            Ok(ConnectionState::EncodeTlsData(message)) => encode(message, &mut first),
            Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
            Ok(ConnectionState::PeerClosed) => taken.peer_closed = true,
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let len = first.len() + sealed_len(words, &mut traffic);
                let mut sealed = Err(Error::General("not sealed".to_owned()));
                let made = make(len, &mut |room| {
                    let (before, room) = room.split_at_mut(first.len());
                    before.copy_from_slice(&first);
                    let done = match words {
                        Words::Data(plain) => traffic.encrypt(plain, room),
                        Words::Close => traffic.queue_close_notify(room),
                    };
                    sealed = match done {
                        Ok(written) if written == room.len() => Ok(()),
                        Ok(_) => Err(Error::General("sealed in part".to_owned())),
                        Err(why) => Err(Error::General(not_sealed(&why))),
                    };
                });
                return (taken, sealed.map(|()| Some(made)));
            }
            Ok(_) => return (taken, Ok(None)),
        }
    }
}
