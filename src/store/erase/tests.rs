//! The proof that what is erased is gone: on disk, in the KMS, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write, stdin, stdout};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::crypto::{Secret, unwrap};
use crate::file_kms::FileKms;
use crate::format::batch::BatchHead;
use crate::format::catalog::{HeadRecord, KeyEpochRecord};
use crate::format::record::{Record, Records};
use crate::format::segment::segment_of_file;
use crate::format::superblock::Geometry;
use crate::kms::KeyService;
use crate::store::{Options, Store, Volume};
use crate::units::{HeadKeyId, KeyEpoch, KeyId, ResourceId, SLOT_LEN, SlotAddr};

const PAGE: u64 = 4096;
/// `heads` of a KMS: slots of this length, the first one is its header. A head key's id is at 16.
const HEAD_SLOT: usize = 512;

struct Rig {
    /// Removed with the rig, if it made it.
    _made: Option<TempDir>,
    dir: PathBuf,
    kms: FileKms,
    key: KeyId,
    store: Store,
}

fn rig() -> Rig {
    let made = tempfile::tempdir().unwrap();
    let rig = rig_in(made.path());
    Rig {
        _made: Some(made),
        ..rig
    }
}

fn rig_in(dir: &Path) -> Rig {
    let kms = FileKms::create(&dir.join("kms"), "local").unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let options = Options::new().segment_len(1 << 20).workers(0);
    let store = options.create(dir.join("store"), kms.clone()).unwrap();
    Rig {
        _made: None,
        dir: dir.to_owned(),
        kms,
        key,
        store,
    }
}

fn page(byte: u8) -> Vec<u8> {
    vec![byte; PAGE as usize]
}

/// `v` and `w` share what was written before the branch; `kept` has nothing of theirs.
fn heads(rig: &Rig) -> (Volume, Volume, Volume) {
    let v = rig.store.create_volume("v", 8 * PAGE, &rig.key).unwrap();
    let kept = rig.store.create_volume("kept", 8 * PAGE, &rig.key).unwrap();
    kept.write_all_at(&page(9), 0).unwrap();
    v.write_all_at(&page(1).repeat(4), 0).unwrap();
    let w = v.create_clone("w", &rig.key).unwrap();
    v.write_all_at(&page(2), 0).unwrap();
    w.write_all_at(&page(3), PAGE).unwrap();
    // A checkpoint, so that tables hold all wrapped keys as well.
    rig.store.checkpoint().unwrap();
    v.write_all_at(&page(4), 2 * PAGE).unwrap();
    (v, w, kept)
}

/// The same, and `w` is deleted.
fn family(rig: &Rig) -> (Volume, Volume) {
    let (v, w, kept) = heads(rig);
    w.delete().unwrap();
    (v, kept)
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found
}

/// Every record in every slot that ever began a batch, whether or not it still counts.
fn all_records(rig: &Rig) -> Vec<Record> {
    let geometry: Geometry = rig.store.0.segments.geometry();
    let mut records = Vec::new();
    for (path, bytes) in files(&rig.dir.join("store")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(segment) = segment_of_file(name) else {
            continue;
        };
        for slot in 0..geometry.segment_slots {
            let at = SlotAddr { segment, slot };
            let rest = bytes.get(slot as usize * SLOT_LEN..).unwrap();
            let left = geometry.segment_slots - slot;
            let Ok(count) = BatchHead::peek(rest, at, left) else {
                continue;
            };
            let slots = rest.get(..count as usize * SLOT_LEN).unwrap();
            if let Ok(head) = BatchHead::decode(slots, at, left) {
                records.extend(Records::new(&head.records).map_while(Result::ok));
            }
        }
    }
    records
}

/// All epochs that anybody with the KMS and every byte of the store can unwrap, by trying.
fn opened(rig: &Rig) -> BTreeMap<KeyEpoch, Secret> {
    opened_with(rig, |_| true)
}

