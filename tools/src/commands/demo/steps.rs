//! The steps of the demo, in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offshoot::check::{self, CheckOptions};
use offshoot::{FileKms, KeyId, Options, Store};

use super::image::{self, Image};
use super::report::{Outcome, Report, holds};
use super::{changes, crash, proof};
use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::sizes;
use crate::source::Source;
use crate::transfer::{Writer, Zeroes};

/// The clones, and whether each is under the second KMS key.
const CLONES: [(&str, bool); 3] = [("dev", false), ("test", false), ("partner", true)];

struct Demo<'a> {
    context: &'a Context,
    dir: &'a Path,
    report: Report,
}

/// An open store with what the steps need beside it.
struct Opened {
    store: Store,
    kms: FileKms,
    key: KeyId,
    second_key: KeyId,
}

/// Runs all steps and prints the table.
pub fn run(context: &Context, dir: &Path, note: Option<String>) -> Result {
    let mut demo = Demo {
        context,
        dir,
        report: Report::default(),
    };
    if let Some(note) = note {
        demo.report.note(note);
    }
    let image = demo.make_image()?;
    let opened = demo.make_store()?;
    demo.import(&opened, &image)?;
    demo.branch(&opened)?;
    demo.change(&opened, &image)?;
    demo.prove_isolation(&opened, &image)?;
    opened.store.close()?;
    demo.crash()?;
    demo.fsck(&opened.kms)?;
    demo.report.print(context)
}

