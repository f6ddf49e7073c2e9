use crate::file_kms::FileKms;
use crate::store::Options;

#[test]
fn what_a_checkpoint_begins_after_does_not_change_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let kms = FileKms::create(&dir.path().join("kms"), "local").unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let options = Options::new().segment_len(1 << 20).workers(0);
    let store = options.create(dir.path().join("store"), kms).unwrap();
    let volume = store.create_volume("v", 1 << 20, &key).unwrap();
    volume.write_all_at(&[1; 4096], 0).unwrap();
    let batch = store.0.commit.lock().log.position().seq;
    volume.write_all_at(&[2; 4096], 4096).unwrap();
    let same = store.0.commit.lock().log.position().seq;
    assert_eq!(same, batch, "small changes share a batch");
    let (moment, _) = store.0.moment();
    assert_eq!(moment.position.seq, batch);
    volume.write_all_at(&[3; 4096], 8192).unwrap();
    let position = store.0.commit.lock().log.position();
    assert!(
        position.seq > batch,
        "the checkpoint names that batch's chain value"
    );
}
