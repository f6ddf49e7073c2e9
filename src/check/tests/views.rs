//! The views of `inspect`.

use crate::check::inspect::{
    PageState, SuperblockState, catalog, keys, lineage, log, page, segment, superblocks, tree,
};
use crate::error::{Error, Kind};
use crate::io::sim::SimMachine;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, PageNo, SegmentId, Seq, SlotAddr};

use super::damage::write_at;
use super::store;
use super::store::TestKms;
use crate::units::SLOT_LEN;

#[test]
fn all_superblock_slots_are_shown() {
    let disk = store();
    write_at(&disk, "superblock-a", SLOT_LEN, &[1; SLOT_LEN]);
    write_at(&disk, "superblock-b", 0, &[0; SLOT_LEN]);
    let slots = superblocks(&disk).unwrap();
    let shown: Vec<_> = slots
        .iter()
        .map(|slot| match &slot.state {
            SuperblockState::Unwritten => (slot.file, slot.slot, None),
            SuperblockState::Damaged(text) => (slot.file, slot.slot, Some(text.clone())),
            SuperblockState::Whole(s) => (slot.file, slot.slot, Some(s.generation.to_string())),
        })
        .collect();
    let damage = "it does not start with its magic number".to_owned();
    let expected = [
        ("superblock-a", 0, Some("0".to_owned())),
        ("superblock-a", 1, Some(damage)),
        ("superblock-b", 0, None),
        ("superblock-b", 1, Some("1".to_owned())),
    ];
    assert_eq!(shown, expected);
    let error = superblocks(&SimMachine::new().dir("none")).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }));
}

