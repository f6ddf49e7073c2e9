//! Random histories against a map.

use std::collections::BTreeSet;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::test_runner::TestRunner;

use crate::btree::node::{Body, Span, fetch};
use crate::btree::tests::{EPOCH, Memory, Model, Walker, entry};
use crate::btree::{Child, Dropped, Fanout, Node, Tree};
use crate::format::entry::Entry;
use crate::sync::Arc;
use crate::units::{KeyEpoch, PageNo, SlotAddr};

/// Trees that live side by side, each with what it should hold.
struct World {
    source: Memory,
    fanout: Fanout,
    heads: Vec<(Tree, Model)>,
    epoch: KeyEpoch,
    number: u32,
}

/// One step of a history. The first number names a tree.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, PageNo),
    Fill(usize, PageNo, u64),
    Remove(usize, PageNo, u64),
    Clone(usize),
    Drop(usize),
    Checkpoint(usize),
    Reload(usize),
    /// A change on a clone, whose given load fails.
    Fail(usize, usize, PageNo, u64),
    OpenEpoch,
}

const HEADS_MAX: usize = 4;

/// The nodes of a tree.
#[derive(Default)]
struct Nodes {
    written: BTreeSet<SlotAddr>,
    /// Those that something else refers to, too.
    unwritten: Vec<Arc<Node>>,
}

impl Nodes {
    fn of(source: &Memory, tree: &Tree) -> Self {
        let mut nodes = Self::default();
        if let Some(root) = &tree.root {
            nodes.add(source, root);
        }
        nodes
    }

    fn add(&mut self, source: &Memory, child: &Child) {
        if let Child::Memory(node) = child
            && node.written().is_none()
            && Arc::strong_count(node) > 1
        {
            self.unwritten.push(node.clone());
        }
        self.written.extend(child.written().map(|at| at.at));
        let node = fetch(source, child, Span::of_root(child)).expect("no load fails");
        if let Body::Inner(children) = node.body() {
            for (_, child) in children {
                self.add(source, child);
            }
        }
    }

    fn has(&self, node: &Arc<Node>) -> bool {
        self.unwritten.iter().any(|other| Arc::ptr_eq(node, other))
    }

    /// Demands that what was dropped is what the tree had before and has not now, each once.
    fn check_dropped(&self, after: &Self, dropped: Vec<Dropped>) {
        let (mut written, mut unwritten) = (Vec::new(), Vec::new());
        for dropped in dropped {
            match dropped {
                Dropped::Written(at) => written.push(at.at),
                Dropped::Unwritten(node) => unwritten.push(node),
            }
        }
        written.sort_unstable();
        assert!(written.iter().eq(self.written.difference(&after.written)));
        for node in self.unwritten.iter().filter(|node| !after.has(node)) {
            let count = unwritten.iter().filter(|other| Arc::ptr_eq(node, other));
            assert_eq!(count.count(), 1);
        }
    }
}

impl World {
    fn new(fanout: Fanout, cached: bool) -> Self {
        let source = Memory {
            cached,
            ..Memory::default()
        };
        Self {
            source,
            fanout,
            heads: vec![(Tree::default(), Model::new())],
            epoch: EPOCH,
            number: 0,
        }
    }

    fn entry(&mut self) -> Entry {
        self.number += 1;
        entry(self.number, self.epoch)
    }

    fn run(&mut self, step: &Step) {
        let count = self.heads.len();
        match *step {
            Step::Set(head, page) => self.set(head % count, page),
            Step::Fill(head, first, len) => {
                let pages: Vec<PageNo> =
                    (first.0..first.0.saturating_add(len)).map(PageNo).collect();
                let is_settable = self.is_settable(head % count, &pages);
                for page in pages {
                    self.set_with(head % count, page, is_settable);
                }
            }
            Step::Remove(head, first, len) => {
                let entry = self.entry();
                let (tree, model) = &mut self.heads[head % count];
                let range = first..PageNo(first.0.saturating_add(len));
                let before = tree.clone();
                let nodes = Nodes::of(&self.source, tree);
                tree.take_dropped();
                let removed = tree
                    .remove_range(&self.source, self.fanout, self.epoch, range.clone())
                    .expect("no load fails");
                let gone: Vec<PageNo> = model.range(range.clone()).map(|(page, _)| *page).collect();
                assert_eq!(removed, !gone.is_empty());
                assert_eq!(tree.same_as(&before), gone.is_empty());
                nodes.check_dropped(&Nodes::of(&self.source, tree), tree.take_dropped());
                model.retain(|page, _| !range.contains(page));
                // A page that was dropped with its subtree can come back.
                if entry.key_epoch() == EPOCH && !gone.is_empty() {
                    self.set(head % count, gone[gone.len() / 2]);
                }
            }
            Step::Clone(head) if count < HEADS_MAX => {
                let head = self.heads[head % count].clone();
                assert!(head.0.same_as(&head.0.clone()));
                self.heads.push(head);
            }
            Step::Drop(head) if count > 1 => drop(self.heads.swap_remove(head % count)),
            Step::Clone(_) | Step::Drop(_) => {}
            Step::Checkpoint(head) => {
                self.source.checkpoint(&self.heads[head % count].0);
            }
            Step::Reload(head) => {
                let tree = &mut self.heads[head % count].0;
                let reloaded = self.source.reload(tree);
                assert!(reloaded.same_as(tree));
                *tree = reloaded;
            }
            Step::Fail(head, load, first, len) => self.fail(head % count, load, first, len),
            Step::OpenEpoch => self.epoch.0 += 1,
        }
    }

