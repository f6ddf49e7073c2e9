mod audit;
mod crashes;
mod damage;
mod heads;
mod keys;
mod real;
mod states;

use super::FileKms;
use crate::io::sim::{SimClock, SimMachine, SimRandom};
use crate::io::{Access, Disk};
use crate::kms::{Context, KmsError};
use crate::sync::Arc;
use crate::units::{KeyState, ResourceId, StoreId};

const STORE: StoreId = StoreId([1; 16]);
const RESOURCE: ResourceId = ResourceId([2; 16]);
const CONTEXT: Context = Context {
    store: STORE,
    resource: RESOURCE,
    purpose: "store-key",
};

fn disk(machine: &SimMachine) -> Arc<dyn Disk> {
    Arc::new(machine.dir("kms"))
}

fn create(machine: &SimMachine) -> FileKms {
    let (clock, random) = (Arc::new(SimClock::new(1000)), Arc::new(SimRandom::new(1)));
    FileKms::create_on(disk(machine), "local", clock, random).unwrap()
}

fn open_on(disk: Arc<dyn Disk>, seed: u64) -> crate::error::Result<FileKms> {
    FileKms::open_on(
        disk,
        Arc::new(SimClock::new(2000)),
        Arc::new(SimRandom::new(seed)),
    )
}

fn open(machine: &SimMachine, seed: u64) -> FileKms {
    open_on(disk(machine), seed).unwrap()
}

fn read(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Puts other contents into a file, longer or shorter.
fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) {
    disk.remove(name).unwrap();
    disk.create(name, bytes.len() as u64)
        .unwrap()
        .write_all_at(bytes, 0)
        .unwrap();
}

fn is_missing<T: std::fmt::Debug>(result: &Result<T, KmsError>) -> bool {
    matches!(
        result,
        Err(KmsError::Unavailable {
            state: KeyState::Missing,
            ..
        })
    )
}
