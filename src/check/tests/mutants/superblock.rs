//! Mutants of superblocks and segment headers.

use crate::crypto::Secret;
use crate::error::Error;
use crate::format::superblock::{Superblock, TableRef};
use crate::units::{KeyId, SegmentId, Seq, SlotAddr, StoreId};

use super::super::builder::Piece;
use super::super::{check, report, thorough};
use super::{SMALL, expect, expect_only, store_with};

fn newest(change: impl Fn(&mut Superblock)) -> impl Fn(Piece<'_>) {
    move |piece| match piece {
        Piece::Superblock { superblock, .. } if superblock.generation == 1 => change(superblock),
        _ => {}
    }
}

#[test]
fn mirrors_say_the_same() {
    expect_only("OF-0104", |piece| match piece {
        Piece::Superblock {
            mirror: 1,
            superblock,
            ..
        } if superblock.generation == 1 => superblock.clean = true,
        _ => {}
    });
    expect_only("OF-0104", |piece| match piece {
        Piece::Superblock {
            mirror: 0,
            superblock,
            ..
        } if superblock.generation == 0 => superblock.clean = true,
        _ => {}
    });
}

#[test]
fn superblocks_are_written_under_the_store_key() {
    let forged = |mirror_forged: Option<u32>, generation: u64| {
        move |piece: Piece<'_>| match piece {
            Piece::Superblock {
                mirror,
                superblock,
                key,
            } if superblock.generation == generation
                && mirror_forged.is_none_or(|forged| forged == mirror) =>
            {
                *key = Secret::from_bytes([1; 32]);
            }
            _ => {}
        }
    };
    expect("OF-0106", forged(Some(0), 1));
    expect("OF-0106", forged(None, 1));
    let disk = store_with(SMALL, &|piece| {
        if let Piece::Superblock { key, .. } = piece {
            *key = Secret::from_bytes([1; 32]);
        }
    });
    let report = report(&disk);
    assert!(!report.stats.authenticated && !report.is_clean());
}

#[test]
fn fields_of_a_superblock_agree() {
    expect("OF-0107", newest(|s| s.durable_through = Seq(9)));
    expect("OF-0107", newest(|s| s.position.seq = Seq(0)));
    expect("OF-0107", newest(|s| s.position.end.slot = 25));
    expect("OF-0107", newest(|s| s.position.end.segment = SegmentId(0)));
    expect("OF-0107", newest(|s| s.tables = None));
    expect("OF-0107", newest(|s| s.created_at_ms = 6));
    expect("OF-0107", newest(|s| s.geometry.segment_slots = 25));
    expect("OF-0107", newest(|s| s.next.head.0 = 1));
    expect("OF-0107", newest(|s| s.next.lineage.0 = 1));
    expect("OF-0107", newest(|s| s.next.key_epoch.0 = 1));
    expect("OF-0107", newest(|s| s.position.seq = Seq(4)));
}

#[test]
fn generations_are_one_apart() {
    expect("OF-0103", newest(|s| s.generation = 3));
    expect("OF-0105", newest(|s| s.generation = 2));
}

#[test]
fn the_store_key_opens_and_is_the_one_that_is_meant() {
    let all = |change: fn(&mut Superblock)| {
        move |piece: Piece<'_>| {
            if let Piece::Superblock { superblock, .. } = piece {
                change(superblock);
            }
        }
    };
    expect_only("OF-0109", all(|s| s.store_key.commitment[0] ^= 1));
    expect_only("OF-0109", all(|s| s.store_key.wrapped[20] ^= 1));
    expect_only("OF-0109", newest(|s| s.store_key.wrapped.truncate(59)));
    // A store of another id does not open with this key, and its segments are not its own.
    expect("OF-0109", all(|s| s.store_id = StoreId([1; 16])));
    let disk = store_with(SMALL, &all(|s| s.store_key.kms_key = KeyId([1; 16])));
    let error = check(&disk, &thorough()).unwrap_err();
    assert!(matches!(error, Error::WrongKms { .. }), "{error}");
}

#[test]
fn next_ids_are_unused() {
    expect_only("OF-0110", newest(|s| s.next.head.0 = 2));
    expect_only("OF-0110", newest(|s| s.next.lineage.0 = 3));
    expect_only("OF-0110", newest(|s| s.next.key_epoch.0 = 3));
}

#[test]
fn the_superblock_names_where_it_stands() {
    expect("OF-0111", newest(|s| s.position.chain[0] ^= 1));
    expect("OF-0111", newest(|s| s.position.seq = Seq(11)));
    expect("OF-0111", newest(|s| s.position.end.slot = 21));
    // Nothing fits there, though it says that more was durable.
    expect("OF-0301", newest(|s| s.durable_through = Seq(18)));
    let elsewhere = |slot| {
        newest(move |s| {
            s.tables = Some(TableRef {
                at: SlotAddr {
                    segment: SegmentId(1),
                    slot,
                },
                hash: [0; 32],
            });
        })
    };
    for slot in [0, 8, 18, 21, 23, 24, u32::MAX] {
        expect("OF-0401", elsewhere(slot));
    }
}

#[test]
fn segments_are_of_this_store_and_place() {
    let header = |change: fn(&mut crate::format::segment::SegmentHeader)| {
        move |piece: Piece<'_>| match piece {
            Piece::Segment(header) if header.segment == SegmentId(2) => change(header),
            _ => {}
        }
    };
    expect_only("OF-0205", header(|header| header.store_id.0[0] ^= 1));
    expect_only("OF-0205", header(|header| header.slot_count = 23));
    // The file's name says 2.
    expect_only("OF-0205", header(|header| header.segment = SegmentId(1)));
}
