//! Counts the frames that come in, before they are parsed, and says when they are an attack.
//!
//! What costs memory has limits of its own; frames that cost only time would be answered for ever.
//! Each read is walked once along its frame headers (RFC 9113 §4.1): nine bytes are looked at for
//! each frame. Frames that carry a request forward earn credit, the others spend it, and time
//! brings it back; a peer without credit is told ENHANCE_YOUR_CALM.

use crate::codec::h2::sending::Priority;
use crate::codec::h2::signal::Flood;
use crate::time::Nanos;

/// The client's first bytes (RFC 9113 §3.4); frames begin behind them.
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;
/// CONTINUATION frames of one field block: 64 KiB of fields fit in four of the smallest maximum.
const MAX_CONTINUATIONS: u32 = 16;
/// The same of an endpoint, whose block costs its stream alone: twice the largest list that can be
/// allowed, 1 MiB.
const ENDPOINT_CONTINUATIONS: u32 = 128 + MAX_CONTINUATIONS;
/// The part of a PRIORITY_UPDATE that is read; a priority has a dozen bytes.
const UPDATE_BYTES: usize = 68;
/// WINDOW_UPDATE frames that one DATA frame may bring about: for the stream, for the connection,
/// and as much again for peers that credit in small steps. Envoy allows ten.
const UPDATES_PER_DATA: u32 = 10;
/// What is owed to a peer for DATA that went out, in frames of its own, grows no further.
const MOST_OWED: u32 = 1 << 16;

/// How often something may happen: `per_second` on the average, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// Credit that a second brings.
    pub per_second: u32,
    /// Most credit there is, and what a connection begins with.
    pub burst: u32,
}

#[derive(Clone, Copy, Debug)]
struct Credit {
    rate: FrameRate,
    left: u32,
    since: Nanos,
}

impl Credit {
    fn new(rate: FrameRate, now: Nanos) -> Self {
        Self { rate, left: rate.burst, since: now }
    }

    fn earn(&mut self, n: u32) {
        self.left = self.left.saturating_add(n).min(self.rate.burst);
    }

