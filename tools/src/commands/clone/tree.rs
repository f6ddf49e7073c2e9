//! `clone tree`: which volume or snapshot came from which.

use std::collections::{BTreeMap, HashMap, HashSet};

use clap::Args;
use offshoot::{Charge, Error, ResourceId, Usage};
use serde_json::{Value, json};

use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::session::Session;
use crate::sizes;

/// Show volumes, snapshots and clones under what they came from
///
/// A bar is as long as what is mapped, the longest 20 signs: # is exclusive, = shared. Charged is what it
/// pays for (see `volume show`).
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot clone tree pg")]
pub struct Tree {
    /// Only from this volume or snapshot on
    #[arg(value_name = "REF")]
    root: Option<String>,
}

/// Signs of the longest bar.
const BAR_LEN: f64 = 20.0;

/// A volume or snapshot in its place.
struct Node {
    id: ResourceId,
    parent: Option<ResourceId>,
    kind: &'static str,
    name: String,
    status: &'static str,
    len: u64,
    usage: Option<Usage>,
    charge: Option<Charge>,
}

/// A node in the order of the tree.
struct Row<'a> {
    node: &'a Node,
    depth: usize,
    /// What stands before the name in the drawing.
    branch: String,
}

/// Runs the command.
pub fn run(context: &Context, args: &Tree) -> Result {
    let (nodes, problem, root) = context.with_store(Access::Read, |session| {
        let root = args.root.as_deref().map(|root| session.head(root));
        let root = root.transpose()?.map(|root| root.id()).transpose()?;
        let (nodes, problem) = nodes(session)?;
        Ok((nodes, problem, root))
    })?;
    let rows = arrange(&nodes, root);
    let document = json!({
        "schema": "clone-tree/1",
        "nodes": rows.iter().map(document).collect::<Vec<_>>(),
    });
    let most = nodes.iter().filter_map(|node| node.usage.as_ref());
    let most = most.map(|usage| usage.referenced_bytes).max().unwrap_or(0);
    let lines: String = rows.iter().map(|row| line(row, most)).collect();
    context.output.document(&document, &lines)?;
    problem.map_or(Ok(()), |problem| Err(Failure::Partial(problem)))
}

/// All nodes, and the first error of looking into one: it does not hide the others.
fn nodes(session: &Session) -> Result<(Vec<Node>, Option<Error>)> {
    let store = &session.store;
    let charges = store.charges()?.into_iter();
    let mut charges: HashMap<_, _> = charges.map(|charge| (charge.id, charge)).collect();
    let mut problem = None;
    let mut known = |usage: offshoot::Result<Usage>| match usage {
        Ok(usage) => Some(usage),
        Err(error) => {
            problem.get_or_insert(error);
            None
        }
    };
    let mut nodes = Vec::new();
    for volume in store.volumes() {
        nodes.push(Node {
            usage: known(store.volume(&volume.name).and_then(|it| it.usage())),
            charge: charges.remove(&volume.id),
            id: volume.id,
            parent: volume.origin_id,
            kind: "volume",
            status: volume.state.as_str(),
            len: volume.len,
            name: volume.name,
        });
    }
    for snapshot in store.snapshots() {
        nodes.push(Node {
            usage: known(store.snapshot(&snapshot.name).and_then(|it| it.usage())),
            charge: charges.remove(&snapshot.id),
            id: snapshot.id,
            parent: Some(snapshot.volume_id),
            kind: "snapshot",
            status: snapshot.state.as_str(),
            len: snapshot.len,
            name: format!("@{}", snapshot.name),
        });
    }
    Ok((nodes, problem))
}

/// The nodes below a root, or all, each after what it came from. Without recursion: a clone of
/// a clone may be thousands deep.
fn arrange(nodes: &[Node], root: Option<ResourceId>) -> Vec<Row<'_>> {
    let known: HashSet<_> = nodes.iter().map(|node| node.id).collect();
    let mut children: BTreeMap<Option<ResourceId>, Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        // Where the origin is deleted, a tree begins.
        let parent = node.parent.filter(|parent| known.contains(parent));
        children.entry(parent).or_default().push(node);
    }
    let top: Vec<_> = match root {
        Some(root) => nodes.iter().filter(|node| node.id == root).collect(),
        None => children.get(&None).cloned().unwrap_or_default(),
    };
    let mut rows = Vec::new();
    let mut waiting: Vec<_> = top
        .into_iter()
        .rev()
        .map(|node| (node, 0, Vec::new()))
        .collect();
    while let Some((node, depth, lasts)) = waiting.pop() {
        rows.push(Row {
            node,
            depth,
            branch: branch(&lasts),
        });
        let below = children.get(&Some(node.id)).map_or(&[][..], Vec::as_slice);
        for (index, child) in below.iter().enumerate().rev() {
            let mut lasts = lasts.clone();
            lasts.push(index + 1 == below.len());
            waiting.push((child, depth + 1, lasts));
        }
    }
    rows
}

