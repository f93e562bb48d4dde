//! The next writer of a registry finds out what is free: everything that no entry takes.

use super::block::WORDS_PER_LINE;
use super::error::SegmentError;
use super::kind::BlockKind;
use super::layout::{BUCKETS, POOL_AT, REGION_KIND, USED, entry};
use super::view::{Entry, View};
use super::writer::{Held, Writer};
use crate::sync::Ordering;

impl Writer {
    /// Takes over a registry that another process has written, in whatever state it died.
    ///
    /// Names that no configuration asks for are kept until one is in force. O(entries).
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`] if two entries take the same lines or words, or one cannot be.
    pub(super) fn adopt(view: &View) -> Result<Self, SegmentError> {
        let mut writer = Self { keeps_unused: true, ..Self::new(view) };
        let entries = writer.entries(view)?;
        for found in entries.iter().filter(|found| found.kind == REGION_KIND) {
            let lines = found.words / WORDS_PER_LINE;
            writer.regions.add(found.data_at(), lines, view.workers);
        }
        for found in entries.iter().filter(|found| found.kind != REGION_KIND) {
            writer.hold(view, found)?;
        }
        let end = entries.iter().map(|found| found.at + found.lines()).max().unwrap_or(POOL_AT);
        let said = view.work_word(USED).load(Ordering::Acquire) as usize;
        writer.used = said.max(end).min(view.lines());
        let workers = (0..view.workers).filter_map(|slot| view.worker(slot).ok());
        let held = workers.map(|w| w.acked_version.max(w.oldest_version)).max().unwrap_or(0);
        writer.version = writer.version.max(held);
        Ok(writer)
    }

    /// Every entry, its lines taken. An entry that is met twice finds its lines taken, so a chain
    /// that goes round ends.
    ///
    /// # Orderings
    /// `Acquire` pairs with the last writer's `Release`.
    fn entries(&mut self, view: &View) -> Result<Vec<Entry>, SegmentError> {
        let mut all = Vec::new();
        for bucket in 0..BUCKETS {
            let mut at = view.nth_bucket(bucket).load(Ordering::Acquire) as usize;
            while at != 0 {
                let corrupt = SegmentError::Corrupt(at);
                let Some(found) = Entry::read(view, at) else { return Err(corrupt) };
                let line = &view.memory.lines()[at].0;
                let hash = line[entry::HASH].load(Ordering::Relaxed);
                let named = hash == view.hash(found.kind, &found.name(view));
                if !named
                    || hash as usize % BUCKETS != bucket
                    || !self.free.take_at(at, found.lines())
                {
                    return Err(corrupt);
                }
                at = line[entry::NEXT].load(Ordering::Acquire) as usize;
                all.push(found);
            }
        }
        Ok(all)
    }

    fn hold(&mut self, view: &View, found: &Entry) -> Result<(), SegmentError> {
        let corrupt = || SegmentError::Corrupt(found.at);
        let kind = BlockKind::from_number(found.kind).ok_or_else(corrupt)?;
        let column = match &found.strip {
            Some(strip) => Some(self.regions.take_at(strip).ok_or_else(corrupt)?),
            None => None,
        };
        let retired = found.retired.checked_sub(1);
        if let Some(version) = retired {
            self.retired.push(found.at);
            self.uncollected = true;
            self.version = self.version.max(version);
        }
        let (block, lines, made_for) = (view.block(found), found.lines(), found.made_for);
        let held = Held { kind, block, lines, column, made_for, retired };
        self.held.insert(found.at, held);
        Ok(())
    }
}
