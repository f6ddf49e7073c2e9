//! The steps, in order.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use offshoot::check::{self, CheckOptions};
use offshoot::{FileKms, KeyId, Options, Store};

use super::cluster::{Cluster, Opened};
use super::ledger::{self, Committed};
use super::load::Load;
use super::programs::Programs;
use super::served::Served;
use crate::commands::demo::report::{Outcome, Report, holds};
use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::sizes;

const SOURCE: &str = "pg";
const SNAPSHOT: &str = "running";
const CLONES: [&str; 3] = ["dev", "test", "partner"];
const VOLUME_LEN: u64 = 8 << 30;
/// Two million accounts.
const SCALE: u32 = 20;
/// How long the load runs alone, while clones are made, and on all at once.
const SECONDS: [u32; 3] = [5, 8, 5];
const FIRST_PORT: u16 = 5440;

struct Demo<'a> {
    context: &'a Context,
    dir: &'a Path,
    programs: Rc<Programs>,
    report: Report,
    interrupt: Interrupt,
}

/// A clone that no server was started on yet.
struct Fresh {
    name: &'static str,
    committed: Committed,
}

/// Runs all steps and prints the table.
pub fn run(context: &Context, programs: Rc<Programs>, dir: &Path) -> Result {
    let mut demo = Demo {
        context,
        dir,
        programs,
        report: Report::default(),
        interrupt: Interrupt::new(),
    };
    let opened = demo.make_store()?;
    let source = demo.make_cluster(&opened)?;
    demo.load_alone(&source)?;
    let fresh = demo.clone_under_load(&opened, &source)?;
    let clones = demo.start_clones(&opened, fresh)?;
    demo.load_all(&opened, &source, &clones)?;
    demo.prove_isolation(&source, &clones)?;
    demo.delete(&opened, clones)?;
    demo.reclaim(&opened)?;
    demo.check_source(source)?;
    demo.fsck(opened)?;
    demo.report.print(context)
}

