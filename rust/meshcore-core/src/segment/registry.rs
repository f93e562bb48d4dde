//! A segment: blocks by kind and name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};

use super::block::{Block, Line, Shape};
use super::error::SegmentError;
use super::kind::BlockKind;
use super::layout::{MAX_WORKERS, POOL_AT, USED, entry};
use super::memory::Memory;
use super::slots::Worker;
use super::view::{Entry, Origin, View};
use super::writer::{Writer, zero_column};
use crate::sync::Ordering;

/// What a segment may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentConfig {
    /// The most memory, in bytes (`segment_max`). Pages that are never written cost nothing.
    pub max_bytes: usize,
    /// Columns of every block: the workers and some spare ones, 1 to [`MAX_WORKERS`].
    pub worker_slots: usize,
}

impl SegmentConfig {
    fn lines(self) -> Result<usize, SegmentError> {
        if self.worker_slots == 0 || self.worker_slots > MAX_WORKERS {
            return Err(SegmentError::Workers(self.worker_slots));
        }
        let lines = self.max_bytes / size_of::<Line>();
        // Line numbers share a word with others.
        if lines <= POOL_AT || u32::try_from(lines).is_err() {
            let needed_bytes = ((POOL_AT + 1) * size_of::<Line>()).next_multiple_of(1 << 20);
            return Err(SegmentError::Full { max_bytes: self.max_bytes, needed_bytes });
        }
        Ok(lines)
    }
}

/// Only control takes it, to make one change after the other; the words are behind no lock.
#[expect(clippy::disallowed_types, reason = "serialises changes of the registry by one process")]
type WriterLock = std::sync::Mutex<Writer>;

#[derive(Debug)]
struct Inner {
    view: View,
    /// Empty in a process that only finds blocks.
    writer: OnceLock<WriterLock>,
    fd: Option<OwnedFd>,
}

/// All shared words of a mesh, by name. Clones are the same segment.
///
/// One process writes the registry, all others only find blocks in it. A version is that of the
/// configuration: a block that was made for one and last used by another may be freed when no
/// process holds one of these or of those between.
#[derive(Clone, Debug)]
pub struct Segment(Arc<Inner>);

/// A descriptor by its number, for system calls that say so if nothing is open by it.
fn borrowed(fd: &RawFd) -> Result<BorrowedFd<'_>, SegmentError> {
    if *fd < 0 {
        return Err(SegmentError::Memory(rustix::io::Errno::BADF.into()));
    }
    // SAFETY: not negative, and lent for no longer than the caller has the number; a caller that is
    // given it makes system calls with it and nothing else.
    Ok(unsafe { BorrowedFd::borrow_raw(*fd) })
}

impl Segment {
    /// A segment in memory of this process alone.
    ///
    /// # Errors
    /// If the configuration is out of range or the system has no address space left.
    pub fn anonymous(config: SegmentConfig) -> Result<Self, SegmentError> {
        let memory = Memory::anonymous(config.lines()?).map_err(SegmentError::Memory)?;
        let view = View::create(memory, config.worker_slots, Origin::default());
        Ok(Self::with(view, None).into_writer())
    }

