//! A segment in a memory file: what one mapping writes another finds, and whatever is in the file,
//! nobody who opens it reaches outside of it.
#![cfg(not(feature = "loom"))]
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use meshcore_core::segment::{
    Block, BlockKind, Carried, Exported, Origin, Segment, SegmentConfig, SegmentError, Worker,
};
use meshcore_core::sync::{AtomicU64, Ordering::Relaxed};
use proptest::prelude::*;

const MIB: usize = 1 << 20;
const ORIGIN: Origin = Origin { seed: [1, 2], layout: 7, created_ns: 99 };
/// Where the registry begins and where the pool of entries does, in bytes: 130 and 2,178 lines.
const BUCKETS: u64 = 130 * 64;
const POOL: u64 = 2_178 * 64;

/// The name of a block that is taken over as it is.
#[allow(clippy::unnecessary_wraps)] // what `import` asks for
fn as_it_was(found: &Carried) -> Option<String> {
    Some(found.name.clone())
}

fn create(max_bytes: usize, worker_slots: usize) -> Segment {
    Segment::create(SegmentConfig { max_bytes, worker_slots }, ORIGIN).unwrap()
}

fn fd(segment: &Segment) -> OwnedFd {
    segment.fd().unwrap().as_fd().try_clone_to_owned().unwrap()
}

/// The same file in a second mapping, as another process has it.
fn open(segment: &Segment) -> Segment {
    Segment::open(fd(segment), ORIGIN.layout).unwrap()
}

fn file(segment: &Segment) -> std::fs::File {
    fd(segment).into()
}

fn each(block: &Block) -> impl Iterator<Item = &AtomicU64> {
    let columns = (0..block.workers())
        .flat_map(move |slot| (0..block.column_words()).map(move |i| block.column(slot, i)));
    block.lines().iter().flat_map(|line| &line.0).chain(columns)
}

#[test]
fn two_mappings_see_the_same_words() {
    let control = create(MIB, 2);
    let worker = open(&control);
    assert_eq!((worker.worker_slots(), worker.max_bytes()), (2, MIB));
    assert_eq!(worker.origin(), ORIGIN);
    for kind in BlockKind::ALL {
        let made = control.block(*kind, "x/y", 12).unwrap();
        let found = worker.find(*kind, "x/y", 12).unwrap();
        assert_eq!(each(&made).count(), each(&found).count());
        for (i, word) in each(&made).enumerate() {
            word.store(i as u64 + 1, Relaxed);
        }
        assert!(each(&found).enumerate().all(|(i, word)| word.load(Relaxed) == i as u64 + 1));
    }
}

#[test]
fn a_worker_finds_and_never_makes() {
    let control = create(MIB, 1);
    control.block(BlockKind::Breaker, "api", 9).unwrap();
    let worker = open(&control);
    for (kind, name, words) in [
        (BlockKind::Breaker, "api", 10),
        (BlockKind::Bucket, "api", 9),
        (BlockKind::Breaker, "apis", 9),
    ] {
        let error = worker.find(kind, name, words).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} {name} is not in the shared segment", kind.code())
        );
    }
    let error = worker.block(BlockKind::Breaker, "api", 9).unwrap_err();
    assert_eq!(error.to_string(), "this process does not write the shared segment");
    assert_eq!(worker.find_any(BlockKind::Breaker, "api").unwrap().unwrap().lines().len(), 2);
    assert!(control.retire(BlockKind::Breaker, "api"));
    assert!(worker.find_any(BlockKind::Breaker, "api").unwrap().is_none());
}