impl Demo<'_> {
    /// A step; a signal that came meanwhile ends the demo after it, and all is taken down.
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Outcome>) -> Result {
        self.report.step(self.context, name, work)?;
        self.interrupt.check()
    }

    fn make_store(&mut self) -> Result<Opened> {
        let mut made = None;
        let dir = self.dir;
        self.step("make a store, and a KMS key for each volume", || {
            let kms = FileKms::create(&dir.join("kms"), "local")?;
            kms.create_key(Some("alias/offshoot-store"))?;
            let key = kms.create_key(Some(&alias(SOURCE)))?.id;
            for name in CLONES {
                kms.create_key(Some(&alias(name)))?;
            }
            let store = Options::new().create(dir.join("store"), kms.clone())?;
            store.create_volume(SOURCE, VOLUME_LEN, &key)?;
            let mounts = tempfile::Builder::new()
                .prefix("offshoot-pg-")
                .permissions(Permissions::from_mode(0o755))
                .tempdir()
                .map_err(|error| Failure::io("make", "a temporary directory", error))?;
            made = Some(Opened {
                served: Served::start(&mounts.path().join("nbd.sock"))?,
                store,
                kms,
                mounts,
            });
            Ok(Outcome::of("served over NBD by this process"))
        })?;
        made.ok_or(Failure::Cancelled("the store was not made"))
    }

    fn make_cluster(&mut self, opened: &Opened) -> Result<Cluster> {
        let mut made = None;
        let programs = self.programs.clone();
        self.step("initdb on ext4, loop, nbdfuse, volume pg", || {
            let before = used(&opened.store)?;
            let cluster = made.insert(Cluster::mount(&programs, opened, SOURCE, FIRST_PORT, true)?);
            cluster.server.init()?;
            cluster.server.start()?;
            Ok(Outcome {
                added: Some(used(&opened.store)?.saturating_sub(before)),
                check: "started; its pages have checksums".to_owned(),
                time: None,
            })
        })?;
        let cluster = made.ok_or(Failure::Cancelled("the cluster was not made"))?;
        self.step(&format!("pgbench -i -s {SCALE}"), || {
            let before = used(&opened.store)?;
            cluster.server.prepare_load(SCALE)?;
            ledger::create(&cluster.server)?;
            // Otherwise each clone's recovery would write all tables once more.
            cluster.server.query("CHECKPOINT")?;
            Ok(Outcome {
                added: Some(used(&opened.store)?.saturating_sub(before)),
                check: format!("{} accounts", SCALE * 100_000),
                time: None,
            })
        })?;
        Ok(cluster)
    }

    fn load_alone(&mut self, source: &Cluster) -> Result {
        self.step("pgbench before, 2 clients", || {
            let loaded = source.server.load(SECONDS[0], "before")?.finish()?;
            Ok(Outcome::of(format!(
                "{:.0} transactions/s, the longest {:.0} ms",
                loaded.per_second, loaded.longest_ms
            )))
        })
    }

    /// Makes a snapshot and the clones while a load runs.
    fn clone_under_load(&mut self, opened: &Opened, source: &Cluster) -> Result<Vec<Fresh>> {
        let begun = Instant::now();
        let load = source.server.load(SECONDS[1], "beside")?;
        let volume = opened.store.volume(SOURCE)?;
        self.step("snapshot pg@running, beside pgbench", || {
            let start = Instant::now();
            let snapshot = volume.create_snapshot(SNAPSHOT)?;
            Ok(Outcome {
                time: Some(start.elapsed()),
                added: Some(snapshot.usage()?.exclusive_bytes),
                check: "read-only, shares every page".to_owned(),
            })
        })?;
        let mut fresh = Vec::new();
        for name in CLONES {
            ledger::add(&source.server, SOURCE)?;
            let committed = Committed::now(&source.server)?;
            let key = key(&opened.kms, name)?;
            self.step(&format!("clone pg {name}, beside pgbench"), || {
                let start = Instant::now();
                let clone = volume.create_clone(name, &key)?;
                Ok(Outcome {
                    time: Some(start.elapsed()),
                    added: Some(clone.usage()?.exclusive_bytes),
                    check: format!("shares every page, under {}", alias(name)),
                })
            })?;
            fresh.push(Fresh { name, committed });
        }
        self.end_load(load, begun)?;
        Ok(fresh)
    }

    fn end_load(&mut self, load: Load, begun: Instant) -> Result {
        let made = begun.elapsed();
        self.step("pgbench meanwhile, 2 clients", || {
            let loaded = load.finish()?;
            // What was made after it would have been made without it.
            let beside = made.as_secs() < u64::from(SECONDS[1]);
            let words = format!(
                "{:.0} transactions/s, the longest {:.0} ms",
                loaded.per_second, loaded.longest_ms
            );
            Ok(Outcome {
                time: Some(begun.elapsed()),
                ..Outcome::of(match beside {
                    true => words,
                    false => format!("{words}; it had ended before the last clone"),
                })
            })
        })
    }

    /// Starts a server on each clone, and proves what is in it.
    fn start_clones(&mut self, opened: &Opened, fresh: Vec<Fresh>) -> Result<Vec<Cluster>> {
        let programs = self.programs.clone();
        let mut clones = Vec::new();
        for (port, Fresh { name, committed }) in (FIRST_PORT + 1..).zip(fresh) {
            self.step(&format!("start {name}"), || {
                let before = used(&opened.store)?;
                let mut clone = Cluster::mount(&programs, opened, name, port, false)?;
                clone.server.disown()?;
                clone.server.start()?;
                let recovered = clone.server.has_recovered()?;
                clones.push(clone);
                Ok(Outcome {
                    added: Some(used(&opened.store)?.saturating_sub(before)),
                    check: holds(recovered, "a server of its own; recovered as from a crash")?,
                    time: None,
                })
            })?;
            let Some(clone) = clones.last() else {
                continue;
            };
            self.step(&format!("{name} has what was committed"), || {
                let whole = committed.is_in(&clone.server)?;
                let balanced = ledger::is_balanced(&clone.server)?;
                let words = format!("{}; balances agree", committed.words());
                holds(whole && balanced, &words).map(Outcome::of)
            })?;
            self.step(&format!("pg_amcheck {name}"), || {
                clone.server.amcheck()?;
                Ok(Outcome::of("every table and index is whole"))
            })?;
        }
        Ok(clones)
    }

    /// Writes to all at once.
    fn load_all(&mut self, opened: &Opened, source: &Cluster, clones: &[Cluster]) -> Result {
        self.step("pgbench on pg and its clones at once", || {
            let before = used(&opened.store)?;
            let all = || clones.iter().chain([source]);
            let loads: Vec<Load> = all()
                .map(|cluster| cluster.server.load(SECONDS[2], "at-once"))
                .collect::<Result<_>>()?;
            let mut rates = Vec::new();
            for load in loads {
                rates.push(format!("{:.0}", load.finish()?.per_second));
            }
            let mut balanced = true;
            for cluster in all() {
                ledger::add(&cluster.server, cluster.name)?;
                balanced &= ledger::is_balanced(&cluster.server)?;
            }
            let words = format!("{} transactions/s; balances agree", rates.join(" + "));
            Ok(Outcome {
                added: Some(used(&opened.store)?.saturating_sub(before)),
                check: holds(balanced, &words)?,
                time: None,
            })
        })
    }

    fn prove_isolation(&mut self, source: &Cluster, clones: &[Cluster]) -> Result {
        self.step("none has the rows of another", || {
            let mut own = ledger::writers(&source.server)? == SOURCE;
            for clone in clones {
                let mut expected = [SOURCE, clone.name];
                expected.sort_unstable();
                own &= ledger::writers(&clone.server)? == expected.join(" ");
                clone.server.amcheck()?;
            }
            holds(own, "and pg_amcheck on each again").map(Outcome::of)
        })
    }

    fn delete(&mut self, opened: &Opened, clones: Vec<Cluster>) -> Result {
        self.step("stop the clones", || {
            for mut clone in clones {
                clone.server.stop()?;
                clone.mounted.detach()?;
            }
            Ok(Outcome::of("their file systems are unmounted"))
        })?;
        self.step("delete them and the snapshot", || {
            let start = Instant::now();
            opened.store.delete(&CLONES, &[SNAPSHOT])?;
            Ok(Outcome {
                time: Some(start.elapsed()),
                ..Outcome::of("beside pg, which runs on")
            })
        })
    }

    fn reclaim(&mut self, opened: &Opened) -> Result {
        let interrupt = &self.interrupt;
        self.report.step(self.context, "reclaim", || {
            let before = used(&opened.store)?;
            opened.store.reclaim(|_| interrupt.check().is_ok())?;
            let space = opened.store.space()?;
            Ok(Outcome::of(format!(
                "{} before, {} now: pages {}, log and spares {}",
                sizes::human(before),
                sizes::human(space.allocated_bytes),
                sizes::human(space.page_bytes + space.node_bytes),
                sizes::human(space.log_bytes + space.spare_bytes),
            )))
        })?;
        self.interrupt.check()
    }

    fn check_source(&mut self, source: Cluster) -> Result {
        self.step("pg_amcheck pg, then stop it", || {
            let mut source = source;
            source.server.amcheck()?;
            let balanced = ledger::is_balanced(&source.server)?;
            source.server.stop()?;
            source.mounted.detach()?;
            holds(balanced, "balances agree; unmounted").map(Outcome::of)
        })
    }

    fn fsck(&mut self, opened: Opened) -> Result {
        let Opened {
            served,
            store,
            kms,
            mounts,
        } = opened;
        served.end()?;
        store.close()?;
        drop(mounts);
        let dir = self.dir;
        self.step("fsck, with every page's checksum", || {
            let options = CheckOptions::new().kms(Arc::new(kms)).read_data(true);
            let report = check::check_dir(&dir.join("store"), &options)?;
            let pages = sizes::human(report.stats.data_bytes);
            holds(report.is_clean(), &format!("clean; {pages} of pages")).map(Outcome::of)
        })
    }
}

fn alias(name: &str) -> String {
    format!("alias/{name}")
}

fn key(kms: &FileKms, name: &str) -> Result<KeyId> {
    Ok(kms.key(&alias(name))?.id)
}

fn used(store: &Store) -> Result<u64> {
    Ok(store.info()?.used_bytes)
}
