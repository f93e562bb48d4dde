//! The segment: the same name means the same words, no two blocks share one, nothing leaks.
#![cfg(not(feature = "loom"))]
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;

use meshcore_core::segment::{Block, BlockKind, MAX_WORKERS, Segment, SegmentConfig, SegmentError};
use meshcore_core::sync::Ordering::Relaxed;
use proptest::prelude::*;

const MIB: usize = 1 << 20;

fn segment(max_bytes: usize, worker_slots: usize) -> Segment {
    Segment::anonymous(SegmentConfig { max_bytes, worker_slots }).unwrap()
}

#[test]
fn a_name_means_the_same_words_until_its_size_or_kind_changes() {
    let segment = segment(MIB, 2);
    let a = segment.block(BlockKind::Breaker, "api", 9).unwrap();
    a.word(8).store(5, Relaxed);
    a.column(1, 0).store(6, Relaxed);
    let again = segment.block(BlockKind::Breaker, "api", 9).unwrap();
    assert_eq!((again.word(8).load(Relaxed), again.column(1, 0).load(Relaxed)), (5, 6));
    assert_eq!(segment.block(BlockKind::Bucket, "api", 9).unwrap().word(8).load(Relaxed), 0);
    let other = segment.block(BlockKind::Breaker, "api", 17).unwrap();
    assert_eq!(other.word(8).load(Relaxed), 0);
    // Who holds the old one goes on with it.
    a.word(8).fetch_add(1, Relaxed);
    assert_eq!((again.word(8).load(Relaxed), segment.len()), (6, 3));
    drop((a, again));
    assert_eq!((segment.retire_unused(), segment.collect()), (2, 2));
}

#[test]
fn a_retired_block_is_freed_when_nobody_holds_it_and_comes_back_as_zeros() {
    let segment = segment(MIB, 2);
    let held = segment.block(BlockKind::Endpoint, "a", 1).unwrap();
    held.word(0).store(7, Relaxed);
    held.column(1, 1).store(7, Relaxed);
    let address = held.lines().as_ptr();
    assert!(segment.retire(BlockKind::Endpoint, "a") && !segment.retire(BlockKind::Endpoint, "a"));
    assert_eq!((segment.collect(), segment.retired()), (0, 1));
    drop(held);
    assert_eq!((segment.collect(), segment.retired()), (1, 0));
    let next = segment.block(BlockKind::Endpoint, "b", 1).unwrap();
    assert_eq!(next.lines().as_ptr(), address, "the place is used again");
    assert_eq!((next.word(0).load(Relaxed), next.column(1, 1).load(Relaxed)), (0, 0));
}

#[test]
fn what_the_last_configuration_left_over_is_retired() {
    let segment = segment(MIB, 1);
    let held = segment.block(BlockKind::Endpoint, "held", 1).unwrap();
    drop(segment.block(BlockKind::Endpoint, "left", 1).unwrap());
    assert_eq!((segment.retire_unused(), segment.collect(), segment.len()), (1, 1, 1));
    drop(held);
    assert_eq!((segment.retire_unused(), segment.collect()), (1, 1));
    assert!(segment.is_empty());
}

#[test]
fn a_reload_for_ever_takes_no_more_memory() {
    let segment = segment(2 * MIB, 4);
    let mut current: Vec<Block> = Vec::new();
    let mut reserved = 0;
    for round in 0..200 {
        let names = (0..500).map(|i| format!("{round}/{i}"));
        let next: Vec<_> =
            names.map(|n| segment.block(BlockKind::Endpoint, &n, 2 + round % 3).unwrap()).collect();
        current = next;
        segment.retire_unused();
        if round == 2 {
            reserved = segment.reserved_bytes();
        }
    }
    assert_eq!(segment.reserved_bytes(), reserved);
    drop(current);
}

#[test]
fn a_block_outlives_the_segment() {
    let block = segment(MIB, 1).block(BlockKind::Bucket, "a", 1).unwrap();
    block.word(0).store(1, Relaxed);
    assert_eq!(block.word(0).load(Relaxed), 1);
}

#[test]
fn a_full_segment_says_which_size_to_set_and_that_size_is_enough() {
    let small = segment(MIB, 4);
    let held = small.block(BlockKind::ClientTable, "small", 1_000).unwrap();
    let error = small.block(BlockKind::ClientTable, "large", 262_144).unwrap_err();
    let SegmentError::Full { needed_bytes, max_bytes: MIB } = error else { panic!("{error:?}") };
    assert_eq!(needed_bytes, 3 * MIB);
    assert_eq!(
        error.to_string(),
        "shared memory is full: segment_max is 1048576 bytes, set it to at least 3145728"
    );
    // What is there goes on, and small things still fit.
    held.word(999).store(1, Relaxed);
    small.block(BlockKind::Bucket, "tiny", 1).unwrap();
    let large = segment(needed_bytes, 4);
    large.block(BlockKind::ClientTable, "small", 1_000).unwrap();
    large.block(BlockKind::ClientTable, "large", 262_144).unwrap();
    assert!(large.reserved_bytes() <= needed_bytes);
}

