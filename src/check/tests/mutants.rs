//! Mutants whose checksums, hashes and chains are right: only the rule they break gives them
//! away. Each must be reported under its own code.

mod catalog;
mod log;
mod superblock;
mod tree;

use crate::format::catalog::{HeadRecord, KeyEpochRecord, LineageRecord};
use crate::format::node::{DiskNode, Items, NodeRef};
use crate::format::record::Record;
use crate::units::{HeadId, KeyEpoch, LineageEpoch};

use super::builder::Piece;
use super::{SMALL, codes, report, store_with};

/// Checks that a store with a changed piece is reported under a code.
fn expect(code: &str, hook: impl Fn(Piece<'_>)) {
    let report = report(&store_with(SMALL, &hook));
    assert!(codes(&report).contains(&code), "{code}: {report}");
}

/// The same, and nothing else may be reported.
fn expect_only(code: &str, hook: impl Fn(Piece<'_>)) {
    let report = report(&store_with(SMALL, &hook));
    assert_eq!(codes(&report), [code], "{report}");
}

fn expect_clean(hook: impl Fn(Piece<'_>)) {
    let report = report(&store_with(SMALL, &hook));
    assert!(report.is_clean(), "{report}");
}

/// A change of the newest tables.
fn tables(change: impl Fn(&mut Vec<Record>)) -> impl Fn(Piece<'_>) {
    move |piece| {
        if let Piece::Tables(records) = piece {
            change(records);
        }
    }
}

/// A change of the records of a batch.
fn batch(at: u64, change: impl Fn(&mut Vec<Record>)) -> impl Fn(Piece<'_>) {
    move |piece| match piece {
        Piece::Batch { seq, records, .. } if seq == at => change(records),
        _ => {}
    }
}

fn node(at: &str, change: impl Fn(&mut DiskNode)) -> impl Fn(Piece<'_>) {
    move |piece| match piece {
        Piece::Node(name, node) if name == at => change(node),
        _ => {}
    }
}

fn reference(at: &str, change: impl Fn(&mut NodeRef)) -> impl Fn(Piece<'_>) {
    move |piece| match piece {
        Piece::Ref(name, reference) if name == at => change(reference),
        _ => {}
    }
}

fn leaf(
    at: &str,
    change: impl Fn(&mut Vec<(crate::units::PageNo, crate::format::entry::Entry)>),
) -> impl Fn(Piece<'_>) {
    node(at, move |node| {
        if let Items::Leaf(pages) = &mut node.items {
            change(pages);
        }
    })
}

fn head(records: &mut [Record], id: u32) -> &mut HeadRecord {
    let found = records.iter_mut().find_map(|record| match record {
        Record::Head(head) if head.head == HeadId(id) => Some(head),
        _ => None,
    });
    found.unwrap()
}

fn key_epoch(records: &mut [Record], id: u32) -> &mut KeyEpochRecord {
    let found = records.iter_mut().find_map(|record| match record {
        Record::KeyEpoch(epoch) if epoch.key_epoch == KeyEpoch(id) => Some(epoch),
        _ => None,
    });
    found.unwrap()
}

fn lineage(records: &mut [Record], id: u32) -> &mut LineageRecord {
    let found = records.iter_mut().find_map(|record| match record {
        Record::Lineage(epoch) if epoch.lineage == LineageEpoch(id) => Some(epoch),
        _ => None,
    });
    found.unwrap()
}
