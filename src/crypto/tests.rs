use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::collection::vec;
use proptest::prelude::{any, prop_oneof, proptest};

use super::cipher::{Aes256Gcm, PageCipher, PageGcm, subkey};
use super::key::expand;
use super::nonce::SEALS_MAX;
use super::*;
use crate::error::Damage;
use crate::source::Random;
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, buf: &mut [u8]) {
        let seed = self.0.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(buf);
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

/// Every backend that was built, with a key.
fn backends(key: &Secret) -> Vec<Box<dyn PageCipher>> {
    vec![
        Box::new(Aes256Gcm::new(key)),
        #[cfg(feature = "aws-lc-rs")]
        Box::new(super::aws_lc::AwsLcGcm::new(key)),
    ]
}

fn check_gcm(key: &str, nonce: &str, aad: &str, plain: &str, sealed: &str, tag: &str) {
    let (nonce, aad, tag) = (array(nonce), bytes(aad), array::<16>(tag));
    for cipher in backends(&Secret::from_bytes(array(key))) {
        let mut buf = bytes(plain);
        assert_eq!(cipher.seal(&nonce, &aad, &mut buf), tag);
        assert_eq!(buf, bytes(sealed));
        cipher.open(&nonce, &aad, &mut buf, &tag).unwrap();
        assert_eq!(buf, bytes(plain));
    }
}

#[test]
fn aes_256_gcm_gives_the_vectors_of_nist() {
    let (zero_key, zero_nonce) = ("00".repeat(32), "00".repeat(12));
    check_gcm(
        &zero_key,
        &zero_nonce,
        "",
        "",
        "",
        "530f8afbc74536b9a963b4f1c4cb738b",
    );
    let sealed = "cea7403d4d606b6e074ec5d3baf39d18";
    let tag = "d0d1c8a799996bf0265b98b5d48ab919";
    check_gcm(&zero_key, &zero_nonce, "", &"00".repeat(16), sealed, tag);
    check_gcm(
        &"feffe9928665731c6d6a8f9467308308".repeat(2),
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b",
    );
}

/// What one backend seals, another opens; with any other bit anywhere both refuse it.
fn check_pair(
    sealer: &dyn PageCipher,
    opener: &dyn PageCipher,
    (nonce, aad, plain): (&[u8; 12], &[u8], &[u8]),
    bit: usize,
) {
    let mut sealed = plain.to_vec();
    let tag = sealer.seal(nonce, aad, &mut sealed);
    let whole = [&nonce[..], &tag, aad, &sealed].concat();
    let open = |whole: &[u8]| {
        let (nonce, rest) = whole.split_first_chunk().unwrap();
        let (tag, rest) = rest.split_first_chunk().unwrap();
        let (aad, sealed) = rest.split_at(aad.len());
        let mut buf = sealed.to_vec();
        opener.open(nonce, aad, &mut buf, tag).map(|()| buf)
    };
    assert_eq!(open(&whole).unwrap(), plain);
    let mut bad = whole;
    let bit = bit % (bad.len() * 8);
    bad[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(open(&bad), Err(Damage::BadTag), "bit {bit}");
}

proptest! {
    #[test]
    fn each_backend_opens_what_the_other_sealed_and_nothing_else(
        key: [u8; 32],
        nonce: [u8; 12],
        aad in vec(any::<u8>(), 0..64),
        plain in prop_oneof![vec(any::<u8>(), 0..300), vec(any::<u8>(), 4096..=4096)],
        bit: usize,
    ) {
        let backends = backends(&Secret::from_bytes(key));
        for sealer in &backends {
            for opener in &backends {
                check_pair(&**sealer, &**opener, (&nonce, &aad, &plain), bit);
            }
        }
    }
}

#[test]
fn a_cipher_prints_nothing_of_its_key() {
    let secret = Secret::from_bytes([7; 32]);
    assert_eq!(format!("{:?}", Aes256Gcm::new(&secret)), "Aes256Gcm(..)");
    let page = format!("{:?}", PageGcm::new(&secret));
    assert!(page.ends_with("Gcm(..)"), "{page}");
}

#[test]
fn xaes_256_gcm_gives_the_vectors_of_c2sp() {
    let cases = [
        (
            0x01,
            "",
            "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
        ),
        (
            0x03,
            "c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ];
    for (key, aad, sealed) in cases {
        let derived = subkey(&Secret::from_bytes([key; 32]), b"ABCDEFGHIJKL");
        for cipher in backends(&derived) {
            let mut buf = *b"XAES-256-GCM";
            let tag = cipher.seal(b"MNOPQRSTUVWX", aad.as_bytes(), &mut buf);
            assert_eq!([&buf[..], &tag].concat(), bytes(sealed));
        }
    }
}

#[test]
fn hkdf_gives_the_vector_of_its_rfc() {
    let mut out = [0; 42];
    expand(&[0x0b; 22], b"", &mut out);
    let expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d
                    9d201395faa4b61a96c8";
    assert_eq!(out[..], bytes(expected));
}

#[test]
fn blake3_gives_its_vectors() {
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(hash(b"")[..], bytes(empty));
    let zero = "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213";
    assert_eq!(hash(&[0])[..], bytes(zero));
    let key = Secret::from_bytes(*b"whats the Elvish word for friend");
    let empty = "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26";
    assert_eq!(keyed_hash(&key, &[])[..], bytes(empty));
    let zero = "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b";
    assert_eq!(keyed_hash(&key, &[0])[..], bytes(zero));
}

#[test]
fn keys_separate_by_label() {
    let secret = Secret::from_bytes([7; 32]);
    let labels = [
        Label::Page,
        Label::Wrap,
        Label::Commit,
        Label::Log,
        Label::Superblock,
    ];
    let keys: HashSet<_> = labels
        .iter()
        .map(|&label| *secret.derive(label).expose())
        .collect();
    assert_eq!(keys.len(), labels.len());
    assert!(!keys.contains(secret.expose()));
    assert_eq!(secret.commitment(), *secret.derive(Label::Commit).expose());
    let mut expected = [0; 32];
    expand(&[7; 32], b"offshoot v0 page", &mut expected);
    assert_eq!(*secret.derive(Label::Page).expose(), expected);
}

#[test]
fn a_secret_prints_nothing_and_copies_on_request() {
    let random = Counted::default();
    let secret = Secret::random(&random);
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    assert_eq!(secret.duplicate().expose(), secret.expose());
    assert_ne!(Secret::random(&random).expose(), secret.expose());
}

#[test]
fn no_flipped_bit_of_a_wrapped_key_is_accepted() {
    let random = Counted::default();
    let (kek, secret) = (Secret::random(&random), Secret::random(&random));
    let aad = *b"store, head";
    let wrapped = wrap(&kek, &secret, &aad, &random);
    assert_eq!(
        unwrap(&kek, &wrapped, &aad).unwrap().expose(),
        secret.expose()
    );
    assert_ne!(wrap(&kek, &secret, &aad, &random), wrapped);
    for bit in 0..WRAPPED_LEN * 8 {
        let mut bad = wrapped;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            unwrap(&kek, &bad, &aad).err(),
            Some(Damage::BadTag),
            "bit {bit}"
        );
    }
    for bit in 0..aad.len() * 8 {
        let mut bad = aad;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            unwrap(&kek, &wrapped, &bad).err(),
            Some(Damage::BadTag),
            "bit {bit}"
        );
    }
    assert_eq!(unwrap(&secret, &wrapped, &aad).err(), Some(Damage::BadTag));
}

#[test]
fn no_flipped_bit_of_a_page_is_accepted() {
    let random = Counted::default();
    let page_key = Secret::random(&random);
    let sealer = Sealer::new(&page_key, [9; 12]);
    let range = sealer.reserve(1, &random).unwrap();
    let plain = [5; 64];
    let (mut buf, aad) = (plain.to_vec(), *b"page 12");
    let (nonce, tag) = sealer.seal(&range, 0, &aad, &mut buf);
    let whole = [&buf[..], &tag, &nonce, &aad].concat();
    let opener = Opener::new(&page_key, sealer.salt());
    let open = |whole: &[u8]| {
        let mut buf = whole[..64].to_vec();
        let (tag, nonce) = (
            whole[64..80].try_into().unwrap(),
            whole[80..92].try_into().unwrap(),
        );
        opener
            .open(&nonce, &whole[92..], &mut buf, &tag)
            .map(|()| buf)
    };
    assert_eq!(open(&whole).unwrap(), plain);
    for bit in 0..whole.len() * 8 {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&bad), Err(Damage::BadTag), "bit {bit}");
    }
    let mut other = Opener::new(&page_key, [8; 12]).open(&nonce, &aad, &mut buf, &tag);
    assert_eq!(other, Err(Damage::BadTag));
    other = Opener::new(&Secret::random(&random), [9; 12]).open(&nonce, &aad, &mut buf, &tag);
    assert_eq!(other, Err(Damage::BadTag));
}

