//! Who pays for what is shared.

use std::collections::BTreeMap;

use offshoot::Store;

use crate::fixture::{PAGE, Sim, page};

/// Charged and split pages by name.
fn charges(store: &Store) -> BTreeMap<String, (u64, u64)> {
    let charges = store.charges().unwrap().into_iter();
    charges
        .map(|charge| (charge.name, (charge.charged_bytes, charge.split_bytes)))
        .collect()
}

fn sum(store: &Store) -> u64 {
    charges(store).values().map(|(charged, _)| charged).sum()
}

#[test]
fn a_clone_pays_for_what_it_changed_and_a_deleted_source_leaves_equal_shares() {
    let sim = Sim::new(91);
    let store = sim.create();
    let source = store.create_volume("source", 64 * PAGE, &sim.key).unwrap();
    source.write_all_at(&page(1).repeat(10), 0).unwrap();
    for name in ["a", "b", "c"] {
        source.create_clone(name, &sim.key).unwrap();
    }
    let clone = store.volume("b").unwrap();
    clone.write_all_at(&page(2).repeat(2), 0).unwrap();
    store.checkpoint().unwrap();
    let all = charges(&store);
    let charged = |name: &str| all[name].0;
    assert_eq!(charged("source"), 10 * PAGE);
    assert_eq!([charged("a"), charged("b"), charged("c")], [0, 2 * PAGE, 0]);
    // Two pages are mapped by three of them, eight by all four.
    let third = (2 * PAGE) as f64 / 3.0 + (8 * PAGE) as f64 / 4.0;
    assert_eq!(all["a"].1, third as u64);
    assert_eq!(all["b"].1, 2 * PAGE + 8 * PAGE / 4);
    assert_eq!(sum(&store), store.space().unwrap().page_bytes);

    source.delete().unwrap();
    store.checkpoint().unwrap();
    let all = charges(&store);
    let part = 10 * PAGE / 3;
    assert_eq!(10 * PAGE % 3, 1);
    assert_eq!(all["a"].0, part + 1, "the remainder is the oldest's");
    assert_eq!((all["b"].0, all["c"].0), (part + 2 * PAGE, part));
    assert_eq!(sum(&store), 12 * PAGE);
    // By page it is what each maps: two by two of them, eight by three.
    assert_eq!(all["a"].1, PAGE + 8 * PAGE / 3);
    assert_eq!(all["b"].1, 2 * PAGE + 8 * PAGE / 3);

    // Clones of a clone pay nothing while that is there.
    store
        .volume("c")
        .unwrap()
        .create_clone("d", &sim.key)
        .unwrap();
    let all = charges(&store);
    assert_eq!((all["c"].0, all["d"].0), (part, 0));
    store.delete(&["a", "b", "c"], &[]).unwrap();
    store.checkpoint().unwrap();
    let all = charges(&store);
    assert_eq!(all["d"], (10 * PAGE, 10 * PAGE));
    assert_eq!(all.len(), 1);
}
