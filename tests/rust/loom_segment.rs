//! Every interleaving of the writer of a registry with one who looks something up, and of a dead
//! worker's columns with those who go on. `make loom`.
#![cfg(feature = "loom")]
#![allow(missing_docs, clippy::unwrap_used)]

use loom::thread;
use meshcore_core::admission::InFlight;
use meshcore_core::balance::EndpointState;
use meshcore_core::segment::{BlockKind, Line, Segment, SegmentConfig, SegmentError};
use meshcore_core::sync::Ordering::Relaxed;

fn segment(lines: usize, worker_slots: usize) -> Segment {
    let max_bytes = lines * size_of::<Line>();
    Segment::anonymous(SegmentConfig { max_bytes, worker_slots }).unwrap()
}

/// Models with the registry in them have more steps than loom's default allows.
fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

// The reader is always the thread that is started: loom compares an access only with the last one
// to the same word, and a writer looks itself before it writes.

#[test]
fn an_entry_is_seen_as_a_whole_or_not_at_all() {
    model(3, || {
        let control = segment(40, 1);
        // The region of columns is there, and something to stand behind the new one.
        let first = control.block(BlockKind::Endpoint, "first", 1).unwrap();
        first.word(0).store(7, Relaxed);
        let worker = control.reader();
        let reading = thread::spawn(move || {
            let found = worker.find(BlockKind::Endpoint, "first", 1).unwrap();
            assert_eq!(found.word(0).load(Relaxed), 7);
            match worker.find(BlockKind::Endpoint, "new", 3) {
                Ok(block) => {
                    assert_eq!((block.lines().len(), block.column_words()), (1, 2));
                    assert_eq!(block.word(2).load(Relaxed), 0);
                    assert_eq!(block.column(0, 0).load(Relaxed), 0);
                }
                Err(e) => assert!(matches!(e, SegmentError::NotFound { .. }), "{e}"),
            }
        });
        drop(control.block(BlockKind::Endpoint, "new", 3).unwrap());
        reading.join().unwrap();
    });
}

#[test]
fn a_look_up_beside_a_removal_finds_what_stays() {
    model(3, || {
        let control = segment(40, 1);
        let stays = control.block(BlockKind::Endpoint, "stays", 1).unwrap();
        stays.word(0).store(7, Relaxed);
        // They stand before what is looked for, and their lines come to mean something else: where
        // the second began there are words of the next.
        drop(control.block(BlockKind::Endpoint, "goes", 1).unwrap());
        drop(control.block(BlockKind::Endpoint, "goes, too", 1).unwrap());
        let worker = control.reader();
        let reading = thread::spawn(move || {
            let found = worker.find(BlockKind::Endpoint, "stays", 1).unwrap();
            assert_eq!(found.word(0).load(Relaxed), 7);
        });
        assert_eq!((control.retire_unused(), control.collect()), (2, 2));
        drop(control.block(BlockKind::Endpoint, "next", 32).unwrap());
        reading.join().unwrap();
    });
}

#[test]
fn what_goes_is_found_as_it_was_or_not_at_all() {
    // Each removal makes the reader begin again: with two, minutes. One finds what was tried.
    model(1, || {
        let control = segment(40, 1);
        drop(control.block(BlockKind::Endpoint, "goes", 1).unwrap());
        let worker = control.reader();
        let reading = thread::spawn(move || {
            if let Err(e) = worker.find(BlockKind::Endpoint, "goes", 1) {
                assert!(matches!(e, SegmentError::NotFound { .. }), "{e}");
            }
        });
        assert_eq!((control.retire_unused(), control.collect()), (1, 1));
        let next = control.block(BlockKind::Endpoint, "next", 1).unwrap();
        next.word(0).store(9, Relaxed);
        reading.join().unwrap();
    });
}

#[test]
fn the_next_worker_in_a_slot_loses_nothing_and_no_sum_is_below_zero() {
    model(3, || {
        let control = segment(40, 2);
        let block = control.block(BlockKind::Upstream, "cap", InFlight::WORDS).unwrap();
        let dead = InFlight::new(block.clone(), 1, 3);
        control.occupy(1, 10, 1).unwrap();
        assert!(dead.try_enter() && dead.try_enter());
        // It is dead. Its neighbour goes on while its column is zeroed and used again.
        let neighbour = InFlight::new(block.clone(), 0, 3);
        let going_on = thread::spawn(move || {
            let entered = neighbour.try_enter();
            assert!(neighbour.current() <= 4, "the sum is of this world");
            if entered {
                neighbour.leave();
            }
        });
        control.clear_worker(1).unwrap();
        control.occupy(1, 11, 2).unwrap();
        let next = InFlight::new(block.clone(), 1, 3);
        assert!(next.try_enter());
        assert!(next.try_enter());
        next.leave();
        going_on.join().unwrap();
        assert_eq!(next.current(), 1);
        assert_eq!(block.column(1, 0).load(Relaxed), 1);
    });
}

#[test]
fn a_worker_that_is_cleared_while_it_lives_does_not_pull_sums_below_zero() {
    model(3, || {
        let control = segment(40, 2);
        let block = control.block(BlockKind::Endpoint, "e", EndpointState::WORDS).unwrap();
        let alive = EndpointState::new(block.clone(), 0);
        let other = EndpointState::new(block, 1);
        other.enter();
        alive.enter();
        let leaving = thread::spawn(move || {
            let sum = alive.in_flight();
            assert!((1..=2).contains(&sum));
        });
        control.clear_worker(0).unwrap();
        leaving.join().unwrap();
        assert_eq!(other.in_flight(), 1);
    });
}

#[test]
fn a_version_that_is_let_go_of_is_done_with() {
    model(3, || {
        let control = segment(40, 1);
        control.occupy(0, 10, 1).unwrap();
        let block = control.block(BlockKind::Endpoint, "e", 1).unwrap();
        let worker = control.reader();
        let theirs = worker.find(BlockKind::Endpoint, "e", 1).unwrap();
        drop(block);
        let collecting = thread::spawn(move || {
            control.at_version(1).unwrap();
            control.retire_unused();
            if control.collect() == 1 {
                let next = control.block(BlockKind::Endpoint, "e", 1).unwrap();
                let words = (next.word(0).load(Relaxed), next.column(0, 0).load(Relaxed));
                assert_eq!(words, (0, 0));
            }
        });
        // The last thing that a request of the old configuration does.
        theirs.column(0, 0).fetch_add(1, Relaxed);
        theirs.word(0).store(5, Relaxed);
        worker.report(0, 1, 2, &[]).unwrap();
        collecting.join().unwrap();
    });
}

#[test]
fn a_reader_of_a_slot_never_sees_too_few_versions() {
    // With three preemptions, minutes. One finds what was tried.
    model(2, || {
        let control = segment(40, 1);
        control.occupy(0, 10, 1).unwrap();
        made_for(&control, 1);
        made_for(&control, 3);
        control.report(0, 1, 4, &[1, 3]).unwrap();
        let worker = control.reader();
        // The list moves up: half of each one would miss the third version.
        let collecting = thread::spawn(move || (control.collect(), control));
        worker.report(0, 2, 5, &[3]).unwrap();
        let (freed, control) = collecting.join().unwrap();
        assert_eq!(freed + control.collect(), 1);
    });
}

/// A retired block that only one version used.
fn made_for(control: &Segment, version: u64) {
    control.make_for(version).unwrap();
    let name = version.to_string();
    drop(control.block(BlockKind::Endpoint, &name, 1).unwrap());
    control.at_version(version).unwrap();
    assert!(control.retire(BlockKind::Endpoint, &name));
}
