//! Page tables with an overlay, against a map.

use crate::btree::tests::{EPOCH, Memory, Model, entry};
use crate::btree::{Fanout, PageTable};
use crate::units::PageNo;

const PAGES: usize = 60;

struct World {
    source: Memory,
    table: PageTable,
    model: Model,
    number: u32,
}

impl World {
    fn new() -> Self {
        let (source, table) = (Memory::default(), PageTable::default());
        let (model, number) = (Model::new(), 0);
        Self {
            source,
            table,
            model,
            number,
        }
    }

    fn step(&mut self, dice: &dyn Fn(usize) -> usize) {
        let page = PageNo(dice(PAGES) as u64);
        self.number += 1;
        let new = entry(self.number, EPOCH);
        let (source, fanout) = (&self.source, Fanout::new(3));
        match dice(8) {
            0..=2 => {
                self.table.overlay(source, page, new).unwrap();
                self.model.insert(page, new);
            }
            3 | 4 => {
                let old = self.table.set(source, fanout, EPOCH, page, new).unwrap();
                assert_eq!(old, self.model.insert(page, new));
            }
            5 => {
                let range = page..PageNo(page.0 + dice(9) as u64);
                let removed = self
                    .table
                    .remove_range(source, fanout, EPOCH, range.clone());
                let before = self.model.len();
                self.model.retain(|page, _| !range.contains(page));
                assert_eq!(removed.unwrap(), self.model.len() < before);
            }
            6 => self.table.fold(source, fanout, EPOCH, dice(5)).unwrap(),
            _ => {
                let all = usize::MAX;
                self.table.fold(source, fanout, EPOCH, all).unwrap();
                assert!(!self.table.is_overlaid());
                self.source.checkpoint(&self.table.base);
                let root = self.table.root_ref().expect("all of it is written");
                self.table = PageTable::from_root(root);
            }
        }
    }

    fn check(&self, dice: &dyn Fn(usize) -> usize) {
        let (first, len) = (dice(PAGES) as u64, dice(PAGES) as u64);
        let range = PageNo(first)..PageNo(first + len);
        let found = self.table.iter(&self.source, range.clone());
        let found: Vec<_> = found.map(Result::unwrap).collect();
        let expected = self.model.range(range).map(|(page, entry)| (*page, *entry));
        assert_eq!(found, expected.collect::<Vec<_>>());
        let page = PageNo(first);
        let got = self.table.get(&self.source, page).unwrap();
        assert_eq!(got, self.model.get(&page).copied());
    }
}

#[test]
fn an_overlay_hides_what_is_below_until_it_is_folded_or_overwritten() {
    for seed in 0..300 {
        let random = crate::io::sim::SimRandom::new(seed);
        let dice = |end: usize| random.below(end);
        let mut world = World::new();
        for _ in 0..100 {
            world.step(&dice);
            world.check(&dice);
        }
    }
}

#[test]
fn pages_of_the_overlay_load_no_node() {
    let mut world = World::new();
    for page in 0..50 {
        let set = world.table.set(
            &world.source,
            Fanout::new(3),
            EPOCH,
            PageNo(page),
            entry(1, EPOCH),
        );
        set.unwrap();
    }
    world.source.checkpoint(&world.table.base);
    world.table = PageTable::from_root(world.table.root_ref().unwrap());
    let shared = world.table.clone();
    let before = world.source.loads.get();
    for page in 0..50 {
        let new = entry(2, EPOCH);
        world
            .table
            .overlay(&world.source, PageNo(page), new)
            .unwrap();
    }
    assert_eq!(world.source.loads.get(), before);
    assert!(!world.table.same_as(&shared) && !shared.is_overlaid());
    assert!(world.table.root_ref().is_none(), "it is not written");
}
