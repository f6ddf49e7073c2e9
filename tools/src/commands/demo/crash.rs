//! A process that is killed while it writes, and what must be there afterwards.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use offshoot::{FileKms, Options, Store, Volume};

use crate::exit::{Failure, Result};

/// The volume that it writes to.
pub const VOLUME: &str = "ledger";
/// How long that is.
pub const VOLUME_LEN: u64 = 64 << 20;
/// An entry is one write call of two pages, so that a torn one shows.
const ENTRY_LEN: usize = 8192;
/// Entries between two flushes.
const FLUSH_EVERY: u64 = 8;
/// Acknowledged flushes after which the process is killed.
const ACKNOWLEDGED: u64 = 64;

/// Opens the store of the demo.
pub fn open(dir: &Path) -> Result<(Store, FileKms)> {
    let kms = FileKms::open(&dir.join("kms"))?;
    let store = Options::new().open(dir.join("store"), kms.clone())?;
    Ok((store, kms))
}

/// What the process does: writes entries, flushes, says so, until it is killed.
pub fn write_until_killed(dir: &Path) -> Result {
    let (store, _) = open(dir)?;
    let volume = store.volume(VOLUME)?;
    let mut stdout = std::io::stdout();
    for number in 0..VOLUME_LEN / ENTRY_LEN as u64 {
        volume.write_all_at(&entry(number), number * ENTRY_LEN as u64)?;
        if (number + 1) % FLUSH_EVERY == 0 {
            volume.flush()?;
            writeln!(stdout, "{}", number + 1)
                .map_err(|error| Failure::io("write", "standard output", error))?;
        }
    }
    Ok(())
}

/// Starts the process, kills it in mid-write, and says how many entries it had acknowledged.
pub fn kill_writer(dir: &Path) -> Result<u64> {
    let exe =
        std::env::current_exe().map_err(|error| Failure::io("find", "this program", error))?;
    let mut child = Command::new(exe)
        .args(["demo", "--writer", "--dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::io("start", "the writing process", error))?;
    let acknowledged = wait(&mut child);
    // On Unix this is SIGKILL.
    child
        .kill()
        .map_err(|error| Failure::io("kill", "the writing process", error))?;
    child
        .wait()
        .map_err(|error| Failure::io("wait for", "the writing process", error))?;
    acknowledged
}

fn wait(child: &mut Child) -> Result<u64> {
    let stdout = child.stdout.take().map(BufReader::new);
    let mut last = 0;
    for line in stdout.into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(|error| Failure::io("read from", "the writing process", error))?;
        last = line.parse().unwrap_or(last);
        if last >= ACKNOWLEDGED * FLUSH_EVERY {
            break;
        }
    }
    Ok(last)
}

/// Looks for the entries: those acknowledged must be there, none in part, none after a gap.
/// Returns how many there are.
pub fn survivors(volume: &Volume, acknowledged: u64) -> Result<u64> {
    let mut found = 0;
    let mut ended = false;
    for number in 0..VOLUME_LEN / ENTRY_LEN as u64 {
        let mut bytes = vec![0; ENTRY_LEN];
        volume.read_exact_at(&mut bytes, number * ENTRY_LEN as u64)?;
        let is_there = bytes == entry(number);
        let is_absent = bytes.iter().all(|&byte| byte == 0);
        if (!is_there && !is_absent) || (is_there && ended) {
            let text = format!("entry {number} is torn or stands after a gap");
            return Err(Failure::io(
                "find",
                text,
                std::io::ErrorKind::InvalidData.into(),
            ));
        }
        ended |= is_absent;
        found += u64::from(is_there);
    }
    if found < acknowledged {
        let text = format!("{acknowledged} acknowledged entries: there are {found}");
        return Err(Failure::io(
            "find",
            text,
            std::io::ErrorKind::InvalidData.into(),
        ));
    }
    Ok(found)
}

fn entry(number: u64) -> Vec<u8> {
    let line = format!("entry {number} of the ledger, written in one call; ");
    line.bytes().cycle().take(ENTRY_LEN).collect()
}