/// Draws the lines before a name; each level says whether it is the last of its kind.
fn branch(lasts: &[bool]) -> String {
    let Some((own, above)) = lasts.split_last() else {
        return String::new();
    };
    let above: String = above
        .iter()
        .map(|last| if *last { "   " } else { "│  " })
        .collect();
    format!("{above}{}", if *own { "└─ " } else { "├─ " })
}

/// Exclusive and shared bytes as a bar, to the scale of the most that any maps.
fn bar(usage: &Usage, most: u64) -> String {
    let signs = |bytes: u64| (bytes as f64 / most.max(1) as f64 * BAR_LEN).ceil() as usize;
    let exclusive = signs(usage.exclusive_bytes);
    let all = signs(usage.referenced_bytes).max(exclusive);
    match all {
        0 => String::new(),
        _ => format!(" {}{}", "#".repeat(exclusive), "=".repeat(all - exclusive)),
    }
}

fn line(row: &Row<'_>, most: u64) -> String {
    let node = row.node;
    let usage = node.usage.as_ref().map_or_else(String::new, |usage| {
        let exclusive = sizes::human(usage.exclusive_bytes);
        format!(
            ", {exclusive} exclusive, {} shared",
            sizes::human(usage.shared_bytes)
        )
    });
    let charged = node.charge.as_ref().map_or_else(String::new, |charge| {
        format!(", charged {}", sizes::human(charge.charged_bytes))
    });
    let bar = node
        .usage
        .as_ref()
        .map_or_else(String::new, |usage| bar(usage, most));
    let gone = if row.depth == 0 && node.parent.is_some() {
        ", its origin is deleted"
    } else {
        ""
    };
    let state = if node.status == "available" {
        ""
    } else {
        node.status
    };
    let state = if state.is_empty() {
        String::new()
    } else {
        format!(", {state}")
    };
    format!(
        "{}{} ({}{usage}{charged}{gone}{state}){bar}\n",
        row.branch,
        node.name,
        sizes::human(node.len)
    )
}

fn document(row: &Row<'_>) -> Value {
    let node = row.node;
    json!({
        "name": node.name.trim_start_matches('@'),
        "kind": node.kind,
        "id": node.id.to_string(),
        "parent_id": node.parent.map(|parent| parent.to_string()),
        "depth": row.depth,
        "status": node.status,
        "size_bytes": node.len,
        "exclusive_bytes": node.usage.as_ref().map(|usage| usage.exclusive_bytes),
        "shared_bytes": node.usage.as_ref().map(|usage| usage.shared_bytes),
        "charged_bytes": node.charge.as_ref().map(|charge| charge.charged_bytes),
        "split_bytes": node.charge.as_ref().map(|charge| charge.split_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8, parent: u8, name: &str) -> Node {
        let id_of = |byte: u8| ResourceId([byte; 16]);
        Node {
            id: id_of(id),
            parent: (parent > 0).then(|| id_of(parent)),
            kind: "volume",
            name: name.to_owned(),
            status: "available",
            len: 4096,
            usage: None,
            charge: None,
        }
    }

    #[test]
    fn children_stand_under_what_they_came_from() {
        let nodes = [
            node(1, 0, "a"),
            node(2, 1, "b"),
            node(3, 1, "d"),
            node(4, 2, "c"),
            node(5, 9, "e"),
        ];
        let text: String = arrange(&nodes, None)
            .iter()
            .map(|row| line(row, 0))
            .collect();
        let wanted = "\
a (4 KiB)
├─ b (4 KiB)
│  └─ c (4 KiB)
└─ d (4 KiB)
e (4 KiB, its origin is deleted)
";
        assert_eq!(text, wanted);
        let names: Vec<_> = arrange(&nodes, Some(nodes[1].id))
            .iter()
            .map(|row| row.node.name.clone())
            .collect();
        assert_eq!(names, ["b", "c"]);
    }
}
