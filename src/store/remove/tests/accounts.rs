//! What is said of space, against mark and sweep.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::catalog::HeadState;
use crate::format::entry::Entry;
use crate::store::erase::display_name;
use crate::store::remove::tests::World;
use crate::units::{PageNo, SlotAddr};

type Pages = BTreeSet<SlotAddr>;

impl World {
    /// The pages that each head maps, by the name it is shown under.
    fn maps(&self) -> BTreeMap<String, Pages> {
        let inner = &self.store.0;
        let state = inner.state.read();
        let live = state
            .heads()
            .filter(|head| head.record.state != HeadState::Deleted);
        let maps = live.map(|head| {
            let items = head.tree.iter(&inner.nodes, PageNo(0)..PageNo(u64::MAX));
            let pages = items.filter_map(|item| match item.unwrap() {
                (_, Entry::Data(page)) => Some(page.at),
                _ => None,
            });
            (display_name(&head.record), pages.collect())
        });
        maps.collect()
    }

    fn bytes(&self, pages: usize) -> u64 {
        pages as u64 * u64::from(self.page_len)
    }

    /// What is said of deleting some heads at once is exact, each and in sum, settled or not.
    pub fn check_plan(&self, volumes: &[&str], snapshots: &[&str]) {
        let plan = self.store.plan_deletion(volumes, snapshots).unwrap();
        let maps = self.maps();
        let snapshots = snapshots.iter().map(|name| format!("@{name}"));
        let set: BTreeSet<String> = volumes
            .iter()
            .map(|name| (*name).to_owned())
            .chain(snapshots)
            .collect();
        let union = |wanted: &dyn Fn(&String) -> bool| -> Pages {
            let maps = maps.iter().filter(|(name, _)| wanted(name));
            maps.flat_map(|(_, pages)| pages).copied().collect()
        };
        let (all, rest) = (
            union(&|name| set.contains(name)),
            union(&|name| !set.contains(name)),
        );
        assert_eq!(plan.freed_bytes, self.bytes(all.difference(&rest).count()));
        assert_eq!(
            plan.shared_bytes,
            self.bytes(all.intersection(&rest).count())
        );
        assert_eq!(plan.parts.len(), set.len());
        for part in &plan.parts {
            let mine = &maps[&part.name];
            let others = union(&|name| *name != part.name);
            assert_eq!(part.freed_bytes, self.bytes(mine.difference(&rest).count()));
            assert_eq!(
                part.alone_bytes,
                self.bytes(mine.difference(&others).count())
            );
            assert_eq!(
                part.shared_bytes,
                self.bytes(mine.intersection(&rest).count())
            );
            let with = part.shared_with.iter();
            let with: BTreeMap<String, u64> =
                with.map(|with| (with.name.clone(), with.bytes)).collect();
            let rest = maps.iter().filter(|(name, _)| !set.contains(*name));
            let common = rest
                .map(|(name, pages)| (name.clone(), self.bytes(mine.intersection(pages).count())));
            let common: BTreeMap<String, u64> = common.filter(|(_, bytes)| *bytes > 0).collect();
            assert_eq!(with, common, "{}", part.name);
        }
    }

    /// After a checkpoint: what is charged is what is live, and the split by page is exact.
    pub fn check_charges(&self) {
        let (space, charges, maps) = (
            self.store.space().unwrap(),
            self.store.charges().unwrap(),
            self.maps(),
        );
        assert!(space.is_settled);
        let taken = [
            space.page_bytes,
            space.node_bytes,
            space.log_bytes,
            space.waiting_bytes,
            space.reclaimable_bytes,
            space.spare_bytes,
        ];
        assert_eq!(
            taken.iter().sum::<u64>(),
            space.allocated_bytes,
            "{space:?}"
        );
        assert_eq!(charges.len(), maps.len());
        let all: Pages = maps.values().flatten().copied().collect();
        assert_eq!(space.page_bytes, self.bytes(all.len()));
        assert_eq!(
            charges
                .iter()
                .map(|charge| charge.charged_bytes)
                .sum::<u64>(),
            space.page_bytes
        );
        let mut mapped_by: BTreeMap<SlotAddr, u32> = BTreeMap::new();
        for &page in maps.values().flatten() {
            *mapped_by.entry(page).or_default() += 1;
        }
        for charge in &charges {
            let parts = maps[&charge.name]
                .iter()
                .map(|page| 1.0 / f64::from(mapped_by[page]));
            let exact = parts.sum::<f64>() * f64::from(self.page_len);
            let off = (charge.split_bytes as f64 - exact).abs();
            assert!(off <= 1.0, "{charge:?}, not {exact}");
        }
    }

    /// Deletes some heads at once. Settled, the store gives back to the byte what was promised.
    pub fn delete_some(&mut self) {
        let names: Vec<String> = self.volumes.keys().cloned().collect();
        let some: Vec<String> = names.into_iter().filter(|_| self.below(3) == 0).collect();
        let (snapshots, volumes): (Vec<&str>, Vec<&str>) = some
            .iter()
            .map(String::as_str)
            .partition(|name| self.snapshots.contains(*name));
        self.check_plan(&volumes, &snapshots);
        let live = || self.store.0.state.read().space().live().len() * 4096;
        let exactly = self.below(2) == 0;
        if exactly {
            self.store.checkpoint().unwrap();
        }
        let plan = self.store.plan_deletion(&volumes, &snapshots).unwrap();
        let before = live();
        self.store.delete(&volumes, &snapshots).unwrap();
        if exactly {
            self.store.checkpoint().unwrap();
            assert_eq!(
                before - live(),
                plan.freed_bytes + plan.freed_metadata_bytes
            );
        }
        self.volumes.retain(|name, _| !some.contains(name));
        self.snapshots.retain(|name| !some.contains(name));
    }
}
