use crate::file_kms::FileKms;
use crate::store::Options;

/// What is noted of nodes is an upper bound; if it only grew, each some thousand changes all nodes would be counted.
#[test]
fn nodes_that_a_change_replaces_do_not_count_as_unwritten() {
    let dir = tempfile::tempdir().unwrap();
    let kms = FileKms::create(&dir.path().join("kms"), "local").unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let options = Options::new().fanout(3).workers(0);
    let store = options.create(dir.path().join("store"), kms).unwrap();
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
