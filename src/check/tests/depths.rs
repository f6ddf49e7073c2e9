//! How deep a check goes, and of what.

use crate::check::inspect::{self, SuperblockState};
use crate::check::{CheckOptions, Sample, check, check_with};
use crate::crypto::{Label, Secret, wrap};
use crate::error::{Error, Kind};
use crate::format::record::Record;
use crate::io::sim::SimRandom;
use crate::kms::KeyService;
use crate::sync::Arc;
use crate::units::{KeyEpoch, SLOT_LEN, SegmentId, SlotAddr};

use super::builder::Piece;
use super::store::{TestKms, head_secret};
use super::{SMALL, codes, damage, report, store, store_with, thorough};

fn with_keys() -> CheckOptions {
    CheckOptions::new().kms(Arc::new(TestKms)).open_pages()
}

fn epoch_secret(id: u32) -> Secret {
    Secret::from_bytes([100 + id as u8; 32])
}

/// Gives heads and key epochs keys that open: all, but for the links of one epoch.
fn keys(spoilt: Option<KeyEpoch>) -> impl Fn(Piece<'_>) {
    move |piece| match piece {
        Piece::Tables(records) | Piece::Batch { records, .. } => {
            records.iter_mut().for_each(|record| seal(record, spoilt));
        }
        _ => {}
    }
}

fn seal(record: &mut Record, spoilt: Option<KeyEpoch>) {
    // The builder's epochs have their numbers as random ids.
    let random_id = |epoch: KeyEpoch| [epoch.0 as u8; 16];
    let random = SimRandom::new(3);
    match record {
        Record::Head(head) => {
            let epoch = random_id(head.key_epoch);
            let aad = [b"offshoot head v0".as_slice(), &head.resource_id.0, &epoch];
            let secret = epoch_secret(head.key_epoch.0);
            head.wrapped_key = wrap(&head_secret(), &secret, &aad.concat(), &random);
        }
        Record::KeyEpoch(epoch) => {
            let secret = epoch_secret(epoch.key_epoch.0);
            epoch.commitment = secret.commitment();
            let is_spoilt = spoilt == Some(epoch.key_epoch);
            let (own, key) = (epoch.random_id, secret.derive(Label::Wrap));
            for link in [&mut epoch.above, &mut epoch.far].into_iter().flatten() {
                let above = random_id(link.to);
                let aad = [b"offshoot link v0".as_slice(), &own, &above];
                let to = epoch_secret(link.to.0 + u32::from(is_spoilt));
                link.wrapped = wrap(&key, &to, &aad.concat(), &random);
            }
        }
        _ => {}
    }
}

#[test]
fn a_quick_check_sees_superblocks_and_no_page_tables() {
    let disk = store();
    let quick = CheckOptions::new().kms(Arc::new(TestKms)).quick();
    let whole = check(&disk, &quick).unwrap();
    assert!(whole.is_clean(), "{whole}");
    assert!(whole.stats.authenticated && !whole.stats.complete);
    assert_eq!((whole.stats.nodes, whole.stats.log_batches), (0, 7));
    damage::write_at(&disk, "superblock-b", SLOT_LEN, &[7; SLOT_LEN]);
    let found = check(&disk, &quick).unwrap();
    assert_eq!(codes(&found)[..1], ["OF-0102"], "{found}");
}

#[test]
fn a_check_of_one_head_walks_that_one() {
    let disk = store();
    let all = report(&disk).stats;
    let one = check(&disk, &thorough().only(Kind::Volume, "clone")).unwrap();
    assert!(one.is_clean(), "{one}");
    assert!(one.stats.pages > 0 && one.stats.pages < all.pages);
    let none = check(&disk, &thorough().only(Kind::Volume, "none")).unwrap_err();
    assert!(matches!(none, Error::NotFound { .. }), "{none}");
}

#[test]
fn samples_of_all_seeds_together_are_all_pages() {
    let at = |slot| SlotAddr {
        segment: SegmentId(1),
        slot,
    };
    let percent =
        |percent, seed| (0..6400).filter(move |&slot| Sample { percent, seed }.has(at(slot)));
    assert_eq!(percent(100, 1).count(), 6400);
    let tenths: Vec<_> = (0..200).map(|seed| percent(10, seed).count()).collect();
    let mean = tenths.iter().sum::<usize>() / tenths.len();
    assert!((500..800).contains(&mean), "{mean}");
    let seen: std::collections::BTreeSet<_> = (0..200).flat_map(|seed| percent(10, seed)).collect();
    assert_eq!(seen.len(), 6400);
}

