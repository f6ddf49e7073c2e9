//! Key epochs that nothing needs any more.

use std::collections::BTreeSet;

use crate::catalog::state::Catalog;
use crate::units::KeyEpoch;

impl Catalog {
    /// Drops the records of key epochs that no live item names and that are no link on the way
    /// from a head to one that has such items. Like the removal of a head this is not in the log.
    ///
    /// No checkpoint may be going on: its nodes could name key epochs that nothing else does.
    pub fn prune_keys(&mut self) {
        let mut in_use: BTreeSet<KeyEpoch> =
            self.heads().map(|head| head.record.key_epoch).collect();
        if self.lineage.droppable_rows(&in_use).is_empty() {
            return;
        }
        for head in self.heads() {
            in_use.extend(head.tree.unwritten().iter().map(|node| node.key_epoch()));
        }
        let unused: BTreeSet<KeyEpoch> = self.lineage.droppable_rows(&in_use).into_iter().collect();
        self.drop_leaves(&unused);
        self.drop_roots(&unused);
    }

    /// Drops records that no other links to, from below.
    fn drop_leaves(&mut self, unused: &BTreeSet<KeyEpoch>) {
        let mut linked: BTreeSet<KeyEpoch> = BTreeSet::new();
        let keys: Vec<KeyEpoch> = self.key_epochs.keys().rev().copied().collect();
        for key in keys {
            if unused.contains(&key) && !linked.contains(&key) {
                self.drop_key(key);
            } else if let Some(above) = self.key_epochs.get(&key).and_then(|record| record.above) {
                linked.insert(above.to);
            }
        }
    }

    /// Drops records that link to no other, from above; then nothing leads up to them.
    fn drop_roots(&mut self, unused: &BTreeSet<KeyEpoch>) {
        let keys: Vec<KeyEpoch> = self.key_epochs.keys().copied().collect();
        for key in keys {
            let kept: Vec<KeyEpoch> = match self.key_epochs.get(&key) {
                Some(record) => [record.above, record.far].into_iter().flatten(),
                None => continue,
            }
            .map(|link| link.to)
            .filter(|to| self.key_epochs.contains_key(to))
            .collect();
            let Some(record) = self.key_epochs.get_mut(&key) else {
                continue;
            };
            record.above = record.above.filter(|link| kept.contains(&link.to));
            record.far = record.far.filter(|link| kept.contains(&link.to));
            if record.above.is_none() && unused.contains(&key) {
                self.drop_key(key);
            }
        }
    }

    fn drop_key(&mut self, key: KeyEpoch) {
        self.key_epochs.remove(&key);
        self.lineage.drop_row(key);
    }
}
