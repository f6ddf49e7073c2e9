//! What the simulated machine knows: files, names, and what of both is not durable yet.
//!
//! Invariants: the durable bytes of a file with its pending writes on top are its live bytes, unless a sync failed; the
//! durable names with the pending changes on top are the live names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use super::image::{CHUNK_LEN, Image, for_chunks, for_whole_chunks};
use super::{Counts, Lie};
use crate::io::{Lock, check_file_len};
use crate::sync::Arc;

/// Free space of a machine that nobody gave a limit: much, but far from overflowing.
const FREE_LEN: u64 = 1 << 50;

pub(super) type Names = BTreeMap<Arc<str>, InodeNo>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeNo(u64);

/// A write that no sync has covered yet.
#[derive(Clone, Debug)]
pub(super) struct PendingWrite {
    /// Its place among all writes of the machine.
    pub order: u64,
    pub offset: u64,
    pub bytes: Arc<[u8]>,
    pub kind: WriteKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteKind {
    Bytes,
    /// It punches a hole: the bytes are the zeroes that are read there then.
    Punch,
    /// It gives space to holes, or behind the end: the bytes are zeroes, too.
    Fill,
}

impl PendingWrite {
    fn part(&self, part: Range<usize>) -> Self {
        Self {
            offset: self.offset + part.start as u64,
            bytes: self.bytes[part].into(),
            ..*self
        }
    }

