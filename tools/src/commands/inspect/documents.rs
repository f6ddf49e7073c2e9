//! What `inspect` shows, as JSON.

use offshoot::SlotAddr;
use offshoot::check::inspect::{
    BatchView, LevelView, LineageView, OccupancyView, PackView, PageData, PageState, PageView,
    Problem, RawSlot, RawView, SegmentView, SlotCounts, SuperblockSlot, SuperblockState,
    SuperblockView, TreeView,
};
use serde_json::{Value, json};

use crate::views::time;

/// The superblocks.
pub fn superblocks(slots: &[SuperblockSlot]) -> Value {
    let slots = slots.iter().map(|slot| {
        let (state, problem, superblock) = match &slot.state {
            SuperblockState::Unwritten => ("unwritten", None, None),
            SuperblockState::Damaged(problem) => ("damaged", Some(problem), None),
            SuperblockState::Whole(superblock) => ("whole", None, Some(whole(superblock))),
        };
        json!({
            "file": slot.file,
            "slot": slot.slot,
            "state": state,
            "problem": problem,
            "superblock": superblock,
        })
    });
    json!({ "schema": "superblocks/1", "slots": slots.collect::<Vec<_>>() })
}

fn whole(it: &SuperblockView) -> Value {
    json!({
        "store_id": it.store_id.to_string(),
        "generation": it.generation,
        "created_at": time(it.created_at_ms),
        "page_bytes": it.page_len,
        "segment_slots": it.segment_slots,
        "clean": it.clean,
        "next_head": it.next_head.0,
        "next_lineage": it.next_lineage.0,
        "next_key_epoch": it.next_key_epoch.0,
        "seq": it.seq.0,
        "chain": hex(&it.chain),
        "end": slot(it.end),
        "durable_through": it.durable_through.0,
        "tables": it.tables.map(slot),
        "kms_key_id": it.kms_key.to_string(),
    })
}

/// A packed file.
pub fn pack(it: &PackView) -> Value {
    let parts = it.parts.iter().map(|part| {
        json!({ "segment": part.segment.0, "slot_count": part.slots, "run_count": part.runs })
    });
    json!({ "schema": "pack/1", "pack": {
        "number": it.pack.0,
        "store_id": it.store_id.to_string(),
        "slot_count": it.slot_count,
        "index_slots": it.index_slots,
        "parts": parts.collect::<Vec<_>>(),
        "problem": it.problem,
    }})
}

/// A segment.
pub fn segment(it: &SegmentView) -> Value {
    json!({ "schema": "segment/1", "segment": {
        "number": it.segment.0,
        "store_id": it.store_id.map(|id| id.to_string()),
        "slot_count": it.slot_count,
        "problem": it.problem,
        "end": slot(it.end),
        "stopped": it.stopped,
        "batches": it.batches.iter().map(batch).collect::<Vec<_>>(),
        "later_batches": it.later.iter().map(batch).collect::<Vec<_>>(),
    }})
}

/// What the slots of a segment are used for.
pub fn occupancy(it: &OccupancyView) -> Value {
    let owners = it.owners.iter().map(|owner| {
        json!({
            "head": owner.head.0,
            "kind": owner.kind.to_string(),
            "name": owner.name,
            "slots": owner.slots,
            "exclusive_slots": owner.exclusive,
        })
    });
    let mut occupancy = json!({ "file": it.file });
    extend(&mut occupancy, slot_counts(&it.slots));
    let lists = json!({
        "owners": owners.collect::<Vec<_>>(),
        "problems": problems(&it.problems),
    });
    extend(&mut occupancy, lists);
    occupancy
}

/// Adds the fields of one object to another.
pub(super) fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// Slots by what they are used for.
pub(super) fn slot_counts(it: &SlotCounts) -> Value {
    json!({
        "header_slots": it.header,
        "page_slots": it.pages,
        "node_slots": it.nodes,
        "shared_slots": it.shared,
        "log_slots": it.log,
        "waiting_slots": it.waiting,
        "dead_slots": it.dead,
        "free_slots": it.free,
    })
}

/// What could not be read.
pub(super) fn problems(problems: &[Problem]) -> Value {
    let problems = problems
        .iter()
        .map(|it| json!({ "code": it.code, "location": it.place, "message": it.message }));
    problems.collect()
}

/// Slots as they are.
pub fn raw(place: &str, it: &RawView) -> Value {
    json!({ "schema": "raw/1", "raw": {
        "place": place,
        "missing_slots": it.missing,
        "slots": it.slots.iter().map(raw_slot).collect::<Vec<_>>(),
    }})
}

fn raw_slot(it: &RawSlot) -> Value {
    let fields = it.fields.iter().map(|field| {
        let value = match field.bytes.len() {
            // Numbers are little-endian; names and ids are longer, or stand for themselves.
            1..=8 if field.name != "magic" => {
                let number = field.bytes.iter().rev();
                json!(number.fold(0_u64, |number, &byte| number << 8 | u64::from(byte)))
            }
            _ => json!(hex(&field.bytes)),
        };
        (field.name.to_owned(), value)
    });
    json!({
        "slot": it.slot,
        "looks_like": it.looks_like,
        "problem": it.problem,
        "crc": hex(&it.crc.to_be_bytes()),
        "fields": fields.collect::<serde_json::Map<_, _>>(),
        "bytes": hex(&it.bytes),
    })
}

