//! Stores of somebody who knows the format: every byte of every record, node and superblock is
//! changed with all checksums right. Whatever is reported, it ends and does not panic.

use std::cell::Cell;

use crate::check::CheckOptions;
use crate::format::superblock::Superblock;
use crate::io::Disk;
use crate::units::SLOT_LEN;

use super::builder::Piece;
use super::damage::{read_file, write_at};
use super::{SMALL, check, store, store_with, thorough};

/// So much of a node is changed: all fields, all items and some bytes behind.
const NODE_PART: usize = 242;

/// Changes byte after byte of what `pick` finds; gives those that no finding shows, and how many
/// there were.
fn change_all(step: usize, pick: impl Fn(Piece<'_>, &dyn Fn(&mut [u8]))) -> (Vec<usize>, usize) {
    let (mut clean, mut all) = (Vec::new(), 0);
    for value in [0x01, 0x80, 0xff] {
        for target in (0..).step_by(step) {
            let (seen, done) = (Cell::new(0), Cell::new(false));
            let change = |bytes: &mut [u8]| {
                if let Some(byte) = bytes.get_mut(target - seen.get()) {
                    *byte ^= value;
                    done.set(true);
                    // Nothing more is changed.
                    seen.set(usize::MAX);
                } else {
                    seen.set(seen.get() + bytes.len());
                }
            };
            let disk = store_with(SMALL, &|piece| {
                if !done.get() {
                    pick(piece, &change);
                }
            });
            if !done.get() {
                break;
            }
            all += 1;
            if check(&disk, &thorough()).is_ok_and(|report| report.is_clean()) {
                clean.push(target);
            }
        }
    }
    (clean, all)
}

#[test]
fn no_byte_of_a_record_makes_it_panic() {
    // Names, times, wrapped keys and ids mean nothing to a check without their keys.
    let (clean, all) = change_all(29, |piece, change| {
        if let Piece::RecordBytes(_, bytes) = piece {
            change(bytes);
        }
    });
    assert!(all > 300 && clean.len() < all, "{clean:?} of {all}");
}

#[test]
fn no_byte_of_a_node_makes_it_panic() {
    let (clean, all) = change_all(7, |piece, change| {
        if let Piece::NodeBytes("top" | "a" | "b", slot) = piece {
            change(&mut slot[8..8 + NODE_PART]);
            let crc = crc32fast::hash(&slot[8..]);
            slot[4..8].copy_from_slice(&crc.to_le_bytes());
        }
    });
    assert!(all > 300);
    for target in clean {
        // Number, nonce and tag of a page that nobody shares prove nothing without its key.
        let in_item = (target % NODE_PART + 8 - 32) % 52;
        assert!(!(8..24).contains(&in_item), "byte {target}");
    }
}

#[test]
fn no_byte_of_a_superblock_makes_it_panic() {
    let disk = store();
    let names = ["superblock-a", "superblock-b"];
    let slots = names.map(|name| read_file(&disk, name)[SLOT_LEN..].to_vec());
    let (mut clean, mut all) = (0, 0);
    for at in (0..400).filter(|at| !(12..16).contains(at)) {
        for value in [0x01, 0x80, 0xff] {
            for (name, slot) in names.iter().zip(&slots) {
                let mut slot = slot.clone();
                slot[at] ^= value;
                let crc = crc32fast::hash(&slot[..SLOT_LEN - 4]);
                slot[SLOT_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
                write_at(&disk, name, SLOT_LEN, &slot);
            }
            all += 1;
            // Without keys: nobody says that the keyed hash is wrong.
            if let Ok(report) = check(&disk, &CheckOptions::new()) {
                clean += usize::from(report.is_clean());
            }
            // With keys the older superblock leads to the same store.
            if let Ok(report) = check(&disk, &thorough()) {
                assert!(!report.is_clean());
            }
        }
    }
    assert!(clean < all / 2, "{clean} of {all}");
    assert!(Superblock::decode(&slots[0], 0).is_ok() && disk.list().unwrap().len() == 5);
}
