#![expect(clippy::indexing_slicing, reason = "tests may panic")]

use super::{LogWriter, Scan, load_tables, scan, table_parts};
use crate::crypto::Secret;
use crate::error::{Damage, Error, Result};
use crate::format::batch::header_slots;
use crate::format::catalog::{LineageRecord, SaltRecord};
use crate::format::record::{Record, Records};
use crate::format::summary::Summary;
use crate::format::superblock::{
    Geometry, NextIds, Position, Superblock, TableRef, WrappedStoreKey,
};
use crate::io::sim::SimMachine;
use crate::io::{Access, Disk, DiskFile};
use crate::segment::Segments;
use crate::sync::Arc;
use crate::units::{
    HeadId, KeyEpoch, KeyId, LineageEpoch, Location, SLOT_LEN, SegmentId, Seq, SlotAddr, StoreId,
};

const STORE: StoreId = StoreId([1; 16]);
const SALT: [u8; 12] = [2; 12];
/// One of them is the header.
const SLOTS: u32 = 8;

fn at(segment: u32, slot: u32) -> SlotAddr {
    SlotAddr {
        segment: SegmentId(segment),
        slot,
    }
}

fn key() -> Secret {
    Secret::from_bytes([3; 32])
}

/// A log in short segments on a simulated disk.
struct Log {
    machine: SimMachine,
    segments: Segments,
    writer: LogWriter,
}

impl Log {
    fn new() -> Self {
        Self::on(SimMachine::new(), Position::default(), SLOTS)
    }

    /// Goes on after a position as after a crash: in a new segment.
    fn on(machine: SimMachine, position: Position, segment_slots: u32) -> Self {
        let geometry = Geometry {
            page_len: 4096,
            segment_slots,
        };
        let segments = Segments::new(Arc::new(machine.dir("store")), STORE, geometry, 4);
        let next = segments.list().unwrap().last().map_or(1, |last| last.0 + 1);
        let writer = LogWriter::new(key(), position, None, SegmentId(next));
        Self {
            machine,
            segments,
            writer,
        }
    }

    /// Appends a batch whose body has so many slots of one byte.
    fn append(&mut self, body_slots: u32, byte: u8, durable_through: u64) -> Result<SlotAddr> {
        let body = vec![byte; body_slots as usize * SLOT_LEN];
        let crcs = body.chunks(SLOT_LEN).map(crc32fast::hash).collect();
        let mut records = Vec::new();
        Record::Nodes(crcs).encode(&mut records);
        let place = self
            .writer
            .place(&self.segments, records.len(), body_slots)?;
        let bytes = [vec![0; SLOT_LEN], body].concat();
        let durable_through = Seq(durable_through);
        self.writer
            .append(place, SALT, durable_through, &records, bytes)
            .unwrap();
        Ok(place.at())
    }

    fn from(&self, position: Position, durable_through: u64) -> Superblock {
        Superblock {
            store_id: STORE,
            generation: 1,
            created_at_ms: 0,
            geometry: self.segments.geometry(),
            clean: false,
            next: NextIds {
                head: HeadId(1),
                lineage: LineageEpoch(1),
                key_epoch: KeyEpoch(1),
            },
            position,
            durable_through: Seq(durable_through),
            tables: None,
            store_key: WrappedStoreKey {
                kms_key: KeyId([0; 16]),
                commitment: [0; 32],
                wrapped: Vec::new(),
            },
        }
    }

    /// Rolls forward from the start, as another process.
    fn scan(&self) -> Result<Scan> {
        let again = Self::on(self.machine.clone(), Position::default(), SLOTS);
        scan(&again.segments, &key(), &self.from(Position::default(), 0))
    }

    fn flip(&self, at: SlotAddr, offset: usize) {
        let mut bytes = self.slot(at);
        bytes[offset] ^= 1;
        self.write_slot(at, &bytes);
    }

