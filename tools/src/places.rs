//! Where the store and its KMS are. A flag beats the environment.

use std::ffi::OsString;
use std::io;
use std::path::{self, Path, PathBuf};

use crate::cli::Global;
use crate::exit::{Failure, Result};

/// The directory used if it is there and nothing else is named.
const LOCAL_HOME: &str = ".offshoot";

/// The directories of one region.
#[derive(Clone, Debug)]
pub struct Places {
    /// The region's name.
    pub region: String,
    /// Whether the region was named, not assumed.
    pub region_named: bool,
    store: PathBuf,
    kms: Option<PathBuf>,
}

impl Places {
    /// From the flags and the environment.
    pub fn new(global: &Global) -> Result<Self> {
        Self::resolve(
            global,
            |name| std::env::var_os(name),
            Path::new(LOCAL_HOME).is_dir(),
        )
    }

    fn resolve(
        global: &Global,
        environment: impl Fn(&str) -> Option<OsString>,
        local_home: bool,
    ) -> Result<Self> {
        let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
        let from_environment =
            || environment("OFFSHOOT_REGION").map(|name| name.to_string_lossy().into_owned());
        let named = global.region.clone().or_else(from_environment);
        let region_named = global.region.is_some();
        let region = named.unwrap_or_else(|| "local".to_owned());
        check_region(&region)?;
        if global.home.is_some() && (global.store.is_some() || global.kms.is_some()) {
            let text = "--home goes with neither --store nor --kms: each names the places alone";
            return Err(Failure::Invalid(text.to_owned()));
        }
        if let Some(store) = global.store.clone() {
            return Ok(Self {
                region,
                region_named,
                store,
                kms: global.kms.clone(),
            });
        }
        let home = match global.home.clone() {
            Some(home) => home,
            None => default_home(environment, local_home)?,
        };
        let kms = global
            .kms
            .clone()
            .unwrap_or_else(|| home.join("kms").join(&region));
        let store = home.join("regions").join(&region);
        Ok(Self {
            region,
            region_named,
            store,
            kms: Some(kms),
        })
    }

    /// The same, wherever they are looked at from.
    pub fn absolute(&self) -> io::Result<Self> {
        Ok(Self {
            store: path::absolute(&self.store)?,
            kms: self.kms.as_ref().map(path::absolute).transpose()?,
            ..self.clone()
        })
    }

    /// The store's directory.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The KMS's directory.
    pub fn kms(&self) -> Result<&Path> {
        self.kms.as_deref().ok_or_else(|| {
            let text = "--store names a store alone: name its KMS too, with --kms DIR";
            Failure::Invalid(text.to_owned())
        })
    }
}

fn default_home(
    environment: impl Fn(&str) -> Option<OsString>,
    local_home: bool,
) -> Result<PathBuf> {
    if let Some(home) = environment("OFFSHOOT_HOME") {
        return Ok(home.into());
    }
    if local_home {
        return Ok(LOCAL_HOME.into());
    }
    // The XDG rules: a path that is not absolute does not count.
    let data = environment("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let user = || environment("HOME").map(|home| Path::new(&home).join(".local/share"));
    data.or_else(user)
        .map(|data| data.join("offshoot"))
        .ok_or_else(|| {
            Failure::Invalid(
                "name the place with --home DIR: OFFSHOOT_HOME and HOME are unset".into(),
            )
        })
}

/// The region is part of a path: no separators, no dots.
fn check_region(region: &str) -> Result {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=63).contains(&region.len()) && region.bytes().all(fits) {
        return Ok(());
    }
    let rule = "letters, digits and hyphens, up to 63";
    Err(Failure::Invalid(format!(
        "region {region:?} is not valid: {rule}"
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn places(flags: &[&str], variables: &[(&str, &str)], local: bool) -> Result<Places> {
        let line = ["offshoot"].iter().chain(flags).chain(&["version"]);
        let cli = Cli::try_parse_from(line).expect("a command line");
        let find = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.into())
        };
        Places::resolve(&cli.global, find, local)
    }

    fn store(flags: &[&str], variables: &[(&str, &str)], local: bool) -> String {
        let places = places(flags, variables, local).expect("places");
        places.store().display().to_string()
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_default() {
        let home = ("OFFSHOOT_HOME", "/e");
        let user = ("HOME", "/u");
        let data = ("XDG_DATA_HOME", "/d");
        assert_eq!(store(&["--home", "/f"], &[home], true), "/f/regions/local");
        assert_eq!(store(&[], &[home], true), "/e/regions/local");
        assert_eq!(store(&[], &[data], true), ".offshoot/regions/local");
        assert_eq!(
            store(&[], &[data, user], false),
            "/d/offshoot/regions/local"
        );
        assert_eq!(
            store(&[], &[user], false),
            "/u/.local/share/offshoot/regions/local"
        );
        let region = ("OFFSHOOT_REGION", "east");
        assert_eq!(store(&[], &[home, region], false), "/e/regions/east");
        assert_eq!(
            store(&["--region", "west"], &[home, region], false),
            "/e/regions/west"
        );
        assert!(places(&[], &[], false).is_err());
    }

    #[test]
    fn a_lone_store_needs_its_kms_named() {
        let lone = places(&["--store", "/s"], &[("OFFSHOOT_HOME", "/e")], false).expect("places");
        assert_eq!(lone.store(), Path::new("/s"));
        assert!(lone.kms().is_err());
        let both = places(&["--store", "/s", "--kms", "/k"], &[], false).expect("places");
        assert_eq!(both.kms().expect("a KMS"), Path::new("/k"));
        assert!(places(&["--store", "/s", "--home", "/h"], &[], false).is_err());
    }

    #[test]
    fn a_region_is_no_path() {
        for bad in ["", "..", "a/b", "a b", "é"] {
            assert!(
                places(&["--home", "/h", "--region", bad], &[], false).is_err(),
                "{bad}"
            );
        }
    }
}