/// The same with some of the head keys only.
fn opened_with(rig: &Rig, has: impl Fn(&HeadKeyId) -> bool) -> BTreeMap<KeyEpoch, Secret> {
    let store = rig.store.0.store_id();
    let heads = fs::read(rig.dir.join("kms/heads")).unwrap();
    let ids = heads.chunks(HEAD_SLOT).skip(1).filter_map(|slot| {
        let id: [u8; 16] = slot.get(16..32)?.try_into().ok()?;
        Some(HeadKeyId(id)).filter(|id| id.0 != [0; 16] && has(id))
    });
    let head_keys: Vec<Secret> = ids
        .filter_map(|id| rig.kms.head_key(&id, store, ResourceId::default()).ok())
        .collect();
    let mut records: Vec<HeadRecord> = Vec::new();
    let mut epochs: BTreeMap<KeyEpoch, KeyEpochRecord> = BTreeMap::new();
    for record in all_records(rig) {
        match record {
            Record::Head(head) => records.push(*head),
            Record::KeyEpoch(epoch) => drop(epochs.insert(epoch.key_epoch, *epoch)),
            _ => {}
        }
    }
    let mut found: BTreeMap<KeyEpoch, Secret> = BTreeMap::new();
    for (head, key) in records
        .iter()
        .flat_map(|head| head_keys.iter().map(move |key| (head, key)))
    {
        for epoch in epochs.values() {
            let aad = [
                b"offshoot head v0",
                &head.resource_id.0[..],
                &epoch.random_id,
            ]
            .concat();
            if let Ok(secret) = unwrap(key, &head.wrapped_key, &aad) {
                assert_eq!(secret.commitment(), epoch.commitment);
                found.insert(epoch.key_epoch, secret);
            }
        }
    }
    loop {
        let mut more = Vec::new();
        for (id, secret) in &found {
            let from = &epochs[id];
            let wrap = secret.derive(crate::crypto::Label::Wrap);
            for link in [from.above, from.far].into_iter().flatten() {
                if found.contains_key(&link.to) {
                    continue;
                }
                let to = &epochs[&link.to];
                let aad = [b"offshoot link v0", &from.random_id[..], &to.random_id].concat();
                more.push((link.to, unwrap(&wrap, &link.wrapped, &aad).unwrap()));
            }
        }
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn open_epochs(rig: &Rig) -> BTreeSet<KeyEpoch> {
    opened(rig).into_keys().collect()
}

fn line(rig: &Rig, volume: &Volume) -> Vec<KeyEpoch> {
    let state = rig.store.0.state.read();
    super::reach(&state, volume.runtime.head).line
}

#[test]
fn erase_reaches_deleted_heads() {
    let rig = rig();
    let (v, kept) = family(&rig);
    let private = line(&rig, &v);
    assert_eq!(private.len(), 2, "its own, and the one it shared with w");
    let before = open_epochs(&rig);
    assert!(private.iter().all(|id| before.contains(id)), "{before:?}");
    // A delete destroys no keys: w's would still open what v and w shared.
    let plan = v.plan_erase().unwrap();
    assert_eq!(plan.deleted, ["w"]);
    assert_eq!(plan.erased_epochs, private);
    assert_eq!((plan.erased_bytes, plan.readable_bytes), (4 * PAGE, 0));
    assert_eq!(v.erase().unwrap(), plan);
    let after = open_epochs(&rig);
    assert_eq!(after, line(&rig, &kept).into_iter().collect());
    assert!(private.iter().all(|id| !after.contains(id)));
    // Nor after a close, whose tables are new, and in an open store that recovers from them.
    rig.store.checkpoint().unwrap();
    assert_eq!(open_epochs(&rig), after);
    let mut bytes = page(0);
    kept.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, page(9));
}

#[test]
fn without_the_deleted_heads_key_the_shared_epoch_would_still_open() {
    let rig = rig();
    let (v, _) = family(&rig);
    let private = line(&rig, &v);
    let record = rig.store.0.head_of(&v.runtime).unwrap().record;
    let own = [(record.head_key, record.resource_id)];
    let store = rig.store.0.store_id();
    rig.kms.destroy_head_keys(store, &own).unwrap();
    let left = open_epochs(&rig);
    assert!(!left.contains(&private[0]) && left.contains(&private[1]));
}

/// With all bytes of the store and one head's key, and whatever was wrapped under it at any time.
#[test]
fn one_heads_key_opens_nothing_that_another_wrote_after_the_branch() {
    let rig = rig();
    let v = rig.store.create_volume("v", 8 * PAGE, &rig.key).unwrap();
    v.write_all_at(&page(1).repeat(4), 0).unwrap();
    let shared = line(&rig, &v);
    let w = v.create_clone("w", &rig.key).unwrap();
    // More branches on both sides, so that both had several open epochs.
    for number in 0..4 {
        v.write_all_at(&page(2 + number), 0).unwrap();
        w.write_all_at(&page(8 + number), 0).unwrap();
        v.create_snapshot(&format!("v-{number}")).unwrap();
        w.create_snapshot(&format!("w-{number}")).unwrap();
        rig.store.checkpoint().unwrap();
    }
    for (own, other) in [(&v, &w), (&w, &v)] {
        let record = rig.store.0.head_of(&own.runtime).unwrap().record;
        let opened = opened_with(&rig, |id| *id == record.head_key);
        let (own, other) = (line(&rig, own), line(&rig, other));
        assert!(own.len() > 4 && own.iter().all(|id| opened.contains_key(id)));
        for id in other.iter().filter(|id| !shared.contains(id)) {
            assert!(!opened.contains_key(id), "{id}");
        }
    }
}

/// Bytes to look for, kept so that looking does not find them here.
struct Needles(Vec<(String, [u8; 16])>);

/// Where the child leaves what is to be looked for.
const NEEDLES: &str = "needles";

impl Needles {
    /// Lines of what it is and the hidden bytes.
    fn save(&self, path: &Path) {
        let line = |(what, hidden): &(String, [u8; 16])| {
            let hidden: Vec<String> = hidden.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}\t{what}\n", hidden.concat())
        };
        fs::write(path, self.0.iter().map(line).collect::<String>()).unwrap();
    }

    fn load(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| {
            let (hidden, what) = line.split_once('\t').unwrap();
            let number = u128::from_str_radix(hidden, 16).unwrap();
            (what.to_owned(), number.to_be_bytes())
        });
        Self(lines.collect())
    }

    fn add(&mut self, what: &str, secret: &Secret) {
        // A key schedule may begin with half of the key.
        for (half, bytes) in secret.expose().chunks_exact(16).enumerate() {
            let mut hidden: [u8; 16] = bytes.try_into().unwrap();
            hidden.iter_mut().for_each(|byte| *byte ^= 0x5a);
            self.0.push((format!("{what}, half {half}"), hidden));
        }
    }

    fn find(&self, haystack: &[u8], found: &mut BTreeSet<String>) {
        let firsts: BTreeMap<[u8; 2], Vec<&(String, [u8; 16])>> =
            self.0.iter().fold(BTreeMap::new(), |mut firsts, needle| {
                let first = [needle.1[0] ^ 0x5a, needle.1[1] ^ 0x5a];
                firsts.entry(first).or_insert_with(Vec::new).push(needle);
                firsts
            });
        let mut is_first = vec![false; 1 << 16];
        for first in firsts.keys() {
            is_first[usize::from(u16::from_le_bytes(*first))] = true;
        }
        for (at, pair) in haystack.windows(2).enumerate() {
            let pair = [pair[0], pair[1]];
            if !is_first[usize::from(u16::from_le_bytes(pair))] {
                continue;
            }
            let Some(here) = haystack.get(at..at + 16) else {
                continue;
            };
            for (what, hidden) in &firsts[&pair] {
                if here
                    .iter()
                    .zip(hidden)
                    .all(|(byte, hidden)| byte ^ 0x5a == *hidden)
                {
                    found.insert(what.clone());
                }
            }
        }
    }
}

