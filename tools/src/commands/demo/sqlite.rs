//! SQLite in an ext4 image, without root: the image is made by mke2fs, files go in and out by debugfs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use offshoot::check::{self, CheckOptions};
use offshoot::{FileKms, Options, Store, Volume};

use super::image::{self, Ext4};
use super::report::{Outcome, Report, holds};
use super::{changes, proof};
use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::sizes;
use crate::source::Source;
use crate::transfer::{Writer, Zeroes};

const BASE: &str = "base";
const CLONES: [&str; 3] = ["dev", "test", "partner"];
const DATABASE: &str = "shop.db";
const IMAGE_MEBIBYTES: u64 = 96;
const ORDERS: &str = "PRAGMA page_size = 4096; \
    CREATE TABLE orders (n INTEGER PRIMARY KEY, who TEXT, what TEXT); \
    CREATE INDEX by_who ON orders (who); \
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 200000) \
    INSERT INTO orders SELECT n, 'base', hex(n * 7919) FROM number;";
/// Whole, and whose rows are there.
const FOUND: &str = "PRAGMA integrity_check; \
    SELECT who || ' ' || count(*) FROM orders GROUP BY who ORDER BY who = 'base' DESC;";

/// The programs that it takes.
pub struct Programs {
    sqlite: PathBuf,
    mke2fs: PathBuf,
    ext4: Ext4,
}

struct Demo<'a> {
    context: &'a Context,
    dir: &'a Path,
    programs: Programs,
    report: Report,
}

impl Programs {
    /// All that is needed, or what is missing.
    pub fn find() -> Result<Self, Vec<String>> {
        let wanted = ["sqlite3", "mke2fs"];
        let found = wanted.map(image::program);
        match (found, Ext4::find()) {
            ([Some(sqlite), Some(mke2fs)], Some(ext4)) => Ok(Self {
                sqlite,
                mke2fs,
                ext4,
            }),
            (found, ext4) => {
                let missing = wanted.iter().zip(found).filter(|(_, path)| path.is_none());
                let mut missing: Vec<String> = missing.map(|(name, _)| (*name).into()).collect();
                if ext4.is_none() {
                    missing.push("e2fsck and debugfs".to_owned());
                }
                Err(missing)
            }
        }
    }
}

/// Runs all steps and prints the table.
pub fn run(context: &Context, programs: Programs, dir: &Path, note: Option<String>) -> Result {
    let mut demo = Demo {
        context,
        dir,
        programs,
        report: Report::default(),
    };
    if let Some(note) = note {
        demo.report.note(note);
    }
    let image = demo.make_image()?;
    let kms = FileKms::create(&dir.join("kms"), "local")?;
    kms.create_key(Some("alias/offshoot-store"))?;
    let store = Options::new().create(dir.join("store"), kms.clone())?;
    demo.import(&store, &kms, &image)?;
    for name in CLONES {
        demo.branch(&store, &kms, name)?;
        demo.write(&store, name)?;
    }
    demo.prove(&store)?;
    demo.delete(&store)?;
    store.close()?;
    demo.fsck(kms)?;
    demo.report.print(context)
}

