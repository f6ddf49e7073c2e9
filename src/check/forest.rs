//! A forest of epochs, to ask in constant time whether one lies above another.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt};

/// Parents and children, numbered so that all below an epoch are adjacent.
#[derive(Debug, Default)]
pub(super) struct Forest {
    /// For each epoch its number in a walk and the greatest number below it.
    spans: HashMap<u32, (u32, u32)>,
}

impl Forest {
    /// A forest of epochs and their parents. A parent that is not there makes a root.
    pub fn new(parents: &BTreeMap<u32, Option<u32>>) -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut roots = Vec::new();
        for (&id, &parent) in parents {
            match parent.filter(|parent| parents.contains_key(parent)) {
                Some(parent) => children.entry(parent).or_default().push(id),
                None => roots.push(id),
            }
        }
        let mut forest = Self::default();
        let mut next = 0;
        let mut open: Vec<(u32, u32)> = Vec::new();
        // An epoch comes off the stack twice: to enter it, and after all below it.
        let mut stack: Vec<(u32, bool)> = roots.into_iter().map(|id| (id, true)).collect();
        while let Some((id, entering)) = stack.pop() {
            if entering {
                open.push((id, next));
                next += 1;
                stack.push((id, false));
                let below = children.remove(&id).unwrap_or_default();
                stack.extend(below.into_iter().map(|id| (id, true)));
            } else if let Some((id, first)) = open.pop() {
                forest.spans.insert(id, (first, next - 1));
            }
        }
        forest
    }

    /// Whether `id` is there.
    pub fn contains(&self, id: u32) -> bool {
        self.spans.contains_key(&id)
    }

    /// Whether `above` is `id` or an ancestor of it.
    pub fn is_above(&self, above: u32, id: u32) -> bool {
        match (self.spans.get(&above), self.spans.get(&id)) {
            (Some(&(first, last)), Some(&(at, _))) => (first..=last).contains(&at),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_those_that_parents_lead_to() {
        let parents = (1..200_u32).map(|id| (id, (id % 7 != 1).then_some(id / 3 + 1)));
        let parents: BTreeMap<_, _> = parents.filter(|(id, p)| *p != Some(*id)).collect();
        let forest = Forest::new(&parents);
        for &id in parents.keys() {
            let mut above = std::collections::BTreeSet::from([id]);
            let mut at = id;
            while let Some(&Some(parent)) = parents.get(&at) {
                if !parents.contains_key(&parent) {
                    break;
                }
                above.insert(parent);
                at = parent;
            }
            for &other in parents.keys() {
                assert_eq!(forest.is_above(other, id), above.contains(&other));
            }
        }
        assert!(!forest.contains(500));
        assert!(!forest.is_above(500, 500));
    }
}