/// What of the needles lies in this process's memory.
fn in_memory(needles: &Needles) -> BTreeSet<String> {
    const CHUNK: usize = 1 << 20;
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = BufReader::new(File::open("/proc/self/maps").unwrap());
    let mut found = BTreeSet::new();
    let mut chunk = vec![0; CHUNK];
    let own = chunk.as_ptr().addr() as u64;
    for map in maps.lines().map(Result::unwrap) {
        let (range, rest) = map.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let parse = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (parse(start), parse(end));
        if !rest.starts_with("rw") {
            continue;
        }
        // Chunks overlap, so that no key is cut in two.
        for at in (start..end).step_by(CHUNK - 16) {
            let len = (end - at).min(CHUNK as u64) as usize;
            if at < own + CHUNK as u64 && own < at + len as u64 {
                continue;
            }
            let part = &mut chunk[..len];
            // What is not there any more cannot be dumped either.
            if memory.read_exact_at(part, at).is_ok() {
                needles.find(part, &mut found);
            }
            part.fill(0);
        }
    }
    found
}

const CHILD: &str = "OFFSHOOT_TEST_ERASE_MEMORY";

/// Says where it is and waits, so that somebody can look at the process from outside.
fn pause(at: &str) {
    // Not `print`, which the test harness keeps to itself.
    writeln!(stdout(), "\n@ {at}").unwrap();
    stdin().read_line(&mut String::new()).unwrap();
}

