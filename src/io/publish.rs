//! The ways in which small files become, stay and stop being durable.
//!
//! Together with the store's commit this is the only code that syncs. Whoever gets an error from
//! here does not know what is on disk.

use std::io;

use crate::io::{Access, Disk, DiskFile};
use crate::sync::Arc;

/// Makes a file appear under its name with all its contents, or not at all, durably.
///
/// Its length is `len`, or that of `contents` if that is more; the rest is zeroes. A file that
/// has the name is replaced. The file is open for writing.
///
/// If it fails before the file has its name, nothing remains but perhaps a file `NAME.tmp`,
/// which the next call for the name clears away. If only the last step fails, the file has its
/// name but may lose it with the power.
pub fn publish(
    disk: &dyn Disk,
    name: &str,
    len: u64,
    contents: &[u8],
) -> io::Result<Arc<dyn DiskFile>> {
    let len = len.max(contents.len() as u64);
    publish_with(disk, name, len, |file| file.write_all_at(contents, 0))
}

/// Like [`publish`] for a file of `len` bytes that `fill` writes, perhaps little by little.
pub fn publish_with(
    disk: &dyn Disk,
    name: &str,
    len: u64,
    fill: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<Arc<dyn DiskFile>> {
    let temporary = format!("{name}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&temporary, len)?;
    let filled = fill(&*file).and_then(|()| file.sync());
    if let Err(error) = filled.and_then(|()| disk.rename(&temporary, name)) {
        // The error that counts is the first one.
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    disk.sync_names()?;
    Ok(file)
}

/// Makes a file of zeroes of which every block was written, so that no later write into it needs
/// anything of the file system: what is only allocated may need that.
pub fn publish_written(disk: &dyn Disk, name: &str, len: u64) -> io::Result<()> {
    publish_with(disk, name, len, |file| zero(file, len)).map(drop)
}

/// Gives a file another name, durably.
///
/// If it fails nobody knows under which of the two it is after a crash.
pub fn rename(disk: &dyn Disk, from: &str, to: &str) -> io::Result<()> {
    disk.rename(from, to)?;
    disk.sync_names()
}

/// Gives a file that is there other contents and then another name, durably, in its own space.
///
/// Nothing of the file may count any more, under neither name: a crash can leave the new contents
/// under the old name, or part of them.
pub fn reuse(
    disk: &dyn Disk,
    from: &str,
    to: &str,
    fill: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(from, Access::ReadWrite)?;
    fill(&*file)?;
    file.sync()?;
    rename(disk, from, to)?;
    Ok(file)
}

/// Puts the bytes of a file, as they are read, into a new one of the same name, durably: what the medium may not get of the
/// old one, whatever is done. Returns the new one.
pub fn renew(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
    let old = disk.open(name, Access::Read)?;
    let len = old.len()?;
    publish_with(disk, name, len, |file| {
        let mut bytes = vec![0; len.min(COPY_LEN) as usize];
        let mut offset = 0;
        while offset < len {
            bytes.truncate(usize::try_from(len - offset).unwrap_or(usize::MAX));
            old.read_exact_at(&mut bytes, offset)?;
            file.write_all_at(&bytes, offset)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    })
}

/// Writes bytes into a file and makes them durable.
pub fn write_durable(file: &dyn DiskFile, buf: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(buf, offset)?;
    file.sync()
}

/// Overwrites a file with zeroes and takes it away, both durably.
///
/// The zeroes reach the medium before the name goes, so no crash leaves the bytes in space that
/// is called free.
pub fn destroy(disk: &dyn Disk, name: &str) -> io::Result<()> {
    overwrite(&*disk.open(name, Access::ReadWrite)?)?;
    disk.remove(name)?;
    disk.sync_names()
}

/// Like [`publish`] with exactly these contents; then the bytes of the file that had the name are
/// overwritten with zeroes, durably.
///
/// A crash between the two leaves the old bytes in space that is free.
pub fn replace_secret(disk: &dyn Disk, name: &str, contents: &[u8]) -> io::Result<()> {
    let old = match disk.open(name, Access::ReadWrite) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    publish(disk, name, 0, contents)?;
    old.map_or(Ok(()), |old| overwrite(&*old))
}

/// Overwrites a file with zeroes, durably.
fn overwrite(file: &dyn DiskFile) -> io::Result<()> {
    zero(file, file.len()?)?;
    file.sync()
}

/// Bytes that are copied at a time.
const COPY_LEN: u64 = 256 << 10;
/// Bytes of zeroes that are written, and sent to the disk, at a time.
const ZERO_LEN: u64 = 256 << 10;

/// Writes so many bytes of zeroes.
fn zero(file: &dyn DiskFile, len: u64) -> io::Result<()> {
    let zeroes = vec![0; len.min(ZERO_LEN) as usize];
    let mut offset = 0;
    while offset < len {
        let count = zeroes
            .len()
            .min(usize::try_from(len - offset).unwrap_or(usize::MAX));
        file.write_all_at(&zeroes[..count], offset)?;
        file.write_back(offset, count as u64)?;
        offset += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
