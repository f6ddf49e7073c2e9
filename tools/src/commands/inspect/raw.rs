//! `inspect raw`: slots as they are.

use offshoot::check::inspect::{RawPlace, RawView};
use offshoot::{SegmentId, SlotAddr};
use serde_json::Value;

use crate::exit::{Failure, Result};
use crate::render;

/// Bytes in a line.
const LINE_LEN: usize = 16;

/// Reads a place: `1:17` is a slot of a virtual segment, `superblock-a:1` one of a file.
pub fn place(text: &str) -> Result<RawPlace> {
    let parts = text.rsplit_once(':');
    let read = parts.and_then(|(holder, slot)| {
        let slot = slot.parse().ok()?;
        Some(match holder.parse() {
            Ok(segment) => RawPlace::Address(SlotAddr {
                segment: SegmentId(segment),
                slot,
            }),
            Err(_) if !holder.is_empty() => RawPlace::File(holder.to_owned(), slot),
            Err(_) => return None,
        })
    });
    read.ok_or_else(|| {
        let text = format!("{text:?} is no slot: write for example 1:17 or superblock-a:1");
        Failure::Invalid(text)
    })
}

/// Slots as text: what they look like, then their bytes.
pub fn text(document: &Value, view: &RawView) -> String {
    let shown = document["raw"]["slots"].as_array().into_iter().flatten();
    let mut text = String::new();
    for (shown, slot) in shown.zip(&view.slots) {
        let mut head = shown.clone();
        if let Value::Object(fields) = &mut head {
            fields.remove("bytes");
        }
        text += &render::text(&serde_json::json!({ "slot": head }));
        text += &dump(&slot.bytes);
    }
    if view.missing > 0 {
        text += &format!("{} slots more are not there\n", view.missing);
    }
    text
}

/// Lines of bytes; those that repeat the line before are left out.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut last = None;
    let mut is_skipping = false;
    for (index, line) in bytes.chunks(LINE_LEN).enumerate() {
        if last == Some(line) {
            if !is_skipping {
                text += "*\n";
            }
            is_skipping = true;
            continue;
        }
        (last, is_skipping) = (Some(line), false);
        let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let signs: String = line.iter().map(|byte| sign(*byte)).collect();
        text += &format!("{:04x}  {}  {signs}\n", index * LINE_LEN, hex.join(" "));
    }
    text
}

fn sign(byte: u8) -> char {
    match byte {
        b' '..=b'~' => byte.into(),
        _ => '.',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_segments_and_slots_or_files_and_slots() {
        let address = |segment, slot| {
            let segment = SegmentId(segment);
            RawPlace::Address(SlotAddr { segment, slot })
        };
        assert_eq!(place("1:17").expect("a place"), address(1, 17));
        let file = RawPlace::File("superblock-a".to_owned(), 1);
        assert_eq!(place("superblock-a:1").expect("a place"), file);
        for bad in ["", ":", "1", "1:", ":1", "a:b", "1:-1", "1:4294967296"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn repeated_lines_are_shown_once() {
        let mut bytes = [0; 64];
        bytes[0] = b'O';
        let text = dump(&bytes);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("0000  4f 00") && lines[0].ends_with("O..............."));
        assert_eq!(lines[2], "*");
    }
}