#[test]
fn worker_slots_have_limits() {
    for worker_slots in [0, MAX_WORKERS + 1] {
        let config = SegmentConfig { max_bytes: MIB, worker_slots };
        let error = Segment::anonymous(config).unwrap_err();
        assert_eq!(error.to_string(), format!("{worker_slots} worker slots, must be 1 to 64"));
    }
    let most = segment(MIB, MAX_WORKERS);
    let block = most.block(BlockKind::Gauges, "g", 3).unwrap();
    assert_eq!((block.workers(), block.column_words()), (MAX_WORKERS, 3));
}

#[test]
fn no_two_workers_share_a_line_nor_a_pair_of_lines() {
    let segment = segment(MIB, 3);
    for i in 0..400 {
        let block = segment.block(BlockKind::Gauges, &i.to_string(), 1 + i % 5).unwrap();
        let pair = |slot, i| std::ptr::from_ref(block.column(slot, i)) as usize / 128;
        for slot in 0..2 {
            assert!(pair(slot, block.column_words() - 1) < pair(slot + 1, 0));
        }
    }
}

#[test]
fn a_dead_worker_holds_nothing_but_what_it_counted_stays() {
    let segment = segment(MIB, 2);
    let kinds = [
        BlockKind::Endpoint,
        BlockKind::Upstream,
        BlockKind::Gauges,
        BlockKind::Counters,
        BlockKind::Histogram,
    ];
    let blocks: Vec<_> = kinds.iter().map(|&kind| segment.block(kind, "x", 2).unwrap()).collect();
    for block in &blocks {
        block.column(0, 0).store(1, Relaxed);
        block.column(1, 1).store(1, Relaxed);
    }
    segment.retire(BlockKind::Gauges, "x");
    segment.clear_worker(1).unwrap();
    segment.clear_worker(99).unwrap_err();
    let left: Vec<_> = blocks.iter().map(|b| b.column(1, 1).load(Relaxed)).collect();
    assert_eq!(left, [0, 0, 0, 1, 1]);
    assert!(blocks.iter().all(|b| b.column(0, 0).load(Relaxed) == 1));
}

#[test]
fn a_hundred_thousand_endpoints_fit_in_sixty_four_mebibytes() {
    let segment = segment(64 * MIB, 8);
    for i in 0..100_000_u32 {
        let [_, a, b, c] = i.to_be_bytes();
        let name = format!("upstream-{}/10.{a}.{b}.{c}:8080", i % 100);
        segment.block(BlockKind::Endpoint, &name, 2).unwrap();
    }
    assert!(segment.reserved_bytes() <= 36 * MIB, "{} bytes", segment.reserved_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every word of every block holds what was written to it, whatever else comes and goes.
    #[test]
    fn words_are_nobody_elses(
        steps in prop::collection::vec((0_u8..4, 0_u32..30, 1_usize..70), 1..300),
    ) {
        let segment = segment(4 * MIB, 3);
        let mut model: HashMap<(u32, usize), (Block, u64)> = HashMap::new();
        let mut stamp = 0;
        for (what, name, words) in steps {
            let label = name.to_string();
            match what {
                0 => {
                    segment.retire(BlockKind::Gauges, &label);
                    segment.retire(BlockKind::Breaker, &label);
                    model.retain(|(known, _), _| *known != name);
                }
                1 => {
                    segment.collect();
                }
                _ => {
                    let kind = if name % 2 == 0 { BlockKind::Breaker } else { BlockKind::Gauges };
                    let block = segment.block(kind, &label, words).unwrap();
                    let known = model.get(&(name, words)).map(|m| m.1);
                    prop_assert!(each(&block).all(|w| w.load(Relaxed) == known.unwrap_or(0)));
                    stamp += 1;
                    each(&block).for_each(|w| w.store(stamp, Relaxed));
                    model.insert((name, words), (block, stamp));
                }
            }
        }
        for (block, stamp) in model.values() {
            prop_assert!(each(block).all(|w| w.load(Relaxed) == *stamp));
        }
    }
}

fn each(block: &Block) -> impl Iterator<Item = &meshcore_core::sync::AtomicU64> {
    let columns = (0..block.workers())
        .flat_map(move |slot| (0..block.column_words()).map(move |i| block.column(slot, i)));
    block.lines().iter().flat_map(|line| &line.0).chain(columns)
}
