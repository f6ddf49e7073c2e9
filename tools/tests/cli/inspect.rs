//! `inspect ...`.

use crate::support::{Place, contents, fields, noise};

fn place() -> Place {
    let place = Place::with_volume();
    place.write("pg", 4096, &noise(400_000, 1));
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&["clone", "create", "pg", "dev"]);
    place.write("dev", 0, b"changed");
    place
}

#[test]
fn every_view_has_json_and_text_and_writes_nothing() {
    let place = place();
    let before = contents(&place.store());
    let views = [
        (&["superblock"][..], "superblocks/1"),
        (&["segment", "1"], "segment/1"),
        (&["page", "pg:1"], "page/1"),
        (&["tree", "pg"], "tree/1"),
        (&["lineage"], "lineage/1"),
        (&["--layout"], "layout/1"),
    ];
    for (args, schema) in views {
        let args = [&["inspect"], args].concat();
        assert_eq!(place.json(&args)["schema"], schema);
        assert!(!place.ok(&args).is_empty(), "{args:?}");
    }
    assert!(contents(&place.store()) == before);
}

#[test]
fn a_clone_shares_pages_and_seals_its_own_under_its_own_epoch() {
    let place = place();
    let page = |head: &str| place.json(&["inspect", "page", head])["page"].clone();
    let (source, shared, own) = (page("pg:1"), page("dev:1"), page("DEV:0"));
    assert_eq!(source["state"], "data");
    assert_eq!(fields(&source["at"]), ["segment", "slot"]);
    for field in ["at", "tag", "nonce", "key_epoch"] {
        assert_eq!(source[field], shared[field], "{field}");
    }
    assert_ne!(own["key_epoch"], shared["key_epoch"]);
    assert_eq!(page("pg@monday:1")["at"], source["at"]);
    assert_eq!(page("@monday:0")["state"], "hole");
    let lineage = place.json(&["inspect", "lineage"]);
    let heads = lineage["lineage"]["heads"].as_array().expect("heads");
    assert_eq!(heads.len(), 3);
    assert_eq!(heads[1]["origin_id"], heads[0]["id"]);
}

#[test]
fn what_is_not_there_is_refused() {
    let place = place();
    place.fails(&["inspect"], 2, "invalid");
    for page in ["pg", "pg:", "pg:x", ":"] {
        let output = place
            .command(&["inspect", "page", page])
            .output()
            .expect("an output");
        assert_eq!(output.status.code(), Some(2), "{page}");
    }
    place.fails(&["inspect", "page", "pg:99999999"], 2, "out_of_bounds");
    place.fails(&["inspect", "page", "none:0"], 14, "not_found");
    place.fails(&["inspect", "tree", "@none"], 14, "not_found");
    place.fails(&["inspect", "tree", "dev@monday"], 14, "not_found");
    place.fails(&["inspect", "segment", "99"], 18, "corrupt");
    let bare = Place::bare();
    for view in ["superblock", "lineage"] {
        bare.fails(&["inspect", view], 10, "not_a_store");
    }
}
