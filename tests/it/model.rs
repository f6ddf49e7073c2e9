//! Random histories against a plain model: bytes, page kinds and lineage of every head.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use offshoot::format::catalog::HeadKind;
use offshoot::{
    Error, ExtentKind, KeyId, Options, Pin, ResourceId, Result, Snapshot, Store, Volume,
};

use crate::fixture::{Rng, Sim, asked};

/// Seeds that failed once.
const FAILED_SEEDS: &[u64] = &[239];
/// Histories of a normal run; the environment can ask for others, as `FROM..TO`.
const HISTORIES: Range<u64> = 0..2_000;
const HISTORIES_VARIABLE: &str = "OFFSHOOT_MODEL_HISTORIES";
/// Histories from this number on are long and of small changes, for campaigns: most of what a short one costs is not
/// calls.
const LONG_FROM: u64 = 1_000_000;
/// Long ones of a normal run.
const LONG_HISTORIES: Range<u64> = LONG_FROM..LONG_FROM + 60;
/// Most heads alive at once, so that histories stay short.
const HEADS_MAX: usize = 12;

#[test]
fn random_histories_agree_with_a_plain_model() {
    let seeds: Vec<u64> = match asked(HISTORIES_VARIABLE) {
        Some(range) => range.collect(),
        None => {
            let failed = FAILED_SEEDS.iter().copied();
            let seeds: Vec<u64> = failed.chain(HISTORIES).chain(LONG_HISTORIES).collect();
            let page_lens: BTreeSet<u32> =
                seeds.iter().map(|&seed| page_len(&mut Rng(seed))).collect();
            assert_eq!(page_lens.len(), 5, "{page_lens:?}");
            seeds
        }
    };
    let (next, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let trace = Trace::default();
                    let run = AssertUnwindSafe(|| History::new(seed, trace.clone()).run());
                    match catch_unwind(run) {
                        Ok(count) => _ = calls.fetch_add(count, Ordering::Relaxed),
                        Err(_) => {
                            let trace = trace.0.lock().unwrap_or_else(|p| p.into_inner());
                            eprintln!("seed {seed} failed after:\n{}", trace.join("\n"));
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "these seeds failed; add them to FAILED_SEEDS: {failed:?}"
    );
    println!("{} histories, {} calls", seeds.len(), calls.into_inner());
}

/// The page length of a history, drawn first. Longer pages take longer to seal, so there are few.
fn page_len(rng: &mut Rng) -> u32 {
    4096 << rng.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4])
}

#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

/// A mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapped {
    kind: ExtentKind,
    born: usize,
}

/// What a head must be.
struct Model {
    kind: HeadKind,
    name: String,
    id: ResourceId,
    origin: Option<ResourceId>,
    key: KeyId,
    bytes: Vec<u8>,
    pages: Vec<Option<Mapped>>,
    epoch: usize,
    handle: Option<Handle>,
}

enum Handle {
    Volume(Volume),
    Snapshot(Snapshot),
    Pin(Pin),
}

/// An interval between branches.
struct Epoch {
    parent: Option<usize>,
    changed: bool,
}

struct History {
    rng: Rng,
    sim: Sim,
    store: Option<Store>,
    heads: Vec<Model>,
    epochs: Vec<Epoch>,
    keys: Vec<KeyId>,
    page_len: u64,
    pages_max: u64,
    named: u32,
    is_long: bool,
    /// Calls of the library whose results were compared.
    calls: Cell<u64>,
    trace: Trace,
}

impl Handle {
    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        match self {
            Self::Volume(volume) => volume.read_exact_at(buf, offset),
            Self::Snapshot(snapshot) => snapshot.read_exact_at(buf, offset),
            Self::Pin(pin) => pin.read_exact_at(buf, offset),
        }
    }

    fn len(&self) -> Result<u64> {
        match self {
            Self::Volume(volume) => volume.len(),
            Self::Snapshot(snapshot) => snapshot.len(),
            Self::Pin(pin) => pin.len(),
        }
    }

    fn delete(self) -> Result<()> {
        match self {
            Self::Volume(volume) => volume.delete(),
            Self::Snapshot(snapshot) => snapshot.delete(),
            Self::Pin(pin) => pin.release(),
        }
    }
}

