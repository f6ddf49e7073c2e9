//! Structural mutants: each field of each structure of the format set to other values, with all checksums, hashes,
//! chain values and the root made right again, so that only the meaning is wrong.
//!
//! The store is read and sealed again by what `docs/format.md` says, on bytes in place, with none of the engine's code.

mod anatomy;
mod expected;
mod seal;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use offshoot_torture::shown::{self, Shown, timed};

use crate::judge::{Verdict, fsck};
use crate::many::{Sample, try_all};
use crate::subject::{Subject, subjects};
use anatomy::Anatomy;
use expected::Expected;
use values::{Mutant, mutants};

/// What fsck says of a mutant, and whether reads show what the store held.
struct Found {
    codes: BTreeSet<String>,
    /// `None` if reads show what was there or an error.
    wrong: Option<String>,
    /// They show what was there before something that nobody knew to be durable.
    is_cut: bool,
}

fn look(subject: &Subject, anatomy: &Anatomy, mutant: &Mutant) -> Result<Found, String> {
    let machine = seal::mutate(&subject.machine, anatomy, mutant);
    let report = timed("the check", || fsck(&machine))?;
    let shown = timed("reading", || Ok(shown::show(&machine, 8)))?;
    let wrong = match &shown {
        Shown::Refused(_) => None,
        Shown::Pages(pages) if shown::fits(pages, &subject.model) => None,
        Shown::Pages(pages) => Some(shown::difference(pages, &subject.model)),
    };
    let is_cut = match &shown {
        Shown::Pages(pages) if wrong.is_some() => {
            subject.cut.iter().any(|it| shown::fits(pages, it))
        }
        _ => false,
    };
    let is_unreadable = match &shown {
        Shown::Refused(_) => true,
        Shown::Pages(pages) => pages.values().flatten().any(Option::is_none),
    };
    if report.is_clean() && is_unreadable {
        return Err("the check is content, but a read fails".to_owned());
    }
    let code = |finding: &offshoot::check::Finding| {
        let code = finding.code.split(' ').next();
        code.unwrap_or_default().to_owned()
    };
    Ok(Found {
        codes: report.findings.iter().map(code).collect(),
        wrong: wrong.filter(|_| !is_cut),
        is_cut,
    })
}

#[test]
fn an_anatomy_sealed_again_without_a_change_is_the_same_store() {
    for subject in subjects() {
        let anatomy = Anatomy::of(subject);
        let before = crate::subject::files(&subject.machine);
        let after = seal::seal(&anatomy, anatomy.files.clone());
        for (name, bytes) in before {
            assert!(after[&name] == bytes, "{}: {name}", subject.name);
        }
    }
}

#[test]
fn a_field_that_means_something_else_is_named_by_the_right_code() {
    let anatomies: Vec<_> = subjects().iter().map(Anatomy::of).collect();
    let known: BTreeSet<_> = anatomies.iter().flat_map(Anatomy::names).collect();
    let all = offshoot::format::LAYOUT.iter().map(|layout| layout.name);
    let missing: Vec<_> = all.filter(|name| !known.contains(name)).collect();
    assert!(missing.is_empty(), "no store has {missing:?}");
    let each = anatomies.iter().enumerate();
    let all: Vec<_> = each
        .flat_map(|(n, anatomy)| mutants(anatomy).into_iter().map(move |it| (n, it)))
        .collect();
    let chosen =
        Sample::from_env("OFFSHOOT_SEALED", 20_000).of(&(0..all.len()).collect::<Vec<_>>());
    let expected = Expected::read();
    let seen = Mutex::new(BTreeMap::<String, BTreeMap<String, usize>>::new());
    let report = try_all(chosen, |&index| {
        let (n, mutant) = &all[index];
        let found = look(&subjects()[*n], &anatomies[*n], mutant);
        let found = found.map_err(|why| format!("{}: {mutant}: {why}", subjects()[*n].name))?;
        if found.codes.is_empty() && found.is_cut {
            return Ok(Some(Verdict::Cut));
        }
        let codes: Vec<_> = found.codes.iter().map(String::as_str).collect();
        let mut seen = seen.lock().unwrap();
        let of_field = seen.entry(mutant.field_name()).or_default();
        *of_field.entry(codes.join(" ")).or_default() += 1;
        drop(seen);
        let verdict = expected.judge(mutant, &found.codes, found.wrong.as_deref());
        verdict
            .map(Some)
            .map_err(|why| format!("{}: {mutant}: {why}", subjects()[*n].name))
    });
    println!("{} re-sealed mutants: {report}", all.len());
    if std::env::var_os("OFFSHOOT_SHOW").is_some() {
        for (field, codes) in seen.into_inner().unwrap() {
            println!("{field}: {codes:?}");
        }
        for failure in &report.failures {
            println!("FAIL {failure}");
        }
    }
    let count = |verdict| report.counts.get(&verdict).copied().unwrap_or(0);
    let (named, unnamed) = (count(Verdict::Named), count(Verdict::Unnamed));
    println!(
        "{named} named, {unnamed} not: {:.2} %",
        named as f64 * 100.0 / (named + unnamed) as f64
    );
    report.assert(2);
    assert!(unnamed * 100 <= named + unnamed, "{unnamed} beside {named}");
}
