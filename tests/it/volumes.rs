use offshoot::{ExtentKind, FileKms, KeyId, Options, Store};
use tempfile::TempDir;

const PAGE: u64 = 4096;

struct Fixture {
    dir: TempDir,
    kms: FileKms,
    key: KeyId,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kms = FileKms::create(&dir.path().join("kms"), "local").unwrap();
        kms.create_key(Some("alias/offshoot-store")).unwrap();
        let key = kms.create_key(Some("alias/default")).unwrap().id;
        Self { dir, kms, key }
    }

    fn options() -> Options {
        Options::new().segment_len(1 << 20)
    }

    fn create(&self) -> Store {
        Self::options()
            .create(self.dir.path().join("store"), self.kms.clone())
            .unwrap()
    }

    fn open(&self) -> Store {
        Self::options()
            .open(self.dir.path().join("store"), self.kms.clone())
            .unwrap()
    }
}

fn page(byte: u8) -> Vec<u8> {
    vec![byte; PAGE as usize]
}

fn read(volume: &offshoot::Volume, page: u64) -> u8 {
    let mut bytes = vec![0xEE; PAGE as usize];
    volume.read_exact_at(&mut bytes, page * PAGE).unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    bytes[0]
}

#[test]
fn four_pages_are_shared_until_either_side_writes() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = store.create_volume("a", 4 * PAGE, &fixture.key).unwrap();
    for number in 0..4 {
        a.write_all_at(&page(number + 1), u64::from(number) * PAGE)
            .unwrap();
    }
    let b = a.create_clone("b", &fixture.key).unwrap();
    a.write_all_at(&page(0x1A), 0).unwrap();
    b.write_all_at(&page(0x4B), 3 * PAGE).unwrap();
    let pages = |volume: &offshoot::Volume| (0..4).map(|n| read(volume, n)).collect::<Vec<_>>();
    assert_eq!(pages(&a), [0x1A, 2, 3, 4]);
    assert_eq!(pages(&b), [1, 2, 3, 0x4B]);
    drop((a, b));
    store.close().unwrap();
    let store = fixture.open();
    let (a, b) = (store.volume("A").unwrap(), store.volume("b").unwrap());
    assert_eq!(pages(&a), [0x1A, 2, 3, 4]);
    assert_eq!(pages(&b), [1, 2, 3, 0x4B]);
    let depths: Vec<_> = b
        .extents(0..4 * PAGE)
        .unwrap()
        .map(|e| e.unwrap().depth)
        .collect();
    assert_eq!(depths, [2, 1]);
    a.delete().unwrap();
    drop((b, store));
    let store = fixture.open();
    assert_eq!(pages(&store.volume("b").unwrap()), [1, 2, 3, 0x4B]);
    assert!(store.volume("a").is_err());
}

#[test]
fn any_offset_and_length_can_be_written() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let len = 3 << 20;
    let volume = store.create_volume("v", len, &fixture.key).unwrap();
    let mut model = vec![0u8; len as usize];
    let mut seed = 1u64;
    for step in 0..200u32 {
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let offset = next(len);
        let count = next(len - offset).min(next(2 << 20)) as usize;
        let range = offset as usize..offset as usize + count;
        match next(4) {
            0 => {
                volume.discard(offset..offset + count as u64).unwrap();
                model[range].fill(0);
            }
            1 => {
                volume.write_zeroes(offset..offset + count as u64).unwrap();
                model[range].fill(0);
            }
            _ => {
                let bytes = vec![step as u8 | 1; count];
                volume.write_all_at(&bytes, offset).unwrap();
                model[range].copy_from_slice(&bytes);
            }
        }
    }
    let mut bytes = vec![0; len as usize];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == model);
    volume.flush().unwrap();
    drop((volume, store));
    let store = fixture.open();
    let volume = store.volume("v").unwrap();
    let mut bytes = vec![0; len as usize];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == model);
    let extents: Vec<_> = volume
        .extents(0..len)
        .unwrap()
        .map(|e| e.unwrap())
        .collect();
    assert!(extents.iter().any(|extent| extent.kind == ExtentKind::Zero));
}