impl Demo<'_> {
    fn step(&mut self, name: &str, work: impl FnOnce(&Programs) -> Result<Outcome>) -> Result {
        let programs = &self.programs;
        self.report.step(self.context, name, || work(programs))
    }

    fn make_image(&mut self) -> Result<PathBuf> {
        let (files, path) = (self.dir.join("files"), self.dir.join("image"));
        let made = path.clone();
        self.step("make an SQLite database in an ext4 image", |programs| {
            fs::create_dir(&files)
                .map_err(|error| Failure::io("make directory", files.display(), error))?;
            sql(programs, &files.join(DATABASE), ORDERS)?;
            let output = Command::new(&programs.mke2fs)
                .args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
                .args([&files, &path])
                .arg(format!("{IMAGE_MEBIBYTES}M"))
                .output()
                .map_err(|error| Failure::io("run", "mke2fs", error))?;
            image::check("mke2fs", &output)?;
            image::remove(&files)?;
            Ok(Outcome::of("200,000 rows and an index"))
        })?;
        Ok(made)
    }

    fn import(&mut self, store: &Store, kms: &FileKms, image: &Path) -> Result {
        let key = kms.create_key(Some("alias/default"))?.id;
        let progress = self.context.progress("import", None);
        self.step("import it as volume base", |_| {
            let before = used(store)?;
            let source = Source::open(Some(image))?;
            let import = store.import_volume(BASE, source.len().unwrap_or_default(), &key)?;
            let page_len = store.info()?.page_len;
            Writer::new(import.volume(), 0, Zeroes::Skip, page_len, progress).write(&source)?;
            let volume = import.finish()?;
            let same = proof::hash(&volume)? == proof::hash_file(image, volume.len()?)?;
            Ok(Outcome {
                added: Some(used(store)?.saturating_sub(before)),
                check: holds(same, "BLAKE3 as the file's")?,
                time: None,
            })
        })
    }

    fn branch(&mut self, store: &Store, kms: &FileKms, name: &str) -> Result {
        let key = kms.create_key(Some(&format!("alias/{name}")))?.id;
        let base = store.volume(BASE)?;
        self.step(&format!("clone base {name}"), |_| {
            let start = Instant::now();
            let clone = base.create_clone(name, &key)?;
            Ok(Outcome {
                time: Some(start.elapsed()),
                added: Some(clone.usage()?.exclusive_bytes),
                check: format!("shares every page, under alias/{name}"),
            })
        })
    }

    /// Adds rows to the database of a clone.
    fn write(&mut self, store: &Store, name: &str) -> Result {
        let dir = self.dir;
        self.step(&format!("write to {name}"), |programs| {
            let clone = store.volume(name)?;
            let copy = dir.join(format!("{name}.changed"));
            let database = take_out(programs, &clone, &copy)?;
            let rows = format!(
                "INSERT INTO orders (who, what) SELECT '{name}', what FROM orders LIMIT 1000;"
            );
            sql(programs, &database, &rows)?;
            programs.ext4.replace(&copy, &database, DATABASE)?;
            let pages = changes::write_back(&copy, &clone, store.info()?.page_len)?;
            clone.flush()?;
            forget(&[&copy, &database])?;
            Ok(Outcome {
                added: Some(clone.usage()?.exclusive_bytes),
                ..Outcome::of(format!("1,000 rows by sqlite3: {pages} pages written"))
            })
        })
    }

    fn prove(&mut self, store: &Store) -> Result {
        let dir = self.dir;
        for name in CLONES.iter().chain([&BASE]) {
            self.step(&format!("{name} has its own rows only"), |programs| {
                let copy = dir.join(format!("{name}.img"));
                let database = take_out(programs, &store.volume(name)?, &copy)?;
                programs.ext4.e2fsck(&copy)?;
                let found = sql(programs, &database, FOUND)?;
                forget(&[&copy, &database])?;
                let expected = match *name {
                    BASE => "ok\nbase 200000".to_owned(),
                    name => format!("ok\nbase 200000\n{name} 1000"),
                };
                holds(found.trim() == expected, "e2fsck and integrity_check clean").map(Outcome::of)
            })?;
        }
        Ok(())
    }

    fn delete(&mut self, store: &Store) -> Result {
        self.step("delete the clones, and reclaim", |_| {
            let before = store.space()?.page_bytes;
            store.delete(&CLONES, &[])?;
            store.reclaim(|_| true)?;
            let after = store.space()?.page_bytes;
            let words = format!(
                "{} of pages before, {} now",
                sizes::human(before),
                sizes::human(after)
            );
            holds(after < before, &words).map(Outcome::of)
        })
    }

    fn fsck(&mut self, kms: FileKms) -> Result {
        let store = self.dir.join("store");
        self.step("fsck, with every page's checksum", |_| {
            let options = CheckOptions::new().kms(Arc::new(kms)).read_data(true);
            let report = check::check_dir(&store, &options)?;
            let pages = sizes::human(report.stats.data_bytes);
            holds(report.is_clean(), &format!("clean; {pages} of pages")).map(Outcome::of)
        })
    }
}

/// Copies a volume into a file, and the database in it into another.
fn take_out(programs: &Programs, volume: &Volume, copy: &Path) -> Result<PathBuf> {
    proof::export(volume, copy)?;
    let database = copy.with_extension("db");
    let bytes = programs.ext4.get(copy, DATABASE)?;
    let bytes = bytes.ok_or_else(|| Failure::Broken(format!("{DATABASE} is not in the image")))?;
    fs::write(&database, bytes).map_err(|error| Failure::io("write", database.display(), error))?;
    Ok(database)
}

/// Runs statements on a database, and returns what they find.
fn sql(programs: &Programs, database: &Path, statements: &str) -> Result<String> {
    let output = Command::new(&programs.sqlite)
        .args(["-batch", "-bail", "-init", "/dev/null"])
        .arg(database)
        .arg(statements)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::io("run", "sqlite3", error))?;
    image::check("sqlite3", &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn forget(files: &[&Path]) -> Result {
    for file in files {
        fs::remove_file(file).map_err(|error| Failure::io("remove", file.display(), error))?;
    }
    Ok(())
}

fn used(store: &Store) -> Result<u64> {
    Ok(store.info()?.used_bytes)
}
