use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::io::AlignedBuf;

fn disk() -> (tempfile::TempDir, RealDisk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::create(&dir.path().join("a/b/store")).unwrap();
    (dir, disk)
}

fn path(disk: &RealDisk, name: &str) -> PathBuf {
    disk.path.join(name)
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("this must fail").kind()
}

#[test]
fn a_directory_is_private_and_can_be_created_again() {
    let (_dir, disk) = disk();
    let mode = fs::metadata(&disk.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    disk.create("f", 1).unwrap();
    let again = RealDisk::create(&disk.path).unwrap();
    assert_eq!(again.list().unwrap(), ["f"]);
}

#[test]
fn only_a_directory_can_be_opened_as_a_disk() {
    let (dir, disk) = disk();
    disk.create("f", 1).unwrap();
    assert_eq!(
        kind(RealDisk::open(&path(&disk, "f"))),
        ErrorKind::NotADirectory
    );
    assert_eq!(
        kind(RealDisk::create(&path(&disk, "f"))),
        ErrorKind::NotADirectory
    );
    assert_eq!(
        kind(RealDisk::open(&dir.path().join("none"))),
        ErrorKind::NotFound
    );
}

#[test]
fn a_created_file_is_private_zeroed_and_allocated() {
    let (_dir, disk) = disk();
    let file = disk.create("f", 100_000).unwrap();
    assert_eq!(file.len().unwrap(), 100_000);
    let mut buf = vec![1; 100_000];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert!(buf.iter().all(|&byte| byte == 0));
    let meta = fs::metadata(path(&disk, "f")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert!(meta.blocks() * 512 >= 100_000);
    assert_eq!(kind(disk.create("f", 1)), ErrorKind::AlreadyExists);
}

#[test]
fn a_file_too_large_is_refused_and_leaves_no_name() {
    let (_dir, disk) = disk();
    assert_eq!(kind(disk.create("f", u64::MAX)), ErrorKind::FileTooLarge);
    assert!(disk.create("f", i64::MAX as u64).is_err());
    assert!(disk.list().unwrap().is_empty());
}

#[test]
fn zeroes_are_written_where_space_cannot_be_allocated() {
    let file = tempfile::tempfile().unwrap();
    write_zeroes(&file, (1 << 20) + 3).unwrap();
    assert_eq!(file.metadata().unwrap().len(), (1 << 20) + 3);
}

#[test]
fn what_is_written_is_read_and_mapped() {
    let (_dir, disk) = disk();
    let file = disk.create("f", 4096).unwrap();
    let map = file.map().unwrap();
    file.write_all_at(b"hello", 4000).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    let mut buf = [0; 5];
    map.copy_out(&mut buf, 4000).unwrap();
    assert_eq!(&buf, b"hello");
    let file = disk.open("f", Access::Read).unwrap();
    file.read_exact_at(&mut buf, 4000).unwrap();
    assert_eq!(&buf, b"hello");
    assert_eq!(
        kind(file.read_exact_at(&mut buf, 4092)),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(kind(map.copy_out(&mut buf, 4092)), ErrorKind::UnexpectedEof);
    assert!(file.write_all_at(b"x", 0).is_err());
}

#[test]
fn links_directories_and_pipes_are_refused_as_files() {
    let (_dir, disk) = disk();
    disk.create("f", 1).unwrap();
    symlink("f", path(&disk, "link")).unwrap();
    fs::create_dir(path(&disk, "dir")).unwrap();
    rustix::fs::mkfifoat(&disk.dir, "pipe", FILE_MODE).unwrap();
    for name in ["link", "dir", "pipe"] {
        for access in [Access::Read, Access::ReadWrite] {
            assert_eq!(
                kind(disk.open(name, access)),
                ErrorKind::InvalidInput,
                "{name}"
            );
        }
        assert_eq!(
            kind(disk.lock(name, Lock::Exclusive)),
            ErrorKind::InvalidInput,
            "{name}"
        );
    }
    fs::hard_link(path(&disk, "f"), path(&disk, "second")).unwrap();
    assert_eq!(kind(disk.open("f", Access::Read)), ErrorKind::InvalidInput);
    assert_eq!(disk.list().unwrap(), ["f", "link", "pipe", "second"]);
}

#[test]
fn a_name_must_be_a_single_component() {
    let (_dir, disk) = disk();
    let long = "x".repeat(256);
    for name in ["", ".", "..", "../x", "/x", "a/b", "a\0b", &long] {
        assert_eq!(
            kind(disk.create(name, 1)),
            ErrorKind::InvalidInput,
            "{name}"
        );
        assert_eq!(
            kind(disk.open(name, Access::Read)),
            ErrorKind::InvalidInput,
            "{name}"
        );
        assert_eq!(
            kind(disk.rename(name, "y")),
            ErrorKind::InvalidInput,
            "{name}"
        );
        assert_eq!(
            kind(disk.rename("y", name)),
            ErrorKind::InvalidInput,
            "{name}"
        );
        assert_eq!(kind(disk.remove(name)), ErrorKind::InvalidInput, "{name}");
        assert_eq!(
            kind(disk.lock(name, Lock::Shared)),
            ErrorKind::InvalidInput,
            "{name}"
        );
        assert_eq!(disk.lock_owner(name), None);
    }
}

#[test]
fn files_are_renamed_over_others_and_removed() {
    let (_dir, disk) = disk();
    disk.create("a", 1).unwrap();
    disk.create("b", 2).unwrap();
    disk.rename("a", "b").unwrap();
    assert_eq!(disk.list().unwrap(), ["b"]);
    assert_eq!(disk.open("b", Access::Read).unwrap().len().unwrap(), 1);
    disk.remove("b").unwrap();
    assert_eq!(kind(disk.remove("b")), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("b", "c")), ErrorKind::NotFound);
}

#[test]
fn a_lock_shuts_others_out_until_it_is_dropped() {
    let (_dir, disk) = disk();
    let other = RealDisk::open(&disk.path).unwrap();
    let first = disk.lock("lock", Lock::Exclusive).unwrap();
    assert_eq!(
        kind(other.lock("lock", Lock::Exclusive)),
        ErrorKind::WouldBlock
    );
    assert_eq!(
        kind(other.lock("lock", Lock::Shared)),
        ErrorKind::WouldBlock
    );
    assert_eq!(other.lock_owner("lock"), Some(std::process::id()));
    drop(first);
    let shared = disk.lock("lock", Lock::Shared).unwrap();
    let _also = other.lock("lock", Lock::Shared).unwrap();
    assert_eq!(
        kind(other.lock("lock", Lock::Exclusive)),
        ErrorKind::WouldBlock
    );
    // The former owner is not blamed.
    assert_eq!(other.lock_owner("lock"), None);
    drop(shared);
}

/// As a child has the file open between its `fork` and its `exec`.
#[test]
fn a_lock_ends_with_its_guard_whoever_else_has_its_file_open() {
    let (_dir, disk) = disk();
    let taken = disk.take("lock", Lock::Exclusive).unwrap();
    let inherited = taken.file.as_ref().unwrap().try_clone().unwrap();
    drop(taken);
    disk.lock("lock", Lock::Exclusive).unwrap();
    drop(inherited);
}

#[test]
fn a_shared_lock_makes_its_file_where_it_can() {
    let (_dir, disk) = disk();
    let _lock = disk.lock("lock", Lock::Shared).unwrap();
    assert_eq!(disk.list().unwrap(), ["lock"]);
    let error = |number| io::Error::from_raw_os_error(number);
    assert!(cannot_write(&error(Errno::ROFS.raw_os_error())));
    assert!(cannot_write(&error(Errno::ACCESS.raw_os_error())));
    assert!(!cannot_write(&error(Errno::NOSPC.raw_os_error())));
}

#[test]
fn free_space_clock_and_randomness_are_there() {
    let (_dir, disk) = disk();
    assert!(disk.free_len().unwrap() > 0);
    assert!(disk.describe().ends_with("a/b/store"));
    assert!(SystemClock.now_ms() > 1_700_000_000_000);
    let (mut first, mut second) = ([0; 32], [0; 32]);
    SystemRandom.fill(&mut first);
    SystemRandom.fill(&mut second);
    assert_ne!(first, second);
}

#[test]
fn room_is_kept_behind_the_end_and_the_length_stays() {
    let (dir, disk) = disk();
    let file = disk.create("f", 0).unwrap();
    file.write_all_at(b"a line", 0).unwrap();
    file.keep_room(200 << 10).unwrap();
    assert_eq!(file.len().unwrap(), 6);
    let stat = rustix::fs::stat(dir.path().join("a/b/store/f")).unwrap();
    assert!(stat.st_blocks as u64 * 512 >= 200 << 10, "{stat:?}");
    file.write_all_at(&[7; 300], 6).unwrap();
    file.keep_room(100).unwrap();
    assert_eq!(file.len().unwrap(), 306);
    let read_only = disk.open("f", Access::Read).unwrap();
    assert!(read_only.keep_room(1 << 20).is_err());
}

#[test]
fn a_hole_gives_space_back_and_keeps_the_length_and_the_map() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::create(&dir.path().join("d")).unwrap();
    let len = 1 << 20;
    let file = disk.create("f", len).unwrap();
    let map = file.map().unwrap();
    file.write_all_at(&vec![7; len as usize], 0).unwrap();
    assert_eq!(disk.allocated_len("f").unwrap(), len);
    match file.punch(64 << 10, 512 << 10) {
        // Not every file system can.
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        punched => punched.unwrap(),
    }
    assert_eq!(file.len().unwrap(), len);
    assert!(disk.allocated_len("f").unwrap() <= len - (500 << 10));
    let mut bytes = vec![1; len as usize];
    map.copy_out(&mut bytes, 0).unwrap();
    assert!(bytes[64 << 10..576 << 10].iter().all(|&byte| byte == 0));
    assert!(bytes[..64 << 10].iter().all(|&byte| byte == 7));
    assert!(bytes[576 << 10..].iter().all(|&byte| byte == 7));
    match file.fill_holes(2 * len) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        filled => {
            filled.unwrap();
            assert_eq!(file.len().unwrap(), 2 * len);
            assert_eq!(disk.allocated_len("f").unwrap(), 2 * len);
            let mut again = bytes.clone();
            file.read_exact_at(&mut again, 0).unwrap();
            assert!(again == bytes);
        }
    }
    let reader = disk.open("f", Access::Read).unwrap();
    assert!(reader.fill_holes(4 * len).is_err());
    assert_eq!(
        disk.allocated_len("none").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_bulk_write_shows_in_maps_and_other_handles_that_had_read_before() {
    // Not where temporary files are: those are often in memory.
    let dir = tempfile::tempdir_in(".").unwrap();
    let disk = RealDisk::create(&dir.path().join("d")).unwrap();
    let len = 1 << 20;
    let file = disk.create("f", len as u64).unwrap();
    let map = file.map().unwrap();
    let bulk = disk.open("f", Access::Bulk).unwrap();
    let (mut read, mut mapped) = (vec![1; len], vec![1; len]);
    for byte in 1..=3 {
        // All of it is in the page cache, and a part of it not written back.
        file.read_exact_at(&mut read, 0).unwrap();
        map.copy_out(&mut mapped, 0).unwrap();
        assert!(read == mapped);
        file.write_all_at(&vec![100 + byte; 300_000], 0).unwrap();
        let mut buf = AlignedBuf::zeroed(len / 2);
        buf.fill(byte);
        bulk.write_all_at(&buf, len as u64 / 4).unwrap();
        file.read_exact_at(&mut read, 0).unwrap();
        map.copy_out(&mut mapped, 0).unwrap();
        assert!(read == mapped);
        assert!(read[..len / 4].iter().all(|&found| found == 100 + byte));
        assert!(
            read[len / 4..3 * len / 4]
                .iter()
                .all(|&found| found == byte)
        );
        assert!(read[3 * len / 4..].iter().all(|&found| found == 0));
        file.sync().unwrap();
    }
}

#[test]
fn a_bulk_handle_can_be_had_where_the_file_system_knows_only_its_cache() {
    let dir = match tempfile::tempdir_in("/dev/shm") {
        Ok(dir) => dir,
        Err(_) => tempfile::tempdir().unwrap(),
    };
    let disk = RealDisk::create(&dir.path().join("d")).unwrap();
    let file = disk.create("f", 8192).unwrap();
    let bulk = disk.open("f", Access::Bulk).unwrap();
    let mut buf = AlignedBuf::zeroed(4096);
    buf.fill(3);
    bulk.write_all_at(&buf, 4096).unwrap();
    let mut read = vec![0; 8192];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read[..4096].iter().all(|&byte| byte == 0));
    assert!(read[4096..].iter().all(|&byte| byte == 3));
    assert_eq!(kind(disk.open("none", Access::Bulk)), ErrorKind::NotFound);
    crate::io::read_medium(&disk, "f", &mut read, 0).unwrap();
    assert!(read[..4096].iter().all(|&byte| byte == 0));
    assert!(read[4096..].iter().all(|&byte| byte == 3));
}

#[test]
fn the_medium_has_what_was_just_written() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let disk = RealDisk::create(&dir.path().join("d")).unwrap();
    let file = disk.create("f", 3 * 4096).unwrap();
    file.write_all_at(&[7; 2 * 4096], 4096).unwrap();
    let mut read = vec![1; 3 * 4096];
    crate::io::read_medium(&disk, "f", &mut read, 0).unwrap();
    assert!(read[..4096].iter().all(|&byte| byte == 0));
    assert!(read[4096..].iter().all(|&byte| byte == 7));
    let end = crate::io::read_medium(&disk, "f", &mut read[..8192], 2 * 4096);
    assert_eq!(kind(end), ErrorKind::UnexpectedEof);
    let medium = disk.open("f", Access::Medium).unwrap();
    assert!(medium.write_all_at(&AlignedBuf::zeroed(4096), 0).is_err());
}