#[test]
fn what_is_no_segment_of_ours_is_refused() {
    let made = create(MIB, 3);
    let error = Segment::open(fd(&made), 8).unwrap_err();
    assert!(matches!(error, SegmentError::OtherLayout { found, ours } if found != ours));
    // Magic, version, layout, lines, workers: each is looked at.
    for (word, value, text) in [
        (0, 0, "no header"),
        (1, 9, "another layout"),
        (2, 9, "another layout"),
        (3, 9, "not what its header says"),
        (4, 0, "number of workers"),
        (4, 65, "number of workers"),
    ] {
        let made = create(MIB, 3);
        file(&made).write_at(&u64::to_le_bytes(value), word * 8).unwrap();
        let error = Segment::open(fd(&made), ORIGIN.layout).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let empty = std::fs::File::open("/dev/null").unwrap();
    let error = Segment::open(empty.into(), ORIGIN.layout).unwrap_err();
    assert_eq!(error.to_string(), "not a shared segment: too short");
    assert!(Segment::duplicate(-1).is_err() && Segment::duplicate(1 << 20).is_err());
}

#[test]
fn nobody_can_pull_the_memory_away() {
    let made = create(MIB, 1);
    assert!(file(&made).set_len(0).is_err() && file(&made).set_len(2 * MIB as u64).is_err());
}

#[test]
fn a_block_is_freed_when_no_worker_holds_a_version_that_used_it() {
    let control = create(MIB, 3);
    control.occupy(0, 10, 1).unwrap();
    control.occupy(2, 12, 1).unwrap();
    drop(control.block(BlockKind::Endpoint, "a", 2).unwrap());
    control.at_version(5).unwrap();
    assert_eq!(control.retire_unused(), 1);
    // A worker that has not said anything yet may hold anything.
    assert_eq!((control.collect(), control.retired()), (0, 1));
    control.report(0, 2, 6, &[]).unwrap();
    control.report(2, 2, 5, &[]).unwrap();
    assert_eq!(control.collect(), 0);
    control.report(2, 2, 6, &[5]).unwrap();
    assert_eq!(control.collect(), 0, "a request of version 5 is still under way");
    control.report(2, 2, 6, &[]).unwrap();
    assert_eq!((control.collect(), control.retired()), (1, 0));
}

#[test]
fn a_request_that_never_ends_keeps_what_its_version_uses_and_nothing_newer() {
    let mut control = create(2 * MIB, 2);
    control.occupy(0, 10, 1).unwrap();
    control.make_for(1).unwrap();
    let first = control.block(BlockKind::Endpoint, "first", 30).unwrap();
    first.word(0).store(7, Relaxed);
    let mut now = Vec::new();
    for version in 2..1_502 {
        // As a change is made: what is unused now was last used by the one before.
        control.at_version(version - 2).unwrap();
        control.retire_unused();
        control.make_for(version).unwrap();
        let names = (0..20).map(|i| format!("{version}/{i}"));
        now = names.map(|name| control.block(BlockKind::Endpoint, &name, 30).unwrap()).collect();
        if version == 2 {
            control.retire(BlockKind::Endpoint, "first");
        }
        control.report(0, version, version, &[1, version - 1]).unwrap();
        if version % 500 == 0 {
            // The next control knows as much.
            control = open(&control);
            control.adopt().unwrap();
            control.settle();
        }
        if version > 2 {
            control.collect();
            assert!(control.retired() <= 41, "{} in {version}", control.retired());
        }
    }
    assert_eq!(first.word(0).load(Relaxed), 7);
    drop((now, first));
    control.report(0, 1, 1_502, &[]).unwrap();
    control.retire_unused();
    control.collect();
    assert_eq!((control.retired(), control.retired_bytes()), (0, 0));
}

#[test]
fn more_versions_than_a_slot_tells_are_held_from_the_first_that_it_does_not() {
    let control = create(MIB, 1);
    control.occupy(0, 10, 1).unwrap();
    let mut blocks: Vec<_> = (1..=30)
        .map(|version| {
            control.make_for(version).unwrap();
            control.at_version(version).unwrap();
            let block = control.block(BlockKind::Bucket, &version.to_string(), 1).unwrap();
            control.retire(BlockKind::Bucket, &version.to_string());
            block
        })
        .collect();
    blocks.clear();
    assert_eq!(control.collect(), 0, "it may hold anything");
    // 3, 5, … 19 are told one by one; from 21 on all are held.
    let odd: Vec<u64> = (3..30).filter(|version| version % 2 == 1).rev().collect();
    control.report(0, 1, 40, &odd).unwrap();
    assert_eq!(control.oldest_version(), Some(3));
    assert_eq!((control.collect(), control.retired()), (2 + 9, 9 + 10));
    assert_eq!(control.retired_bytes(), 19 * (3 * 64 + 16));
    control.report(0, 1, 40, &[30, 29, 40]).unwrap();
    assert_eq!((control.collect(), control.retired()), (17, 2));
}

#[test]
fn a_block_that_an_older_version_asks_for_is_its_too() {
    let control = create(MIB, 1);
    control.occupy(0, 10, 1).unwrap();
    control.make_for(9).unwrap();
    drop(control.block(BlockKind::Bucket, "x", 1).unwrap());
    control.make_for(4).unwrap();
    drop(control.block(BlockKind::Bucket, "x", 1).unwrap());
    control.at_version(9).unwrap();
    control.retire(BlockKind::Bucket, "x");
    control.report(0, 1, 20, &[5]).unwrap();
    let next = open(&control);
    next.adopt().unwrap();
    assert_eq!((control.collect(), next.collect()), (0, 0));
    control.report(0, 1, 20, &[3]).unwrap();
    assert_eq!(next.collect(), 1);
}

#[test]
fn who_hands_the_registry_over_changes_nothing_more() {
    let old = create(MIB, 2);
    old.occupy(1, 10, 1).unwrap();
    let kept = old.block(BlockKind::Gauges, "kept", 2).unwrap();
    drop(old.block(BlockKind::Gauges, "unused", 2).unwrap());
    old.retire(BlockKind::Gauges, "unused");
    kept.column(1, 0).store(3, Relaxed);
    old.release().unwrap();
    let new = open(&old);
    new.adopt().unwrap();
    let before = [new.len(), new.retired(), new.reserved_bytes()];
    for error in [
        old.block(BlockKind::Gauges, "kept", 2).unwrap_err(),
        old.adopt().unwrap_err(),
        old.release().unwrap_err(),
        old.at_version(5).unwrap_err(),
        old.make_for(5).unwrap_err(),
        old.export(|_| 1).unwrap_err(),
        old.import(&Exported::read(&new.export(|_| 1).unwrap()).unwrap(), as_it_was).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "the registry was handed over");
    }
    assert!(!old.retire(BlockKind::Gauges, "kept") && !old.is_writer());
    assert_eq!((old.retire_unused(), old.collect()), (0, 0));
    let again = open(&old);
    again.adopt().unwrap();
    assert_eq!([again.len(), again.retired(), again.reserved_bytes()], before);
    // Its own workers it still looks after.
    old.clear_worker(1).unwrap();
    assert_eq!(kept.column(1, 0).load(Relaxed), 0);
    assert_eq!(new.worker(1).unwrap(), Worker::default());
    new.settle();
    assert_eq!((new.collect(), new.retire_unused()), (1, 1));
    assert!(open(&old).release().is_err());
}

