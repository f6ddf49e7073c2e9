//! Bugs on purpose: what the oracle must notice, or it proves nothing.

use std::sync::Arc;

use offshoot::io::sim::{Crash, Lie};

use offshoot_torture::model::Model;
use offshoot_torture::nonces::Nonces;
use offshoot_torture::ops::{Op, Start, starts};
use offshoot_torture::oracle::{case_of, check, crashed};
use offshoot_torture::rig::{Host, Watch};
use offshoot_torture::run::{Capture, Planted, Run};
use offshoot_torture::syncs::{Journal, Sync};

/// Every kind of sync happens in it.
const HISTORY: [Op; 9] = [
    Op::Write,
    Op::Flush,
    Op::Clone,
    Op::WriteTwo,
    Op::Checkpoint,
    Op::Clone,
    Op::Reopen,
    Op::Write,
    Op::Flush,
];

/// All captures of a history.
fn captures_of(start: &Start, ops: &[Op], planted: Planted) -> (Vec<Capture>, Vec<Sync>) {
    let journal = Journal::default();
    let mut run = Run::with_journal(start, 7, &Arc::default(), planted, &journal);
    run.record();
    for (step, op) in (0..).zip(ops) {
        run.op(*op, step, 100 + u64::from(step)).unwrap();
    }
    let captures = run.end().unwrap();
    (captures, journal.entries())
}

/// States until the oracle fails, and why; `None` if it never does. Tried are a kill, the loss
/// and the survival of all that is pending, then some of the other crashes.
fn caught(captures: &[Capture], lie_in_recovery: Lie) -> Option<(usize, String)> {
    let plain = [None, Some(Crash::NONE_KEPT), Some(Crash::ALL_KEPT)];
    let first = captures
        .iter()
        .flat_map(|capture| plain.map(|crash| (capture, crash)));
    let sampled =
        |capture: &'_ Capture| [1, 2].map(|seed| Some(capture.machine.sampled_crash(seed)));
    let then = captures
        .iter()
        .flat_map(|capture| sampled(capture).map(|crash| (capture, crash)));
    let nonces = Arc::new(Nonces::default());
    for (count, (capture, crash)) in (1..).zip(first.chain(then)) {
        let machine = crashed(&capture.machine, crash.as_ref());
        machine.drop_syncs(lie_in_recovery);
        let seed = 1 << 63 | (count as u64) << 8;
        if let Err(why) = check(&machine, &case_of(capture, &nonces, seed)) {
            return Some((count, why));
        }
    }
    None
}

#[test]
fn a_history_without_a_planted_bug_passes() {
    for start in starts() {
        let (captures, _) = captures_of(start, &HISTORY, Planted::Nothing);
        assert_eq!(caught(&captures, Lie::Never), None, "{}", start.name);
    }
}

#[test]
fn a_disk_that_never_syncs_is_caught() {
    for start in starts() {
        let planted = Planted::DroppedSyncs(Lie::Always);
        let (captures, _) = captures_of(start, &HISTORY, planted);
        assert!(caught(&captures, Lie::Never).is_some(), "{}", start.name);
    }
}

#[test]
fn each_dropped_sync_of_a_segment_is_caught() {
    for start in starts() {
        let (_, syncs) = captures_of(start, &HISTORY, Planted::Nothing);
        let mut survivors = Vec::new();
        for (n, sync) in (1..).zip(&syncs).filter(|(_, sync)| sync.matters) {
            let planted = Planted::DroppedSyncs(Lie::Nth(n));
            let (captures, _) = captures_of(start, &HISTORY, planted);
            match caught(&captures, Lie::Never) {
                Some((count, why)) => {
                    println!(
                        "{} {n} {}: after {count} states, {why:.60}",
                        start.name, sync.of
                    );
                }
                None => survivors.push(sync.of.as_str()),
            }
        }
        println!(
            "{}: {} syncs, not caught: {survivors:?}",
            start.name,
            syncs.len()
        );
        // A superblock that is lost has a mirror, an older one and the whole log; of the key
        // service's files only lines of the audit and claims that are made again are lost; the
        // name of a segment is made durable by the next one, before anything counts on it; what is
        // in a new spare means nothing.
        let may_survive = ["store/superblock-a", "store/superblock-b", "store/(names)"];
        let is_spare = |of: &str| of.starts_with("store/spare-") && of.ends_with(".tmp");
        let is_known =
            |of: &str| may_survive.contains(&of) || of.starts_with("kms/") || is_spare(of);
        assert!(survivors.iter().all(|of| is_known(of)), "{survivors:?}");
    }
}

#[test]
fn a_recovery_that_syncs_nothing_is_caught() {
    for start in starts() {
        let (captures, _) = captures_of(start, &[Op::Write, Op::Clone], Planted::Nothing);
        let why = caught(&captures, Lie::Always);
        assert!(why.is_some(), "{}", start.name);
    }
}

#[test]
fn an_early_acknowledgement_is_caught() {
    for start in starts() {
        for op in [Op::Write, Op::WriteTwo, Op::Discard] {
            let (captures, _) = captures_of(start, &[op], Planted::EarlyAcknowledgement);
            let (count, why) = caught(&captures, Lie::Never).expect("caught");
            assert!(
                why.contains("but may hold only"),
                "after {count} states: {why}"
            );
        }
    }
}

#[test]
fn two_forks_with_the_same_randomness_are_caught() {
    let start = &starts()[0];
    let (captures, _) = captures_of(start, &[Op::Write], Planted::Nothing);
    let capture = captures.last().unwrap();
    let nonces = Arc::new(Nonces::default());
    let fork = |seed: u64, op: Op| {
        let machine = capture.machine.kill();
        let watch = Watch::on(&machine, Default::default(), &nonces);
        let process = Host::new(&machine, seed).open().unwrap();
        process
            .act(&op.action(4, &Model::read(&process.store).unwrap()))
            .unwrap();
        watch.check()
    };
    assert_eq!(fork(1, Op::Write), Ok(()));
    assert_eq!(fork(2, Op::WriteTwo), Ok(()));
    let why = fork(1, Op::WriteTwo).unwrap_err();
    assert!(why.contains("sealed two pages"), "{why}");
}

#[test]
fn a_write_over_an_acknowledged_slot_is_caught() {
    let start = &starts()[0];
    let machine = start.machine.kill();
    let watch = Watch::on(&machine, start.acknowledged.clone(), &Arc::default());
    let batch = offshoot_torture::nonces::last_batch(&machine).unwrap();
    let name = offshoot::format::segment::segment_file_name(batch.header.at.segment);
    let bytes = offshoot_torture::nonces::file_bytes(&machine, &name);
    let offset = batch.header.at.slot as usize * offshoot_torture::nonces::SLOT_LEN;
    offshoot_torture::nonces::overwrite(
        &machine,
        &name,
        offset as u64,
        &bytes[offset..offset + 512],
    );
    assert!(watch.check().unwrap_err().contains("was written again"));
}

#[test]
fn a_lost_acknowledged_write_is_caught_by_a_plain_power_loss() {
    let start = &starts()[1];
    let (captures, _) = captures_of(
        start,
        &[Op::Write, Op::Flush],
        Planted::EarlyAcknowledgement,
    );
    let nonces = Arc::default();
    let lost = captures.iter().filter(|capture| {
        let machine = capture.machine.power_loss(&Crash::NONE_KEPT);
        check(&machine, &case_of(capture, &nonces, 1 << 61)).is_err()
    });
    assert!(lost.count() > 0);
}
