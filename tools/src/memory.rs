//! Keys are in this process's memory: keeps that from being dumped.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on a crash leaves no core dump, and other processes of the user cannot read the memory.
/// If that is not allowed, things stay as they were.
pub fn keep_from_dumps() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn the_process_is_not_dumped() {
        keep_from_dumps();
        let now = dumpable_behavior().expect("the behaviour");
        assert_eq!(now, DumpableBehavior::NotDumpable);
    }
}
