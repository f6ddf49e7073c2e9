//! Changing clones: through the file system in them where there is one, else page by page.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use offshoot::Volume;

use super::image::Image;
use super::proof;
use crate::exit::{Failure, Result};

/// The file that a changed clone has.
pub const FILE: &str = "written-in-a-clone";

/// What the clone of that name has in it.
pub fn text(name: &str) -> String {
    format!("this file exists in {name} only\n").repeat(100_000)
}

/// Changes a volume. Returns how many pages were written.
pub fn change(image: &Image, volume: &Volume, page_len: u32, dir: &Path) -> Result<u64> {
    let name = volume.name()?;
    let copy = dir.join(format!("{name}.changed"));
    proof::export(volume, &copy)?;
    match &image.ext4 {
        Some(ext4) => {
            let new = dir.join(format!("{name}.txt"));
            fs::write(&new, text(&name))
                .map_err(|error| Failure::io("write", new.display(), error))?;
            ext4.put(&copy, &new, FILE)?;
        }
        None => scatter(&copy, &name)?,
    }
    let pages = write_back(&copy, volume, page_len)?;
    volume.flush()?;
    fs::remove_file(&copy).map_err(|error| Failure::io("remove", copy.display(), error))?;
    Ok(pages)
}

/// Writes a line here and there.
fn scatter(copy: &Path, name: &str) -> Result {
    let fail = |error| Failure::io("write", copy.display(), error);
    let file = File::options().write(true).open(copy).map_err(fail)?;
    let len = file.metadata().map_err(fail)?.len();
    let line = format!("changed in {name} only\n");
    for step in 0..500 {
        let offset = len.saturating_sub(line.len() as u64) / 500 * step;
        file.write_all_at(line.as_bytes(), offset).map_err(fail)?;
    }
    Ok(())
}

/// Writes those pages of a file into the volume that differ.
pub fn write_back(copy: &Path, volume: &Volume, page_len: u32) -> Result<u64> {
    let fail = |error| Failure::io("read", copy.display(), error);
    let file = File::open(copy).map_err(fail)?;
    let (mut wanted, mut found) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let page_len = page_len as usize;
    let len = volume.len()?;
    let mut pages = 0;
    let mut at = 0;
    while at < len {
        let count = (len - at).min(1 << 20) as usize;
        let (wanted, found) = (&mut wanted[..count], &mut found[..count]);
        file.read_exact_at(wanted, at).map_err(fail)?;
        volume.read_exact_at(found, at)?;
        let both = wanted.chunks(page_len).zip(found.chunks(page_len));
        for (index, (wanted, found)) in both.enumerate() {
            if wanted != found {
                volume.write_all_at(wanted, at + (index * page_len) as u64)?;
                pages += 1;
            }
        }
        at += count as u64;
    }
    Ok(pages)
}
