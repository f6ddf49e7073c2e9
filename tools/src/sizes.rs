//! Sizes as people write and read them: 8G is 8 GiB, 8GB is 8,000,000,000 bytes.

const UNITS: [char; 6] = ['k', 'm', 'g', 't', 'p', 'e'];

/// Reads a size: a number, which may have a fraction, and a unit.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write for example 4096, 64K, 10G or 8GB");
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = factor(unit.trim_start()).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.len() > 18 {
        return Err(wrong());
    }
    let too_large = || format!("{text:?} is too large: the most is 2^63 - 1 bytes");
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let scale = 10_u128.pow(fraction.len() as u32);
    let scaled = digits.checked_mul(factor).ok_or_else(too_large)?;
    if scaled % scale != 0 {
        return Err(format!("{text:?} is not a whole number of bytes"));
    }
    u64::try_from(scaled / scale).map_err(|_| too_large())
}

fn factor(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    if unit.is_empty() || unit == "b" {
        return Some(1);
    }
    let mut letters = unit.chars();
    let first = letters.next()?;
    let power = UNITS.iter().position(|&known| known == first)? as u32 + 1;
    match letters.as_str() {
        "" | "ib" => Some(1024_u128.pow(power)),
        "b" => Some(1000_u128.pow(power)),
        _ => None,
    }
}

/// A size for people, in binary units: `10 GiB`, `1.5 KiB`, `0 B`.
pub fn human(bytes: u64) -> String {
    let mut power = 0;
    while power < UNITS.len() && bytes >> (10 * (power + 1)) != 0 {
        power += 1;
    }
    if power == 0 {
        return format!("{bytes} B");
    }
    let unit = UNITS[power - 1].to_ascii_uppercase();
    // Rounded down: a full volume never looks larger than it is.
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    match tenths % 10 {
        0 => format!("{} {unit}iB", tenths / 10),
        rest => format!("{}.{rest} {unit}iB", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_unless_they_say_decimal() {
        let table = [
            ("0", 0),
            ("4096", 4096),
            ("1b", 1),
            ("4k", 4096),
            ("4KiB", 4096),
            ("4KB", 4000),
            ("8G", 8 << 30),
            ("8GiB", 8 << 30),
            ("8 gib", 8 << 30),
            ("8GB", 8_000_000_000),
            ("1.5K", 1536),
            ("0.5M", 1 << 19),
            ("15E", 15 << 60),
            ("9223372036854775808", 1 << 63),
        ];
        for (text, bytes) in table {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let bad = [
            "", "-1", "G", "1.", ".5K", "1..5K", "1.5", "1.0001K", "16E", "8Gi", "8X", "8GBB",
        ];
        for text in bad
            .iter()
            .chain(&["1e3", "0x10", "99999999999999999999999999999999999999999"])
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_print_in_binary_units() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (10 << 30, "10 GiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(human(bytes), text);
        }
    }
}
