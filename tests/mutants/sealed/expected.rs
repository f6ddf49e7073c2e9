//! Which codes are right for which field, and which changes nothing can name: the committed table.

use std::collections::{BTreeMap, BTreeSet};

use crate::judge::Verdict;

use super::values::Mutant;

/// The table of `sealed.txt`.
pub struct Expected {
    codes: BTreeMap<String, BTreeSet<String>>,
    /// Fields of which some changes are not named, and whether these break something.
    unnamed: BTreeMap<String, Verdict>,
}

impl Expected {
    pub fn read() -> Self {
        let mut expected = Self {
            codes: BTreeMap::new(),
            unnamed: BTreeMap::new(),
        };
        for line in include_str!("sealed.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let (field, rest) = line.split_once(": ").expect("FIELD: CODES");
            let (codes, reason) = rest.split_once(" | ").unwrap_or((rest, ""));
            let codes = codes.split_whitespace().map(str::to_owned).collect();
            assert!(
                expected.codes.insert(field.to_owned(), codes).is_none(),
                "{field} twice"
            );
            let verdict = match reason.split_once(": ") {
                None => continue,
                Some(("free" | "idle", _)) => Verdict::Harmless,
                Some(("survivor", _)) => Verdict::Unnamed,
                // Cut stands for both.
                Some(("mixed", _)) => Verdict::Cut,
                Some((kind, _)) => panic!("{field}: {kind}"),
            };
            expected.unnamed.insert(field.to_owned(), verdict);
        }
        expected
    }

    /// Named by one of the right codes, or not named, and the table says why.
    pub fn judge(
        &self,
        mutant: &Mutant,
        codes: &BTreeSet<String>,
        wrong: Option<&str>,
    ) -> Result<Verdict, String> {
        let field = mutant.field_name();
        if codes.is_empty() {
            return match (self.unnamed.get(&field), wrong) {
                (Some(Verdict::Harmless), Some(wrong)) => Err(format!("not harmless: {wrong}")),
                (Some(Verdict::Cut), Some(_)) => Ok(Verdict::Unnamed),
                (Some(Verdict::Cut), None) => Ok(Verdict::Harmless),
                (Some(verdict), _) => Ok(*verdict),
                (None, wrong) => Err(format!(
                    "not named; {}",
                    wrong.unwrap_or("it reads as before")
                )),
            };
        }
        let right = self.codes.get(&field);
        match right.is_some_and(|right| !right.is_disjoint(codes)) {
            true => Ok(Verdict::Named),
            false => Err(format!("named {codes:?}, not {right:?}")),
        }
    }
}
