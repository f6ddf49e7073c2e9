use super::*;
use crate::io::sim::SimRandom;
use crate::segment::crew::Crew;
use crate::units::SegmentId;

const SALT: Salt = [7; 12];

fn key(id: u8) -> EpochKey {
    let secret = Secret::random(&SimRandom::new(1));
    EpochKey::new(KeyEpoch(id.into()), [id; 16], secret)
}

/// The tables authenticate which page an entry is of, so nobody gets this far without the store key. If somebody does,
/// the tag still tells. Planted, a page that was not bound to its number was caught by no other test.
#[test]
fn a_page_opens_only_as_the_page_of_the_epoch_that_it_was_sealed_as() {
    let (page, plain) = (PageNo(5), vec![9; 4096]);
    let mut sealed = plain.clone();
    let crew = Crew::new(0).unwrap();
    let sealer = Sealer::new(&key(1).page, SALT);
    let pages = seal_pages(
        &sealer,
        &key(1).random_id,
        &[page],
        &mut sealed,
        &SimRandom::new(2),
        &crew.join(plain.len()),
    );
    let at = SlotAddr {
        segment: SegmentId(1),
        slot: 1,
    };
    let entry = pages.unwrap()[0].entry(KeyEpoch(1), at);
    let open = |key: &EpochKey, salt: Salt, page: PageNo, entry: &DataEntry| {
        let mut bytes = sealed.clone();
        let opened = PageOpener::new(key, salt).open(page, entry, &mut bytes);
        opened.map(|()| bytes)
    };
    assert_eq!(open(&key(1), SALT, page, &entry), Ok(plain));
    let refused = Err(Damage::BadTag);
    assert_eq!(open(&key(1), SALT, PageNo(6), &entry), refused, "a page");
    assert_eq!(open(&key(2), SALT, page, &entry), refused, "an epoch");
    assert_eq!(open(&key(1), [8; 12], page, &entry), refused, "a salt");
    let mut other = entry;
    other.nonce[11] ^= 1;
    assert_eq!(open(&key(1), SALT, page, &other), refused, "a nonce");
}
