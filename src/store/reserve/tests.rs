use std::collections::BTreeSet;

use crate::file_kms::FileKms;
use crate::store::{Options, Store};
use crate::sync::Arc;
use crate::units::KeyId;

fn store() -> (tempfile::TempDir, Store, KeyId) {
    let dir = tempfile::tempdir().unwrap();
    let kms = FileKms::create(&dir.path().join("kms"), "local").unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let options = Options::new().fanout(3).workers(0);
    let store = options.create(dir.path().join("store"), kms).unwrap();
    (dir, store, key)
}

/// What is noted of nodes is an upper bound; if it only grew, each some thousand changes all nodes would be counted.
#[test]
fn nodes_that_a_change_replaces_do_not_count_as_unwritten() {
    let (_dir, store, key) = store();
    let volume = store.create_volume("v", 1 << 20, &key).unwrap();
    volume.write_all_at(&[1; 32 * 4096], 0).unwrap();
    store.0.set_reserve_to_need().unwrap();
    let nodes = || store.0.commit.lock().credit.nodes.unwrap();
    let before = nodes();
    assert!(before > 10);
    for byte in 0..100 {
        volume.write_all_at(&[byte; 4096], 5 * 4096).unwrap();
    }
    volume.write_many(&[(0, &[1]), (4096, &[2])]).unwrap();
    assert_eq!(nodes(), before);
}

/// Copies of a node and all references in it cost more than all else of a small write.
#[test]
fn a_page_is_set_in_place_where_its_nodes_are_in_memory_and_nobody_elses() {
    let (_dir, store, key) = store();
    let volume = store.create_volume("v", 1 << 20, &key).unwrap();
    volume.write_all_at(&[1; 32 * 4096], 0).unwrap();
    let nodes = || -> BTreeSet<usize> {
        let head = store.0.head_of(&volume.runtime).unwrap();
        let nodes = head.tree.unwritten();
        nodes.iter().map(|node| Arc::as_ptr(node).addr()).collect()
    };
    let before = nodes();
    assert!(before.len() > 10);
    volume.write_all_at(&[2; 4096], 5 * 4096).unwrap();
    volume
        .write_many(&[(0, &[1]), (9 * 4096, &[2; 8192])])
        .unwrap();
    assert_eq!(nodes(), before);
    let snapshot = volume.create_snapshot("s").unwrap();
    volume.write_all_at(&[3; 4096], 5 * 4096).unwrap();
    let after = nodes();
    assert!(after != before && after.intersection(&before).count() > 5);
    let mut page = [0; 4096];
    snapshot.read_exact_at(&mut page, 5 * 4096).unwrap();
    assert_eq!(page, [2; 4096]);
    volume.read_exact_at(&mut page, 5 * 4096).unwrap();
    assert_eq!(page, [3; 4096]);
}