#[test]
fn a_segment_is_shown_batch_by_batch() {
    let disk = store();
    let view = segment(&disk, SegmentId(1)).unwrap();
    let seqs: Vec<_> = view.batches.iter().map(|batch| batch.seq.0).collect();
    assert_eq!(seqs, (1..=11).collect::<Vec<_>>());
    assert_eq!((view.end.slot, view.slot_count), (21, 24));
    assert_eq!(view.stopped, "it does not start with its magic number");
    let kinds = |batch: usize| {
        let records = view.batches[batch].records.iter();
        records.map(|record| record.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(0), ["segment", "lineage", "key_epoch", "head"]);
    assert_eq!(kinds(1), ["pages"]);
    assert_eq!(kinds(7), ["nodes"]);
    assert_eq!(kinds(8)[..2], ["table", "segment"]);
    let pages = &view.batches[1];
    assert_eq!((pages.header_slots, pages.body_slots), (1, 3));
    assert_eq!(pages.records[0].count, 3);
    assert_eq!(pages.records[0].detail, "pages 0 to 2");
    // A damaged page is in the view, a damaged header ends it.
    write_at(&disk, "segment-00000001", 4 * SLOT_LEN, b"x");
    write_at(&disk, "segment-00000001", 6 * SLOT_LEN + 200, b"x");
    let view = segment(&disk, SegmentId(1)).unwrap();
    assert_eq!(view.batches[1].damaged.len(), 1);
    assert_eq!((view.batches.len(), view.end.slot), (2, 6));
    let later: Vec<_> = view.later.iter().map(|batch| batch.seq.0).collect();
    assert_eq!(
        later,
        (4..=11).collect::<Vec<_>>(),
        "what lies behind it is shown"
    );
    // Without its header the file is still of batches.
    write_at(&disk, "segment-00000001", 0, b"x");
    let view = segment(&disk, SegmentId(1)).unwrap();
    assert!(view.problem.is_some() && view.store_id.is_none());
    assert_eq!((view.batches.len(), view.slot_count), (2, 24));
    let error = segment(&disk, SegmentId(9)).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[test]
fn a_page_is_shown_as_the_log_and_the_tree_say() {
    let disk = store();
    let look = |kind, name: &str, number| page(&disk, Some(&TestKms), kind, name, PageNo(number));
    let data = |kind, name: &str, number| {
        let view = look(kind, name, number).unwrap();
        match view.state {
            PageState::Data(data) => {
                assert!(data.damage.is_none() && data.salt.is_some());
                assert_eq!(data.lineage, Some(LineageEpoch(data.key_epoch.0)));
                (
                    data.at.segment.0,
                    data.at.slot,
                    data.key_epoch.0,
                    view.from_log,
                )
            }
            state => panic!("{state:?}"),
        }
    };
    assert_eq!(data(Kind::Volume, "db", 0), (1, 3, 1, false));
    assert_eq!(data(Kind::Volume, "db", 2), (2, 2, 4, true));
    assert_eq!(data(Kind::Snapshot, "snap", 2), (1, 5, 1, false));
    assert_eq!(data(Kind::Volume, "clone", 5), (2, 10, 3, true));
    let zero = look(Kind::Volume, "clone", 1).unwrap();
    let epoch = KeyEpoch(3);
    assert!(matches!(zero.state, PageState::Zero { key_epoch, .. } if key_epoch == epoch));
    let unmapped = look(Kind::Volume, "db", 100).unwrap();
    assert!(matches!(unmapped.state, PageState::Unmapped) && unmapped.from_log);
    let error = look(Kind::Volume, "db", 3200).unwrap_err();
    assert!(matches!(error, Error::OutOfBounds { .. }));
    for name in ["gone", "snap", "none"] {
        let error = look(Kind::Volume, name, 0).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{name}");
    }
}

#[test]
fn a_tree_is_shown_level_by_level() {
    let disk = store();
    let view = tree(&disk, None, Kind::Volume, "db").unwrap();
    assert_eq!((view.height, view.nodes, view.pages), (2, 3, 4));
    let top = &view.levels[0].nodes[0];
    let at = SlotAddr {
        segment: SegmentId(1),
        slot: 17,
    };
    assert_eq!((top.at, top.items, top.last_page), (at, 2, PageNo(100)));
    assert_eq!(view.levels[1].nodes[0].last_page, PageNo(2));
    write_at(&disk, "segment-00000001", 15 * SLOT_LEN + 60, b"x");
    let view = tree(&disk, None, Kind::Snapshot, "snap").unwrap();
    assert!(view.levels[1].nodes[0].damage.is_some());
    assert_eq!((view.nodes, view.pages), (2, 1));
}

#[test]
fn lineage_shows_heads_and_epochs() {
    let view = lineage(&store(), Some(&TestKms)).unwrap();
    let heads: Vec<_> = view
        .heads
        .iter()
        .map(|h| (h.name.as_str(), h.state))
        .collect();
    let available = "available";
    assert_eq!(
        heads,
        [
            ("db", available),
            ("clone", available),
            ("snap", available),
            ("gone", "deleted")
        ]
    );
    let parents = view.lineage_epochs.iter().map(|epoch| epoch.parent);
    let parents: Vec<_> = parents.map(|parent| parent.map_or(0, |p| p.0)).collect();
    assert_eq!(parents, [0, 1, 1, 2, 2, 0]);
    assert_eq!(view.lineage_epochs[3].heads, [HeadId(1)]);
    assert_eq!(view.key_epochs[4].far, Some(KeyEpoch(1)));
    assert_eq!(Seq(view.key_epochs.len() as u64), Seq(6));
}

#[test]
fn a_store_without_superblock_is_an_error() {
    let disk = store();
    for name in ["superblock-a", "superblock-b"] {
        write_at(&disk, name, 0, &[1; 2 * SLOT_LEN]);
    }
    let error = lineage(&disk, None).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn the_log_goes_on_from_any_batch_and_shows_what_is_damaged() {
    let disk = store();
    let whole = log(&disk, Some(&TestKms), Seq(0), 1000).unwrap();
    assert!(whole.authenticated && whole.next.is_none());
    assert!(!whole.batches.is_empty() && !whole.checkpoints.is_empty());
    let seqs: Vec<Seq> = whole.batches.iter().map(|batch| batch.seq).collect();
    assert_eq!(seqs[0].0, whole.checkpoints[0].seq.0 + 1);
    assert!(seqs.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
    for (index, &seq) in seqs.iter().enumerate() {
        let one = log(&disk, None, seq, 1).unwrap();
        assert!(!one.authenticated);
        assert_eq!(one.batches[0].chain, whole.batches[index].chain);
        assert_eq!(one.next, seqs.get(index + 1).copied());
    }
    let with_body = whole.batches.iter().find(|batch| batch.body_slots > 0);
    let with_body = with_body.expect("a batch with pages");
    let body = with_body.at.slot + with_body.header_slots;
    let name = format!("segment-{:08x}", with_body.at.segment.0);
    write_at(&disk, &name, body as usize * SLOT_LEN + 60, b"x");
    let damaged = log(&disk, None, with_body.seq, 1).unwrap();
    assert_eq!(damaged.batches[0].damaged[0].slot, body);
}

#[test]
fn the_catalog_and_the_keys_are_as_of_the_end_of_the_log() {
    let view = catalog(&store(), Some(&TestKms)).unwrap();
    let last = log(&store(), None, Seq(0), 1000).unwrap();
    let last = last.batches.last().expect("a log");
    assert!(view.authenticated && !view.torn_tail);
    assert_eq!(view.seq, last.seq);
    assert!(view.seq > view.tables_seq && view.log_batches > 0);
    assert_eq!(view.lineage.heads.len(), 4);
    assert!(!view.segments.is_empty() && !view.salts.is_empty());
    let keys = keys(&store(), None).unwrap();
    assert_eq!(keys.heads.len(), 3, "a deleted head has no key any more");
    assert_eq!(keys.epochs.len(), 6);
    for head in &keys.heads {
        let open = keys
            .epochs
            .iter()
            .find(|it| it.key_epoch == head.open_epoch);
        let open = open.expect("its open epoch");
        assert!(open.heads.contains(&head.head));
        assert_eq!(head.epoch_count, open.depth + 1);
        assert!(head.links_to_root <= open.depth);
    }
}