#[test]
fn a_dead_worker_holds_nothing() {
    let control = create(MIB, 2);
    control.occupy(1, 10, 1).unwrap();
    let error = control.occupy(1, 11, 1).unwrap_err();
    assert_eq!(error.to_string(), "worker slot 1 is process 10's");
    let retired = control.block(BlockKind::Gauges, "held", 2).unwrap();
    let cap = control.block(BlockKind::Upstream, "cap", 0).unwrap();
    let counts = control.block(BlockKind::Counters, "counts", 2).unwrap();
    for block in [&retired, &cap, &counts] {
        block.column(1, 0).store(3, Relaxed);
    }
    control.retire(BlockKind::Gauges, "held");
    control.clear_worker(1).unwrap();
    let left = [&retired, &cap, &counts].map(|block| block.column(1, 0).load(Relaxed));
    assert_eq!(left, [0, 0, 3]);
    assert_eq!(control.worker(1).unwrap(), Worker::default());
    control.occupy(1, 11, 4).unwrap();
    assert_eq!(control.worker(1).unwrap().pid, 11);
    assert!(open(&control).clear_worker(1).is_err());
}

#[test]
fn the_next_control_knows_what_is_retired_and_still_held() {
    let control = create(MIB, 1);
    control.occupy(0, 10, 1).unwrap();
    control.report(0, 2, 4, &[]).unwrap();
    let kept = control.block(BlockKind::Breaker, "kept", 9).unwrap();
    kept.word(0).store(11, Relaxed);
    let gone = control.block(BlockKind::Breaker, "gone", 9).unwrap();
    gone.word(0).store(12, Relaxed);
    control.at_version(4).unwrap();
    control.retire(BlockKind::Breaker, "gone");
    let next = open(&control);
    next.adopt().unwrap();
    assert_eq!((next.len(), next.retired()), (1, 1));
    assert_eq!(next.block(BlockKind::Breaker, "kept", 9).unwrap().word(0).load(Relaxed), 11);
    assert_eq!(next.retire_unused(), 0, "nothing is unused before a configuration is in force");
    // A new one of the name gets other words while the worker holds the old ones.
    let new = next.block(BlockKind::Breaker, "gone", 9).unwrap();
    assert_eq!((new.word(0).load(Relaxed), gone.word(0).load(Relaxed)), (0, 12));
    next.report(0, 2, 5, &[]).unwrap();
    next.settle();
    drop(new);
    assert_eq!((next.collect(), next.retire_unused()), (1, 2));
}