/// On this directory's file system and one that knows only its cache, and at the end of a file in the middle of a block.
#[test]
fn bytes_are_looked_for_on_the_medium_wherever_they_lie() {
    for parent in [".", "/dev/shm"] {
        let Ok(dir) = tempfile::tempdir_in(parent) else {
            continue;
        };
        let disk = RealDisk::create(&dir.path().join("d")).unwrap();
        let bytes: Vec<u8> = (0..10_000).map(|at| (at / 7) as u8).collect();
        let file = disk.create("f", 0).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file.sync().unwrap();
        let is_there = |bytes: &[u8], offset: usize| {
            crate::io::is_on_medium(&disk, "f", bytes, offset as u64).unwrap()
        };
        for range in [
            0..10_000,
            0..1,
            4095..4097,
            4096..8192,
            8192..10_000,
            9_999..10_000,
        ] {
            let there = &bytes[range.clone()];
            assert!(is_there(there, range.start), "{parent}, {range:?}");
            let mut other = there.to_vec();
            *other.last_mut().unwrap() ^= 1;
            assert!(!is_there(&other, range.start), "{parent}, {range:?}");
        }
        assert!(
            !is_there(&[&bytes[8192..], &[0]].concat(), 8192),
            "{parent}"
        );
        assert!(!is_there(&[0], 20_000), "{parent}");
        assert_eq!(
            kind(crate::io::is_on_medium(&disk, "g", &[0], 0)),
            ErrorKind::NotFound
        );
        let mut buf = vec![0; 12_000];
        for (offset, expected) in [(0, 10_000), (9_990, 10), (10_000, 0), (1 << 40, 0)] {
            let count = file.read_up_to_end(&mut buf, offset).unwrap();
            assert_eq!(count, expected, "{parent}, {offset}");
        }
    }
}

#[test]
fn long_reads_with_little_between_them_get_what_they_asked_for() {
    let (_dir, disk) = disk();
    let bytes: Vec<u8> = (0..40 * 4096).map(|at| (at / 512) as u8).collect();
    disk.create("f", bytes.len() as u64).unwrap();
    fs::write(path(&disk, "f"), &bytes).unwrap();
    let file = disk.open("f", Access::Read).unwrap();
    let mut buf = vec![0; LONG_LEN];
    // On from the one before, behind a gap, behind too much of one, back, past the end, and on from there.
    for page in [0, 8, 17, 30, 3, 1000, 12, 21] {
        let at = page * 4096;
        let expected = bytes.get(at..at + LONG_LEN);
        let read = file.read_exact_at(&mut buf, at as u64).ok();
        assert_eq!(read.map(|()| &buf[..]), expected, "page {page}");
    }
}
