//! `export image`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use offshoot::{Error, Pin};
use serde::Serialize;

use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::session::{Readable, Session};
use crate::sizes;
use crate::transfer::{self, Zeroes};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Image(Image),
}

/// Write a volume or snapshot to a raw disk image
///
/// The image is not encrypted: a new file can be read by its owner only. It appears under its
/// name when it is complete, with holes where the volume has none or only zeroes.
///
/// With --pin the state is held under that name until the image is complete: cut off, the same
/// command begins again with the same state, whatever was written or deleted meanwhile.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  offshoot export image pg@monday monday.img\n  \
                        offshoot export image pg - | zstd > pg.img.zst\n  \
                        offshoot export image pg pg.img --pin nightly"
)]
pub struct Image {
    /// The volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT)
    #[arg(value_name = "REF")]
    head: String,
    /// The file, or - for standard output
    file: PathBuf,
    /// Hold the state under this name until the image is complete
    #[arg(long, value_name = "NAME")]
    pin: Option<String>,
    /// Replace a file, or write onto a device
    #[arg(long)]
    force: bool,
}

impl Command {
    /// Whether it writes a file, which the process that has the store does not do for others.
    pub fn writes_file(&self) -> bool {
        let Self::Image(args) = self;
        args.file != Path::new("-")
    }
}

#[derive(Serialize)]
struct Exported {
    name: String,
    file: String,
    size_bytes: u64,
    data_bytes: u64,
}

/// Where an image goes.
enum Target {
    /// Standard output.
    Stdout,
    /// A file that is replaced, or one that is new.
    File(PathBuf),
    /// A device, a pipe: it is there and stays.
    Special(File),
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    let Command::Image(args) = command;
    let file = args.file.display().to_string();
    let target = target(&args)?;
    if matches!(target, Target::Stdout) {
        context
            .output
            .refuse_json("export image to standard output")?;
    }
    let access = match args.pin {
        Some(_) => Access::Own,
        None => Access::Read,
    };
    let exported = context.with_managed_store(access, |session| {
        let pin = pin(session, &args)?;
        let (name, head): (_, Box<dyn Readable>) = match &pin {
            Some((pin, name)) => (name.clone(), Box::new(pin.clone())),
            None => {
                let head = session.head(&args.head)?;
                (head.name()?, Box::new(head))
            }
        };
        let (head, size_bytes) = (&*head, head.len()?);
        let release = || pin.map_or(Ok(()), |(pin, _)| pin.release());
        let progress = context.progress("export image", Some(size_bytes));
        let data_bytes = match &target {
            Target::Stdout => {
                transfer::print(head, 0..size_bytes, context.output.raw(), progress)?;
                release()?;
                return Ok(None);
            }
            Target::File(path) => {
                let save = |new: &File| transfer::save(head, new, &file, Zeroes::Skip, progress);
                replace(path, args.force, size_bytes, save)?
            }
            Target::Special(device) => {
                check_room(head, device, &file)?;
                let data = transfer::save(head, device, &file, Zeroes::Write, progress)?;
                device
                    .sync_all()
                    .map_err(|error| Failure::io("sync", &file, error))?;
                data
            }
        };
        release()?;
        Ok(Some(Exported {
            name,
            file,
            size_bytes,
            data_bytes,
        }))
    })?;
    let Some(exported) = exported else {
        return Ok(());
    };
    let (size, data) = (
        sizes::human(exported.size_bytes),
        sizes::human(exported.data_bytes),
    );
    let sentence = format!("{size} written to {}, {data} of it data", exported.file);
    context.output.done("exported/1", &exported, &sentence)
}

/// The pin to read from, if one was asked for: the one that is there, or a new one. And the name of what
/// it holds.
fn pin(session: &Session, args: &Image) -> Result<Option<(Pin, String)>> {
    let Some(name) = &args.pin else {
        return Ok(None);
    };
    let held = match session.store.pin(name) {
        Ok(pin) => {
            let (held_id, head) = (pin.info()?.held_id, session.head(&args.head));
            // What it holds may be deleted by now.
            match head {
                Ok(head) if head.id()? != held_id => {
                    let text = format!("pin {name} holds another volume or snapshot");
                    return Err(Failure::AlreadyExists(text));
                }
                Ok(_) | Err(Failure::Library(Error::NotFound { .. })) => pin,
                Err(error) => return Err(error),
            }
        }
        Err(Error::NotFound { .. }) => session.head(&args.head)?.pin(name)?,
        Err(error) => return Err(error.into()),
    };
    Ok(Some((held, args.head.clone())))
}

fn target(args: &Image) -> Result<Target> {
    let path = &args.file;
    let name = path.display();
    if path == Path::new("-") {
        return Ok(Target::Stdout);
    }
    let kind = match fs::metadata(path) {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Target::File(path.clone()));
        }
        Err(error) => return Err(Failure::io("write", name, error)),
    };
    if kind.is_dir() {
        return Err(Failure::Invalid(format!(
            "{name} is a directory: name a file, or -"
        )));
    }
    if kind.file_type().is_char_device() || kind.file_type().is_fifo() {
        let text = format!("{name} is no file and no disk: write to - and redirect that");
        return Err(Failure::Invalid(text));
    }
    if !args.force {
        return Err(Failure::AlreadyExists(format!(
            "{name} exists: --force replaces it"
        )));
    }
    if kind.is_file() {
        // Through a symbolic link the file it names is replaced, not the link.
        let path = fs::canonicalize(path).map_err(|error| Failure::io("write", name, error))?;
        return Ok(Target::File(path));
    }
    let device = OpenOptions::new().write(true).open(path);
    Ok(Target::Special(
        device.map_err(|error| Failure::io("write", name, error))?,
    ))
}

/// Writes a file beside its place and moves it there when it is complete and durable.
pub(super) fn replace(
    path: &Path,
    force: bool,
    len: u64,
    save: impl FnOnce(&File) -> Result<u64>,
) -> Result<u64> {
    let name = path.display();
    let fail = |error| Failure::io("write", name.to_string(), error);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let new = tempfile::Builder::new()
        .prefix(".offshoot-")
        .tempfile_in(directory)
        .map_err(fail)?;
    new.as_file().set_len(len).map_err(fail)?;
    let written = save(new.as_file())?;
    new.as_file().sync_all().map_err(fail)?;
    if force {
        new.persist(path).map_err(|error| fail(error.error))?;
    } else {
        new.persist_noclobber(path)
            .map_err(|error| fail(error.error))?;
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(fail)?;
    Ok(written)
}

fn check_room(head: &dyn Readable, mut device: &File, name: &str) -> Result {
    use std::io::Seek;
    let room = device.seek(io::SeekFrom::End(0));
    let room = room.map_err(|error| Failure::io("measure", name, error))?;
    if room < head.len()? {
        let len = head.len()?;
        return Err(Failure::Invalid(format!(
            "{name} has {room} bytes, {len} are needed"
        )));
    }
    Ok(())
}