#[test]
fn threads_find_what_one_finds() {
    let disk = store();
    damage::ruin(&disk, 1, 12);
    let one = check(&disk, &thorough()).unwrap();
    let many = check(&disk, &thorough().workers(3)).unwrap();
    assert_eq!(codes(&one), ["OF-0514"]);
    assert_eq!((one.findings, one.stats), (many.findings, many.stats));
}

#[test]
fn a_finding_names_slot_head_and_page() {
    let disk = store();
    damage::ruin(&disk, 1, 12);
    let found = report(&disk).findings.remove(0);
    assert!(found.place.at.is_some() && found.place.page.is_some());
    assert!(found.place.head.is_some(), "{found}");
    assert_eq!(found.class.severity().as_str(), "error");
    assert_eq!(found.repair.as_str(), "lost_pages");
}

#[test]
fn whoever_has_seen_enough_ends_a_check() {
    let (region, _) = super::engine::written(9 << 20);
    let mut told = 0;
    let ended = check_with(&region.written(), &CheckOptions::new(), &mut |at| {
        told += 1;
        assert!(
            at.done_bytes > 0 && at.done_bytes <= at.total_bytes,
            "{at:?}"
        );
        false
    });
    assert!(ended.unwrap().is_cancelled);
    assert_eq!(told, 1);
    let whole = check(&region.written(), &CheckOptions::new()).unwrap();
    assert!(!whole.is_cancelled && whole.is_clean(), "{whole}");
}

#[test]
fn pages_that_the_store_sealed_open_and_those_of_disabled_keys_are_locked() {
    let (region, key) = super::engine::written(1 << 20);
    let options = || {
        CheckOptions::new()
            .kms(Arc::new(region.kms.clone()))
            .open_pages()
    };
    let open = check(&region.written(), &options()).unwrap();
    assert!(open.is_clean(), "{open}");
    let stats = open.stats;
    assert!(stats.pages_opened > 0 && stats.pages_opened == stats.pages);
    region.kms.disable_key(&key.to_string()).unwrap();
    let locked = check(&region.written(), &options()).unwrap();
    assert!(locked.is_clean(), "{locked}");
    assert_eq!(locked.stats.locked_heads, 1);
    assert_eq!(locked.stats.pages_locked, stats.pages_opened);
}

#[test]
fn a_page_that_nobody_sealed_is_not_authentic() {
    // The builder's pages are made up, and these keys are whole.
    let disk = store_with(SMALL, &keys(None));
    let found = check(&disk, &with_keys()).unwrap();
    assert_eq!(codes(&found), ["OF-0518"], "{found}");
    assert!(report(&disk).is_clean());
}

#[test]
fn a_link_to_another_key_than_its_epoch_is_found() {
    for epoch in [2, 3, 4, 5] {
        let disk = store_with(SMALL, &keys(Some(KeyEpoch(epoch))));
        let found = check(&disk, &with_keys()).unwrap();
        assert!(codes(&found).contains(&"OF-0703"), "{epoch}: {found}");
    }
}

#[test]
fn a_head_whose_key_does_not_open_or_is_gone_is_found() {
    // As the builder writes them, no head's key opens.
    let found = check(&store(), &with_keys()).unwrap();
    assert_eq!(codes(&found), ["OF-0702"], "{found}");
    let (region, _) = super::engine::written(1 << 20);
    let heads = inspect::lineage(&region.written(), None).unwrap().heads;
    let keys = inspect::keys(&region.written(), None).unwrap().heads;
    let ids: Vec<_> = keys
        .iter()
        .zip(&heads)
        .map(|(key, head)| (key.head_key, head.resource_id))
        .collect();
    let slots = inspect::superblocks(&region.written()).unwrap();
    let store_id = slots.iter().find_map(|slot| match &slot.state {
        SuperblockState::Whole(superblock) => Some(superblock.store_id),
        _ => None,
    });
    region
        .kms
        .destroy_head_keys(store_id.unwrap(), &ids)
        .unwrap();
    let kms = Arc::new(region.kms.clone());
    let found = check(
        &region.written(),
        &CheckOptions::new().kms(kms).open_pages(),
    )
    .unwrap();
    assert_eq!(codes(&found), ["OF-0701"], "{found}");
}