    /// Does a part of it, which starts at `offset`.
    pub fn keep(&self, image: &mut Image, offset: u64, part: Range<usize>) {
        match self.kind {
            WriteKind::Bytes => image.write(&self.bytes[part], offset),
            WriteKind::Punch => image.punch(offset, part.len()),
            WriteKind::Fill => image.fill(offset, part.len()),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub live: Image,
    pub durable: Image,
    pub pending: Vec<PendingWrite>,
    /// Whether a failed sync has lost writes that are still read.
    pub has_lost: bool,
    /// Blocks that were never durable and that a failed sync lost: what is written there does not become durable either, until
    /// the range is punched, or written past the cache, or the cache is dropped. Under ext4 the block is on the medium then,
    /// but in an extent that counts as unwritten.
    stuck: BTreeSet<u64>,
    /// Whether a sync has made its length durable.
    pub is_synced: bool,
    pub directory: Arc<str>,
    /// The last name it had.
    pub name: Arc<str>,
}

impl Inode {
    /// Reads what would be there if all that is pending were written back.
    pub fn read_medium(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self.has_lost {
            true => self.medium().read(buf, offset),
            false => self.live.read(buf, offset),
        }
    }

    /// Forgets what only the cache has.
    pub fn drop_cache(&mut self) {
        if self.has_lost {
            self.live = self.medium();
            self.forget_lost();
        }
    }

    /// Nothing was lost, as after a start of the machine.
    pub fn forget_lost(&mut self) {
        self.has_lost = false;
        self.stuck.clear();
    }

    /// Loses pending writes; a block that was never durable as a whole.
    fn lose(&mut self, is_lost: impl Fn(&PendingWrite) -> bool) {
        let mut kept = Vec::new();
        let mut punched = BTreeSet::new();
        for write in std::mem::take(&mut self.pending) {
            let (offset, len) = (write.offset, write.bytes.len());
            match write.kind {
                WriteKind::Bytes if is_lost(&write) => {
                    self.has_lost = true;
                    for_chunks(offset, len, |index, _, _| {
                        if !self.durable.was_written(index) || punched.contains(&index) {
                            self.stuck.insert(index);
                        }
                    });
                    continue;
                }
                WriteKind::Bytes | WriteKind::Fill => {}
                WriteKind::Punch => for_whole_chunks(offset, len, |index| {
                    self.stuck.remove(&index);
                    punched.insert(index);
                }),
            }
            kept.push(write);
        }
        for write in kept {
            if write.kind != WriteKind::Bytes || self.stuck.is_empty() {
                self.pending.push(write);
                continue;
            }
            let parts = self.not_stuck(write.offset, write.bytes.len());
            let parts = parts.into_iter().map(|part| write.part(part));
            self.pending.extend(parts);
        }
    }

    /// The parts of a range that are not stuck.
    fn not_stuck(&self, offset: u64, len: usize) -> Vec<Range<usize>> {
        if self.stuck.is_empty() {
            return std::iter::once(0..len).collect();
        }
        let mut parts: Vec<Range<usize>> = Vec::new();
        for_chunks(offset, len, |index, _, part| {
            if self.stuck.contains(&index) {
                return;
            }
            match parts.last_mut().filter(|last| last.end == part.start) {
                Some(last) => last.end = part.end,
                None => parts.push(part),
            }
        });
        parts
    }

    /// Lets blocks of a range become durable again: those that lie in it as a whole.
    fn unstick(&mut self, offset: u64, len: usize) {
        if !self.stuck.is_empty() {
            for_whole_chunks(offset, len, |index| {
                self.stuck.remove(&index);
            });
        }
    }

    /// What is durable once all that is pending is written back.
    fn medium(&self) -> Image {
        let mut medium = self.durable.clone();
        medium.grow(self.live.len());
        for write in &self.pending {
            write.keep(&mut medium, write.offset, 0..write.bytes.len());
        }
        medium
    }
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Insert {
        name: Arc<str>,
        inode: InodeNo,
    },
    Rename {
        from: Arc<str>,
        to: Arc<str>,
        inode: InodeNo,
    },
    Remove {
        name: Arc<str>,
    },
}

impl Change {
    pub fn apply(&self, names: &mut Names) {
        match self {
            Self::Insert { name, inode } => {
                names.insert(Arc::clone(name), *inode);
            }
            Self::Rename { from, to, inode } => {
                let named = names.remove(from);
                assert_eq!(named, Some(*inode), "BUG: changes are applied in order");
                names.insert(Arc::clone(to), *inode);
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

/// A change of names that no sync of its directory has covered yet.
#[derive(Clone, Debug)]
pub(super) struct PendingChange {
    pub directory: Arc<str>,
    pub change: Change,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub live: Arc<Names>,
    pub durable: Arc<Names>,
}

/// Cheap to fork: what a fork does not change it shares.
#[derive(Debug)]
pub(super) struct State {
    pub inodes: BTreeMap<InodeNo, Arc<Inode>>,
    pub directories: BTreeMap<Arc<str>, Directory>,
    /// In the order in which they were made, whatever the directory.
    pub changes: Vec<PendingChange>,
    pub free_len: u64,
    pub counts: Counts,
    pub lie: Lie,
    /// Of what was opened, shared with every open file and map, so that an inode without a name lives as long.
    handles: BTreeMap<InodeNo, Arc<()>>,
    /// Whether only handles keep some inodes.
    has_unreachable: bool,
    locks: BTreeMap<(Arc<str>, Arc<str>), LockState>,
    next_inode: u64,
    next_order: u64,
}

#[derive(Debug)]
enum LockState {
    Shared(usize),
    Exclusive,
}

impl State {
    pub fn new() -> Self {
        Self {
            inodes: BTreeMap::new(),
            directories: BTreeMap::new(),
            changes: Vec::new(),
            free_len: FREE_LEN,
            counts: Counts::default(),
            lie: Lie::Never,
            handles: BTreeMap::new(),
            has_unreachable: false,
            locks: BTreeMap::new(),
            next_inode: 0,
            next_order: 0,
        }
    }

    /// The same files and names in a machine where nothing is open or locked.
    pub fn fork(&self) -> Self {
        let mut state = Self {
            inodes: self.inodes.clone(),
            directories: self.directories.clone(),
            changes: self.changes.clone(),
            free_len: self.free_len,
            next_inode: self.next_inode,
            next_order: self.next_order,
            ..Self::new()
        };
        if self.has_unreachable {
            state.drop_unreachable();
        }
        state
    }

    pub fn names(&self, directory: &str) -> &Names {
        &self
            .directories
            .get(directory)
            .expect("BUG: a directory is never removed")
            .live
    }

    pub fn find(&self, directory: &str, name: &str) -> io::Result<InodeNo> {
        self.names(directory)
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn inode(&self, no: InodeNo) -> &Inode {
        self.inodes.get(&no).expect("BUG: an open inode is kept")
    }

    pub fn inode_mut(&mut self, no: InodeNo) -> &mut Inode {
        let inode = self.inodes.get_mut(&no);
        Arc::make_mut(inode.expect("BUG: an open inode is kept"))
    }

    /// Keeps the inode as long as it lives.
    pub fn handle(&mut self, no: InodeNo) -> Arc<()> {
        Arc::clone(self.handles.entry(no).or_default())
    }

    pub fn create(&mut self, directory: &Arc<str>, name: &str, len: u64) -> io::Result<InodeNo> {
        check_file_len(len)?;
        if self.find(directory, name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.take_space(len)?;
        let no = InodeNo(self.next_inode);
        self.next_inode += 1;
        let name: Arc<str> = name.into();
        let inode = Inode {
            live: Image::zeroes(len),
            durable: Image::zeroes(len),
            pending: Vec::new(),
            has_lost: false,
            stuck: BTreeSet::new(),
            is_synced: false,
            directory: Arc::clone(directory),
            name: Arc::clone(&name),
        };
        self.inodes.insert(no, Arc::new(inode));
        self.change(directory, Change::Insert { name, inode: no });
        Ok(no)
    }

    pub fn rename(&mut self, directory: &Arc<str>, from: &str, to: &str) -> io::Result<()> {
        let no = self.find(directory, from)?;
        if from == to {
            return Ok(());
        }
        if let Ok(replaced) = self.find(directory, to) {
            self.free_len += self.inode(replaced).live.allocated_len();
        }
        let to: Arc<str> = to.into();
        self.inode_mut(no).name = Arc::clone(&to);
        self.change(
            directory,
            Change::Rename {
                from: from.into(),
                to,
                inode: no,
            },
        );
        Ok(())
    }

    pub fn remove(&mut self, directory: &Arc<str>, name: &str) -> io::Result<()> {
        let no = self.find(directory, name)?;
        self.free_len += self.inode(no).live.allocated_len();
        self.change(directory, Change::Remove { name: name.into() });
        Ok(())
    }

    /// Writes through the cache or past it.
    pub fn write(
        &mut self,
        no: InodeNo,
        bytes: &[u8],
        offset: u64,
        is_direct: bool,
    ) -> io::Result<()> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        check_file_len(end)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let live = &self.inode(no).live;
        let grows = end.saturating_sub(live.len());
        let fills = live.holes_len(offset, bytes.len());
        self.take_space(grows + fills)?;
        let order = self.next_order;
        self.next_order += 1;
        self.counts.writes += 1;
        self.counts.written_bytes += bytes.len() as u64;
        let inode = self.inode_mut(no);
        inode.live.write(bytes, offset);
        if is_direct {
            inode.unstick(offset, bytes.len());
        }
        for part in inode.not_stuck(offset, bytes.len()) {
            inode.pending.push(PendingWrite {
                order,
                offset: offset + part.start as u64,
                bytes: bytes[part].into(),
                kind: WriteKind::Bytes,
            });
        }
        Ok(())
    }

    /// Punches whole chunks out of a file, which gives their space back.
    pub fn punch(&mut self, no: InodeNo, offset: u64, len: u64) -> io::Result<()> {
        let asked = usize::try_from(len).unwrap_or(usize::MAX);
        let len = len.min(self.inode(no).live.len().saturating_sub(offset)) as usize;
        if len == 0 {
            return Ok(());
        }
        let order = self.next_order;
        self.next_order += 1;
        let inode = self.inode_mut(no);
        let before = inode.live.allocated_len();
        inode.live.punch(offset, len);
        // Of the last block there may be more than the file has.
        let end = (offset + len as u64).next_multiple_of(CHUNK_LEN as u64);
        inode.unstick(offset, asked.min((end - offset) as usize));
        inode.pending.push(PendingWrite {
            order,
            offset,
            bytes: vec![0; len].into(),
            kind: WriteKind::Punch,
        });
        let freed = before - inode.live.allocated_len();
        self.free_len += freed;
        Ok(())
    }

    /// Gives a file space for its first bytes: for its holes and behind its end.
    pub fn fill_holes(&mut self, no: InodeNo, len: u64) -> io::Result<()> {
        check_file_len(len)?;
        let live = &self.inode(no).live;
        let mut missing = live.holes(len);
        if live.len() < len {
            missing.push(live.len()..len);
        }
        let need: u64 = missing.iter().map(|range| range.end - range.start).sum();
        if need > self.free_len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.free_len -= need;
        for range in missing {
            let order = self.next_order;
            self.next_order += 1;
            let len = (range.end - range.start) as usize;
            let inode = self.inode_mut(no);
            inode.live.fill(range.start, len);
            inode.pending.push(PendingWrite {
                order,
                offset: range.start,
                bytes: vec![0; len].into(),
                kind: WriteKind::Fill,
            });
        }
        Ok(())
    }

    /// Makes the bytes of a file durable, unless the disk lies.
    pub fn commit_bytes(&mut self, no: InodeNo) {
        self.counts.syncs += 1;
        if self.lies() {
            return;
        }
        let inode = self.inode_mut(no);
        inode.is_synced = true;
        if inode.has_lost {
            // What is shown where a write is pending may be of a later one, which is lost.
            inode.durable = inode.medium();
            inode.pending.clear();
        }
        for write in std::mem::take(&mut inode.pending) {
            inode
                .durable
                .follow(&inode.live, write.offset, write.bytes.len());
        }
    }

    /// Loses some of the pending writes, which show no more than before that they are not durable.
    pub fn lose_bytes(&mut self, no: InodeNo) {
        let syncs = self.counts.syncs;
        self.inode_mut(no).lose(|write| is_lost(write, syncs));
    }

    /// Makes the names of a directory durable, unless the disk lies.
    pub fn commit_names(&mut self, directory: &str) {
        self.counts.name_syncs += 1;
        if self.lies() {
            return;
        }
        let names = self
            .directories
            .get_mut(directory)
            .expect("BUG: never removed");
        names.durable = Arc::clone(&names.live);
        self.changes
            .retain(|change| &*change.directory != directory);
        self.drop_unreachable();
    }

    /// Inodes that have, had, or may yet have again a name.
    pub fn reachable(&self) -> impl Iterator<Item = (InodeNo, &Inode)> {
        let reachable = self.has_unreachable.then(|| self.reachable_numbers());
        let all = self.inodes.iter().map(|(no, inode)| (*no, &**inode));
        all.filter(move |(no, _)| reachable.as_ref().is_none_or(|those| those.contains(no)))
    }

    fn reachable_numbers(&self) -> BTreeSet<InodeNo> {
        let names = self
            .directories
            .values()
            .flat_map(|names| names.live.values().chain(names.durable.values()));
        let created = self
            .changes
            .iter()
            .filter_map(|change| match &change.change {
                Change::Insert { inode, .. } => Some(inode),
                _ => None,
            });
        names.chain(created).copied().collect()
    }

    /// Bytes of all files that have a name.
    pub fn named_len(&self) -> u64 {
        let inodes = self
            .directories
            .values()
            .flat_map(|names| names.live.values());
        inodes.map(|no| self.inode(*no).live.allocated_len()).sum()
    }

    /// False if another has it.
    pub fn try_lock(&mut self, key: (Arc<str>, Arc<str>), lock: Lock) -> bool {
        match (self.locks.get_mut(&key), lock) {
            (None, Lock::Shared) => {
                self.locks.insert(key, LockState::Shared(1));
            }
            (None, Lock::Exclusive) => {
                self.locks.insert(key, LockState::Exclusive);
            }
            (Some(LockState::Shared(count)), Lock::Shared) => *count += 1,
            _ => return false,
        }
        true
    }

    pub fn unlock(&mut self, key: &(Arc<str>, Arc<str>)) {
        match self.locks.get_mut(key) {
            Some(LockState::Shared(count)) if *count > 1 => *count -= 1,
            _ => {
                self.locks.remove(key);
            }
        }
    }

    pub fn is_locked_exclusively(&self, directory: &Arc<str>, name: &str) -> bool {
        let key = (Arc::clone(directory), name.into());
        matches!(self.locks.get(&key), Some(LockState::Exclusive))
    }

    fn change(&mut self, directory: &Arc<str>, change: Change) {
        let names = self
            .directories
            .get_mut(directory)
            .expect("BUG: never removed");
        change.apply(Arc::make_mut(&mut names.live));
        self.changes.push(PendingChange {
            directory: Arc::clone(directory),
            change,
        });
    }

    fn take_space(&mut self, len: u64) -> io::Result<()> {
        self.free_len = self
            .free_len
            .checked_sub(len)
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }

    /// To be called wherever a name may have gone for good.
    pub fn drop_unreachable(&mut self) {
        let reachable = self.reachable_numbers();
        self.handles
            .retain(|_, handle| Arc::strong_count(handle) > 1);
        let handles = &self.handles;
        self.inodes
            .retain(|no, _| reachable.contains(no) || handles.contains_key(no));
        self.has_unreachable = self.inodes.len() > reachable.len();
    }

    fn lies(&self) -> bool {
        match self.lie {
            Lie::Never => false,
            Lie::Nth(n) => self.counts.syncs + self.counts.name_syncs == n,
            Lie::Always => true,
        }
    }
}

/// Whether a failed sync loses a write: half of all, as if by chance, and each time others.
fn is_lost(write: &PendingWrite, syncs: u64) -> bool {
    let mixed = (write.order ^ syncs << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed >> 63 == 1
}