    fn slot(&self, at: SlotAddr) -> Vec<u8> {
        let (file, offset) = self.file(at);
        let mut bytes = vec![0; SLOT_LEN];
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    fn write_slot(&self, at: SlotAddr, bytes: &[u8]) {
        let (file, offset) = self.file(at);
        file.write_all_at(bytes, offset).unwrap();
    }

    fn file(&self, at: SlotAddr) -> (Arc<dyn DiskFile>, u64) {
        let name = crate::format::segment::segment_file_name(at.segment);
        let disk = self.machine.dir("store");
        let offset = u64::from(at.slot) * SLOT_LEN as u64;
        (disk.open(&name, Access::ReadWrite).unwrap(), offset)
    }
}

fn places(scan: &Scan) -> Vec<SlotAddr> {
    scan.batches.iter().map(|batch| batch.at).collect()
}

#[test]
fn batches_fill_a_segment_to_its_last_slot_and_go_on_in_the_next() {
    let mut log = Log::new();
    // Seven slots: 3 + 4, then 7, then 6 and one too long for the one that is left.
    let bodies = [2, 3, 6, 5, 1, 0, 4];
    let expected = [
        at(1, 1),
        at(1, 4),
        at(2, 1),
        at(3, 1),
        at(4, 1),
        at(4, 3),
        at(5, 1),
    ];
    for (body, expected) in bodies.into_iter().zip(expected) {
        assert_eq!(log.append(body, 7, 0).unwrap(), expected);
        let end = log.writer.position().end;
        assert_eq!(end, at(expected.segment.0, expected.slot + 1 + body));
        assert!(end.slot <= SLOTS);
    }
    let scan = log.scan().unwrap();
    assert_eq!(places(&scan), expected);
    assert_eq!(scan.end, log.writer.position());
    assert_eq!(scan.end.seq, Seq(7));
    assert!(scan.end_is_blank);
    let seqs: Vec<u64> = scan.batches.iter().map(|batch| batch.after.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_log_that_ends_at_the_end_of_a_segment_has_no_blank_slot_behind_it() {
    let mut log = Log::new();
    log.append(6, 7, 0).unwrap();
    let scan = log.scan().unwrap();
    assert_eq!((scan.end.end, scan.end_is_blank), (at(1, SLOTS), false));
    assert_eq!(log.append(0, 7, 0).unwrap(), at(2, 1));
    assert_eq!(places(&log.scan().unwrap()), [at(1, 1), at(2, 1)]);
}

#[test]
fn a_batch_longer_than_a_segment_is_refused_and_makes_nothing() {
    let mut log = Log::new();
    assert!(matches!(
        log.append(7, 1, 0),
        Err(Error::LimitExceeded { .. })
    ));
    assert_eq!(log.segments.list().unwrap(), []);
    assert_eq!(log.writer.position(), Position::default());
    log.append(6, 1, 0).unwrap();
    assert!(matches!(
        log.append(7, 1, 0),
        Err(Error::LimitExceeded { .. })
    ));
    assert_eq!(log.segments.list().unwrap(), [SegmentId(1)]);
}

#[test]
fn a_place_that_was_not_used_is_found_again() {
    let mut log = Log::new();
    let first = log.writer.place(&log.segments, 10, 2).unwrap();
    assert_eq!((first.at(), first.body()), (at(1, 1), at(1, 2)));
    // For another batch too, and for one with more header slots.
    let second = log.writer.place(&log.segments, 5000, 4).unwrap();
    assert_eq!((second.at(), second.body()), (at(1, 1), at(1, 3)));
    log.append(3, 1, 0).unwrap();
    for _ in 0..3 {
        // There is room for three more; more than that is the next segment's, made once.
        assert_eq!(
            log.writer.place(&log.segments, 0, 2).unwrap().at(),
            at(1, 5)
        );
    }
    for _ in 0..3 {
        assert_eq!(
            log.writer.place(&log.segments, 0, 3).unwrap().at(),
            at(2, 1)
        );
    }
    assert_eq!(log.segments.list().unwrap().len(), 2);
    assert_eq!(log.append(3, 2, 0).unwrap(), at(2, 1));
    assert_eq!(places(&log.scan().unwrap()), [at(1, 1), at(2, 1)]);
}

#[test]
fn a_full_disk_leaves_the_end_of_the_log_where_it_was() {
    let mut log = Log::new();
    log.append(3, 1, 0).unwrap();
    log.machine.set_free_len(100);
    for _ in 0..3 {
        assert!(matches!(log.append(3, 2, 0), Err(Error::NoSpace { .. })));
        assert_eq!(log.writer.position().end, at(1, 5));
    }
    assert_eq!(
        log.append(1, 3, 0).unwrap(),
        at(1, 5),
        "what fits still goes in"
    );
    log.machine.set_free_len(1 << 20);
    assert_eq!(log.append(3, 4, 0).unwrap(), at(2, 1));
    assert_eq!(log.scan().unwrap().batches.len(), 3);
}

#[test]
fn what_follows_a_crash_counts_and_what_was_torn_before_it_stays_dropped() {
    let mut log = Log::new();
    log.append(1, 1, 0).unwrap();
    let torn = log.append(1, 2, 1).unwrap();
    log.append(1, 3, 1).unwrap();
    // Batch 2 is torn, 3 is whole: only 1 counts.
    log.flip(at(torn.segment.0, torn.slot + 1), 9);
    let found = log.scan().unwrap();
    assert_eq!(places(&found), [at(1, 1)]);
    assert!(!found.end_is_blank, "it must not be written on");
    // Another process goes on with another batch 2; then the torn one heals.
    let mut again = Log::on(log.machine.clone(), found.end, SLOTS);
    assert_eq!(again.append(1, 22, 1).unwrap(), at(2, 1));
    log.flip(at(torn.segment.0, torn.slot + 1), 9);
    let found = log.scan().unwrap();
    assert_eq!(places(&found), [at(1, 1), at(2, 1)]);
    assert_eq!(found.end, again.writer.position());
}

#[test]
fn the_later_of_two_segments_that_go_on_counts() {
    let mut log = Log::new();
    log.append(1, 1, 0).unwrap();
    let end = log.writer.position();
    // A process that died before its first batch was whole, then one that lived.
    let mut died = Log::on(log.machine.clone(), end, SLOTS);
    died.append(1, 2, 1).unwrap();
    let mut lived = Log::on(log.machine.clone(), end, SLOTS);
    assert_eq!(lived.append(1, 3, 1).unwrap(), at(3, 1));
    assert_eq!(places(&log.scan().unwrap()), [at(1, 1), at(3, 1)]);
    assert_eq!(log.scan().unwrap().end, lived.writer.position());
}

#[test]
fn damage_to_what_was_durable_is_reported_and_never_dropped() {
    for (offset, in_body) in [(0, false), (20, false), (200, false), (5, true)] {
        // Batch 3 says that 2 was durable, so damage to 1 and 2 is damage, to 3 a torn write.
        let mut log = Log::new();
        let places_of = [
            log.append(1, 1, 0),
            log.append(1, 2, 1),
            log.append(1, 3, 2),
        ];
        let places_of = places_of.map(Result::unwrap);
        for (number, place) in places_of.into_iter().enumerate() {
            let slot = place.slot + u32::from(in_body);
            log.flip(at(place.segment.0, slot), offset);
            match log.scan() {
                // The body of what was durable is not read here, but where it is used.
                Ok(found) if in_body => {
                    assert_eq!(found.batches.len(), if number < 2 { 3 } else { 2 })
                }
                Ok(found) => assert_eq!((number, found.batches.len()), (2, 2)),
                Err(Error::Corrupt {
                    location: Location::Slot(_),
                    ..
                }) => {
                    assert!(number < 2 && !in_body, "batch {number} offset {offset}");
                }
                Err(other) => panic!("{other}"),
            }
            log.flip(at(place.segment.0, slot), offset);
        }
        assert_eq!(log.scan().unwrap().batches.len(), 3);
    }
}

#[test]
fn a_lost_end_that_a_superblock_knows_of_is_reported() {
    let mut log = Log::new();
    log.append(1, 1, 0).unwrap();
    let place = log.append(1, 2, 0).unwrap();
    let durable = log.from(Position::default(), 2);
    assert_eq!(
        scan(&log.segments, &key(), &durable).unwrap().batches.len(),
        2
    );
    log.flip(place, 30);
    assert_eq!(
        log.scan().unwrap().batches.len(),
        1,
        "nobody said it was durable"
    );
    let lost = scan(&log.segments, &key(), &durable);
    assert!(matches!(
        lost,
        Err(Error::Corrupt {
            damage: Damage::Inconsistent(_),
            ..
        })
    ));
}

#[test]
fn forged_and_foreign_batches_are_no_log() {
    let mut log = Log::new();
    log.append(1, 1, 0).unwrap();
    let end = log.writer.position();
    // Right in everything but the key.
    let mut forger = Log::on(log.machine.clone(), end, SLOTS);
    forger.writer = LogWriter::new(Secret::from_bytes([4; 32]), end, None, SegmentId(2));
    forger.append(1, 9, 1).unwrap();
    assert_eq!(places(&log.scan().unwrap()), [at(1, 1)]);
    // With the key, but after another batch.
    for wrong in [
        Position {
            chain: [9; 32],
            ..end
        },
        Position { seq: Seq(5), ..end },
        Position {
            end: at(1, 5),
            ..end
        },
    ] {
        let mut other = Log::on(log.machine.clone(), wrong, SLOTS);
        other.append(1, 9, 0).unwrap();
        assert_eq!(places(&log.scan().unwrap()), [at(1, 1)]);
    }
    // The true one is found among them all.
    let mut right = Log::on(log.machine.clone(), end, SLOTS);
    let place = right.append(1, 2, 1).unwrap();
    assert_eq!(places(&log.scan().unwrap()), [at(1, 1), place]);
}

fn lineages(count: u32) -> Vec<Record> {
    let lineage = |number| LineageRecord {
        lineage: LineageEpoch(number),
        parent: (number > 1).then(|| LineageEpoch(number - 1)),
        changed: number % 2 == 0,
        beside: None,
    };
    (1..=count)
        .map(|number| Record::Lineage(lineage(number)))
        .collect()
}

/// Writes tables as a checkpoint does.
fn write_tables(log: &mut Log, records: &[Record]) -> Vec<TableRef> {
    let mut tables: Vec<TableRef> = Vec::new();
    for (part, rest) in (0..).zip(table_parts(records, log.segments.geometry().segment_slots)) {
        let mut records = Vec::new();
        let previous = tables.last().copied();
        Record::Table { part, previous }.encode(&mut records);
        records.extend_from_slice(&rest);
        let place = log.writer.place(&log.segments, records.len(), 0).unwrap();
        let slots = (place.body().slot - place.at().slot) as usize;
        let bytes = vec![0; slots * SLOT_LEN];
        let (_, hash) = log
            .writer
            .append(place, SALT, Seq(0), &records, bytes)
            .unwrap();
        tables.push(TableRef {
            at: place.at(),
            hash,
        });
    }
    tables
}

#[test]
fn tables_of_any_length_are_split_to_fit_and_read_back_in_order() {
    for count in [0, 1, 160, 1_190, 1_192, 5_000] {
        let mut log = Log::new();
        let records = lineages(count);
        let tables = write_tables(&mut log, &records);
        // 24 bytes a record, and 28,484 fit into seven slots.
        assert_eq!(
            tables.len() as u32,
            (count * 24).div_ceil(28_484).max(1),
            "{count}"
        );
        let last = tables[tables.len() - 1];
        assert_eq!(load_tables(&log.segments, last).unwrap(), records);
        for batch in log.scan().unwrap().batches {
            assert!(batch.is_table());
        }
    }
    let mut log = Log::new();
    log.append(0, 1, 0).unwrap();
    assert!(!log.scan().unwrap().batches[0].is_table());
}

#[test]
fn a_table_that_is_damaged_missing_or_another_is_refused() {
    let mut log = Log::new();
    let salt = SaltRecord {
        segment: SegmentId(1),
        first_slot: 1,
        salt: SALT,
    };
    let other = write_tables(&mut log, &[Record::Salt(salt)]);
    let tables = write_tables(&mut log, &lineages(3_000));
    assert_eq!(tables.len(), 3);
    let refused = |log: &Log, table: TableRef| match load_tables(&log.segments, table) {
        Err(Error::Corrupt {
            location: Location::Slot(at),
            damage,
        }) => (at, damage),
        other => panic!("{other:?}"),
    };
    for table in &tables {
        for offset in [0, 8, 20, 1000] {
            log.flip(table.at, offset);
            assert_eq!(refused(&log, tables[2]).0, table.at);
            log.flip(table.at, offset);
        }
    }
    let wrong_hash = TableRef {
        hash: other[0].hash,
        ..tables[2]
    };
    assert_eq!(refused(&log, wrong_hash), (tables[2].at, Damage::BadHash));
    let nothing = TableRef {
        at: at(tables[2].at.segment.0, 7),
        ..tables[2]
    };
    assert_eq!(refused(&log, nothing).1, Damage::BadMagic);
    let outside = TableRef {
        at: at(tables[2].at.segment.0, 99),
        ..tables[2]
    };
    assert_eq!(refused(&log, outside).1, Damage::Truncated);
    let gone = TableRef {
        at: at(99, 1),
        ..tables[2]
    };
    assert!(matches!(
        load_tables(&log.segments, gone),
        Err(Error::Corrupt { .. })
    ));
    let place = log.append(0, 1, 0).unwrap();
    let head = super::scan::read_head(&log.segments, place)
        .unwrap()
        .unwrap();
    let no_table = TableRef {
        at: place,
        hash: head.hash(),
    };
    assert_eq!(refused(&log, no_table), (place, Damage::WrongIdentity));
    assert_eq!(
        load_tables(&log.segments, tables[2]).unwrap(),
        lineages(3_000)
    );
}

#[test]
fn small_flushes_go_to_blocks_written_before_and_no_slot_of_a_batch_is_written_twice() {
    let mut log = Log::on(SimMachine::new(), Position::default(), 64);
    let writes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = writes.clone();
    log.machine.on_write(move |event| {
        if event.name == "segment-00000001" && event.offset > 0 {
            let slots = (event.bytes.len() / SLOT_LEN) as u64;
            let slot = event.offset / SLOT_LEN as u64;
            seen.lock().unwrap().push((slot, slots));
        }
    });
    let mut append = |len: u32| {
        writes.lock().unwrap().clear();
        let at = log.append(len - 1, 7, 0).unwrap();
        let writes = std::mem::take(&mut *writes.lock().unwrap());
        let [(slot, written)] = writes[..] else {
            panic!("not one write: {writes:?}");
        };
        assert_eq!(slot, u64::from(at.slot));
        log.writer.note_flush();
        written
    };
    // After four small flushes a batch goes with zeroes for a quarter of the segment, and those after it find
    // them there. One of more than 24 slots ends that, until there were four more.
    let lens = [2, 2, 2, 2, 2, 2, 30, 2];
    let written = lens.map(&mut append);
    assert_eq!(written, [2, 2, 2, 2, 18, 2, 30 + 16, 2], "{lens:?}");
}

/// Room for a summary of a few batches is an eighth.
const LONG: u32 = 32;

impl Log {
    /// Appends a batch, behind the summary of the segment before if that is due. Gives the seq.
    fn append_summed(&mut self, body_slots: u32, byte: u8, durable_through: u64) -> u64 {
        let len = Record::nodes_len(body_slots as usize);
        if let Some(summary) = self.writer.summary_due(LONG, len, body_slots) {
            self.writer.start_segment(&self.segments).unwrap();
            let place = self.writer.place(&self.segments, summary.len(), 0).unwrap();
            let bytes = vec![0; header_slots(summary.len()) as usize * SLOT_LEN];
            let durable_through = Seq(durable_through);
            let appended = self
                .writer
                .append(place, SALT, durable_through, &summary, bytes);
            appended.unwrap();
        }
        self.append(body_slots, byte, durable_through).unwrap();
        self.writer.position().seq.0
    }

    fn scan_long(&self) -> Result<Scan> {
        let again = Self::on(self.machine.clone(), Position::default(), LONG);
        scan(&again.segments, &key(), &self.from(Position::default(), 0))
    }

    fn crash(&self) -> Self {
        Self::on(self.machine.clone(), Position::default(), LONG)
    }
}

impl Log {
    /// Adds so many slots of one byte to the last batch; says whether it takes them.
    fn grow(&mut self, body_slots: u32, byte: u8, salt: [u8; 12]) -> bool {
        let body = vec![byte; body_slots as usize * SLOT_LEN];
        let crcs = body.chunks(SLOT_LEN).map(crc32fast::hash).collect();
        let mut records = Vec::new();
        Record::Nodes(crcs).encode(&mut records);
        let Some(place) = self.writer.room_in_last(salt, records.len(), body_slots) else {
            return false;
        };
        let durable_through = Seq(0);
        self.writer
            .grow_last(place, durable_through, &records, &body)
            .unwrap();
        true
    }
}

#[test]
fn a_batch_grows_until_something_else_begins() {
    let mut log = Log::on(SimMachine::new(), Position::default(), LONG);
    assert!(!log.grow(1, 1, SALT), "there is none yet");
    log.append(1, 1, 0).unwrap();
    assert!(log.grow(2, 2, SALT) && log.grow(0, 0, SALT) && log.grow(1, 3, SALT));
    let position = log.writer.position();
    assert_eq!((position.seq, position.end), (Seq(1), at(1, 6)));
    assert!(
        !log.grow(1, 4, [9; 12]),
        "its pages are sealed under one salt"
    );
    assert!(log.grow(0, 0, [9; 12]), "none is needed without pages");
    assert!(!log.grow(17, 4, SALT), "a long change has its own");
    let found = log.scan_long().unwrap();
    assert_eq!(places(&found), [at(1, 1)]);
    assert_eq!(found.end, log.writer.position());
    log.writer.note_flush();
    assert!(!log.grow(1, 4, SALT), "it was flushed");
    assert_eq!(log.append(1, 4, 1).unwrap(), at(1, 6));
    log.writer.end_batch();
    assert!(!log.grow(1, 5, SALT));
    // A place that was looked for ends it too: whoever looked appends something else.
    log.append(1, 6, 1).unwrap();
    log.writer.place(&log.segments, 20, 1).unwrap();
    assert!(!log.grow(1, 7, SALT));
    let found = log.scan_long().unwrap();
    assert_eq!(places(&found), [at(1, 1), at(1, 6), at(1, 8)]);
    assert_eq!(found.end, log.writer.position());
}

#[test]
fn a_batch_grows_no_longer_than_its_header_slot_and_its_segment() {
    let mut log = Log::new();
    log.append(1, 1, 0).unwrap();
    assert!(log.grow(5, 2, SALT), "to the last slot");
    assert!(!log.grow(1, 3, SALT), "and no further");
    assert!(log.grow(0, 0, SALT), "a record takes no slot");
    assert_eq!(log.writer.position().end, at(1, SLOTS));
    assert_eq!(log.scan().unwrap().end, log.writer.position());
    let mut log = Log::new();
    log.append(0, 1, 0).unwrap();
    let grown = std::iter::repeat_with(|| log.grow(0, 0, SALT));
    let count = grown.take_while(|&grown| grown).count();
    assert!(
        (400..500).contains(&count),
        "{count} records of eight bytes"
    );
    assert_eq!(log.writer.position().end, at(1, 2));
    assert_eq!(log.scan().unwrap().end, log.writer.position());
}

#[test]
fn a_kill_in_the_middle_of_growth_leaves_the_batch_as_it_was() {
    let mut log = Log::new();
    log.append(1, 1, 0).unwrap();
    let before = log.writer.position();
    let seen = Arc::new(crate::sync::Mutex::new(Vec::new()));
    let hook = seen.clone();
    let copy = log.machine.clone();
    log.machine.on_write(move |_| hook.lock().push(copy.kill()));
    assert!(log.grow(2, 2, SALT));
    log.machine.clear_hooks();
    let after = log.writer.position();
    let ends: Vec<Position> = seen
        .lock()
        .iter()
        .map(|machine| {
            let log = Log::on(machine.clone(), Position::default(), SLOTS);
            log.scan().unwrap().end
        })
        .collect();
    assert_eq!(
        ends,
        [before, after],
        "the pages are written, then the header"
    );
}

#[test]
fn a_summary_stands_for_the_durable_headers_of_the_segment_before() {
    let mut log = Log::on(SimMachine::new(), Position::default(), LONG);
    for number in 0..16 {
        log.append_summed(2, number, u64::from(number));
    }
    let whole = log.scan_long().unwrap();
    // Ten batches, the summary, five or six more.
    assert_eq!(whole.batches.len(), 17);
    assert_eq!(whole.batches[10].at, at(2, 1));
    for slot in [4, 7, 28] {
        let log = log.crash();
        log.flip(at(1, slot), 200);
        let found = log.scan_long().unwrap();
        assert_eq!(places(&found), places(&whole), "slot {slot}");
        assert_eq!(found.end, whole.end);
        log.flip(at(1, slot), 200);
    }
    // From the middle on it serves as well.
    let middle = whole.batches[4].after;
    let found = scan(&log.crash().segments, &key(), &log.from(middle, 5)).unwrap();
    assert_eq!(places(&found), places(&whole)[5..]);
}

#[test]
fn no_summary_holds_the_one_before_it() {
    let mut log = Log::on(SimMachine::new(), Position::default(), LONG);
    for number in 0..120 {
        log.append_summed(2, number, u64::from(number));
    }
    let whole = log.scan_long().unwrap();
    let firsts = whole.batches.iter().filter(|batch| batch.at.slot == 1);
    let summaries: Vec<_> = firsts
        .filter_map(|batch| match Records::new(&batch.records).next()? {
            Ok(Record::Summary(summary)) => Some(*summary),
            _ => None,
        })
        .collect();
    // One for each segment that is full.
    let segments = u64::from(whole.end.end.segment.0) - 1;
    assert_eq!((summaries.len() as u64, segments > 10), (segments, true));
    let lens = summaries[1..].iter().map(Summary::encoded_len);
    assert!(lens.is_sorted_by(|a, b| a == b), "{summaries:?}");
    // A whole log is found by way of them, and what is in the batches that hold them, too.
    log.flip(at(2, 8), 200);
    assert_eq!(places(&log.crash().scan_long().unwrap()), places(&whole));
}

#[test]
fn a_summary_does_not_stand_for_batches_that_may_be_torn() {
    let mut log = Log::on(SimMachine::new(), Position::default(), LONG);
    for number in 0..16 {
        log.append_summed(2, number, 3);
    }
    // What was durable comes from the summary; the first batch after it is read, and torn.
    log.flip(at(1, 4), 200);
    assert_eq!(log.scan_long().unwrap().batches.len(), 17);
    log.flip(at(1, 10), 200);
    assert_eq!(log.scan_long().unwrap().batches.len(), 3);
}

#[test]
fn the_summary_of_a_dropped_end_counts_no_further_than_the_log_did() {
    let mut log = Log::on(SimMachine::new(), Position::default(), LONG);
    let mut fork = Position::default();
    for number in 0..12 {
        log.append_summed(2, number, 3);
        if number == 5 {
            fork = log.writer.position();
        }
    }
    assert_eq!(log.writer.position().end.segment, SegmentId(2));
    // A power loss took batch 7 and all behind it, but for the summary; another process went on
    // from 6 in a new segment, and its batches became durable.
    log.flip(at(1, 19), 200);
    let mut other = Log::on(log.machine.clone(), fork, LONG);
    for number in 0..8 {
        other.append_summed(2, 100 + number, 6 + u64::from(number));
    }
    let found = log.scan_long().unwrap();
    assert_eq!(found.end, other.writer.position());
    let expected = (1..=6).map(|number| at(1, number * 3 - 2));
    let expected = expected.chain((0..8).map(|number| at(3, 1 + number * 3)));
    assert_eq!(places(&found), expected.collect::<Vec<_>>());
}

#[test]
fn a_batch_that_grew_before_a_crash_which_lost_that_is_not_taken_from_a_summary() {
    let mut log = Log::on(SimMachine::new(), Position::default(), LONG);
    for number in 0..5 {
        log.append_summed(2, number, 0);
    }
    let (short, fork) = (at(1, 13), log.writer.position());
    let header = log.slot(short);
    while log.grow(2, 9, SALT) {}
    let mut last = 0;
    while log.writer.position().end.segment == SegmentId(1) {
        last = log.append_summed(2, 20, 0);
    }
    assert!(last > fork.seq.0 + 1);
    // The power loss took the longer header alone; the segment with the summary is whole.
    log.write_slot(short, &header);
    let recovered = log.scan_long().unwrap();
    assert_eq!(recovered.end, fork);
    let mut other = Log::on(log.machine.clone(), fork, LONG);
    for number in 0..4 {
        other.append_summed(2, 100 + number, fork.seq.0 + u64::from(number));
    }
    let found = log.scan_long().unwrap();
    assert_eq!(found.end, other.writer.position());
    let expected = (0..5).map(|number| at(1, 1 + number * 3));
    let expected = expected.chain((0..4).map(|number| at(3, 1 + number * 3)));
    assert_eq!(places(&found), expected.collect::<Vec<_>>());
}
