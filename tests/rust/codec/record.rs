//! What a machine made of a stream of bytes, in a form that does not depend on how it was cut.

use meshcore_core::codec::{
    BodyPart, ClientEvent, CodecError, H1Client, H1Server, Limits, ServerEvent, ServerRules,
};
use meshcore_core::head::{Headers, RequestHead, ResponseHead};

/// Fields as text.
pub(crate) type Fields = Vec<(String, String)>;

pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

pub(crate) fn fields(headers: &Headers) -> Fields {
    headers.iter().map(|(n, v)| (text(n), text(v))).collect()
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) line: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) trailers: Option<Fields>,
}

impl Message {
    fn take(&mut self, part: &BodyPart, data: &[u8]) {
        assert!(!self.ended, "a part behind the end");
        part.bytes.append_to(data, &mut self.body);
        self.ended = part.end;
        self.trailers = part.trailers.as_ref().map(|t| fields(t));
        assert!(self.trailers.is_none() || self.ended);
    }
}

/// Messages, and the error that ended them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) messages: Vec<Message>,
    pub(crate) error: Option<(u16, &'static str)>,
    pub(crate) reusable: bool,
}

impl Record {
    pub(crate) fn status(&self) -> Option<u16> {
        self.error.map(|(status, _)| status)
    }

    /// Whether `cut`, of the same bytes in several reads, is what this one of a single read is.
    ///
    /// An error voids the event that would have come with it in one read: nothing of that message
    /// is forwarded. In several reads its beginning may be out already.
    pub(crate) fn agrees_with(&self, cut: &Self) -> bool {
        let whole = &self.messages;
        let same_end = self.error == cut.error && self.reusable == cut.reusable;
        same_end
            && cut.messages.starts_with(whole)
            && (self.error.is_some() || cut.messages.len() == whole.len())
    }

    fn fail(&mut self, e: CodecError) {
        self.error = Some((e.reason.status(), e.message));
    }
}

fn request_line(head: &RequestHead) -> String {
    let s = |span| text(head.slice(span));
    format!(
        "{} {} {} [{}] [{}] {} {} {:?} {:?} {} {}",
        s(head.method),
        s(head.path),
        s(head.forward_path),
        s(head.authority),
        s(head.host),
        head.query.is_some(),
        head.query.map(s).unwrap_or_default(),
        head.version,
        head.body,
        head.keep_alive,
        head.expect_continue,
    )
}

fn response_line(head: &ResponseHead) -> String {
    format!("{} {:?} {:?} {}", head.status, head.version, head.body, head.keep_alive)
}

/// Runs the reads through a server that answers each request as soon as it is complete.
pub(crate) fn serve_with<'a>(
    reads: impl IntoIterator<Item = &'a [u8]>,
    limits: Limits,
    rules: ServerRules,
) -> Record {
    let mut server = H1Server::with_rules(limits, rules);
    let mut record = Record { reusable: true, ..Record::default() };
    for data in reads {
        let mut event = server.receive(data);
        let mut data = data;
        loop {
            match event {
                Err(e) => {
                    record.fail(e);
                    assert_eq!(server.receive(b"x").err(), Some(e), "the error stays");
                    return record;
                }
                Ok(None) => break,
                Ok(Some(ServerEvent::Head { head, body })) => {
                    let mut message = Message {
                        line: request_line(&head),
                        fields: fields(&head.headers),
                        ..Message::default()
                    };
                    message.take(&body, data);
                    record.messages.push(message);
                }
                Ok(Some(ServerEvent::Data(part))) => {
                    record.messages.last_mut().unwrap().take(&part, data);
                }
            }
            if !server.request_complete() {
                break;
            }
            if !server.start_next() {
                record.reusable = false;
                return record;
            }
            data = b"";
            event = server.next_event();
        }
    }
    record
}

pub(crate) fn serve(bytes: &[u8]) -> Record {
    serve_with([bytes], Limits::default(), ServerRules::default())
}

/// Runs the reads through a client that sent one request, then the end of the stream.
pub(crate) fn fetch_with<'a>(
    reads: impl IntoIterator<Item = &'a [u8]>,
    head: bool,
    limits: Limits,
) -> Record {
    let mut client = H1Client::new(limits);
    client.sent(head, false);
    let mut record = Record::default();
    for data in reads {
        let mut data = data;
        loop {
            match client.receive(data) {
                Err(e) => {
                    // Bytes behind the end are an error only if they come in a read of their own.
                    if e.message != "unexpected data" {
                        record.fail(e);
                    }
                    return record;
                }
                Ok(None) => break,
                Ok(Some(event)) => take_response(&mut record, event, data),
            }
            if !client.is_busy() {
                break;
            }
            data = b"";
        }
    }
    record.reusable = client.can_reuse();
    match client.receive_eof() {
        Ok(Some(event)) => take_response(&mut record, event, b""),
        Ok(None) => {}
        Err(e) => record.fail(e),
    }
    record
}

fn take_response(record: &mut Record, event: ClientEvent, data: &[u8]) {
    let start = |head: &ResponseHead| Message {
        line: response_line(head),
        fields: fields(&head.headers),
        ..Message::default()
    };
    match event {
        ClientEvent::Informational(head) => record.messages.push(start(&head)),
        ClientEvent::Head { head, body } => {
            let mut message = start(&head);
            message.take(&body, data);
            record.messages.push(message);
        }
        ClientEvent::Data(part) => record.messages.last_mut().unwrap().take(&part, data),
    }
}

pub(crate) fn fetch(bytes: &[u8]) -> Record {
    fetch_with([bytes], false, Limits::default())
}
