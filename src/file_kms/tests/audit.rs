use super::*;
use crate::file_kms::AuditReport;
use crate::kms::KeyService;
use crate::sync::Mutex;
use crate::units::KeyId;

/// A KMS with a key, some uses of it, a change of state, and some uses more.
fn used(machine: &SimMachine) -> (FileKms, KeyId) {
    let kms = create(machine);
    let key = kms.create_key(Some("prod")).unwrap().id;
    for _ in 0..3 {
        kms.generate(&key, &CONTEXT).unwrap();
    }
    kms.rotate_key("alias/prod").unwrap();
    for _ in 0..3 {
        kms.generate(&key, &CONTEXT).unwrap();
    }
    (kms, key)
}

fn report(kms: &FileKms) -> AuditReport {
    let mut given = 0;
    let report = kms.audit(|_| given += 1).unwrap();
    assert_eq!(given, report.lines + report.loose_lines);
    report
}

fn is_whole(kms: &FileKms, lines: u64) {
    let whole = AuditReport {
        lines,
        ..AuditReport::default()
    };
    assert_eq!(report(kms), whole);
}

fn lines(disk: &dyn Disk) -> Vec<String> {
    let text = String::from_utf8(read(disk, "audit")).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn put(disk: &dyn Disk, lines: &[String]) {
    replace(disk, "audit", (lines.join("\n") + "\n").as_bytes());
}

#[test]
fn all_lines_are_one_chain_whoever_writes_them() {
    let machine = SimMachine::new();
    let (one, key) = used(&machine);
    is_whole(&one, 8);
    let two = open(&machine, 2);
    for kms in [&two, &one, &one, &two, &open(&machine, 3)] {
        kms.generate(&key, &CONTEXT).unwrap();
        kms.disable_key("alias/prod").unwrap();
        kms.enable_key("alias/prod").unwrap();
    }
    is_whole(&one, 8 + 15);
    let mut actions = Vec::new();
    one.audit(|line| {
        assert!(line.in_chain);
        actions.push((line.number, line.text.contains("\"action\":\"rotate-key\"")));
    })
    .unwrap();
    assert_eq!(actions[0], (2, false));
    assert_eq!(actions[4], (6, true));
}

#[test]
fn what_was_changed_before_a_synced_line_is_found() {
    let machine = SimMachine::new();
    used(&machine);
    let disk = disk(&machine);
    let whole = lines(&*disk);
    let synced = whole.iter().rposition(|line| line.contains("rotate-key"));
    let synced = synced.unwrap();
    // Each process draws other randomness.
    let mut seed = 1;
    for at in 1..synced {
        let mut changed = whole.clone();
        changed[at] = changed[at].replacen("\"time_ms\":", "\"time_ms\":9", 1);
        let mut missing = whole.clone();
        missing.remove(at);
        let mut swapped = whole.clone();
        swapped.swap(at, at + 1);
        let mut twice = whole.clone();
        twice.insert(at, whole[at].clone());
        for (what, bad) in [
            ("changed", changed),
            ("missing", missing),
            ("swapped", swapped),
        ] {
            put(&*disk, &bad);
            seed += 1;
            let kms = open(&machine, seed);
            let found = report(&kms).broken_at;
            assert!(
                found.is_some_and(|line| line <= synced as u64 + 1),
                "{what} {at}"
            );
            // Going on does not hide it.
            kms.create_key(None).unwrap();
            assert_eq!(report(&kms).broken_at, found, "{what} {at}");
        }
        put(&*disk, &twice);
        let found = report(&open(&machine, 2));
        assert!(found.loose_lines > 0, "a line that is there twice is seen");
    }
    for at in synced + 1..whole.len() {
        let mut changed = whole.clone();
        changed[at].insert(3, 'x');
        put(&*disk, &changed);
        let found = report(&open(&machine, 2));
        assert_eq!(found.loose_lines, (whole.len() - at) as u64);
        assert_eq!(found.broken_at, None, "a crash may have done that");
    }
}

#[test]
fn the_chain_goes_on_after_a_line_that_was_cut_off() {
    let machine = SimMachine::new();
    let (kms, key) = used(&machine);
    drop(kms);
    let disk = disk(&machine);
    let whole = read(&*disk, "audit");
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .unwrap()
        + 1;
    for len in last..whole.len() {
        replace(&*disk, "audit", &whole[..len]);
        let kms = open(&machine, 2);
        kms.generate(&key, &CONTEXT).unwrap();
        kms.generate(&key, &CONTEXT).unwrap();
        let found = report(&kms);
        let is_cut = len > last && len < whole.len() - 1;
        assert_eq!(found.loose_lines, u64::from(is_cut), "{len}");
        assert_eq!(found.broken_at, None, "{len}");
        let is_lost = len < whole.len() - 1;
        assert_eq!(found.lines, 8 + 2 - u64::from(is_lost), "{len}");
    }
}

#[test]
fn no_power_loss_looks_like_a_change() {
    let machine = SimMachine::new();
    let (kms, key) = used(&machine);
    let states = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&states);
    machine.on_barrier(move |killed| {
        let lost = killed.crash_points().into_iter();
        kept.lock()
            .extend(lost.map(|crash| killed.power_loss(&crash)));
        kept.lock().push(killed.kill());
    });
    for _ in 0..2 {
        kms.disable_key("alias/prod").unwrap();
        kms.enable_key("alias/prod").unwrap();
        kms.set_alias("test", "alias/prod").unwrap();
        for _ in 0..4 {
            kms.generate(&key, &CONTEXT).unwrap();
        }
        kms.delete_alias("test").unwrap();
    }
    machine.clear_hooks();
    let lost = machine.crash_points().into_iter();
    states
        .lock()
        .extend(lost.map(|crash| machine.power_loss(&crash)));
    let states = states.lock();
    assert!(states.len() > 100, "{}", states.len());
    for machine in &*states {
        let before = report(&open(machine, 2));
        assert_eq!(before.broken_at, None);
        let kms = open(machine, 2);
        let _ = kms.generate(&key, &CONTEXT);
        kms.create_key(None).unwrap();
        let after = report(&kms);
        assert_eq!(after.broken_at, None, "{before:?}");
        assert_eq!(after.loose_lines, before.loose_lines);
    }
}

#[test]
fn opening_a_long_audit_reads_its_end_only() {
    let machine = SimMachine::new();
    let (kms, key) = used(&machine);
    let synced = |disk: &dyn Disk| {
        let synced = |line: &&String| line.contains("\"synced\":true");
        lines(disk).iter().filter(synced).count()
    };
    let before = synced(&*disk(&machine));
    while read(&*disk(&machine), "audit").len() < 300 << 10 {
        kms.generate(&key, &CONTEXT).unwrap();
    }
    assert_eq!(synced(&*disk(&machine)), before);
    for _ in 0..3 {
        open(&machine, 2).generate(&key, &CONTEXT).unwrap();
    }
    assert_eq!(synced(&*disk(&machine)), before + 1);
    let found = report(&kms);
    assert_eq!((found.loose_lines, found.broken_at), (0, None));
}
