use std::io::ErrorKind;

use super::*;
use crate::io::sim::SimMachine;

fn disk() -> (FaultDisk, Faults) {
    let disk = FaultDisk::new(Arc::new(SimMachine::new().dir("d")));
    let faults = disk.faults();
    (disk, faults)
}

/// Makes every call that can fail, in turn; how many there are, and what the last one says.
fn every_call(disk: &FaultDisk) -> (u64, io::Result<()>) {
    let mut buf = [0; 4];
    let mut run = || -> io::Result<()> {
        let file = disk.create("a", 4)?;
        file.write_all_at(b"1234", 0)?;
        file.punch(0, 4)?;
        disk.allocated_len("a")?;
        file.read_exact_at(&mut buf, 0)?;
        file.len()?;
        file.sync()?;
        file.map()?.copy_out(&mut buf, 0)?;
        disk.rename("a", "b")?;
        disk.open("b", Access::Read)?;
        disk.list()?;
        disk.lock("lock", Lock::Shared)?;
        disk.free_len()?;
        disk.remove("b")?;
        disk.sync_names()
    };
    let result = run();
    (disk.faults().calls(), result)
}

#[test]
fn every_call_is_counted_and_can_fail() {
    let (count, result) = every_call(&disk().0);
    result.unwrap();
    assert_eq!(count, 16);
    for n in 1..=count {
        let (disk, faults) = disk();
        faults.fail_nth(n, ErrorKind::TimedOut, Times::Once);
        let (calls, result) = every_call(&disk);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!((calls, faults.failed()), (n, 1));
    }
}

#[test]
fn a_call_fails_once_or_for_good_until_healed() {
    let (disk, faults) = disk();
    disk.list().unwrap();
    faults.fail_nth(2, ErrorKind::Other, Times::Once);
    let results: Vec<_> = (0..4).map(|_| disk.list().is_ok()).collect();
    assert_eq!(results, [true, false, true, true]);
    faults.fail_nth(2, ErrorKind::Other, Times::ForGood);
    let results: Vec<_> = (0..4).map(|_| disk.list().is_ok()).collect();
    assert_eq!(results, [true, false, false, false]);
    faults.heal();
    disk.list().unwrap();
    assert_eq!((faults.calls(), faults.failed()), (10, 4));
}

#[test]
fn only_calls_of_the_chosen_class_count() {
    let (disk, faults) = disk();
    faults.count_only(Class::Sync);
    faults.fail_nth(2, Failure::Os(5), Times::Once);
    let (calls, result) = every_call(&disk);
    assert_eq!(result.unwrap_err().raw_os_error(), Some(5));
    assert_eq!(calls, 2);
    faults.count_all();
    disk.list().unwrap();
    assert_eq!(faults.calls(), 3);
}

#[test]
fn a_failed_call_does_nothing() {
    let (disk, faults) = disk();
    let file = disk.create("a", 4).unwrap();
    faults.fail_nth(1, ErrorKind::Other, Times::ForGood);
    assert!(file.write_all_at(b"1234", 0).is_err());
    assert!(disk.remove("a").is_err());
    faults.heal();
    let mut buf = [1; 4];
    disk.open("a", Access::Read)
        .unwrap()
        .read_exact_at(&mut buf, 0)
        .unwrap();
    assert_eq!(buf, [0; 4]);
}
