//! Which exports a server has, as its command line says.

use crate::commands::serve::ephemeral::Ephemeral;
use crate::commands::serve::nbd::Nbd;
use crate::exit::Result;
use crate::nbd::exports::{Export, Exports};
use crate::session::{Head, Session};

/// The exports of the arguments.
pub fn exports(
    session: &Session,
    args: &Nbd,
    unlisted: bool,
    ephemeral: &Ephemeral,
) -> Result<Exports> {
    let exports = Exports::new(unlisted);
    let references = match args.all {
        true => all(session),
        false => args.references.clone(),
    };
    for reference in &references {
        let (reference, name) = match reference.split_once('=') {
            Some((reference, name)) => (reference, Some(name)),
            None => (reference.as_str(), None),
        };
        let head = session.head(reference)?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => name_of(&head, reference)?,
        };
        let head = match args.ephemeral_clone {
            true => ephemeral.clone_of(&head)?,
            false => head,
        };
        exports.add(Export::new(head, &name, args.read_only, &session.store)?)?;
    }
    Ok(exports)
}

/// References of all volumes and snapshots. A snapshot may have outlived its volume.
fn all(session: &Session) -> Vec<String> {
    let volumes = session.store.volumes();
    let snapshots = session.store.snapshots();
    let snapshots = snapshots.into_iter().map(|snapshot| {
        let mut of = volumes
            .iter()
            .filter(|volume| volume.id == snapshot.volume_id);
        let volume = of.next().map_or("", |volume| &volume.name);
        format!("{volume}@{}", snapshot.name)
    });
    let snapshots: Vec<String> = snapshots.collect();
    let names = volumes.into_iter().map(|volume| volume.name);
    names.chain(snapshots).collect()
}

/// A head's name as references have it: in lower case, and short where an ARN was given.
fn name_of(head: &Head, reference: &str) -> Result<String> {
    let name = head.name()?;
    Ok(match (head, reference.split_once('@')) {
        (Head::Volume(_), _) => name,
        (Head::Snapshot(_), Some((volume, _))) => format!("{}@{name}", volume.to_lowercase()),
        (Head::Snapshot(_), None) => format!("@{name}"),
    })
}
