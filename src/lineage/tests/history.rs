//! One random history of a store: what users, background work, readers, checkpoints and crashes do.

use std::collections::BTreeSet;

use crate::catalog::reach;
use crate::format::catalog::HeadKind;
use crate::lineage::tests::disk::{Disk, Pending, Reader};
use crate::lineage::tests::keys::{NewKey, Vault, is_listed};
use crate::lineage::tests::oracle::{counts, set};
use crate::lineage::tests::store::{Head, Op, Page, Store};
use crate::lineage::tests::{Rng, slot};
use crate::lineage::{Branch, Item, ItemKind};
use crate::sync::Arc;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, SlotAddr};

const STEPS: usize = 400;
const NUMBERS: usize = 40;
const HEADS_MAX: usize = 12;
const PINS_MAX: usize = 3;
const REKEY_BATCH: usize = 10;

/// What histories did, so that a test can tell that they did enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub steps: usize,
    pub crashes: usize,
    pub replayed: usize,
    /// Recoveries that were tried beside the process that went on.
    pub recoveries: usize,
    pub checkpoints: usize,
    pub cancelled: usize,
    pub hoists: usize,
    pub late: usize,
    pub deletes: usize,
    pub deletes_by_hoist: usize,
    pub sets: usize,
    pub rekeys: usize,
    /// Slots that were used again.
    pub wiped: usize,
    /// Pages that readers found where they had looked them up, had to look up again, and could not
    /// read because the head was deleted.
    pub read: usize,
    pub looked_again: usize,
    pub refused: usize,
    pub erased: usize,
    /// Key epochs that died of it, and key epochs of erased heads that others still open.
    pub erased_epochs: usize,
    pub shared_epochs: usize,
    /// Erases that a crash cut off.
    pub cut_off: usize,
}

/// A bug on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    Nothing,
    /// Now and then an item is lost from a deadlist.
    LostDeadEntry,
    /// Now and then a page that one side of a branch lets go of dies, though it waits for the other.
    FreedForOneSide,
    /// What died without a word in the log is used again before two checkpoints know of it.
    UsedBeforeCheckpoints,
    /// What waits on deadlists is used again.
    UsedOnDeadlists,
    /// What died in the log is used again before that is durable.
    UsedBeforeSync,
    /// The key of a deleted head is destroyed before that it is deleted is durable.
    RemovedBeforeSync,
    /// Erasing a head destroys the key of one that reads what they share.
    EraseOfAReader,
    /// Erasing a head spares the keys of deleted ones.
    EraseWithoutDeleted,
}

/// A store, what is on disk, and what goes on.
#[derive(Debug)]
pub struct History {
    pub planted: Planted,
    pub rng: Rng,
    pub store: Store,
    pub disk: Disk,
    pub vault: Vault,
    /// Epoch keys that were erased: nobody opens them ever again.
    erased: BTreeSet<u32>,
    /// Heads whose key an erase has destroyed.
    unreadable: BTreeSet<u32>,
    pub pending: Option<Pending>,
    pub checkpoints_here: usize,
    pub readers: Vec<Reader>,
    /// Pages that a rekey has read: head, number, place.
    rekeys: Vec<(u32, Vec<(u32, SlotAddr)>)>,
    /// No address is given twice, as in a store.
    pub last_slot: u32,
    last_data: u32,
    last_token: u32,
    last_secret: u32,
    pub done: Done,
}

impl History {
    pub fn new(seed: u64, planted: Planted) -> Self {
        Self {
            planted,
            rng: Rng(seed),
            store: Store::new(),
            disk: Disk::new(),
            vault: Vault::default(),
            erased: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            pending: None,
            checkpoints_here: 0,
            readers: Vec::new(),
            rekeys: Vec::new(),
            last_slot: 0,
            last_data: 0,
            last_token: 0,
            last_secret: 0,
            done: Done::default(),
        }
    }