#[test]
fn what_is_worth_keeping_goes_to_a_program_of_another_layout() {
    let old = create(MIB, 3);
    let bucket = old.block(BlockKind::Bucket, "api", 1).unwrap();
    bucket.word(0).store(17, Relaxed);
    bucket.column(1, 0).store(1, Relaxed);
    let counts = old.block(BlockKind::Counters, "route/a", 12).unwrap();
    for (slot, n) in [(0, 1), (1, 10), (2, 100)] {
        counts.column(slot, 11).store(n, Relaxed);
    }
    let times = old.block(BlockKind::Histogram, "route/a", 5).unwrap();
    times.column(2, 4).store(9, Relaxed);
    let gauges = old.block(BlockKind::Gauges, "edge", 1).unwrap();
    gauges.column(0, 0).store(3, Relaxed);
    old.block(BlockKind::Breaker, "gone", 9).unwrap();
    old.retire(BlockKind::Breaker, "gone");
    let data = old.export(|_| 1).unwrap();
    let exported = Exported::read(&data).unwrap();
    assert_eq!((exported.seed, Exported::seed_of(&data).unwrap()), (ORIGIN.seed, ORIGIN.seed));

    // Histograms are not wanted there.
    let new = create(2 * MIB, 2);
    let wanted = |found: &Carried| (found.kind != BlockKind::Histogram).then(|| found.name.clone());
    assert_eq!(new.import(&exported, wanted).unwrap(), 2);
    assert_eq!(new.retire_unused(), 0, "kept for the first configuration");
    assert_eq!(new.len(), 2);
    let found = new.find(BlockKind::Bucket, "api", 1).unwrap();
    assert_eq!((found.word(0).load(Relaxed), found.column(1, 0).load(Relaxed)), (17, 0));
    let found = new.find(BlockKind::Counters, "route/a", 12).unwrap();
    assert_eq!([0, 1].map(|slot| found.column(slot, 11).load(Relaxed)), [111, 0]);
    new.settle();
    drop(found);
    assert_eq!(new.retire_unused(), 2);

    for error in [Exported::read(b"x"), Exported::read(&data[..data.len() - 1])] {
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "not an export of a segment: it ends too early");
    }
    assert!(open(&old).export(|_| 1).is_err());
}

/// What an entry of a model is: its words all hold one stamp.
type Model = HashMap<(u32, usize), u64>;