/// Not a test by itself: the child of those below, so that nothing else runs in its memory.
#[test]
fn memory_child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let dir = Path::new(&dir);
    let rig = rig_in(dir);
    let (v, w, kept) = heads(&rig);
    let needles = keys_of(&rig, &[&v, &w]);
    needles.save(&dir.join(NEEDLES));
    w.delete().unwrap();
    for number in 0..8 {
        v.read_exact_at(&mut page(0), number * PAGE).unwrap();
        kept.read_exact_at(&mut page(0), number * PAGE).unwrap();
    }
    let before = in_memory(&needles);
    assert!(
        before.len() >= 8,
        "looking finds keys that are in use: {before:?}"
    );
    pause("open");
    // The handle stays: its keys must go all the same.
    v.clone().erase().unwrap();
    let after = in_memory(&needles);
    assert!(after.is_empty(), "left in memory: {after:?}");
    let mut bytes = page(0);
    kept.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, page(9));
    pause("erased");
    drop((v, rig));
}

/// The keys that open what `heads` wrote and shared: of the epochs, what is derived from them, head keys.
fn keys_of(rig: &Rig, heads: &[&Volume]) -> Needles {
    let mut needles = Needles(Vec::new());
    let store = &rig.store.0;
    for volume in heads {
        let record = store.head_of(&volume.runtime).unwrap().record;
        let keys = store.keys(&volume.runtime).unwrap();
        for id in line(rig, volume) {
            let head = store.head_of(&volume.runtime).unwrap();
            let epoch = store
                .epoch_key(&keys, &head, id, SlotAddr::default())
                .unwrap();
            needles.add(&format!("epoch key {id}"), &epoch.secret);
            needles.add(&format!("page key {id}"), &epoch.page);
            needles.add(&format!("wrap key {id}"), &epoch.wrap);
        }
        let kms: &dyn KeyService = &rig.kms;
        let secret = kms.head_key(&record.head_key, store.store_id(), record.resource_id);
        needles.add(&format!("head key of {}", record.name), &secret.unwrap());
    }
    needles
}

/// A child that runs in a directory: what it says, and what it waits for.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::erase::tests::memory_child",
                "--nocapture",
            ])
            .env(CHILD, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until the child is there.
    fn await_pause(&mut self, at: &str) {
        let said: Vec<String> = self
            .lines
            .by_ref()
            .map_while(Result::ok)
            .take_while(|line| *line != format!("@ {at}"))
            .collect();
        let is_there = self.child.try_wait().unwrap().is_none();
        assert!(is_there, "not {at}: {said:?}");
    }

    fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    fn end(mut self) {
        self.go_on();
        assert!(self.child.wait().unwrap().success());
    }

    /// A core dump of the child as it is, with the pages that it keeps out of dumps; `None` without gdb.
    fn dump(&self, to: &Path) -> Option<Vec<u8>> {
        let id = self.child.id().to_string();
        let dumped = Command::new("gdb")
            .args(["--batch", "-nx", "-p", &id])
            .args(["-ex", "set use-coredump-filter off"])
            .args(["-ex", "set dump-excluded-mappings on"])
            .arg("-ex")
            .arg(format!("generate-core-file {}", to.display()))
            .arg("-ex")
            .arg("detach")
            .output();
        dumped.ok()?;
        fs::read(to).ok()
    }
}

/// In the memory of the process, as it looks at itself, and in no file.
#[test]
fn what_is_erased_is_in_no_memory_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::start(dir.path());
    running.await_pause("open");
    running.go_on();
    running.await_pause("erased");
    let needles = Needles::load(&dir.path().join(NEEDLES));
    let mut found = BTreeSet::new();
    for (path, bytes) in files(dir.path()) {
        if !path.ends_with(NEEDLES) {
            needles.find(&bytes, &mut found);
        }
    }
    assert!(found.is_empty(), "{found:?}");
    running.end();
}

/// A core dump of the process, all of its memory in it: before the erase it has the keys, afterwards none, while the
/// process still has the store open.
#[test]
#[expect(clippy::print_stdout, reason = "what was skipped")]
fn a_core_dump_after_an_erase_has_no_key_that_opens_what_was_erased() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::start(dir.path());
    running.await_pause("open");
    let needles = Needles::load(&dir.path().join(NEEDLES));
    let in_dump = |running: &Running, name: &str| {
        let core = running.dump(&dir.path().join(name))?;
        let mut found = BTreeSet::new();
        needles.find(&core, &mut found);
        Some(found)
    };
    let Some(before) = in_dump(&running, "core-before") else {
        println!("SKIPPED: there is no gdb, or it may not look at other processes");
        return running.child.kill().unwrap();
    };
    assert!(
        before.len() >= 8,
        "a dump has the keys that are in use: {before:?}"
    );
    running.go_on();
    running.await_pause("erased");
    let after = in_dump(&running, "core-after").unwrap();
    assert!(after.is_empty(), "{after:?}");
    running.end();
}