    /// A segment that other processes can map: a sealed memory file without a name.
    ///
    /// # Errors
    /// If the configuration is out of range or the system refuses.
    #[cfg(not(feature = "loom"))]
    pub fn create(config: SegmentConfig, origin: Origin) -> Result<Self, SegmentError> {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
        let lines = config.lines()?;
        let no = |e: rustix::io::Errno| SegmentError::Memory(e.into());
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = memfd_create("meshcore", flags).map_err(no)?;
        ftruncate(&fd, (lines * size_of::<Line>()) as u64).map_err(no)?;
        // No process can take the memory away from others.
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).map_err(no)?;
        let view = Self::formatted(fd.as_fd(), config, origin)?;
        Ok(Self::with(view, Some(fd)).into_writer())
    }

    /// Makes a segment of an empty file, which is as large as the segment may become; the
    /// descriptor stays the caller's, and none is opened or closed.
    ///
    /// The header's first word is written last: until then it is no segment for anyone.
    ///
    /// # Errors
    /// If the configuration is out of range or the system refuses.
    #[cfg(not(feature = "loom"))]
    pub fn format(fd: RawFd, config: SegmentConfig, origin: Origin) -> Result<Self, SegmentError> {
        let view = Self::formatted(borrowed(&fd)?, config, origin)?;
        Ok(Self::with(view, None))
    }

    #[cfg(not(feature = "loom"))]
    fn formatted(
        fd: BorrowedFd<'_>,
        config: SegmentConfig,
        origin: Origin,
    ) -> Result<View, SegmentError> {
        let memory = Memory::shared(fd, config.lines()?).map_err(SegmentError::Memory)?;
        Ok(View::create(memory, config.worker_slots, origin))
    }

    /// A segment that another process made; blocks can be found, not added.
    ///
    /// The header is checked: nothing in the file can make this process reach outside of it.
    ///
    /// # Errors
    /// [`SegmentError::NotASegment`], [`SegmentError::OtherLayout`], or what the system says.
    #[cfg(not(feature = "loom"))]
    pub fn open(fd: OwnedFd, layout: u64) -> Result<Self, SegmentError> {
        let view = Self::opened(fd.as_fd(), layout)?;
        Ok(Self::with(view, Some(fd)))
    }

    /// The same, while the descriptor stays the caller's, and none is opened or closed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(not(feature = "loom"))]
    pub fn map(fd: RawFd, layout: u64) -> Result<Self, SegmentError> {
        Ok(Self::with(Self::opened(borrowed(&fd)?, layout)?, None))
    }

    #[cfg(not(feature = "loom"))]
    fn opened(fd: BorrowedFd<'_>, layout: u64) -> Result<View, SegmentError> {
        let stat = rustix::fs::fstat(fd).map_err(|e| SegmentError::Memory(e.into()))?;
        let bytes = usize::try_from(stat.st_size).unwrap_or(0);
        if bytes <= POOL_AT * size_of::<Line>() {
            return Err(SegmentError::NotASegment("too short"));
        }
        if !bytes.is_multiple_of(size_of::<Line>()) {
            return Err(SegmentError::NotASegment("no whole number of lines"));
        }
        let lines = bytes / size_of::<Line>();
        if u32::try_from(lines).is_err() {
            return Err(SegmentError::NotASegment("too long"));
        }
        let memory = Memory::shared(fd, lines).map_err(SegmentError::Memory)?;
        View::open(memory, layout)
    }

    /// A descriptor of our own for the file behind `fd`, closed when a program is started.
    ///
    /// # Errors
    /// What the system says, above all if `fd` is not open.
    pub fn duplicate(fd: RawFd) -> std::io::Result<OwnedFd> {
        let bad = |_| std::io::Error::from(rustix::io::Errno::BADF);
        borrowed(&fd).map_err(bad)?.try_clone_to_owned()
    }

    fn with(view: View, fd: Option<OwnedFd>) -> Self {
        Self(Arc::new(Inner { view, writer: OnceLock::new(), fd }))
    }

    fn into_writer(self) -> Self {
        let _ = self.0.writer.set(WriterLock::new(Writer::new(&self.0.view)));
        self
    }

    /// The same memory as another process sees it that only finds blocks.
    #[must_use]
    pub fn reader(&self) -> Self {
        Self::with(self.0.view.clone(), None)
    }

    /// Takes over the registry: what is free follows from what is there. From now on this process
    /// is its only writer. Nothing happens if it is already.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`] if the registry contradicts itself, [`SegmentError::HandedOver`]
    /// if it was this one's: what was known of it is old, so open the segment anew.
    pub fn adopt(&self) -> Result<(), SegmentError> {
        if self.0.writer.get().is_none() {
            let writer = Writer::adopt(&self.0.view)?;
            let _ = self.0.writer.set(WriterLock::new(writer));
        }
        self.writer().map(drop)
    }

    /// Another process is to write the registry: from now on this one changes nothing of it. It
    /// still clears the slots of its own workers, who know no blocks but those that it knew.
    ///
    /// # Errors
    /// If this process does not write the registry.
    pub fn release(&self) -> Result<(), SegmentError> {
        self.writer()?.ended = true;
        Ok(())
    }

    /// The block of this kind, name and number of words, without columns, made by the holder of a
    /// lock that all who do so agree on.
    ///
    /// What is new lies behind everything that was ever used, so nothing has to be known of the
    /// rest: O(1) expected. Only where no room is left the whole registry is read, for what was
    /// lost with those who died while they made something. What was retired is not used again:
    /// its holders are not known.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt) and [`block`](Self::block).
    pub fn block_once(
        &self,
        kind: BlockKind,
        name: &str,
        words: usize,
    ) -> Result<Block, SegmentError> {
        let (view, shape) = (&self.0.view, Shape { words, column: 0 });
        if let Some(found) = view.find(kind, name, Some((words, 0)))? {
            return Ok(view.block(&found));
        }
        match Writer::behind_all(view).block(view, (kind, name), shape) {
            Err(SegmentError::Full { .. }) => {}
            made => return made,
        }
        let mut writer = Writer::adopt(view)?;
        writer.keep_retired();
        writer.block(view, (kind, name), shape)
    }

    /// Retires the blocks of this name for good, under the same lock as
    /// [`block_once`](Self::block_once). Whether there was one.
    ///
    /// # Orderings
    /// `Release`: nothing but the mark itself is published.
    ///
    /// # Errors
    /// If the segment is damaged.
    pub fn retire_once(&self, kind: BlockKind, name: &str) -> Result<bool, SegmentError> {
        let mut any = false;
        while let Some(found) = self.0.view.find(kind, name, None)? {
            let line = &self.0.view.memory.lines()[found.at].0;
            line[entry::RETIRED].store(1, Ordering::Release);
            any = true;
        }
        Ok(any)
    }

    /// Whether this process writes the registry.
    #[must_use]
    pub fn is_writer(&self) -> bool {
        self.check_writer().is_ok()
    }

    /// # Errors
    /// If this process does not write the registry, or not any more.
    pub fn check_writer(&self) -> Result<(), SegmentError> {
        self.writer().map(drop)
    }

    pub(super) fn writer(&self) -> Result<MutexGuard<'_, Writer>, SegmentError> {
        let writer = self.known()?;
        if writer.ended { Err(SegmentError::HandedOver) } else { Ok(writer) }
    }

    /// What this process knows of the registry, which it may not write any more.
    fn known(&self) -> Result<MutexGuard<'_, Writer>, SegmentError> {
        let lock = self.0.writer.get().ok_or(SegmentError::NotTheWriter)?;
        Ok(lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn view(&self) -> &View {
        &self.0.view
    }

    /// The block of this kind, name and number of words, as it is, or a new one full of zeros.
    ///
    /// Another number of words means another block; the one before is as good as ever until
    /// it is not held. O(1) expected.
    ///
    /// # Errors
    /// If memory is at its limit (the message names the limit to set; nothing is changed then), or
    /// this process does not write the registry.
    pub fn block(&self, kind: BlockKind, name: &str, words: usize) -> Result<Block, SegmentError> {
        self.writer()?.block(&self.0.view, (kind, name), kind.shape(words))
    }

    /// The block of this kind, name and number of words, if it is there. For every process.
    ///
    /// # Errors
    /// [`SegmentError::NotFound`], or if the segment is damaged.
    pub fn find(&self, kind: BlockKind, name: &str, words: usize) -> Result<Block, SegmentError> {
        let shape = kind.shape(words);
        let found = self.0.view.find(kind, name, Some((shape.words, shape.column)))?;
        let missing = || SegmentError::NotFound { kind, name: name.to_owned() };
        Ok(self.0.view.block(&found.ok_or_else(missing)?))
    }

    /// The newest block of this kind and name, however large.
    ///
    /// # Errors
    /// If the segment is damaged.
    pub fn find_any(&self, kind: BlockKind, name: &str) -> Result<Option<Block>, SegmentError> {
        let found = self.0.view.find(kind, name, None)?;
        Ok(found.map(|found| self.0.view.block(&found)))
    }

    /// The names of the blocks of a kind that can be found, in order. For every process. O(blocks).
    ///
    /// # Errors
    /// If the segment is damaged.
    pub fn names_found(&self, kind: BlockKind) -> Result<Vec<String>, SegmentError> {
        let names = self.0.view.names(kind)?;
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    /// The names of the blocks of a kind that can be found, as the writer knows. O(blocks).
    #[must_use]
    pub fn names(&self, kind: BlockKind) -> Vec<String> {
        let Ok(writer) = self.writer() else { return Vec::new() };
        let held = writer.held.iter().filter(|(_, h)| h.kind == kind && h.retired.is_none());
        let names =
            held.filter_map(|(&at, _)| Some(Entry::read(&self.0.view, at)?.name(&self.0.view)));
        names.filter_map(|name| String::from_utf8(name).ok()).collect()
    }

    /// Says which version may have used what is retired from now on. It never goes back.
    ///
    /// # Errors
    /// If this process does not write the registry.
    pub fn at_version(&self, version: u64) -> Result<(), SegmentError> {
        let mut writer = self.writer()?;
        writer.version = writer.version.max(version);
        Ok(())
    }

    /// Says which version the blocks that are asked for from now on are asked for by. Before it is
    /// said, what is made counts as used by every version from the first.
    ///
    /// # Errors
    /// If this process does not write the registry.
    pub fn make_for(&self, version: u64) -> Result<(), SegmentError> {
        self.writer()?.making = version;
        Ok(())
    }

    /// Retires every block that no configuration of this process holds. How many. O(blocks).
    pub fn retire_unused(&self) -> usize {
        self.writer().map_or(0, |mut writer| writer.retire_unused(&self.0.view))
    }

    /// Retires the blocks of this name: they are not found any more, their words stay until none
    /// holds them. Whether there was one. O(blocks).
    pub fn retire(&self, kind: BlockKind, name: &str) -> bool {
        let Ok(mut writer) = self.writer() else { return false };
        let mut any = false;
        while let Ok(Some(found)) = self.0.view.find(kind, name, None) {
            // In a damaged registry it may be none of ours; then it is there for ever.
            if !writer.retire(&self.0.view, found.at) {
                break;
            }
            any = true;
        }
        any
    }

    /// A configuration is in force: what was taken over and is not held is unused from now on.
    pub fn settle(&self) {
        if let Ok(mut writer) = self.writer() {
            writer.keeps_unused = false;
        }
    }

    /// Frees the retired blocks that are not held any more: no block in this process, and no
    /// worker a version that may have used them. How many. O(retired).
    ///
    /// Called by [`block`](Self::block) before memory grows, so it need not be called at all.
    pub fn collect(&self) -> usize {
        self.writer().map_or(0, |mut writer| writer.collect(&self.0.view))
    }

    /// Forgets what the worker in `slot` held when it died, requests in flight and the like, also
    /// in blocks that are retired, and frees the slot. Counters and histograms stay, since what
    /// was counted did happen. O(blocks).
    ///
    /// Also after [`release`](Self::release), for workers that this process started. A block that
    /// it knew may be another's by now, but not the dead worker's column there: who took it knows
    /// nothing of that worker, and its words are zero or were the block's before.
    ///
    /// # Errors
    /// If there is no such slot, or this process never wrote the registry.
    pub fn clear_worker(&self, slot: usize) -> Result<(), SegmentError> {
        let writer = self.known()?;
        self.0.view.worker(slot)?;
        for held in writer.held.values().filter(|held| held.kind.comes_down()) {
            zero_column(&held.block, slot);
        }
        self.0.view.vacate(slot)
    }

    /// Gives a worker slot to a process. Until that reports it counts as holding every version.
    ///
    /// # Errors
    /// If there is no such slot or it is taken.
    pub fn occupy(&self, slot: usize, pid: u64, started_ns: u64) -> Result<(), SegmentError> {
        self.0.view.occupy(slot, pid, started_ns)
    }

    /// What the worker in a slot says of itself.
    ///
    /// # Errors
    /// If there is no such slot.
    pub fn worker(&self, slot: usize) -> Result<Worker, SegmentError> {
        self.0.view.worker(slot)
    }

    /// The worker in `slot` lives, has a version in force and requests that hold older ones.
    ///
    /// # Errors
    /// If there is no such slot.
    pub fn report(
        &self,
        slot: usize,
        now_ns: u64,
        in_force: u64,
        older: &[u64],
    ) -> Result<(), SegmentError> {
        self.0.view.report(slot, now_ns, in_force, older)
    }

    /// Blocks that can be found by name, as the writer knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writer().map_or(0, |writer| writer.held.len() - writer.retired.len())
    }

    /// Whether no block can be found by name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Blocks that are retired and still held, as of the last [`collect`](Self::collect).
    #[must_use]
    pub fn retired(&self) -> usize {
        self.writer().map_or(0, |writer| writer.retired.len())
    }

    /// Bytes of blocks that are retired and still held, columns included. O(retired).
    #[must_use]
    pub fn retired_bytes(&self) -> usize {
        self.writer().map_or(0, |writer| writer.retired_bytes())
    }

    /// The oldest version that a living worker still holds; `None` without any worker.
    #[must_use]
    pub fn oldest_version(&self) -> Option<u64> {
        self.0.view.oldest_version()
    }

    /// Bytes that were ever used, at most `max_bytes`.
    ///
    /// # Orderings
    /// `Acquire`, though nothing hangs on it: a number to show.
    #[must_use]
    pub fn reserved_bytes(&self) -> usize {
        let used = self.0.view.work_word(USED).load(Ordering::Acquire) as usize;
        used.clamp(POOL_AT, self.0.view.lines()) * size_of::<Line>()
    }

    /// The size of the mapping.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.0.view.lines() * size_of::<Line>()
    }

    /// Columns of every block.
    #[must_use]
    pub fn worker_slots(&self) -> usize {
        self.0.view.workers
    }

    /// What it was told when it was made.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.view.origin
    }

    /// The file behind it, if other processes can map it.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.fd.as_ref().map(AsFd::as_fd)
    }
}