    /// Runs to the end, then deletes everything.
    pub fn run(&mut self) {
        while self.done.steps < STEPS {
            self.step();
            self.plant();
            self.store.check_safety();
            if self.rng.in_thousand(30) {
                self.store.check_deep();
                self.store.check_keys();
                self.check_erased();
                self.check_sets();
            }
            if self.rng.in_thousand(20) {
                self.check_hoist();
            }
            self.done.steps += 1;
        }
        for head in self.visible() {
            self.log(Op::Delete(head));
        }
        self.reclaim();
        self.store.check_deep();
        for pin in self.pins() {
            self.log(Op::Delete(pin));
        }
        self.reclaim();
        if self.pending.is_some() {
            self.end_checkpoint();
        }
        self.store.check_empty();
    }

    /// Appends to the log, and does it.
    fn log(&mut self, op: Op) {
        self.vault.learn(&op, &self.store);
        self.store.apply(&op);
        self.disk.log.push(op);
    }

    fn heads(&self, is_wanted: impl Fn(&Head) -> bool) -> Vec<u32> {
        let heads = self.store.heads.iter();
        let wanted = heads.filter(|(_, head)| !head.deleted && is_wanted(head));
        wanted.map(|(&id, _)| id).collect()
    }

    /// The heads that a user sees.
    fn visible(&self) -> Vec<u32> {
        self.heads(|head| is_listed(head.kind))
    }

    fn pins(&self) -> Vec<u32> {
        self.heads(|head| !is_listed(head.kind))
    }

    /// Those of them that have a key: an erase that was cut off leaves others.
    fn readable(&self) -> Vec<u32> {
        self.heads(|head| is_listed(head.kind) && self.vault.has(head.token))
    }

    fn volumes(&self) -> Vec<u32> {
        let mut ids = self.readable();
        ids.retain(|id| self.store.heads[id].kind == HeadKind::Volume);
        ids
    }

    fn step(&mut self) {
        let volumes = self.volumes();
        if volumes.is_empty() {
            self.create();
            return;
        }
        let volume = self.rng.pick(&volumes);
        let number = self.rng.below(NUMBERS) as u32;
        match self.rng.below(1000) {
            0..450 => self.write(volume, number),
            450..510 => self.discard(volume, number),
            510..630 => self.branch_or_delete(),
            630..670 => {
                let head = self.pick_visible();
                self.log(Op::Delete(head));
            }
            670..685 => {
                let head = self.pick_visible();
                self.erase(head);
            }
            685..725 => self.reclaim(),
            725..740 => self.import(),
            740..745 => self.volumes().into_iter().for_each(|id| self.new_key(id)),
            745..755 => self.new_key(volume),
            755..785 => self.read_for_rekey(volume),
            785..820 => self.rekey(),
            820..850 => self.pin_or_unpin(),
            850..870 if self.pending.is_some() => self.end_checkpoint(),
            850..895 if self.pending.is_none() => self.begin_checkpoint(),
            870..895 => self.write(volume, number),
            895..897 => self.cancel_checkpoint(),
            897..927 => {
                let readable = self.heads(|head| self.vault.has(head.token));
                let head = self.rng.pick(&readable);
                self.begin_read(head);
            }
            927..950 => self.end_read(),
            950..975 => self.wipe(),
            975..980 => self.sync(),
            980..990 => self.crash(),
            _ => self.store.hoist(),
        }
    }

    fn pick_visible(&mut self) -> u32 {
        let visible = self.visible();
        self.rng.pick(&visible)
    }

    fn pick_readable(&mut self) -> u32 {
        let readable = self.readable();
        self.rng.pick(&readable)
    }

    // What users do

    fn create(&mut self) -> u32 {
        let last = self.store.last;
        let head = last.head + 1;
        let op = Op::Create {
            head,
            token: self.new_token(),
            lineage: LineageEpoch(last.lineage + 1),
            key: self.key(last.key + 1, None),
        };
        self.log(op);
        head
    }

    fn new_token(&mut self) -> u32 {
        self.last_token += 1;
        self.last_token
    }

    fn key(&mut self, id: u32, above: Option<KeyEpoch>) -> NewKey {
        self.last_secret += 1;
        NewKey {
            id: KeyEpoch(id),
            secret: self.last_secret,
            above,
        }
    }

