//! Looking pages up, however they are spread, against a map.

use std::collections::BTreeMap;

use proptest::collection::btree_set;
use proptest::prelude::{any, prop_oneof, proptest};

use super::{EPOCH, Memory, entry};
use crate::btree::{Fanout, Tree};
use crate::units::PageNo;

/// Compares what a tree says of each page, and of the pages around each, with the map.
fn check(source: &Memory, tree: &Tree, model: &BTreeMap<PageNo, u32>) {
    let around = |page: &PageNo| [page.0.wrapping_sub(1), page.0, page.0.wrapping_add(1)];
    let ends = [0, 1, u64::MAX / 2, u64::MAX];
    for page in model.keys().flat_map(around).chain(ends).map(PageNo) {
        let found = tree.get(source, page).unwrap();
        let expected = model.get(&page).map(|&number| entry(number, EPOCH));
        assert_eq!(found, expected, "page {page}");
    }
}

proptest! {
    #[test]
    fn a_page_is_found_however_pages_are_spread(
        dense in btree_set(0_u64..200, 0..200),
        skewed in btree_set(prop_oneof![0_u64..300, any::<u64>(), u64::MAX - 9..=u64::MAX], 0..200),
        fanout in prop_oneof![3_usize..10, 78_usize..=78],
    ) {
        for pages in [dense, skewed] {
            let source = Memory::default();
            let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
            for (number, page) in (1..).zip(pages) {
                let page = PageNo(page);
                model.insert(page, number);
                tree.set(&source, Fanout::new(fanout), EPOCH, page, entry(number, EPOCH)).unwrap();
            }
            check(&source, &tree, &model);
            check(&source, &source.reload(&tree), &model);
        }
    }
}
