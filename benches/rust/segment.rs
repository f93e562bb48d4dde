//! One bucket that two processes share through a segment, beside two threads of one process.
//!
//! `cargo bench --bench segment [-- ROUNDS]`: one line of JSON. The processes are this program,
//! started anew, and open the segment by its descriptor. In each round both pairs take their turn;
//! a pair begins together, and its operations a second are of the time that they took on the
//! machine's cores, so that others' work does not count.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use meshcore_core::admission::{Quota, TokenBucket};
use meshcore_core::segment::{Block, BlockKind, Origin, Segment, SegmentConfig};
use meshcore_core::snapshot;
use meshcore_core::sync::Ordering::{AcqRel, Acquire, Release};
use meshcore_core::time::Nanos;
use rustix::time::{ClockId, clock_gettime};

const ORIGIN: Origin = Origin { seed: [1, 2], layout: 7, created_ns: 0 };
const CALLS: u64 = 4_000_000;
/// Of the bucket that is emptied at a time that stands still.
const BURST: u64 = 3_000_000;
const STILL: Nanos = Nanos(5_000_000_000_000);
const PAIR: u64 = 2;

fn read(clock: ClockId) -> Nanos {
    let t = clock_gettime(clock);
    Nanos(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

/// What one of a pair found: its time on a core, and how much it was given.
struct Found {
    cpu_ns: u64,
    admitted: u64,
}

/// The words that a pair works on.
struct Shared {
    full: TokenBucket,
    finite: TokenBucket,
    gate: Block,
}

impl Shared {
    fn of(block: impl Fn(&str) -> Block) -> Self {
        let quota = |tokens, period_ns, burst| {
            Quota::new(snapshot::Rate { tokens, period_ns, burst }).unwrap()
        };
        Self {
            full: TokenBucket::new(block("full"), quota(1_000_000_000, 1_000_000_000, 1 << 32)),
            finite: TokenBucket::new(block("finite"), quota(1, 1_000_000_000, BURST)),
            gate: block("gate"),
        }
    }

    /// Waits until both of the pair are here, for the `n`th time.
    fn meet(&self, n: u64) {
        let word = self.gate.word(0);
        word.fetch_add(1, AcqRel);
        while word.load(Acquire) < n * PAIR {
            std::hint::spin_loop();
        }
    }

    fn work(&self) -> Found {
        self.meet(1);
        let begin = read(ClockId::ThreadCPUTime);
        for _ in 0..CALLS {
            self.full.try_acquire(read(ClockId::Monotonic), 1).unwrap();
        }
        let cpu_ns = read(ClockId::ThreadCPUTime).since(begin).0;
        self.meet(2);
        let mut admitted = 0;
        while self.finite.try_acquire(STILL, 1).is_ok() {
            admitted += 1;
        }
        Found { cpu_ns, admitted }
    }
}

fn segment() -> Segment {
    let made = Segment::create(SegmentConfig { max_bytes: 1 << 20, worker_slots: 2 }, ORIGIN);
    let segment = made.unwrap();
    for name in ["full", "finite", "gate"] {
        segment.block(BlockKind::Bucket, name, 1).unwrap();
    }
    segment
}

fn threads() -> Vec<Found> {
    let shared = Arc::new(Shared::of(|_| Block::private(1)));
    let work = |_| {
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || shared.work())
    };
    let running: Vec<_> = (0..PAIR).map(work).collect();
    running.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn processes() -> Vec<Found> {
    let segment = segment();
    let shared = Shared::of(|name| segment.find(BlockKind::Bucket, name, 1).unwrap());
    shared.gate.word(0).store(0, Release);
    let path = format!("/proc/{}/fd/{}", std::process::id(), segment.fd().unwrap().as_raw_fd());
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["share", &path]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..PAIR).map(start).collect();
    let found = |child: std::process::Child| {
        let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap());
        Found { cpu_ns: numbers.next().unwrap(), admitted: numbers.next().unwrap() }
    };
    running.into_iter().map(found).collect()
}

fn share(path: &str) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let segment = Segment::open(file.into(), ORIGIN.layout).unwrap();
    let shared = Shared::of(|name| segment.find(BlockKind::Bucket, name, 1).unwrap());
    let found = shared.work();
    println!("{} {}", found.cpu_ns, found.admitted);
}

/// Operations a microsecond of a pair, and how many more than the bucket had were admitted.
fn judge(pair: &[Found]) -> (f64, i64) {
    let slowest = pair.iter().map(|each| each.cpu_ns).max().unwrap();
    let admitted: u64 = pair.iter().map(|each| each.admitted).sum();
    ((CALLS * PAIR) as f64 * 1e3 / slowest as f64, admitted as i64 - BURST as i64)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, path] = arguments.as_slice()
        && word == "share"
    {
        return share(path);
    }
    let rounds = arguments.iter().find_map(|text| text.parse().ok()).unwrap_or(5);
    let (mut apart, mut together, mut ratios, mut over) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let (threads, processes) = (judge(&threads()), judge(&processes()));
        together.push(threads.0);
        apart.push(processes.0);
        ratios.push(processes.0 / threads.0);
        over.extend([threads.1, processes.1]);
    }
    let over = over.iter().map(|each| each.abs()).max().unwrap();
    println!(
        r#"{{"processes_per_us": {:.2}, "threads_per_us": {:.2}, "ratio": {:.3}, "over": {over}}}"#,
        median(apart),
        median(together),
        median(ratios),
    );
}