    /// A new page under the open key epoch.
    fn new_page(&mut self, head: u32, data: u32) -> Page {
        self.last_slot += 1;
        let item = Item {
            at: slot(self.last_slot),
            key_epoch: self.store.heads[&head].key,
            kind: ItemKind::Page,
        };
        Page { item, data }
    }

    fn write(&mut self, head: u32, number: u32) {
        self.last_data += 1;
        let page = self.new_page(head, self.last_data);
        self.log(Op::Write { head, number, page });
    }

    fn discard(&mut self, head: u32, number: u32) {
        if self.store.page_at(head, number).is_some() {
            self.log(Op::Discard { head, number });
        }
    }

    fn new_key(&mut self, head: u32) {
        let above = self.store.last_sealed(head);
        let key = self.key(self.store.last.key + 1, above);
        self.log(Op::NewKey { head, key });
    }

    fn branch(&mut self, source: u32, kind: HeadKind) -> u32 {
        let last = self.store.last;
        let open = self.store.heads[&source].lineage;
        let above = self.store.last_sealed(source);
        let (mut lineage, mut key) = (last.lineage + 1, last.key + 1);
        let (parent, split) = match self.store.lineage.branch(open) {
            Branch::Share(parent) => (parent, None),
            Branch::Split => {
                let own = (LineageEpoch(lineage), self.key(key, above));
                (lineage, key) = (lineage + 1, key + 1);
                (open, Some(own))
            }
        };
        let head = last.head + 1;
        let op = Op::Branch {
            source,
            parent,
            split,
            head,
            token: self.new_token(),
            lineage: LineageEpoch(lineage),
            key: self.key(key, above),
            kind,
        };
        self.log(op);
        head
    }

    fn branch_or_delete(&mut self) {
        if self.store.heads.len() < HEADS_MAX {
            let kind = match self.rng.in_thousand(300) {
                true => HeadKind::Snapshot,
                false => HeadKind::Volume,
            };
            let head = self.pick_readable();
            self.branch(head, kind);
        } else {
            let head = self.pick_visible();
            self.log(Op::Delete(head));
            self.reclaim();
        }
    }

    /// Takes in pages that another store sealed, each group under a key epoch with its own row.
    fn import(&mut self) {
        if self.store.heads.len() >= HEADS_MAX {
            return;
        }
        let head = match self.rng.in_thousand(500) {
            true => self.create(),
            false => {
                let base = self.pick_readable();
                self.branch(base, HeadKind::Volume)
            }
        };
        for _ in 0..3 {
            for _ in 0..4 {
                let number = self.rng.below(NUMBERS) as u32;
                self.write(head, number);
            }
            self.new_key(head);
        }
    }

    /// Pins a head, or lets go of a pin.
    fn pin_or_unpin(&mut self) {
        let pins = self.pins();
        if !pins.is_empty() && (pins.len() >= PINS_MAX || self.rng.in_thousand(500)) {
            let pin = self.rng.pick(&pins);
            self.log(Op::Delete(pin));
            return;
        }
        let head = self.pick_readable();
        self.branch(head, HeadKind::Pin);
    }