/// A batch.
pub(super) fn batch(it: &BatchView) -> Value {
    let records = it.records.iter().map(|record| {
        json!({
            "kind": record.kind,
            "head": record.head.map(|head| head.0),
            "count": record.count,
            "detail": record.detail,
        })
    });
    json!({
        "seq": it.seq.0,
        "at": slot(it.at),
        "header_slots": it.header_slots,
        "body_slots": it.body_slots,
        "durable_through": it.durable_through.0,
        "previous_end": slot(it.previous_end),
        "chain": hex(&it.chain),
        "previous_chain": hex(&it.previous_chain),
        "salt": hex(&it.salt),
        "records": records.collect::<Vec<_>>(),
        "damaged": it.damaged.iter().copied().map(slot).collect::<Vec<_>>(),
        "malformed": it.malformed,
    })
}

/// A page of a head.
pub fn page(name: &str, it: &PageView) -> Value {
    let mut page = json!({
        "head": it.head.0,
        "name": name,
        "page": it.page.0,
        "from_log": it.from_log,
        "path": it.path.iter().copied().map(slot).collect::<Vec<_>>(),
        "problems": problems(&it.problems),
    });
    let state = match &it.state {
        PageState::Unmapped => json!({ "state": "hole" }),
        PageState::Zero { key_epoch, lineage } => json!({
            "state": "zero",
            "key_epoch": key_epoch.0,
            "lineage": lineage.map(|lineage| lineage.0),
        }),
        PageState::Lost { key_epoch, lineage } => json!({
            "state": "lost",
            "key_epoch": key_epoch.0,
            "lineage": lineage.map(|lineage| lineage.0),
        }),
        PageState::Data(data) => page_data(data),
    };
    extend(&mut page, state);
    json!({ "schema": "page/1", "page": page })
}

fn page_data(it: &PageData) -> Value {
    json!({
        "state": "data",
        "key_epoch": it.key_epoch.0,
        "lineage": it.lineage.map(|lineage| lineage.0),
        "at": slot(it.at),
        "salt": it.salt.map(|salt| hex(&salt)),
        "nonce": hex(&it.nonce),
        "tag": hex(&it.tag),
        "crc": hex(&it.crc.to_be_bytes()),
        "damage": it.damage,
    })
}

/// A page table.
pub fn tree(name: &str, it: &TreeView) -> Value {
    json!({ "schema": "tree/1", "tree": {
        "head": it.head.0,
        "name": name,
        "height": it.height,
        "node_count": it.nodes,
        "page_count": it.pages,
        "nodes": it.levels.iter().flat_map(nodes).collect::<Vec<_>>(),
        "problems": problems(&it.problems),
    }})
}

fn nodes(level: &LevelView) -> impl Iterator<Item = Value> {
    level.nodes.iter().map(|node| {
        json!({
            "level": level.level,
            "at": slot(node.at),
            "first_page": node.first_page.0,
            "last_page": node.last_page.0,
            "items": node.items,
            "key_epoch": node.key_epoch.0,
            "lineage": node.lineage.map(|lineage| lineage.0),
            "hash": hex(&node.hash),
            "damage": node.damage,
        })
    })
}

/// Heads and epochs.
pub fn lineage(it: &LineageView) -> Value {
    let heads = it.heads.iter().map(|head| {
        json!({
            "head": head.head.0,
            "kind": head.kind.to_string(),
            "name": head.name,
            "state": head.state,
            "lineage": head.lineage.0,
            "key_epoch": head.key_epoch.0,
            "root": head.root.map(slot),
            "size_bytes": head.len,
            "id": head.resource_id.to_string(),
            "origin_id": head.origin_id.map(|id| id.to_string()),
            "clone_group_id": head.group_id.map(|id| id.to_string()),
            "kms_key_id": head.kms_key.to_string(),
            "created_at": time(head.created_at_ms),
        })
    });
    let lineages = it.lineage_epochs.iter().map(|epoch| {
        json!({
            "lineage": epoch.lineage.0,
            "parent": epoch.parent.map(|parent| parent.0),
            "changed": epoch.changed,
            "heads": epoch.heads.iter().map(|head| head.0).collect::<Vec<_>>(),
        })
    });
    let keys = it.key_epochs.iter().map(|epoch| {
        json!({
            "key_epoch": epoch.key_epoch.0,
            "lineage": epoch.lineage.0,
            "above": epoch.above.map(|above| above.0),
            "far": epoch.far.map(|far| far.0),
            "depth": epoch.depth,
            "random_id": hex(&epoch.random_id),
        })
    });
    json!({
        "heads": heads.collect::<Vec<_>>(),
        "lineage_epochs": lineages.collect::<Vec<_>>(),
        "key_epochs": keys.collect::<Vec<_>>(),
        "problems": problems(&it.problems),
    })
}

/// A place.
pub(super) fn slot(at: SlotAddr) -> Value {
    json!({ "segment": at.segment.0, "slot": at.slot })
}

/// Bytes as digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
