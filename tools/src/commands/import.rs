//! `import image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use offshoot::{Error, Import, Kind, Volume};

use crate::commands::volume::discard::data_in;
use crate::commands::volume::view;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::session::Session;
use crate::sizes;
use crate::source::Source;
use crate::transfer::{Writer, Zeroes};
use crate::views::VolumeView;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Image(Image),
}

/// Make a volume of a raw disk image, or fill one with it
///
/// Holes and blocks of zeroes take no space. The volume is `importing` meanwhile. If the command
/// does not end, the next one deletes a volume that this one made, or marks an older one
/// `import_failed`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot import image disk.img pg\n  \
                        zcat disk.img.gz | offshoot import image - pg --size 10G")]
pub struct Image {
    /// The image: a file, a device, or - for standard input
    file: PathBuf,
    /// The volume; made if there is none
    volume: String,
    /// The size of a new volume, at least that of the image [default: that of the image]
    #[arg(long, value_parser = sizes::parse)]
    size: Option<u64>,
    /// The KMS key of a new volume [default: alias/default]
    #[arg(long, value_name = "KEY")]
    kms_key: Option<String>,
    /// Discard what a volume holds first
    #[arg(long)]
    force: bool,
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    let Command::Image(args) = command;
    let printer = context.output.of::<VolumeView>()?;
    let source = Source::open(Some(&args.file))?;
    if source.len() == Some(0) {
        return Err(empty(&source));
    }
    let imported = context.with_managed_store(Access::Own, |session| {
        let import = match session.volume(&args.volume) {
            Ok(volume) => into_old(&args, &source, &volume)?,
            Err(Failure::Library(Error::NotFound {
                kind: Kind::Volume, ..
            })) => into_new(&args, &source, session)?,
            Err(error) => return Err(error),
        };
        let progress = context.progress("import image", source.len());
        let block = session.store.info()?.page_len;
        let writer = Writer::new(import.volume(), 0, Zeroes::Skip, block, progress);
        match writer.write(&source) {
            Ok(0) => {
                import.abort()?;
                Err(empty(&source))
            }
            Ok(_) => view(session, &import.finish()?),
            Err(error) => {
                // The next open does the same, should this fail; the first error is the news.
                let _ = import.abort();
                Err(error)
            }
        }
    })?;
    printer.show(&imported)
}

/// Most likely what was to write into the pipe has failed.
fn empty(source: &Source) -> Failure {
    Failure::Invalid(format!("{} is empty, which no image is", source.name()))
}

fn into_new(args: &Image, source: &Source, session: &Session) -> Result<Import> {
    let name = source.name();
    let size = match (args.size, source.len()) {
        (Some(size), Some(len)) if size < len => {
            return Err(Failure::Invalid(format!(
                "{name} has {len} bytes, more than --size"
            )));
        }
        (Some(size), _) | (None, Some(size)) => size,
        (None, None) => {
            let text = format!("{name} has no length: give the new volume a --size");
            return Err(Failure::Invalid(text));
        }
    };
    let key = session.key(args.kms_key.as_deref())?;
    Ok(session
        .store
        .import_volume(&session.new_volume_name(&args.volume)?, size, &key)?)
}

fn into_old(args: &Image, source: &Source, volume: &Volume) -> Result<Import> {
    let (name, len) = (volume.name()?, volume.len()?);
    if args.size.is_some() || args.kms_key.is_some() {
        let text = format!("volume {name} exists: --size and --kms-key are for a new one");
        return Err(Failure::Invalid(text));
    }
    if let Some(image_len) = source.len().filter(|&image_len| image_len > len) {
        return Err(Failure::Invalid(format!(
            "{} has {image_len} bytes, volume {name} has {len}: resize it first",
            source.name()
        )));
    }
    let data = data_in(volume, 0..len)?;
    if data > 0 && !args.force {
        let data = sizes::human(data);
        return Err(Failure::AlreadyExists(format!(
            "volume {name} holds {data} of data: --force discards it first, another name makes a \
             new volume"
        )));
    }
    let import = volume.begin_import()?;
    if data > 0 {
        import.volume().discard(0..len)?;
    }
    Ok(import)
}