    /// Erases a head: destroys what opens its own epochs, then deletes it. Exactly those that no other
    /// head opens die, by all that was ever written.
    fn erase(&mut self, head: u32) {
        // Whoever made or deleted a head has waited until that was durable.
        self.sync();
        let reach = reach(&self.store.catalog(), HeadId(head));
        let line = self.store.line(head);
        assert_eq!(reach.line, line);
        let others = self.heads(|_| true).into_iter().filter(|&id| id != head);
        let others: Vec<u32> = others.collect();
        let shared: BTreeSet<KeyEpoch> =
            others.iter().flat_map(|&id| self.store.line(id)).collect();
        let (own, readable) = line.split_at(reach.private);
        assert!(own.iter().all(|id| !shared.contains(id)), "KEPT: {reach:?}");
        assert!(
            readable.iter().all(|id| shared.contains(id)),
            "LOST: {reach:?}"
        );
        for (reader, index) in &reach.others {
            let opened = self.store.line(reader.0);
            assert!(
                line[*index..].iter().all(|id| opened.contains(id)),
                "{reach:?}"
            );
        }
        let token = |id: u32| self.store.heads[&id].token;
        let mut doomed: Vec<u32> = reach.deleted.iter().map(|id| token(id.0)).collect();
        match self.planted {
            Planted::EraseWithoutDeleted => doomed.clear(),
            Planted::EraseOfAReader => {
                doomed.extend(reach.others.first().map(|(id, _)| token(id.0)));
            }
            _ => {}
        }
        doomed.push(token(head));
        for token in doomed {
            self.vault.destroy(token);
        }
        let secrets = own.iter().map(|id| self.store.keys[id].secret);
        self.erased.extend(secrets);
        self.done.erased += 1;
        self.done.erased_epochs += own.len();
        self.done.shared_epochs += readable.len();
        self.unreadable.insert(token(head));
        self.check_erased();
        if self.rng.in_thousand(200) {
            self.done.cut_off += 1;
            self.crash();
            return;
        }
        self.log(Op::Delete(head));
        self.sync();
    }

    /// Nobody opens what was erased, and everybody else opens all that he maps.
    fn check_erased(&self) {
        let open = self.vault.open();
        let mut back = open.intersection(&self.erased);
        assert_eq!(back.next(), None, "an erased key can be unwrapped");
        for id in self.heads(|head| !self.unreadable.contains(&head.token)) {
            let opened = self.vault.opens(self.store.heads[&id].token);
            for item in self.store.reach_pages(id) {
                let secret = self.store.keys[&item.key_epoch].secret;
                assert!(opened.contains(&secret), "LOST KEY: head {id}, {item:?}");
            }
        }
    }

    fn read_for_rekey(&mut self, head: u32) {
        let key = self.store.heads[&head].key;
        let pages = (0..NUMBERS as u32).filter_map(|number| {
            let page = self.store.page_at(head, number)?;
            (page.item.key_epoch != key).then_some((number, page.item.at))
        });
        let pages = pages.take(REKEY_BATCH).collect();
        self.rekeys.push((head, pages));
    }

    /// Appends what some rekey has read, however long ago.
    fn rekey(&mut self) {
        if self.rekeys.is_empty() {
            return;
        }
        let index = self.rng.below(self.rekeys.len());
        let (head, pages) = self.rekeys.swap_remove(index);
        if self.volumes().contains(&head) {
            self.rekey_pages(head, &pages);
        }
    }

    fn rekey_pages(&mut self, head: u32, pages: &[(u32, SlotAddr)]) {
        for &(number, old) in pages {
            let now = self.store.page_at(head, number);
            let page = self.new_page(head, now.map_or(0, |page| page.data));
            self.log(Op::Rekey {
                head,
                number,
                old,
                page,
            });
        }
    }

    // What goes on behind; nothing of it is in the log

    /// Removes the deleted heads, in any order. Their keys go first, and before these their tombstones
    /// are made durable.
    fn reclaim(&mut self) {
        if self.planted != Planted::RemovedBeforeSync {
            self.sync();
        }
        let heads = self.store.heads.iter().filter(|(_, head)| head.deleted);
        let mut deleted: Vec<u32> = heads.map(|(&id, _)| id).collect();
        while !deleted.is_empty() {
            let id = deleted.swap_remove(self.rng.below(deleted.len()));
            self.vault.destroy(self.store.heads[&id].token);
            self.store.remove(id);
        }
    }