fn check(segment: &Segment, model: &Model) -> Result<(), TestCaseError> {
    for ((name, words), stamp) in model {
        let kind = if name % 2 == 0 { BlockKind::Breaker } else { BlockKind::Gauges };
        let block = segment.find(kind, &name.to_string(), *words).unwrap();
        prop_assert!(each(&block).all(|word| word.load(Relaxed) == *stamp));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever takes over at any time knows all that is there and overwrites none of it.
    #[test]
    fn taking_over_loses_nothing(
        steps in prop::collection::vec((0_u8..6, 0_u32..30, 1_usize..70), 1..200),
    ) {
        let mut control = create(4 * MIB, 3);
        let mut model = Model::new();
        let mut stamp = 0;
        for (what, name, words) in steps {
            let label = name.to_string();
            let kind = if name % 2 == 0 { BlockKind::Breaker } else { BlockKind::Gauges };
            match what {
                0 => {
                    control.retire(kind, &label);
                    model.retain(|(known, _), _| *known != name);
                }
                1 => {
                    control.collect();
                }
                2 => {
                    let (len, reserved) = (control.len(), control.reserved_bytes());
                    control = open(&control);
                    control.adopt().unwrap();
                    prop_assert_eq!((control.len(), control.reserved_bytes()), (len, reserved));
                    check(&control, &model)?;
                }
                _ => {
                    let block = control.block(kind, &label, words).unwrap();
                    let known = model.get(&(name, words)).copied().unwrap_or(0);
                    prop_assert!(each(&block).all(|w| w.load(Relaxed) == known));
                    stamp += 1;
                    each(&block).for_each(|w| w.store(stamp, Relaxed));
                    model.insert((name, words), stamp);
                }
            }
        }
        check(&control, &model)?;
    }

    /// An export that somebody scribbled on: an error or not, but no panic.
    #[test]
    fn a_damaged_export_hurts_nobody(
        flips in prop::collection::vec((8_usize..2_000, any::<u8>()), 1..20),
        cut in 0_usize..3_000,
    ) {
        let old = create(MIB, 2);
        for (i, kind) in BlockKind::ALL.iter().enumerate() {
            let block = old.block(*kind, "x", 5 + i).unwrap();
            each(&block).for_each(|word| word.store(1, Relaxed));
        }
        let mut data = old.export(|_| 1).unwrap();
        for (at, value) in flips {
            let at = at % data.len();
            data[at] = value;
        }
        data.truncate(cut.max(data.len() / 2));
        let new = create(MIB, 1);
        if let Ok(exported) = Exported::read(&data) {
            let _ = new.import(&exported, as_it_was);
        }
        assert!(new.block(BlockKind::Bucket, "y", 1).is_ok());
    }

    /// A file that somebody scribbled on: an error or not, but no panic, no endless walk.
    #[test]
    fn a_damaged_file_hurts_nobody(
        flips in prop::collection::vec(
            (prop_oneof![0_u64..8, 8_u64..24, BUCKETS / 8..POOL / 8, POOL / 8..POOL / 8 + 4_000],
             prop_oneof![any::<u64>(), 0_u64..6_000, (0_u64..6_000).prop_map(|n| n << 32)]),
            1..20,
        ),
        heads in any::<bool>(),
    ) {
        let control = create(MIB, 3);
        for i in 0..300 {
            control.block(BlockKind::ALL[i % BlockKind::ALL.len()], &i.to_string(), 1 + i % 20).unwrap();
        }
        let scribbled = file(&control);
        let mut before = [0; 8];
        for (word, value) in flips {
            scribbled.read_exact_at(&mut before, word * 8).unwrap();
            // Heads and entries are hit where there is something.
            if !heads || word < 8 || u64::from_le_bytes(before) != 0 {
                scribbled.write_at(&value.to_le_bytes(), word * 8).unwrap();
            }
        }
        let Ok(other) = Segment::open(fd(&control), ORIGIN.layout) else { return Ok(()) };
        for i in 0..300 {
            let (kind, name) = (BlockKind::ALL[i % BlockKind::ALL.len()], i.to_string());
            if let Ok(block) = other.find(kind, &name, 1 + i % 20) {
                each(&block).for_each(|word| word.store(1, Relaxed));
            }
            let _ = control.block(kind, &name, 3 + i % 20);
            if i % 7 == 0 {
                control.retire(kind, &name);
            }
        }
        control.retire_unused();
        control.collect();
        if other.adopt().is_ok() {
            for i in 0..300 {
                let _ = other.block(BlockKind::Endpoint, &i.to_string(), 2);
            }
            other.settle();
            other.retire_unused();
            other.collect();
            let _ = other.clear_worker(1);
        }
    }
}

#[test]
fn a_block_that_anybody_may_make_lies_behind_what_was_used() {
    let first = create(MIB, 1);
    let made: Vec<_> = (0..50)
        .map(|i| {
            // A writer of its own for each, as in processes that know nothing of each other.
            open(&first).block_once(BlockKind::Bucket, &format!("b{i}"), 9).unwrap()
        })
        .collect();
    made.iter().zip(1..).for_each(|(block, i)| block.word(8).store(i, Relaxed));
    let found =
        |i: usize| open(&first).find_any(BlockKind::Bucket, &format!("b{i}")).unwrap().unwrap();
    assert!((0..50).all(|i| found(i).word(8).load(Relaxed) == i as u64 + 1));
    let again = open(&first).block_once(BlockKind::Bucket, "b7", 9).unwrap();
    assert_eq!((again.word(8).load(Relaxed), again.column_words()), (8, 0));
    let small = again.first_words(3);
    assert_eq!((small.lines().len(), again.lines().len()), (1, 2));
    small.word(0).store(5, Relaxed);
    assert_eq!(again.word(0).load(Relaxed), 5);
}

#[test]
fn what_was_retired_for_good_is_found_and_used_by_nobody() {
    let segment = create(MIB, 1);
    let (mut held, mut more) = (Vec::new(), 0);
    let error = loop {
        match open(&segment).block_once(BlockKind::Breaker, "x", 100) {
            Ok(block) => held.push(block),
            Err(error) => break error,
        }
        more += 1;
        held.last().unwrap().word(99).store(more, Relaxed);
        assert!(open(&segment).retire_once(BlockKind::Breaker, "x").unwrap());
        assert!(!open(&segment).retire_once(BlockKind::Breaker, "x").unwrap());
        assert!(open(&segment).find_any(BlockKind::Breaker, "x").unwrap().is_none());
    };
    assert!(matches!(error, SegmentError::Full { .. }) && held.len() > 500, "{error}");
    assert!(held.iter().zip(1..).all(|(block, i)| block.word(99).load(Relaxed) == i));
}

#[test]
fn what_was_lost_with_a_dead_maker_is_used_when_nothing_else_is_left() {
    let segment = create(MIB, 1);
    let mut names = Vec::new();
    while open(&segment).block_once(BlockKind::Bucket, &format!("{}", names.len()), 400).is_ok() {
        names.push(names.len());
    }
    // As if the makers of these had been killed before they published them.
    let mut dead = file(&segment);
    for bucket in 0..16_384_u64 {
        let mut head = [0; 8];
        dead.read_exact_at(&mut head, BUCKETS + bucket * 8).unwrap();
        if bucket % 2 == 0 {
            dead.write_all_at(&[0; 8], BUCKETS + bucket * 8).unwrap();
        }
    }
    std::io::Write::flush(&mut dead).unwrap();
    let is_left = |name: &&usize| {
        open(&segment).find_any(BlockKind::Bucket, &name.to_string()).unwrap().is_some()
    };
    let left: Vec<_> = names.iter().filter(is_left).copied().collect();
    assert!(left.len() < names.len() - 5);
    for &name in &left {
        let block = open(&segment).find_any(BlockKind::Bucket, &name.to_string()).unwrap().unwrap();
        block.word(399).store(name as u64, Relaxed);
    }
    for i in left.len()..names.len() {
        let block = open(&segment).block_once(BlockKind::Bucket, &format!("new {i}"), 400).unwrap();
        assert!((0..400).all(|word| block.word(word).swap(u64::MAX, Relaxed) == 0));
    }
    for name in left {
        let block = open(&segment).find_any(BlockKind::Bucket, &name.to_string()).unwrap().unwrap();
        assert_eq!(block.word(399).load(Relaxed), name as u64);
    }
}
