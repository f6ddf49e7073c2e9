//! What `inspect` shows of the state of a store, as JSON: catalog, keys, log.

use offshoot::KeyInfo;
use offshoot::check::inspect::{CatalogView, CheckpointView, EpochKeyView, KeysView, LogView};
use serde_json::{Value, json};

use crate::commands::inspect::documents::{batch, extend, hex, lineage, problems, slot};
use crate::views::key_text;

/// The catalog.
pub fn catalog(it: &CatalogView) -> Value {
    let mut catalog = json!({
        "generation": it.generation,
        "authenticated": it.authenticated,
        "complete": it.complete,
        "tables_seq": it.tables_seq.0,
        "table_batches": it.table_batches.iter().copied().map(slot).collect::<Vec<_>>(),
        "log_batches": it.log_batches,
        "seq": it.seq.0,
        "end": slot(it.end),
        "torn_tail": it.torn_tail,
        "next_head": it.next_head.0,
        "next_lineage": it.next_lineage.0,
        "next_key_epoch": it.next_key_epoch.0,
    });
    let segments = it
        .segments
        .iter()
        .map(|(segment, slots)| json!({ "segment": segment.0, "slot_count": slots }));
    let salts = it.salts.iter().map(
        |(at, salt)| json!({ "segment": at.segment.0, "first_slot": at.slot, "salt": hex(salt) }),
    );
    let lists = json!({
        "segments": segments.collect::<Vec<_>>(),
        "salts": salts.collect::<Vec<_>>(),
        "problems": problems(&it.problems),
    });
    extend(&mut catalog, lineage(&it.lineage));
    // Those of the lineage are those of the catalog.
    extend(&mut catalog, lists);
    json!({ "schema": "catalog/1", "catalog": catalog })
}

/// The keys, and what the KMS says of those that it keeps, if it is at hand.
pub fn keys(it: &KeysView, kms_keys: Option<&[KeyInfo]>) -> Value {
    let used = |key: &&KeyInfo| {
        let of_head = it.heads.iter().any(|head| head.kms_key == key.id);
        of_head || it.store_kms_key == key.id
    };
    let kms_keys = kms_keys.map(|keys| {
        let keys = keys.iter().filter(used).map(|key| {
            json!({
                "id": key_text(key.id),
                "status": key.state.as_str(),
                "version": key.version,
                "aliases": key.aliases,
            })
        });
        keys.collect::<Vec<_>>()
    });
    let heads = it.heads.iter().map(|head| {
        json!({
            "head": head.head.0,
            "kind": head.kind.to_string(),
            "name": head.name,
            "kms_key_id": key_text(head.kms_key),
            "head_key_id": head.head_key.to_string(),
            "open_epoch": head.open_epoch.0,
            "epoch_count": head.epoch_count,
            "links_to_root": head.links_to_root,
        })
    });
    json!({ "schema": "keys/1", "keys": {
        "store_kms_key_id": key_text(it.store_kms_key),
        "store_key_commitment": hex(&it.store_key_commitment),
        "kms_keys": kms_keys,
        "heads": heads.collect::<Vec<_>>(),
        "epochs": it.epochs.iter().map(epoch).collect::<Vec<_>>(),
        "problems": problems(&it.problems),
    }})
}

fn epoch(it: &EpochKeyView) -> Value {
    json!({
        "key_epoch": it.key_epoch.0,
        "lineage": it.lineage.0,
        "above": it.above.map(|above| above.0),
        "far": it.far.map(|far| far.0),
        "depth": it.depth,
        "random_id": hex(&it.random_id),
        "commitment": hex(&it.commitment),
        "heads": it.heads.iter().map(|head| head.0).collect::<Vec<_>>(),
    })
}

/// A part of the log.
pub fn log(it: &LogView) -> Value {
    json!({ "schema": "log/1", "log": {
        "authenticated": it.authenticated,
        "next_seq": it.next.map(|seq| seq.0),
        "end": it.end.as_ref().map(|(at, _)| slot(*at)),
        "stopped": it.end.as_ref().map(|(_, why)| why),
        "checkpoints": it.checkpoints.iter().map(checkpoint).collect::<Vec<_>>(),
        "batches": it.batches.iter().map(batch).collect::<Vec<_>>(),
        "problems": problems(&it.problems),
    }})
}

fn checkpoint(it: &CheckpointView) -> Value {
    json!({
        "generation": it.generation,
        "seq": it.seq.0,
        "end": slot(it.end),
        "durable_through": it.durable_through.0,
        "clean": it.clean,
    })
}