    /// Does what a planted bug does to the lineage.
    fn plant(&mut self) {
        if !self.rng.in_thousand(10) {
            return;
        }
        let parts = self.store.lineage.dead_parts();
        let waiting: Vec<_> = parts
            .map(|part| (part.lineage, part.key_epoch, part.kind))
            .collect();
        let Some(&(lineage, key_epoch, kind)) = waiting.first() else {
            return;
        };
        match self.planted {
            Planted::LostDeadEntry => {
                let epoch = self
                    .store
                    .lineage
                    .epochs
                    .get_mut(&lineage)
                    .expect("an epoch");
                let deadlist = Arc::make_mut(&mut epoch.deadlist);
                let slots = deadlist.iter().find(|(key, _)| *key == key_epoch);
                let at = slots.and_then(|(_, items)| items.of(kind).iter().next());
                let item = Item {
                    at: at.expect("an item"),
                    key_epoch,
                    kind,
                };
                deadlist.subtract(&[item].into_iter().collect());
            }
            Planted::FreedForOneSide if kind == ItemKind::Page => {
                let parts = self.store.lineage.dead_parts();
                let part = parts.into_iter().next().expect("a part");
                let mut freed = crate::lineage::ItemSet::default();
                freed
                    .pages
                    .insert(part.slots.iter().next().expect("a page"));
                self.store.space.free_unlogged(&freed);
                self.store.take(&freed);
            }
            _ => {}
        }
    }

    // Checks that change something

    /// Settles everything, then deletes or rekeys something: exactly what was promised happens.
    fn check_hoist(&mut self) {
        self.reclaim();
        self.store.hoist();
        if self.pending.is_none() {
            self.prune_keys();
        }
        self.store.check_hoisted();
        self.done.hoists += 1;
        self.check_sets();
        let visible = self.visible();
        if !visible.is_empty() && self.rng.in_thousand(300) {
            let head = self.rng.pick(&visible);
            match self.rng.in_thousand(300) {
                true => self.erase(head),
                false => self.check_delete(head),
            }
        }
        let volumes = self.volumes();
        if !volumes.is_empty() && self.rng.in_thousand(300) {
            let volume = self.rng.pick(&volumes);
            self.check_rekey(volume);
        }
    }

    /// The dry run of deleting some heads at once is exact.
    fn check_sets(&mut self) {
        let heads: Vec<u32> = self.store.heads.keys().copied().collect();
        for _ in 0..3 {
            let share = self.rng.below(1000);
            let mut some: BTreeSet<u32> = heads.iter().copied().collect();
            some.retain(|_| self.rng.in_thousand(share));
            let open = some.iter().map(|id| self.store.heads[id].lineage).collect();
            let marked = counts(&self.store.only_reached_by(&some));
            assert_eq!(self.store.lineage.freed_with(&open), marked, "{some:?}");
            self.done.sets += 1;
        }
    }

    /// Deletes a head. What only it reached goes.
    fn check_delete(&mut self, head: u32) {
        let promised = set(&self.store.only_reached_by(&BTreeSet::from([head])));
        let mut expected = self.store.live.clone();
        self.log(Op::Delete(head));
        self.reclaim();
        expected.subtract(&promised);
        self.done.deletes += 1;
        self.done.deletes_by_hoist += usize::from(self.store.live != expected);
        self.store.hoist();
        assert_eq!(
            self.store.live, expected,
            "a delete freed other than promised"
        );
    }

    /// Rekeys a whole volume: what it shared becomes its own, and only that is added.
    fn check_rekey(&mut self, volume: u32) {
        self.checkpoint();
        self.store.hoist();
        let open = self.store.heads[&volume].lineage;
        let mut added = counts(&self.store.reach(volume));
        added -= self.store.lineage.exclusive(open);
        added += self.store.live.counts();
        self.new_key(volume);
        let pages: Vec<(u32, SlotAddr)> = (0..NUMBERS as u32)
            .filter_map(|number| Some((number, self.store.page_at(volume, number)?.item.at)))
            .collect();
        self.rekey_pages(volume, &pages);
        self.checkpoint();
        self.store.hoist();
        assert_eq!(self.store.live.counts(), added, "the dry run of a rekey");
        let reached = self.store.reach(volume);
        let open = self.store.heads[&volume].lineage;
        assert_eq!(self.store.lineage.exclusive(open), counts(&reached));
        let sealed = self
            .store
            .lineage
            .sealed_count(self.store.heads[&volume].key);
        assert_eq!(sealed as usize, pages.len());
        self.done.rekeys += 1;
    }
}
