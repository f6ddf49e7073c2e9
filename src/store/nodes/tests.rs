use super::{NodeCache, SHARD_BYTES_MIN};
use crate::btree::NodeSource;
use crate::format::entry::Entry;
use crate::format::node::{DiskNode, Items, NodeRef};
use crate::format::superblock::Geometry;
use crate::io::sim::SimMachine;
use crate::segment::Segments;
use crate::sync::Arc;
use crate::units::{KeyEpoch, PageNo, SegmentId, SlotAddr, StoreId};

const KEY_EPOCH: KeyEpoch = KeyEpoch(1);

/// A cache of so many bytes, and full leaves on a disk.
fn cache(bytes: usize, leaves: u32) -> (NodeCache, Vec<NodeRef>) {
    let geometry = Geometry {
        page_len: 4096,
        segment_slots: leaves + 1,
    };
    let disk = Arc::new(SimMachine::new().dir("store"));
    let segments = Arc::new(Segments::new(disk, StoreId([1; 16]), geometry, 1));
    let segment = segments.create(SegmentId(1)).unwrap();
    let leaf = |slot: u32| {
        let first = u64::from(slot) * 100;
        let entry = Entry::Zero {
            key_epoch: KEY_EPOCH,
        };
        let pages = (first..first + 78).map(|page| (PageNo(page), entry));
        let items = Items::Leaf(pages.collect());
        let bytes = DiskNode {
            key_epoch: KEY_EPOCH,
            items,
        }
        .encode();
        segment.write_slots(slot, &bytes).unwrap();
        NodeRef {
            at: SlotAddr {
                segment: SegmentId(1),
                slot,
            },
            level: 0,
            key_epoch: KEY_EPOCH,
            hash: crate::crypto::hash(&bytes),
        }
    };
    let leaves = (1..=leaves).map(leaf).collect();
    (NodeCache::new(segments, bytes), leaves)
}

#[test]
fn a_cache_takes_no_more_than_its_bytes() {
    for bytes in [0, SHARD_BYTES_MIN, 20 * SHARD_BYTES_MIN] {
        let (cache, leaves) = cache(bytes, 1000);
        for leaf in leaves.iter().chain(&leaves) {
            cache.load(leaf).unwrap();
        }
        let counts = cache.counts();
        let max = bytes.max(SHARD_BYTES_MIN) as u64;
        assert!(counts.bytes <= max && counts.bytes > max / 2, "{counts:?}");
        assert!(counts.bytes > counts.nodes * 4096, "{counts:?}");
        assert_eq!(counts.leaf_hits + counts.leaf_misses, 2000);
    }
}

#[test]
fn what_fits_is_read_once() {
    let (cache, leaves) = cache(8 << 20, 1000);
    for _ in 0..3 {
        for leaf in &leaves {
            cache.load(leaf).unwrap();
        }
    }
    let counts = cache.counts();
    assert_eq!((counts.leaf_hits, counts.leaf_misses), (2000, 1000));
    assert_eq!(counts.nodes, 1000);
}

#[test]
fn what_is_used_again_outlives_a_scan() {
    let (cache, leaves) = cache(1 << 20, 1000);
    let (used, scanned) = leaves.split_at(50);
    for leaf in scanned {
        cache.load(leaf).unwrap();
        for leaf in used {
            cache.load(leaf).unwrap();
        }
    }
    let misses = cache.counts().leaf_misses;
    assert!(misses < 1100, "{misses} reads of 1000 leaves");
}

#[test]
fn a_node_put_in_again_counts_once() {
    let (cache, leaves) = cache(1 << 20, 1);
    let disk = cache.load(&leaves[0]).unwrap().to_disk();
    let before = cache.counts().bytes;
    cache.insert(leaves[0].at, &disk, &disk.encode());
    assert_eq!(cache.counts().bytes, before);
    assert_eq!(cache.counts().nodes, 1);
}

#[test]
fn a_page_is_found_where_the_slot_lies_as_in_the_node() {
    let (cache, leaves) = cache(1 << 20, 3);
    let leaf = &leaves[1];
    let node = cache.load(leaf).unwrap();
    for page in 150..300 {
        for _ in 0..2 {
            let looked = cache.look(leaf, PageNo(page)).unwrap();
            assert_eq!(looked, node.look(PageNo(page)).unwrap(), "{page}");
        }
    }
}

#[test]
fn a_slot_that_is_used_again_gives_what_was_written_last() {
    let (cache, leaves) = cache(1 << 20, 2);
    cache.load(&leaves[0]).unwrap();
    let items = Items::Leaf(vec![(
        PageNo(7),
        Entry::Zero {
            key_epoch: KEY_EPOCH,
        },
    )]);
    let disk = DiskNode {
        key_epoch: KEY_EPOCH,
        items,
    };
    let bytes = disk.encode();
    let again = NodeRef {
        hash: crate::crypto::hash(&bytes),
        ..leaves[0]
    };
    cache.insert(again.at, &disk, &bytes);
    assert_eq!(
        cache.look(&again, PageNo(7)).unwrap().ends,
        (PageNo(7), PageNo(7))
    );
    assert_eq!(cache.load(&again).unwrap().to_disk(), disk);
}

#[test]
fn a_cache_may_be_as_large_as_can_be_said() {
    let (cache, leaves) = cache(usize::MAX, 600);
    for leaf in leaves.iter().chain(&leaves) {
        cache.load(leaf).unwrap();
    }
    assert_eq!(cache.counts().leaf_hits, 600);
}

#[test]
fn frames_of_all_chunks_keep_what_they_were_given() {
    let (cache, leaves) = cache(SHARD_BYTES_MIN, 1);
    let leaf = cache.load(&leaves[0]).unwrap().to_disk();
    let mut frames = super::Frames::new(1300);
    let at = |slot| SlotAddr {
        segment: SegmentId(1),
        slot,
    };
    for slot in 0..2000_u32 {
        let bytes = slot.to_le_bytes().repeat(1024);
        frames.insert(at(slot), super::Known::of(&leaf).unwrap(), &bytes);
    }
    let kept: Vec<u32> = (0..2000)
        .filter(|&slot| frames.get(at(slot)).is_some())
        .collect();
    assert_eq!(kept, (700..2000).collect::<Vec<_>>());
    for slot in kept {
        let (_, bytes) = frames.get(at(slot)).unwrap();
        assert_eq!(bytes, slot.to_le_bytes().repeat(1024), "{slot}");
    }
}