impl Model {
    fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    fn volume(&self) -> &Volume {
        match self.handle() {
            Handle::Volume(volume) => volume,
            Handle::Snapshot(_) | Handle::Pin(_) => panic!("BUG: a snapshot is changed"),
        }
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl History {
    fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng(seed);
        let page_len = page_len(&mut rng);
        let page_slots = u64::from(page_len) / 4096;
        let slots_min = (page_slots + 2).max(8);
        let slots = slots_min + rng.below(65 - slots_min);
        let workers = usize::from(rng.below(64) == 0);
        let options = Options::new()
            .page_len(page_len)
            .segment_len(slots * 4096)
            .fanout(rng.pick(&[3, 3, 4, 78]))
            .cache_bytes(rng.pick(&[0, 1 << 20]))
            .open_segments(rng.pick(&[1, 4, 256]))
            .workers(workers);
        trace.add(format!("page_len {page_len}, {slots} slots in a segment"));
        let sim = Sim::with(seed, options);
        let other_key = sim.kms.create_key(None).unwrap().id;
        let store = sim.create();
        Self {
            store: Some(store),
            heads: Vec::new(),
            epochs: Vec::new(),
            keys: vec![sim.key, other_key],
            page_len: page_len.into(),
            pages_max: (32 / page_slots).clamp(3, 24),
            named: 0,
            is_long: seed >= LONG_FROM,
            calls: Cell::default(),
            sim,
            rng,
            trace,
        }
    }

    /// Returns the number of calls.
    fn run(mut self) -> u64 {
        let steps = match self.is_long {
            false => 20 + self.rng.below(60),
            true => 200 + self.rng.below(1800),
        };
        self.create_volume();
        for step in 0..steps {
            match self.is_long {
                false => self.step(),
                true => self.long_step(),
            }
            if step % 16 == 15 {
                let index = self.rng.index(self.heads.len());
                self.check_pages(index);
            }
        }
        self.check_all();
        self.reopen();
        self.check_all();
        self.calls.get()
    }

    fn count(&self, calls: usize) {
        self.calls.set(self.calls.get() + calls as u64);
    }

    /// A step of a long history: what writes tables or opens a store is rare, as it costs as much as a hundred calls.
    fn long_step(&mut self) {
        if self.rng.below(8) == 0 {
            return self.step();
        }
        match self.rng.below(16) {
            0..6 => self.write(),
            6 => self.clear(true),
            7 => self.clear(false),
            8 => self.branch(HeadKind::Volume),
            9 => self.delete(),
            10 => self.flush(),
            _ => {}
        }
        for _ in 0..3 {
            let index = self.rng.index(self.heads.len());
            self.check_part(index);
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => self.write(),
            40..47 => self.clear(true),
            47..56 => self.clear(false),
            56..60 => self.resize(),
            60..63 => self.rename(),
            63..72 => self.branch(HeadKind::Volume),
            72..78 => self.branch(HeadKind::Snapshot),
            78..81 => self.branch(HeadKind::Pin),
            81..87 => self.delete(),
            87..89 => self.create_volume(),
            89..91 => self.refuse_taken_name(),
            91..93 => self.flush(),
            93..96 => self.checkpoint(),
            _ => self.reopen(),
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn new_name(&mut self) -> String {
        self.named += 1;
        format!("Head-{}", self.named)
    }

    fn any_volume(&mut self) -> usize {
        let volumes: Vec<usize> = (0..self.heads.len())
            .filter(|&index| self.heads[index].kind == HeadKind::Volume)
            .collect();
        self.rng.pick(&volumes)
    }

    /// A range of a head, often along the edges of pages.
    fn range(&mut self, len: u64) -> Range<u64> {
        let mut at = || {
            let at = self.rng.below(len + 1);
            match self.rng.below(4) {
                0 => at,
                1 => at / self.page_len * self.page_len,
                2 => (at / self.page_len * self.page_len + 1).min(len),
                _ => (at.next_multiple_of(self.page_len)).saturating_sub(1),
            }
        };
        let (a, b) = (at(), at());
        if self.is_long && self.rng.below(8) > 0 {
            let most = 1 + self.rng.below(2 * self.page_len);
            return a.min(b)..a.max(b).min(a.min(b) + most);
        }
        match self.rng.below(4) {
            // Short ones within a page or across an edge.
            0 => a..(a + 1 + self.rng.below(600)).min(len).max(a),
            _ => a.min(b)..a.max(b),
        }
    }

    fn touched(&self, range: &Range<u64>) -> Range<usize> {
        let first = range.start / self.page_len;
        let end = if range.is_empty() {
            first
        } else {
            range.end.div_ceil(self.page_len)
        };
        first as usize..end as usize
    }

    fn covered(&self, range: &Range<u64>) -> Range<usize> {
        let first = range.start.div_ceil(self.page_len) as usize;
        first..((range.end / self.page_len) as usize).max(first)
    }

    fn write(&mut self) {
        let index = self.any_volume();
        let range = self.range(self.heads[index].len());
        let first = self.rng.next() as u8;
        let count = (range.end - range.start) as usize;
        let bytes: Vec<u8> = (0..count)
            .map(|at| first.wrapping_add((at / 5) as u8) | 1)
            .collect();
        self.trace
            .add(format!("write {} {range:?}", self.heads[index].name));
        let touched = self.touched(&range);
        let model = &mut self.heads[index];
        model.volume().write_all_at(&bytes, range.start).unwrap();
        self.calls.set(self.calls.get() + 1);
        model.bytes[range.start as usize..range.end as usize].copy_from_slice(&bytes);
        let epoch = model.epoch;
        for page in &mut model.pages[touched] {
            *page = Some(Mapped {
                kind: ExtentKind::Data,
                born: epoch,
            });
            self.epochs[epoch].changed = true;
        }
        self.check_part(index);
    }

    /// Writes zeroes or discards.
    fn clear(&mut self, keep: bool) {
        let index = self.any_volume();
        let range = self.range(self.heads[index].len());
        self.trace.add(format!(
            "clear {} {range:?}, keep: {keep}",
            self.heads[index].name
        ));
        let (touched, covered) = (self.touched(&range), self.covered(&range));
        let model = &mut self.heads[index];
        match keep {
            true => model.volume().write_zeroes(range.clone()).unwrap(),
            false => model.volume().discard(range.clone()).unwrap(),
        }
        self.calls.set(self.calls.get() + 1);
        model.bytes[range.start as usize..range.end as usize].fill(0);
        let epoch = model.epoch;
        for number in touched {
            let page = &mut model.pages[number];
            let new = match (covered.contains(&number), keep, &page) {
                (true, true, _) => Some(Mapped {
                    kind: ExtentKind::Zero,
                    born: epoch,
                }),
                (true, false, Some(_)) => None,
                (
                    false,
                    _,
                    Some(Mapped {
                        kind: ExtentKind::Data,
                        ..
                    }),
                ) => Some(Mapped {
                    kind: ExtentKind::Data,
                    born: epoch,
                }),
                _ => continue,
            };
            *page = new;
            self.epochs[epoch].changed = true;
        }
        self.check_part(index);
        self.check_pages(index);
    }

    fn resize(&mut self) {
        let index = self.any_volume();
        let len = 1 + self.rng.below(self.pages_max * self.page_len);
        self.trace
            .add(format!("resize {} to {len}", self.heads[index].name));
        let model = &mut self.heads[index];
        model.volume().resize(len).unwrap();
        self.calls.set(self.calls.get() + 1);
        let pages = len.div_ceil(self.page_len) as usize;
        if model.pages.iter().skip(pages).any(Option::is_some) {
            self.epochs[model.epoch].changed = true;
        }
        model.pages.resize(pages, None);
        model.bytes.resize(pages * self.page_len as usize, 0);
        self.check_part(index);
        self.check_pages(index);
    }

    fn rename(&mut self) {
        let index = self.any_volume();
        let name = self.new_name();
        self.trace
            .add(format!("rename {} to {name}", self.heads[index].name));
        let model = &mut self.heads[index];
        model.volume().rename(&name).unwrap();
        self.calls.set(self.calls.get() + 4);
        let old = std::mem::replace(&mut model.name, name.to_ascii_lowercase());
        assert!(matches!(
            self.store().volume(&old),
            Err(Error::NotFound { .. })
        ));
        assert_eq!(
            self.store().volume(&name).unwrap().info().unwrap().id,
            self.heads[index].id
        );
    }

    fn create_volume(&mut self) {
        if self.heads.len() >= HEADS_MAX {
            return self.delete();
        }
        let (name, key) = (self.new_name(), self.rng.pick(&self.keys));
        let len = 1 + self.rng.below(self.pages_max * self.page_len);
        self.trace.add(format!("create {name} of {len}"));
        let volume = self.store().create_volume(&name, len, &key).unwrap();
        self.count(2);
        self.epochs.push(Epoch {
            parent: None,
            changed: false,
        });
        let pages = len.div_ceil(self.page_len) as usize;
        self.heads.push(Model {
            kind: HeadKind::Volume,
            name: name.to_ascii_lowercase(),
            id: volume.info().unwrap().id,
            origin: None,
            key,
            bytes: vec![0; pages * self.page_len as usize],
            pages: vec![None; pages],
            epoch: self.epochs.len() - 1,
            handle: Some(Handle::Volume(volume)),
        });
    }

    /// Clones or snapshots any head.
    fn branch(&mut self, kind: HeadKind) {
        if self.heads.len() >= HEADS_MAX {
            return self.delete();
        }
        let mut index = self.rng.index(self.heads.len());
        if self.heads[index].kind == HeadKind::Pin {
            index = self.any_volume();
        }
        let (name, other) = (self.new_name(), self.rng.pick(&self.keys));
        self.trace
            .add(format!("{kind:?} {name} of {}", self.heads[index].name));
        let source = &self.heads[index];
        let (key, made) = match (kind, source.handle()) {
            (HeadKind::Volume, Handle::Volume(of)) => (
                other,
                Handle::Volume(of.create_clone(&name, &other).unwrap()),
            ),
            (HeadKind::Volume, Handle::Snapshot(of)) => (
                other,
                Handle::Volume(of.create_clone(&name, &other).unwrap()),
            ),
            (HeadKind::Snapshot, Handle::Volume(of)) => (
                source.key,
                Handle::Snapshot(of.create_snapshot(&name).unwrap()),
            ),
            (HeadKind::Snapshot, Handle::Snapshot(of)) => (
                source.key,
                Handle::Snapshot(of.create_snapshot(&name).unwrap()),
            ),
            (HeadKind::Pin, Handle::Volume(of)) => {
                (source.key, Handle::Pin(of.pin(&name).unwrap()))
            }
            (HeadKind::Pin, Handle::Snapshot(of)) => {
                (source.key, Handle::Pin(of.pin(&name).unwrap()))
            }
            (_, Handle::Pin(_)) => unreachable!("nothing is made from a pin"),
        };
        self.count(2);
        let id = match &made {
            Handle::Volume(volume) => volume.info().unwrap().id,
            Handle::Snapshot(snapshot) => snapshot.info().unwrap().id,
            Handle::Pin(pin) => pin.info().unwrap().id,
        };
        let model = Model {
            kind,
            name: name.to_ascii_lowercase(),
            id,
            origin: Some(source.id),
            key,
            bytes: source.bytes.clone(),
            pages: source.pages.clone(),
            epoch: self.split(index),
            handle: Some(made),
        };
        self.heads.push(model);
        self.check_part(self.heads.len() - 1);
    }

    /// The epoch of a new head; an epoch in which nothing changed is not split.
    fn split(&mut self, index: usize) -> usize {
        let open = self.heads[index].epoch;
        let parent = match self.epochs[open] {
            Epoch {
                parent: Some(parent),
                changed: false,
            } => parent,
            _ => {
                self.epochs.push(Epoch {
                    parent: Some(open),
                    changed: false,
                });
                self.heads[index].epoch = self.epochs.len() - 1;
                open
            }
        };
        self.epochs.push(Epoch {
            parent: Some(parent),
            changed: false,
        });
        self.epochs.len() - 1
    }

    /// Deletes any head, but never the last volume.
    fn delete(&mut self) {
        let volumes = self
            .heads
            .iter()
            .filter(|head| head.kind == HeadKind::Volume)
            .count();
        let index = self.rng.index(self.heads.len());
        if self.heads[index].kind == HeadKind::Volume && volumes == 1 {
            return;
        }
        let model = self.heads.swap_remove(index);
        self.trace.add(format!("delete {}", model.name));
        self.may_take_over(model.epoch);
        model.handle.unwrap().delete().unwrap();
        let found = match model.kind {
            HeadKind::Volume => self.store().volume(&model.name).map(drop),
            HeadKind::Snapshot => self.store().snapshot(&model.name).map(drop),
            HeadKind::Pin => self.store().pin(&model.name).map(drop),
        };
        assert!(matches!(found, Err(Error::NotFound { .. })));
        self.count(2);
    }

    /// Epochs beside one that goes, or beside one above it, may become one with their parent, and
    /// then count as changed. The store's thread does so some time later, and again after a kill
    /// behind branches that came after it, so what is counted here is the most there can be.
    fn may_take_over(&mut self, gone: usize) {
        let up = |&at: &usize| self.epochs[at].parent;
        let above: BTreeSet<usize> = std::iter::successors(up(&gone), up).collect();
        for epoch in &mut self.epochs {
            epoch.changed |= epoch.parent.is_some_and(|parent| above.contains(&parent));
        }
    }

    fn refuse_taken_name(&mut self) {
        let (index, source) = (self.any_volume(), self.any_volume());
        let name = self.heads[index].name.to_ascii_uppercase();
        let volume = self.heads[source].volume();
        for result in [
            self.store()
                .create_volume(&name, 1, &self.sim.key)
                .map(drop),
            volume.create_clone(&name, &self.sim.key).map(drop),
        ] {
            assert!(matches!(result, Err(Error::AlreadyExists { .. })), "{name}");
        }
        self.count(2);
    }

    fn flush(&mut self) {
        self.store().flush().unwrap();
        self.count(1);
    }

    fn checkpoint(&mut self) {
        self.trace.add("checkpoint".to_owned());
        self.store().checkpoint().unwrap();
        self.count(1);
    }

    /// Ends the process in one of the ways a process ends, and starts another.
    fn reopen(&mut self) {
        let store = self.store.take().unwrap();
        let drop_handles = |heads: &mut Vec<Model>| {
            for head in heads {
                head.handle = None;
            }
        };
        match self.rng.below(4) {
            0 => {
                self.trace.add("close, open".to_owned());
                drop_handles(&mut self.heads);
                store.close().unwrap();
            }
            1 => {
                self.trace.add("close with handles, open".to_owned());
                store.close().unwrap();
                drop_handles(&mut self.heads);
            }
            2 => {
                self.trace.add("drop, open".to_owned());
                drop_handles(&mut self.heads);
                drop(store);
            }
            _ => {
                self.trace.add("kill, open".to_owned());
                self.sim = self.sim.kill();
                drop_handles(&mut self.heads);
            }
        }
        self.sim.options = self.sim.options.clone().fanout(self.rng.pick(&[3, 5, 78]));
        let store = self.sim.open();
        for head in &mut self.heads {
            head.handle = Some(match head.kind {
                HeadKind::Volume => Handle::Volume(store.volume(&head.name).unwrap()),
                HeadKind::Snapshot => Handle::Snapshot(store.snapshot(&head.name).unwrap()),
                HeadKind::Pin => Handle::Pin(store.pin(&head.name).unwrap()),
            });
        }
        self.store = Some(store);
        self.count(2 + self.heads.len());
    }

    /// Reads a part of a head, and a part of another one.
    fn check_part(&mut self, index: usize) {
        for index in [index, self.rng.index(self.heads.len())] {
            let range = self.range(self.heads[index].len());
            let end = range.end.min(range.start + 2 * self.page_len);
            self.check_range(index, range.start..end);
        }
    }

    fn check_range(&self, index: usize, range: Range<u64>) {
        let model = &self.heads[index];
        let mut bytes = vec![0xEE; (range.end - range.start) as usize];
        model.handle().read(&mut bytes, range.start).unwrap();
        self.count(1);
        let expected = &model.bytes[range.start as usize..range.end as usize];
        if bytes != expected {
            let differs = bytes.iter().zip(expected).position(|(a, b)| a != b);
            panic!("byte {differs:?} of {} from {}", model.name, range.start);
        }
    }

    fn depth(&self, from: usize, ancestor: usize) -> u32 {
        let (mut at, mut depth) = (from, 1);
        while at != ancestor {
            at = self.epochs[at].parent.unwrap();
            depth += 1;
        }
        depth
    }

    /// Compares extents and usage of a head.
    fn check_pages(&self, index: usize) {
        let model = &self.heads[index];
        let (extents, usage) = match model.handle() {
            Handle::Volume(volume) => (
                volume.extents(0..model.len()).unwrap(),
                volume.usage().unwrap(),
            ),
            Handle::Snapshot(snapshot) => (
                snapshot.extents(0..model.len()).unwrap(),
                snapshot.usage().unwrap(),
            ),
            Handle::Pin(pin) => (pin.extents(0..model.len()).unwrap(), pin.usage().unwrap()),
        };
        self.count(2);
        let (mut next, mut last, mut found) = (0, None, Vec::new());
        for extent in extents {
            let extent = extent.unwrap();
            assert_eq!(extent.offset, next, "a gap in {}", model.name);
            assert_ne!(
                Some((extent.kind, extent.depth)),
                last,
                "neighbours in {}",
                model.name
            );
            last = Some((extent.kind, extent.depth));
            next += extent.len;
            for _ in 0..extent.len / self.page_len {
                found.push((extent.kind, extent.depth));
            }
        }
        assert_eq!(next, model.len());
        let expected = model.pages.iter().map(|page| match page {
            Some(page) => (page.kind, self.depth(model.epoch, page.born)),
            None => (ExtentKind::Hole, 0),
        });
        assert_eq!(found.len(), model.pages.len());
        for (page, ((kind, depth), (expected, most))) in found.into_iter().zip(expected).enumerate()
        {
            assert_eq!(kind, expected, "page {page} of {}", model.name);
            // Branches whose other side is gone do not count any more.
            assert!(
                depth <= most && (depth > 0) == (most > 0),
                "page {page} of {} is {depth} deep, not at most {most}",
                model.name
            );
        }
        let data = || {
            let mapped = model.pages.iter().flatten();
            mapped.filter(|page| page.kind == ExtentKind::Data)
        };
        let own = data().filter(|page| page.born == model.epoch).count() as u64;
        assert_eq!(
            usage.referenced_bytes,
            data().count() as u64 * self.page_len
        );
        assert!(usage.exclusive_bytes >= own * self.page_len);
        assert_eq!(
            usage.shared_bytes,
            usage.referenced_bytes - usage.exclusive_bytes
        );
    }

    fn check_all(&self) {
        for (index, model) in self.heads.iter().enumerate() {
            assert_eq!(model.handle().len().unwrap(), model.len());
            self.check_range(index, 0..model.len());
            self.check_pages(index);
        }
        let of_kind = |kind| {
            let heads = self.heads.iter().filter(move |head| head.kind == kind);
            let mut heads: Vec<_> = heads
                .map(|head| {
                    (
                        head.name.clone(),
                        head.id,
                        head.origin,
                        head.key,
                        head.len(),
                    )
                })
                .collect();
            heads.sort();
            heads
        };
        let volumes = self.store().volumes().into_iter();
        let mut volumes: Vec<_> = volumes
            .map(|volume| {
                (
                    volume.name,
                    volume.id,
                    volume.origin_id,
                    volume.kms_key,
                    volume.len,
                )
            })
            .collect();
        volumes.sort();
        assert_eq!(volumes, of_kind(HeadKind::Volume));
        let snapshots = self.store().snapshots().into_iter();
        let mut snapshots: Vec<_> = snapshots
            .map(|taken| {
                (
                    taken.name,
                    taken.id,
                    Some(taken.volume_id),
                    taken.kms_key,
                    taken.len,
                )
            })
            .collect();
        snapshots.sort();
        assert_eq!(snapshots, of_kind(HeadKind::Snapshot));
        let pins = self.store().pins().into_iter();
        let mut pins: Vec<_> = pins
            .map(|pin| (pin.name, pin.id, Some(pin.held_id), pin.kms_key, pin.len))
            .collect();
        pins.sort();
        assert_eq!(pins, of_kind(HeadKind::Pin));
        self.count(3 + self.heads.len());
    }
}