    /// False: there is none left, also after what time brought.
    fn spend(&mut self, now: Nanos) -> bool {
        if self.left == 0 {
            let step = 1_000_000_000 / u64::from(self.rate.per_second.max(1));
            let brought = now.since(self.since).0 / step.max(1);
            self.since = now;
            self.left = u32::try_from(brought).unwrap_or(u32::MAX).min(self.rate.burst);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// Where in the bytes the walk is.
#[derive(Debug)]
enum At {
    /// How many bytes of the preface are still to come.
    Preface(usize),
    /// In a frame's header.
    Header,
    /// How many bytes of a payload are still to come.
    Payload(usize),
}

/// The meter of one connection.
#[derive(Debug)]
pub struct Meter {
    server: bool,
    at: At,
    header: [u8; HEADER_BYTES],
    have: usize,
    update: Option<Vec<u8>>,
    continuations: u32,
    control: Credit,
    resets: Credit,
    updates_left: u32,
    /// PING frames that DATA which went out may bring about.
    pings_left: u32,
    /// Priorities that PRIORITY_UPDATE frames brought (RFC 9218 §7.1), for the engine to take.
    priorities: Vec<(u32, Priority)>,
}

impl Meter {
    /// For a connection on which the preface is still to come (`server`), or not.
    #[must_use]
    pub fn new(server: bool, resets: FrameRate, control: FrameRate, now: Nanos) -> Self {
        Self {
            server,
            at: if server { At::Preface(PREFACE_BYTES) } else { At::Header },
            header: [0; HEADER_BYTES],
            have: 0,
            update: None,
            continuations: 0,
            control: Credit::new(control, now),
            resets: Credit::new(resets, now),
            updates_left: 0,
            pings_left: 0,
            priorities: Vec::new(),
        }
    }

    /// DATA frames went out: the peer may answer each with credit, and with a PING by which it
    /// measures the way. The gRPC libraries do so for as long as data comes.
    pub fn sent_data(&mut self, frames: u32) {
        let updates = frames.saturating_mul(UPDATES_PER_DATA);
        self.updates_left = self.updates_left.saturating_add(updates).min(MOST_OWED);
        self.pings_left = self.pings_left.saturating_add(frames).min(MOST_OWED);
    }

    /// A stream ended through a fault of the peer's: it costs a client as much as one that it reset.
    /// An endpoint's costs it nothing: each answers a request of ours, and its connection is shared by
    /// those who have no part in it.
    ///
    /// # Errors
    /// [`Flood::Faults`]: there were too many.
    pub fn fault(&mut self, now: Nanos) -> Result<(), Flood> {
        if !self.server || self.resets.spend(now) { Ok(()) } else { Err(Flood::Faults) }
    }

    /// The peer reset a stream that was over. An endpoint may do so behind each of its responses; a
    /// client's resets are counted as they come.
    ///
    /// # Errors
    /// [`Flood::Resets`]: an endpoint did so more often than it answered.
    pub fn reset_of_closed(&mut self, now: Nanos) -> Result<(), Flood> {
        if self.server || self.control.spend(now) { Ok(()) } else { Err(Flood::Resets) }
    }

    /// A field list means far more than it says. What an endpoint's may cost is bounded by its length;
    /// its connection is shared.
    ///
    /// # Errors
    /// [`Flood::Blocks`]: it is a client's.
    pub(super) fn bomb(&self) -> Result<(), Flood> {
        if self.server { Err(Flood::Blocks) } else { Ok(()) }
    }

    /// A DATA frame had only padding: counted as an empty one, though its length earned credit.
    ///
    /// # Errors
    /// [`Flood::Empty`]: there were too many.
    pub fn padding_only(&mut self, now: Nanos) -> Result<(), Flood> {
        if self.control.spend(now) && self.control.spend(now) { Ok(()) } else { Err(Flood::Empty) }
    }

    /// Looks at a read. O(frames); payloads are skipped.
    ///
    /// # Errors
    /// The flood that this read completes.
    pub fn scan(&mut self, mut data: &[u8], now: Nanos) -> Result<(), Flood> {
        while !data.is_empty() {
            match &mut self.at {
                At::Preface(left) | At::Payload(left) => {
                    let n = data.len().min(*left);
                    if let Some(update) = &mut self.update {
                        let room = UPDATE_BYTES - update.len();
                        update.extend_from_slice(&data[..n.min(room)]);
                    }
                    *left -= n;
                    data = &data[n..];
                    if *left == 0 {
                        self.at = At::Header;
                        self.take_update();
                    }
                }
                At::Header => {
                    let n = data.len().min(HEADER_BYTES - self.have);
                    self.header[self.have..self.have + n].copy_from_slice(&data[..n]);
                    self.have += n;
                    data = &data[n..];
                    if self.have == HEADER_BYTES {
                        self.have = 0;
                        self.frame(now)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the priorities that came since the last time, by stream.
    pub fn take_priorities(&mut self) -> impl Iterator<Item = (u32, Priority)> + '_ {
        self.priorities.drain(..)
    }

    fn frame(&mut self, now: Nanos) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.header;
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.at = if len > 0 { At::Payload(len) } else { At::Header };
        self.count(kind, flags, len, now)
    }

    /// RFC 9113 §6 numbers the kinds; RFC 9218 §7.1 adds 0x10.
    fn count(&mut self, kind: u8, flags: u8, len: usize, now: Nanos) -> Result<(), Flood> {
        const END_STREAM: u8 = 1;
        let flood = match kind {
            0 | 1 if len > 0 || flags & END_STREAM != 0 => {
                self.continuations = 0;
                self.control.earn(1);
                return Ok(());
            }
            0 | 1 => Flood::Empty,
            2 => Flood::Priorities,
            0x10 => {
                self.update = Some(Vec::new());
                Flood::Priorities
            }
            // An endpoint's are the answers to requests of ours.
            3 if !self.server => return Ok(()),
            3 => {
                return if self.resets.spend(now) { Ok(()) } else { Err(Flood::Resets) };
            }
            6 if self.pings_left > 0 => {
                self.pings_left -= 1;
                return Ok(());
            }
            4 | 6 | 7 => Flood::Control,
            // PUSH_PROMISE is an error.
            5 => return Ok(()),
            8 if self.updates_left > 0 => {
                self.updates_left -= 1;
                return Ok(());
            }
            8 => Flood::WindowUpdates,
            9 => {
                self.continuations += 1;
                let most = if self.server { MAX_CONTINUATIONS } else { ENDPOINT_CONTINUATIONS };
                let within = self.continuations <= most;
                return if within { Ok(()) } else { Err(Flood::Blocks) };
            }
            _ => Flood::Unknown,
        };
        if self.control.spend(now) { Ok(()) } else { Err(flood) }
    }

    fn take_update(&mut self) {
        let Some(update) = self.update.take() else { return };
        if let Some((id, value)) = update.split_first_chunk::<4>() {
            let stream = u32::from_be_bytes(*id) & 0x7FFF_FFFF;
            // Bounded: each one cost credit, and the engine takes them after each read.
            self.priorities.push((stream, Priority::parse(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: FrameRate = FrameRate { per_second: 10, burst: 20 };

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn meter() -> Meter {
        let mut meter = Meter::new(true, RATE, RATE, Nanos(0));
        meter.scan(&[0; PREFACE_BYTES], Nanos(0)).unwrap();
        meter
    }

    #[test]
    fn each_flood_is_told_apart_and_time_brings_credit_back() {
        for (kind, flags, payload, flood) in [
            (3u8, 0u8, &[0u8; 4][..], Flood::Resets),
            (6, 0, &[0; 8], Flood::Control),
            (4, 0, &[], Flood::Control),
            (0, 0, &[], Flood::Empty),
            (2, 0, &[0; 5], Flood::Priorities),
            (8, 0, &[0, 0, 0, 1], Flood::WindowUpdates),
            (0xAB, 0, &[1], Flood::Unknown),
        ] {
            let mut meter = meter();
            let frame = frame(kind, flags, payload);
            for _ in 0..20 {
                assert_eq!(meter.scan(&frame, Nanos(1)), Ok(()), "{flood:?}");
            }
            let later = Nanos::from_secs(1);
            for _ in 0..10 {
                assert_eq!(meter.scan(&frame, later), Ok(()), "{flood:?}");
            }
            assert_eq!(meter.scan(&frame, later), Err(flood));
        }
    }

    #[test]
    fn work_earns_credit_and_data_sent_pays_for_updates_and_pings() {
        let mut meter = meter();
        let (ping, data) = (frame(6, 0, &[0; 8]), frame(0, 0, &[1]));
        for _ in 0..1000 {
            meter.scan(&ping, Nanos(0)).unwrap();
            meter.scan(&data, Nanos(0)).unwrap();
        }
        meter.sent_data(10);
        for _ in 0..100 {
            meter.scan(&frame(8, 0, &[0, 0, 0, 1]), Nanos(0)).unwrap();
        }
        for _ in 0..30 {
            meter.scan(&ping, Nanos(0)).unwrap(); // ten for data, twenty at once
        }
        assert_eq!(meter.scan(&ping, Nanos(0)), Err(Flood::Control));
    }

    #[test]
    fn any_split_counts_the_same() {
        let bytes = [frame(6, 0, &[0; 8]), frame(0x10, 0, b"\0\0\0\x05u=1, i"), frame(1, 4, b"ab")]
            .concat();
        let whole = {
            let mut meter = meter();
            meter.scan(&bytes, Nanos(0)).unwrap();
            (meter.control.left, meter.priorities)
        };
        assert_eq!(whole.1, [(5, Priority { urgency: 1, incremental: true })]);
        for at in 0..bytes.len() {
            let mut meter = meter();
            meter.scan(&bytes[..at], Nanos(0)).unwrap();
            meter.scan(&bytes[at..], Nanos(0)).unwrap();
            assert_eq!((meter.control.left, meter.priorities), whole);
        }
    }

    #[test]
    fn continuations_are_counted_for_each_block() {
        let mut meter = meter();
        for _ in 0..3 {
            meter.scan(&frame(1, 0, b"a"), Nanos(0)).unwrap();
            for _ in 0..16 {
                meter.scan(&frame(9, 0, &[]), Nanos(0)).unwrap();
            }
        }
        assert_eq!(meter.scan(&frame(9, 0, &[]), Nanos(0)), Err(Flood::Blocks));
    }

    #[test]
    fn what_answers_requests_of_ours_costs_an_endpoint_nothing() {
        let mut endpoint = Meter::new(false, RATE, RATE, Nanos(0));
        assert_eq!((0..1000).try_for_each(|_| endpoint.fault(Nanos(0))), Ok(()));
        assert_eq!(endpoint.bomb(), Ok(()));
        let resets = (0..21).try_for_each(|_| endpoint.reset_of_closed(Nanos(0)));
        assert_eq!(resets, Err(Flood::Resets));
        let mut client = meter();
        assert_eq!((0..1000).try_for_each(|_| client.reset_of_closed(Nanos(0))), Ok(()));
        assert_eq!(client.bomb(), Err(Flood::Blocks));
        let faults = (0..21).try_for_each(|_| client.fault(Nanos(0)));
        assert_eq!(faults, Err(Flood::Faults));
    }

    #[test]
    fn the_preface_is_no_frame() {
        let mut meter = Meter::new(true, RATE, RATE, Nanos(0));
        let bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, &[])].concat();
        meter.scan(&bytes, Nanos(0)).unwrap();
        assert_eq!(meter.control.left, 19);
    }
}