#[test]
fn nonces_never_repeat_across_threads() {
    let random = Counted::default();
    let sealer = Sealer::new(&Secret::random(&random), [1; 12]);
    let work = || {
        let mut nonces = Vec::new();
        for count in 1..80 {
            let range = sealer.reserve(count, &random).unwrap();
            nonces.extend((0..range.count).map(|at| sealer.seal(&range, at, b"", &mut [0]).0));
        }
        nonces
    };
    let nonces: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let counters: HashSet<_> = nonces.iter().map(|nonce| nonce[8..].to_vec()).collect();
    assert_eq!(nonces.len(), 4 * 79 * 80 / 2);
    assert_eq!(counters.len(), nonces.len(), "a counter repeats");
    let prefixes: HashSet<_> = nonces.iter().map(|nonce| nonce[..8].to_vec()).collect();
    assert_eq!(
        prefixes.len(),
        4 * 79,
        "a batch has no random bytes of its own"
    );
}

#[test]
fn an_index_seals_once_and_only_inside_its_range() {
    let random = Counted::default();
    let page_key = Secret::random(&random);
    let sealer = Sealer::new(&page_key, [1; 12]);
    let range = sealer.reserve(70, &random).unwrap();
    let seal = |sealer: &Sealer, index| {
        let call = || sealer.seal(&range, index, b"", &mut [0]);
        catch_unwind(AssertUnwindSafe(call)).is_ok()
    };
    assert!(seal(&sealer, 69));
    assert!(!seal(&sealer, 69), "sealed twice");
    assert!(!seal(&sealer, 70), "outside the range");
    assert!(
        !seal(&Sealer::new(&page_key, [2; 12]), 0),
        "another sealer's range"
    );
    assert!(seal(&sealer, 0));
}

#[test]
fn a_subkey_ends_at_its_bound() {
    let random = Counted::default();
    let sealer = Sealer::new(&Secret::random(&random), [1; 12]);
    for _ in 1..128 {
        assert!(sealer.reserve(SEALS_MAX / 128, &random).is_some());
    }
    assert!(sealer.reserve(SEALS_MAX / 128 - 1, &random).is_some());
    assert!(sealer.reserve(2, &random).is_none());
    assert!(sealer.reserve(u32::MAX, &random).is_none());
    assert!(sealer.reserve(1, &random).is_some());
    assert!(sealer.reserve(1, &random).is_none());
    assert_eq!(sealer.reserve(0, &random).map(|range| range.count), Some(0));
}

#[test]
fn key_schedules_are_wiped_when_dropped() {
    fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
    is_wiped::<aes::Aes256>();
    is_wiped::<aes_gcm::Aes256Gcm>();
}