    /// Whether pages can be set without a load.
    fn is_settable(&self, head: usize, pages: &[PageNo]) -> bool {
        let (tree, model) = &self.heads[head];
        let olds = tree.settable(self.fanout, pages);
        if let Some(olds) = &olds {
            let olds = olds.iter().copied();
            assert!(olds.eq(pages.iter().map(|page| model.get(page).copied())));
        }
        olds.is_some()
    }

    fn set(&mut self, head: usize, page: PageNo) {
        self.set_with(head, page, self.is_settable(head, &[page]));
    }

    /// Sets a page; no load succeeds if that is settable.
    fn set_with(&mut self, head: usize, page: PageNo, is_settable: bool) {
        let entry = self.entry();
        let (tree, model) = &mut self.heads[head];
        let nodes = Nodes::of(&self.source, tree);
        tree.take_dropped();
        self.source.fail(is_settable.into());
        let old = tree.set(&self.source, self.fanout, self.epoch, page, entry);
        self.source.fail(0);
        assert_eq!(old.expect("no load fails"), model.insert(page, entry));
        nodes.check_dropped(&Nodes::of(&self.source, tree), tree.take_dropped());
    }

    /// Tries two changes on clones; what fails is thrown away, as is what does not.
    fn fail(&mut self, head: usize, load: usize, first: PageNo, len: u64) {
        let entry = self.entry();
        let range = first..PageNo(first.0.saturating_add(len));
        let tree = &self.heads[head].0;
        self.source.fail(load);
        let _ = tree
            .clone()
            .set(&self.source, self.fanout, self.epoch, first, entry);
        self.source.fail(load);
        let _ = tree
            .clone()
            .remove_range(&self.source, self.fanout, self.epoch, range);
        self.source.fail(0);
    }

    fn check(&self) {
        for (tree, model) in &self.heads {
            let pages: Vec<_> = model.iter().map(|(page, entry)| (*page, *entry)).collect();
            assert_eq!(Walker::walk(&self.source, self.fanout, tree).pages, pages);
        }
    }

    /// Reads the tree in every way there is.
    fn check_reads(&self, head: usize, pages: &[PageNo]) {
        let (tree, model) = &self.heads[head % self.heads.len()];
        for (index, &page) in pages.iter().enumerate() {
            let found = tree.get(&self.source, page).expect("no load fails");
            assert_eq!(found, model.get(&page).copied());
            let range = page..pages[(index + 1) % pages.len()];
            let found = tree
                .iter(&self.source, range.clone())
                .map(|item| item.expect("it loads"));
            let model = model.iter().filter(|(page, _)| range.contains(page));
            assert!(found.eq(model.map(|(page, entry)| (*page, *entry))));
        }
    }
}

fn steps(pages: u64) -> impl Strategy<Value = Vec<Step>> {
    let head = 0..HEADS_MAX;
    let page = prop_oneof![
        60 => (0..pages).prop_map(PageNo),
        1 => Just(PageNo(u64::MAX)),
        1 => Just(PageNo(u64::MAX - 1)),
    ];
    let len = prop_oneof![4 => 0..pages / 8, 1 => 0..pages, 1 => Just(u64::MAX)];
    let run = 1..pages / 4;
    let step = prop_oneof![
        8 => (head.clone(), page.clone()).prop_map(|(h, p)| Step::Set(h, p)),
        3 => (head.clone(), page.clone(), run).prop_map(|(h, p, n)| Step::Fill(h, p, n)),
        5 => (head.clone(), page.clone(), len.clone()).prop_map(|(h, p, n)| Step::Remove(h, p, n)),
        2 => head.clone().prop_map(Step::Clone),
        1 => head.clone().prop_map(Step::Drop),
        2 => head.clone().prop_map(Step::Checkpoint),
        2 => head.clone().prop_map(Step::Reload),
        2 => (head, 1..9_usize, page, len).prop_map(|(h, l, p, n)| Step::Fail(h, l, p, n)),
        1 => Just(Step::OpenEpoch),
    ];
    proptest::collection::vec(step, 1..40)
}

fn histories(fanout: Fanout, pages: u64, count: u32) {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(count)
    };
    let probes = proptest::collection::vec((0..pages).prop_map(PageNo), 4);
    TestRunner::new(config)
        .run(
            &(steps(pages), any::<u8>(), probes),
            |(steps, dice, probes)| {
                let mut world = World::new(fanout, !dice.is_multiple_of(8));
                for (index, step) in steps.iter().enumerate() {
                    world.run(step);
                    world.check();
                    world.check_reads(index, &probes);
                }
                Ok(())
            },
        )
        .expect("every history reads as the model");
}

#[test]
fn histories_of_fan_out_3_read_as_the_model() {
    histories(Fanout::new(3), 64, 4000);
}

#[test]
fn histories_of_fan_out_4_read_as_the_model() {
    histories(Fanout::new(4), 100, 3000);
}

#[test]
fn histories_of_fan_out_78_read_as_the_model() {
    histories(Fanout::default(), 2000, 300);
}

#[test]
fn pages_are_settable_where_all_nodes_on_the_way_are_in_memory_without_an_address() {
    let mut world = World::new(Fanout::new(3), true);
    assert!(!world.is_settable(0, &[PageNo(1)]), "there is no root");
    for page in 0..40 {
        world.set(0, PageNo(page));
    }
    assert!(world.is_settable(0, &[PageNo(0), PageNo(39), PageNo(u64::MAX)]));
    world.source.checkpoint(&world.heads[0].0);
    assert!(!world.is_settable(0, &[PageNo(0)]));
    world.set(0, PageNo(0));
    assert!(world.is_settable(0, &[PageNo(0)]));
    assert!(!world.is_settable(0, &[PageNo(0), PageNo(39)]));
}