impl Demo<'_> {
    fn make_image(&mut self) -> Result<Image> {
        let mut made = None;
        self.report.step(self.context, "make an image", || {
            let image = made.insert(image::make(self.dir)?);
            Ok(Outcome::of(image.contents.clone()))
        })?;
        let image = made.ok_or(Failure::Cancelled("the image was not made"))?;
        if image.ext4.is_none() {
            self.report
                .note("skipped: e2fsck and debugfs, since mke2fs is not here (Debian: e2fsprogs)");
        }
        Ok(image)
    }

    fn make_store(&mut self) -> Result<Opened> {
        let mut made = None;
        self.report
            .step(self.context, "make a store and two KMS keys", || {
                let kms = FileKms::create(&self.dir.join("kms"), "local")?;
                kms.create_key(Some("alias/offshoot-store"))?;
                let key = kms.create_key(Some("alias/default"))?.id;
                let second_key = kms.create_key(Some("alias/second"))?.id;
                let store = Options::new().create(self.dir.join("store"), kms.clone())?;
                made = Some(Opened {
                    store,
                    kms,
                    key,
                    second_key,
                });
                Ok(Outcome::of("AES-256-GCM from the first page on"))
            })?;
        made.ok_or(Failure::Cancelled("the store was not made"))
    }

    fn import(&mut self, opened: &Opened, image: &Image) -> Result {
        let store = &opened.store;
        self.report
            .step(self.context, "import it as volume base", || {
                let before = used(store)?;
                let source = Source::open(Some(&image.path))?;
                let len = source.len().unwrap_or_default();
                let import = store.import_volume("base", len, &opened.key)?;
                let page_len = store.info()?.page_len;
                let progress = self.context.progress("import", Some(len));
                Writer::new(import.volume(), 0, Zeroes::Skip, page_len, progress).write(&source)?;
                let volume = import.finish()?;
                let added = used(store)? - before;
                let same = proof::hash(&volume)? == proof::hash_file(&image.path, volume.len()?)?;
                Ok(Outcome {
                    added: Some(added),
                    check: holds(same, "BLAKE3 as the file's")?,
                    time: None,
                })
            })
    }

    fn branch(&mut self, opened: &Opened) -> Result {
        let store = &opened.store;
        let base = store.volume("base")?;
        self.timed(
            store,
            "snapshot base@monday",
            "read-only, shares every page",
            || base.create_snapshot("monday").map(drop),
        )?;
        for (name, second) in CLONES {
            let (key, under) = match second {
                true => (opened.second_key, "shares every page, second KMS key"),
                false => (opened.key, "shares every page, keys of its own"),
            };
            let step = format!("clone base {name}");
            self.timed(store, &step, under, || {
                base.create_clone(name, &key).map(drop)
            })?;
        }
        Ok(())
    }

    fn timed(
        &mut self,
        store: &Store,
        step: &str,
        check: &str,
        work: impl FnOnce() -> offshoot::Result<()>,
    ) -> Result {
        self.report.step(self.context, step, || {
            let before = used(store)?;
            let start = Instant::now();
            work()?;
            let time: Duration = start.elapsed();
            let added = Some(used(store)? - before);
            Ok(Outcome {
                added,
                check: check.to_owned(),
                time: Some(time),
            })
        })
    }

    fn change(&mut self, opened: &Opened, image: &Image) -> Result {
        let store = &opened.store;
        for (name, _) in CLONES {
            self.report
                .step(self.context, &format!("change {name}"), || {
                    let before = used(store)?;
                    let volume = store.volume(name)?;
                    let page_len = store.info()?.page_len;
                    let pages = changes::change(image, &volume, page_len, self.dir)?;
                    let how = if image.ext4.is_some() {
                        "a file put in by debugfs"
                    } else {
                        "lines"
                    };
                    let check = format!("{how}: {pages} pages written");
                    Ok(Outcome {
                        added: Some(used(store)? - before),
                        check,
                        time: None,
                    })
                })?;
        }
        Ok(())
    }

    fn prove_isolation(&mut self, opened: &Opened, image: &Image) -> Result {
        let store = &opened.store;
        let base = store.volume("base")?;
        let len = base.len()?;
        let dir = self.dir;
        self.report.step(
            self.context,
            "base and its snapshot are as imported",
            || {
                let file = proof::hash_file(&image.path, len)?;
                let same =
                    proof::hash(&base)? == file && proof::hash(&store.snapshot("monday")?)? == file;
                Ok(Outcome::of(holds(same, "BLAKE3 as the file's, both")?))
            },
        )?;
        for (name, _) in CLONES {
            self.report.step(
                self.context,
                &format!("{name} has its own change only"),
                || {
                    let check = match &image.ext4 {
                        Some(_) => prove_clone(dir, store, image, name)?,
                        None => holds(
                            proof::hash(&store.volume(name)?)? != proof::hash(&base)?,
                            "BLAKE3 differs from base's",
                        )?,
                    };
                    Ok(Outcome::of(check))
                },
            )?;
        }
        Ok(())
    }

    fn crash(&mut self) -> Result {
        {
            let (store, kms) = crash::open(self.dir)?;
            let key = kms.key("alias/default")?.id;
            store.create_volume(crash::VOLUME, crash::VOLUME_LEN, &key)?;
            store.close()?;
        }
        let mut acknowledged = 0;
        self.report
            .step(self.context, "kill -9 a process in mid-write", || {
                acknowledged = crash::kill_writer(self.dir)?;
                Ok(Outcome::of(format!(
                    "{acknowledged} entries were acknowledged"
                )))
            })?;
        self.report.step(self.context, "open again", || {
            let start = Instant::now();
            let (store, _) = crash::open(self.dir)?;
            let time = Some(start.elapsed());
            let found = crash::survivors(&store.volume(crash::VOLUME)?, acknowledged)?;
            store.close()?;
            let check = format!("{found} entries there: all acknowledged, no gap, none torn");
            Ok(Outcome {
                added: None,
                check,
                time,
            })
        })
    }

    fn fsck(&mut self, kms: &FileKms) -> Result {
        self.report
            .step(self.context, "fsck, with every page's checksum", || {
                let options = CheckOptions::new()
                    .kms(Arc::new(kms.clone()))
                    .read_data(true);
                let report = check::check_dir(&self.dir.join("store"), &options)?;
                let pages = sizes::human(report.stats.data_bytes);
                holds(report.is_clean(), &format!("clean; {pages} of pages")).map(Outcome::of)
            })
    }
}

/// The clone's file system is whole and has its own file; base's has none.
fn prove_clone(dir: &Path, store: &Store, image: &Image, name: &str) -> Result<String> {
    let Some(ext4) = &image.ext4 else {
        return Ok(String::new());
    };
    let path: PathBuf = dir.join(format!("{name}.img"));
    proof::export(&store.volume(name)?, &path)?;
    ext4.e2fsck(&path)?;
    let own = ext4.get(&path, changes::FILE)?;
    let expected = changes::text(name);
    let in_base = ext4.get(&image.path, changes::FILE)?;
    std::fs::remove_file(&path).map_err(|error| Failure::io("remove", path.display(), error))?;
    holds(
        own.as_deref() == Some(expected.as_bytes()) && in_base.is_none(),
        "e2fsck -fn clean, debugfs finds its file",
    )
}

fn used(store: &Store) -> Result<u64> {
    Ok(store.info()?.used_bytes)
}
