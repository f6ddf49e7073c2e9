//! References to volumes and snapshots: `NAME`, `NAME@SNAPSHOT`, `@SNAPSHOT`, and their ARNs.
//!
//! Only the shape is read here; the library says which names are valid.

use crate::exit::{Failure, Result};

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A volume.
    Volume(String),
    /// A snapshot.
    Snapshot {
        /// The volume it has to be of, if that is said.
        volume: Option<String>,
        /// Its name.
        name: String,
    },
}

/// What a name without `@` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// A volume.
    Volume,
    /// A snapshot, as the snapshot commands have it.
    Snapshot,
}

impl Reference {
    /// Reads a reference in a region.
    pub fn parse(text: &str, bare: Bare, region: &str) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("arn:") {
            return Self::parse_arn(text, rest, region);
        }
        Ok(match (text.split_once('@'), bare) {
            (Some(("", name)), _) => Self::Snapshot {
                volume: None,
                name: name.to_owned(),
            },
            (Some((volume, name)), _) => Self::Snapshot {
                volume: Some(volume.to_owned()),
                name: name.to_owned(),
            },
            (None, Bare::Volume) => Self::Volume(text.to_owned()),
            (None, Bare::Snapshot) => Self::Snapshot {
                volume: None,
                name: text.to_owned(),
            },
        })
    }

    fn parse_arn(text: &str, rest: &str, region: &str) -> Result<Self> {
        let parts: Vec<_> = rest.splitn(6, ':').collect();
        let &["offshoot", "rds", its_region, _account, kind, name] = parts.as_slice() else {
            let form = "arn:offshoot:rds:REGION:ACCOUNT:cluster:NAME, or cluster-snapshot:NAME";
            return Err(Failure::Invalid(format!(
                "{text:?} is no ARN of a volume: write {form}"
            )));
        };
        if its_region != region {
            return Err(Failure::NotFound(format!(
                "{text} is in region {its_region}, this is {region}: use --region {its_region}"
            )));
        }
        match kind {
            "cluster" => Ok(Self::Volume(name.to_owned())),
            "cluster-snapshot" => Ok(Self::Snapshot {
                volume: None,
                name: name.to_owned(),
            }),
            _ => Err(Failure::Invalid(format!(
                "{text:?} names neither a volume nor a snapshot"
            ))),
        }
    }
}

/// The ARN of a volume.
pub fn volume_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:offshoot:rds:{region}:{account}:cluster:{name}")
}

/// The ARN of a snapshot.
pub fn snapshot_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:offshoot:rds:{region}:{account}:cluster-snapshot:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str) -> Reference {
        Reference::Volume(name.to_owned())
    }

    fn snapshot(volume: Option<&str>, name: &str) -> Reference {
        Reference::Snapshot {
            volume: volume.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_reference_says_what_it_names() {
        let parse = |text: &str, bare| Reference::parse(text, bare, "east").expect("a reference");
        assert_eq!(parse("pg", Bare::Volume), volume("pg"));
        assert_eq!(parse("pg", Bare::Snapshot), snapshot(None, "pg"));
        for bare in [Bare::Volume, Bare::Snapshot] {
            assert_eq!(parse("@monday", bare), snapshot(None, "monday"));
            assert_eq!(parse("pg@monday", bare), snapshot(Some("pg"), "monday"));
            assert_eq!(parse("pg@a@b", bare), snapshot(Some("pg"), "a@b"));
        }
    }

    #[test]
    fn an_arn_reads_back() {
        let parse = |text: &str| Reference::parse(text, Bare::Volume, "east");
        let arn = volume_arn("east", "000000000000", "pg");
        assert_eq!(parse(&arn).expect("a volume"), volume("pg"));
        let arn = snapshot_arn("east", "000000000000", "monday");
        assert_eq!(parse(&arn).expect("a snapshot"), snapshot(None, "monday"));
        let elsewhere = parse(&volume_arn("west", "000000000000", "pg"));
        assert!(matches!(elsewhere, Err(Failure::NotFound(_))));
        for bad in [
            "arn:",
            "arn:aws:rds:east:0:cluster:pg",
            "arn:offshoot:rds:east:0:pg:pg",
        ] {
            assert!(matches!(parse(bad), Err(Failure::Invalid(_))), "{bad}");
        }
    }
}
