use super::{Extent, ExtentKind, Extents, PageLocks, inner_pages, outer_pages, pieces};
use crate::format::entry::Entry;
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::units::{KeyEpoch, PageNo};

#[test]
fn pieces_cover_a_range_exactly() {
    for (offset, len) in [
        (0, 0),
        (0, 4096),
        (1, 4096),
        (4095, 2),
        (8191, 12289),
        (5, 10),
    ] {
        let mut next = 0;
        for piece in pieces(offset, len, 4096) {
            assert_eq!(piece.in_range.start, next);
            assert_eq!(piece.in_page.len(), piece.in_range.len());
            assert_eq!(
                piece.page.0 * 4096 + piece.in_page.start as u64,
                offset + next as u64
            );
            assert!(piece.in_page.end <= 4096 && !piece.in_page.is_empty());
            next = piece.in_range.end;
        }
        assert_eq!(next, len);
    }
}

#[test]
fn inner_pages_are_covered_and_outer_pages_touched() {
    assert_eq!(inner_pages(&(1..4097), 4096), PageNo(1)..PageNo(1));
    assert_eq!(outer_pages(&(1..4097), 4096), PageNo(0)..PageNo(2));
    assert_eq!(inner_pages(&(4096..12288), 4096), PageNo(1)..PageNo(3));
    assert_eq!(inner_pages(&(10..20), 4096), PageNo(1)..PageNo(1));
}

#[test]
fn an_empty_range_touches_no_page_wherever_it_lies() {
    for at in [0, 1, 4095, 4096, 5000, u64::MAX] {
        assert!(outer_pages(&(at..at), 4096).is_empty(), "at {at}");
        assert!(inner_pages(&(at..at), 4096).is_empty(), "at {at}");
    }
}

#[test]
fn extents_merge_equal_neighbours_and_leave_no_gap() {
    let zero = |epoch| Entry::Zero {
        key_epoch: KeyEpoch(epoch),
    };
    let mapped = [(1, zero(1)), (2, zero(1)), (3, zero(2)), (7, zero(1))];
    let pages = mapped.map(|(page, entry)| Ok((PageNo(page), entry)));
    let extents = Extents::new(100..9 * 4096, 4096, pages.into_iter(), |epoch| epoch.0);
    let extents: Vec<Extent> = extents.map(|extent| extent.expect("no source")).collect();
    let mut next = 100;
    for extent in &extents {
        assert_eq!(extent.offset, next);
        next += extent.len;
    }
    assert_eq!(next, 9 * 4096);
    let kinds: Vec<_> = extents
        .iter()
        .map(|extent| (extent.kind, extent.depth))
        .collect();
    let (hole, zero) = (ExtentKind::Hole, ExtentKind::Zero);
    assert_eq!(
        kinds,
        [
            (hole, 0),
            (zero, 1),
            (zero, 2),
            (hole, 0),
            (zero, 1),
            (hole, 0)
        ]
    );
}

#[test]
fn overlapping_changes_take_turns_and_others_do_not() {
    let locks = Arc::new(PageLocks::default());
    let held = locks.lock(PageNo(2)..PageNo(4));
    drop(locks.lock(PageNo(4)..PageNo(6)));
    let entered = Arc::new(AtomicBool::new(false));
    let waiter = {
        let (locks, entered) = (locks.clone(), entered.clone());
        std::thread::spawn(move || {
            let _held = locks.lock(PageNo(3)..PageNo(5));
            entered.store(true, Ordering::SeqCst);
        })
    };
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!entered.load(Ordering::SeqCst));
    drop(held);
    waiter.join().expect("the waiter ends");
    assert!(entered.load(Ordering::SeqCst));
}
