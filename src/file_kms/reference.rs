//! How keys are named: ids, ARNs, aliases, and the rules for their parts.

use crate::error::{Error, Result};
use crate::units::KeyId;

/// The account that everything belongs to as long as there is only one.
pub(super) const ACCOUNT: &str = "000000000000";
/// The longest name of an alias, without `alias/`.
const ALIAS_LEN_MAX: usize = 250;

/// What a reference names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// A key by its id.
    Key(KeyId),
    /// An alias, without `alias/`.
    Alias(&'a str),
}

/// Reads an id, an ARN, `alias/NAME` or the ARN of an alias. An ARN of another region or account
/// is `AccessDenied`: whether there is such a key is not ours to know.
pub(super) fn parse<'a>(reference: &'a str, region: &str) -> Result<Target<'a>> {
    let local = match reference.strip_prefix("arn:") {
        None => reference,
        Some(rest) => {
            let mut parts = rest.splitn(5, ':');
            let service = (parts.next(), parts.next());
            let (of_region, account, local) = (parts.next(), parts.next(), parts.next());
            let (("offshoot", "kms"), Some(local)) = (
                (service.0.unwrap_or_default(), service.1.unwrap_or_default()),
                local,
            ) else {
                return Err(invalid(reference));
            };
            if of_region != Some(region) || account != Some(ACCOUNT) {
                return Err(Error::AccessDenied {
                    key: shorten(reference),
                    action: "use",
                });
            }
            match local.strip_prefix("key/") {
                Some(id) => return key(id).ok_or_else(|| invalid(reference)),
                None if local.starts_with("alias/") => local,
                None => return Err(invalid(reference)),
            }
        }
    };
    match local.strip_prefix("alias/") {
        Some(name) if is_alias(name) => Ok(Target::Alias(name)),
        Some(_) => Err(invalid(reference)),
        None => key(local).ok_or_else(|| invalid(reference)),
    }
}

/// The name of an alias, given with or without `alias/`, or as its ARN.
pub(super) fn alias_name<'a>(alias: &'a str, region: &str) -> Result<&'a str> {
    if alias.starts_with("arn:") {
        return match parse(alias, region)? {
            Target::Alias(name) => Ok(name),
            Target::Key(_) => Err(invalid_alias(alias)),
        };
    }
    let name = alias.strip_prefix("alias/").unwrap_or(alias);
    if is_alias(name) {
        return Ok(name);
    }
    Err(invalid_alias(alias))
}

fn invalid_alias(alias: &str) -> Error {
    let rule = "letters, digits, /, _ and -, up to 250, after an optional alias/";
    Error::Invalid {
        what: "alias",
        value: shorten(alias),
        rule,
    }
}

/// Whether an alias may have that name.
pub(super) fn is_alias(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
    (1..=ALIAS_LEN_MAX).contains(&name.len()) && name.bytes().all(fits)
}

/// Whether a region may have that label.
pub(super) fn is_region(label: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(fits)
}

/// Refuses a label that no region may have.
pub(super) fn check_region(label: &str) -> Result<()> {
    if is_region(label) {
        return Ok(());
    }
    let rule = "letters, digits and hyphens, up to 63";
    Err(Error::Invalid {
        what: "region",
        value: shorten(label),
        rule,
    })
}

/// The ARN of a key.
pub(super) fn key_arn(region: &str, account: &str, id: KeyId) -> String {
    format!("arn:offshoot:kms:{region}:{account}:key/{id}")
}

/// The ARN of an alias.
pub(super) fn alias_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:offshoot:kms:{region}:{account}:alias/{name}")
}

fn key<'a>(id: &str) -> Option<Target<'a>> {
    KeyId::parse(id).map(Target::Key)
}

fn invalid(reference: &str) -> Error {
    let rule = "a key's id or ARN, alias/NAME or the ARN of an alias";
    Error::Invalid {
        what: "key reference",
        value: shorten(reference),
        rule,
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(300).collect()
}
