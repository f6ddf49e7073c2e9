//! A directory for a store, and commands run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_offshoot");

/// A directory with `home` in it.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// With nothing in it yet.
    pub fn bare() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    /// With a store.
    pub fn new() -> Self {
        let place = Self::bare();
        place.ok(&["store", "init"]);
        place
    }

    /// With a store and an empty volume `pg` of 64 MiB.
    pub fn with_volume() -> Self {
        let place = Self::new();
        place.ok(&["volume", "create", "pg", "--size", "64M"]);
        place
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The store's directory.
    pub fn store(&self) -> PathBuf {
        self.path("home/regions/local")
    }

    /// The KMS's directory.
    pub fn kms(&self) -> PathBuf {
        self.path("home/kms/local")
    }

    /// Makes a file in the directory, for use by its name.
    pub fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("a file");
    }

    /// A command in the directory.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::from_std(self.std_command(args));
        command.timeout(Duration::from_secs(120));
        command
    }

    /// The same, for a child that is to be watched.
    pub fn std_command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(PROGRAM);
        command.current_dir(self.dir.path()).args(args);
        command.env("OFFSHOOT_HOME", self.path("home"));
        command.env_remove("OFFSHOOT_REGION");
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        command
    }

    /// Runs a command that must succeed; returns its standard output.
    pub fn ok(&self, args: &[&str]) -> Vec<u8> {
        succeeded(args, &self.command(args).output().expect("an output"))
    }

    /// The same with bytes on standard input.
    pub fn ok_with(&self, args: &[&str], stdin: &[u8]) -> Vec<u8> {
        let output = self.command(args).write_stdin(stdin).output();
        succeeded(args, &output.expect("an output"))
    }

    /// Runs a command that must succeed, with `--json`; returns the document.
    pub fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--json"]].concat();
        let stdout = self.ok(&args);
        serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// Runs a command that must fail, with `--json`; returns the message.
    pub fn fails(&self, args: &[&str], code: i32, kind: &str) -> String {
        self.fails_with(args, b"", code, kind)
    }

    /// The same with bytes on standard input.
    pub fn fails_with(&self, args: &[&str], stdin: &[u8], code: i32, kind: &str) -> String {
        let args = [args, &["--json"]].concat();
        let output = self.command(&args).write_stdin(stdin).output();
        failed(&args, &output.expect("an output"), code, kind)
    }

    /// The bytes of a range of a volume.
    pub fn read(&self, head: &str, offset: u64, length: u64) -> Vec<u8> {
        let (offset, length) = (offset.to_string(), length.to_string());
        self.ok(&[
            "volume", "read", head, "--offset", &offset, "--length", &length,
        ])
    }

    /// Writes bytes into a volume.
    pub fn write(&self, volume: &str, offset: u64, bytes: &[u8]) {
        self.ok_with(
            &["volume", "write", volume, "--offset", &offset.to_string()],
            bytes,
        );
    }
}

/// Checks that a command has succeeded; returns its standard output.
pub fn succeeded(args: &[&str], output: &Output) -> Vec<u8> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?}: {}, {stderr}",
        output.status
    );
    output.stdout.clone()
}

/// Checks how a command with `--json` failed; returns the message.
pub fn failed(args: &[&str], output: &Output, code: i32, kind: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    let error: Value = serde_json::from_str(stderr.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {stderr}"));
    assert_eq!(error["schema"], "error/1", "{args:?}");
    assert_eq!(error["error"]["kind"], kind, "{args:?}: {stderr}");
    assert_eq!(error["error"]["exit_code"], code, "{args:?}");
    let message = error["error"]["message"].as_str().expect("a message");
    assert!(
        !message.is_empty() && !message.contains('\n'),
        "{args:?}: {message}"
    );
    message.to_owned()
}

/// Bytes without a pattern, the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The names of an object's fields.
pub fn fields(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// All bytes under a directory, by path.
pub fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}
