//! Rules of the source tree that the compiler does not check: layers, `unsafe`, syncs.

#[path = "tidy/lex.rs"]
mod lex;

use std::fs;
use std::path::{Path, PathBuf};

use lex::Token;

/// The library's modules from bottom to top: a module uses lower ranks only.
const RANKS: &[&[&str]] = &[
    &["error", "units", "sync", "sys", "source"],
    &["io", "crypto", "slots"],
    &["format", "kms"],
    &["segment", "file_kms"],
    &["log"],
    &["btree", "lineage"],
    &["catalog", "volume"],
    &["copy"],
    &["maintenance"],
    &["store"],
];
/// `check` stands beside the ranks, so that no mistake of the engine is repeated there.
const CHECK_MAY_USE: &[&str] = &[
    "error", "units", "slots", "sync", "source", "io", "crypto", "format", "kms",
];
const MAY_SYNC: &[&str] = &["src/store/commit.rs", "src/io/publish.rs"];
const FORWARD_SYNC: &[&str] = &["src/io/real.rs", "src/io/fault.rs", "src/io/sim/"];
const MAY_BE_UNSAFE: &[&str] = &["src/sys.rs", "tools/src/sys.rs"];

/// A source file: its path from the root of the project, its text, the code outside tests.
struct Source {
    path: String,
    text: String,
    all: Vec<Token>,
    code: Vec<Token>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let all = lex::tokens(text);
        let code = lex::without_tests(&all);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            all,
            code,
        }
    }

    fn is_library(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// Whether the whole file is there for tests.
    fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| part == "tests" || part == "tests.rs")
    }

    /// The module that the file is, from the root of the crate: `["io", "sim"]`; empty for lib.rs.
    fn module(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let path = path.strip_suffix(".rs").unwrap_or(path);
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if path == "lib" {
            Vec::new()
        } else {
            path.split('/').collect()
        }
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

/// Everything that is wrong with a file, a line each.
fn violations(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    unsafe_code(source, &mut found);
    unfinished(source, &mut found);
    if source.is_test() {
        return found;
    }
    globs(source, &mut found);
    if source.is_library() {
        layers(source, &mut found);
        syncs(source, &mut found);
        quiet(source, &mut found);
    }
    found
}

fn layers(source: &Source, found: &mut Vec<String>) {
    let module = source.module();
    let Some(&from) = module.first() else {
        return;
    };
    for (path, line) in lex::paths(&source.code) {
        let Some(to) = top_module(&module, &path) else {
            continue;
        };
        let allowed = match (from, to) {
            _ if from == to => true,
            ("check", to) => CHECK_MAY_USE.contains(&to),
            ("store", "check") => source.path == "src/store/repair.rs",
            ("error", "units") => true,
            _ => rank(to) < rank(from),
        };
        if !allowed {
            found.push(format!(
                "{}: {from} may not use {}",
                source.at(line),
                path.join("::")
            ));
        }
    }
}

/// The top-level module that a path inside `module` leads to.
fn top_module<'a>(module: &[&str], path: &'a [String]) -> Option<&'a str> {
    if path[0] == "crate" {
        return path.get(1).map(String::as_str);
    }
    let ups = path.iter().take_while(|part| *part == "super").count();
    let leaves = ups > 0 && ups >= module.len();
    if leaves {
        path.get(ups).map(String::as_str)
    } else {
        None
    }
}

/// A module's rank; everything that is named needs one.
fn rank(module: &str) -> Option<usize> {
    let rank = RANKS.iter().position(|rank| rank.contains(&module));
    assert!(
        rank.is_some(),
        "{module} has no rank: name the item by its own module's path"
    );
    rank
}

fn unsafe_code(source: &Source, found: &mut Vec<String>) {
    if MAY_BE_UNSAFE.contains(&source.path.as_str()) {
        return;
    }
    for token in source.all.iter().filter(|token| token.text == "unsafe") {
        found.push(format!("{}: unsafe", source.at(token.line)));
    }
}

fn syncs(source: &Source, found: &mut Vec<String>) {
    let forwards = FORWARD_SYNC
        .iter()
        .any(|prefix| source.path.starts_with(prefix));
    if forwards || MAY_SYNC.contains(&source.path.as_str()) {
        return;
    }
    for three in source.code.windows(3) {
        let is_name = matches!(three[1].text.as_str(), "sync" | "sync_names");
        let is_call = match three[0].text.as_str() {
            "." => three[2].text == "(",
            "::" => matches!(three[2].text.as_str(), "(" | ")" | ","),
            _ => false,
        };
        if is_name && is_call {
            found.push(format!(
                "{}: a call of {}",
                source.at(three[1].line),
                three[1].text
            ));
        }
    }
}

fn globs(source: &Source, found: &mut Vec<String>) {
    for (path, line) in lex::paths(&source.code) {
        if path.last().is_some_and(|last| last == "*") {
            found.push(format!("{}: a glob import", source.at(line)));
        }
    }
}

/// The library reads no environment and prints nothing.
fn quiet(source: &Source, found: &mut Vec<String>) {
    for (path, line) in lex::paths(&source.code) {
        if path.len() > 1 && path[0] == "std" && path[1] == "env" {
            found.push(format!("{}: std::env", source.at(line)));
        }
    }
    for pair in source.code.windows(2) {
        let prints = ["print", "println", "eprint", "eprintln", "dbg"];
        if prints.contains(&pair[0].text.as_str()) && pair[1].text == "!" {
            found.push(format!("{}: {}!", source.at(pair[0].line), pair[0].text));
        }
    }
}

fn unfinished(source: &Source, found: &mut Vec<String>) {
    for (index, token) in source.all.iter().enumerate() {
        let rest = &source.all[index..];
        let is_macro = matches!(token.text.as_str(), "todo" | "unimplemented")
            && rest.get(1).is_some_and(|next| next.text == "!");
        let is_ignore = lex::starts_with(rest, &["#", "[", "ignore"]);
        let what = match (is_macro, is_ignore) {
            (true, _) => format!("{}!", token.text),
            (_, true) => "#[ignore]".to_owned(),
            _ => continue,
        };
        found.push(format!("{}: {what}", source.at(token.line)));
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in [
        "src",
        "tests",
        "benches",
        "tools/src",
        "tools/tests",
        "tools/benches",
        "tools/torture/src",
    ] {
        rust_files(&root.join(folder), &mut files);
    }
    files.sort();
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(root).expect("a path below the root");
        Source::new(
            &path.display().to_string(),
            &fs::read_to_string(file).expect("a text file"),
        )
    };
    files.iter().map(read).collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn the_source_tree_keeps_its_rules() {
    let found: Vec<String> = sources().iter().flat_map(violations).collect();
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn every_module_of_the_library_has_a_rank() {
    let sources = sources();
    assert!(sources.len() > 50, "the source tree was not found");
    let library = sources.iter().filter(|source| source.is_library());
    for module in library.filter_map(|source| source.module().first().copied()) {
        let known = module == "check" || RANKS.iter().any(|rank| rank.contains(&module));
        assert!(known, "{module} has no rank");
    }
}

#[test]
fn a_planted_violation_is_caught() {
    let caught = |path: &str, text: &str| violations(&Source::new(path, text)).len();
    // Layers: upward, sideways, through braces, through `super`, and in the middle of code.
    assert_eq!(caught("src/log/scan.rs", "use crate::btree::Tree;"), 1);
    assert_eq!(
        caught("src/catalog/state.rs", "use crate::volume::Piece;"),
        1
    );
    assert_eq!(
        caught("src/btree/read.rs", "fn f() { let x = crate::lineage::X; }"),
        1
    );
    assert_eq!(
        caught(
            "src/log/a.rs",
            "use crate::{error::Error, io::{self, Disk}, store as s};"
        ),
        1
    );
    assert_eq!(
        caught(
            "src/segment/file.rs",
            "use super::super::file_kms::FileKms;"
        ),
        1
    );
    assert_eq!(
        caught("src/check/walk.rs", "use crate::segment::Segments;"),
        1
    );
    assert_eq!(caught("src/store/open.rs", "use crate::check::check;"), 1);
    assert_eq!(caught("src/units.rs", "fn f(e: crate::error::Error) {}"), 1);
    // The rest.
    assert_eq!(caught("src/io/mod.rs", "pub fn f() { unsafe { g() } }"), 1);
    assert_eq!(
        caught("src/store/write.rs", "fn f() { file\n    .sync()?; }"),
        1
    );
    assert_eq!(
        caught(
            "src/store/write.rs",
            "fn f() { r.map(DiskFile::sync); d.sync_names() }"
        ),
        2
    );
    assert_eq!(caught("src/log/mod.rs", "use crate::error::*;"), 1);
    assert_eq!(
        caught("src/log/mod.rs", "use crate::{error::{self, *}};"),
        1
    );
    assert_eq!(
        caught(
            "src/log/mod.rs",
            "use std::{env, fs}; fn f() { println!(\"\") }"
        ),
        2
    );
    assert_eq!(caught("src/log/mod.rs", "fn f() { todo!() }"), 1);
    assert_eq!(
        caught(
            "tests/it/a.rs",
            "#[test] #[ignore] fn f() { unimplemented!() }"
        ),
        2
    );
}

#[test]
fn what_is_allowed_is_not_caught() {
    let fine = |path: &str, text: &str| {
        let found = violations(&Source::new(path, text));
        assert!(found.is_empty(), "{path}: {found:?}");
    };
    fine(
        "src/store/open.rs",
        "use crate::{btree::Tree, catalog::{self, Head}, log, sync::Arc};",
    );
    fine("src/error.rs", "use crate::units::Location;");
    fine(
        "src/check/walk.rs",
        "use crate::format::node; use super::spans::Span;",
    );
    fine(
        "src/store/commit.rs",
        "fn f() { file.sync()?; disk.sync_names() }",
    );
    fine("src/io/sim/disk.rs", "fn sync(&self) { self.0.sync() }");
    fine(
        "src/log/tests.rs",
        "use crate::store::Store; fn f() { file.sync() }",
    );
    fine(
        "src/log/a.rs",
        "#[cfg(test)] mod tests { use super::*; use crate::store::X; } fn f() {}",
    );
    // Comments, strings and names that only look like it.
    fine(
        "src/io/mod.rs",
        "// crate::store\n/* unsafe /* crate::log */ todo!() */",
    );
    fine(
        "src/io/mod.rs",
        r##"const A: &str = "\"unsafe"; const B: &str = r#""crate::log"#;"##,
    );
    fine(
        "src/io/mod.rs",
        "fn f<'a>(c: char, d: &'a u8) -> bool { c == '\"' || c == '\\'' }",
    );
    fine(
        "src/io/mod.rs",
        "#![allow(unsafe_code)] pub(crate) fn f() { a * b; let crate_name = 1; }",
    );
    fine(
        "src/format/layout.rs",
        "macro_rules! m { () => { $crate::format::layout::Field } }",
    );
}

/// Nothing fails because of a size: `just sizes` shows them.
#[test]
fn sizes_are_printed() {
    let sources = sources();
    for folder in ["src/", "tools/src/"] {
        let mut files: Vec<(usize, &str)> = Vec::new();
        let mut functions = Vec::new();
        for source in sources
            .iter()
            .filter(|s| s.path.starts_with(folder) && !s.is_test())
        {
            files.push((source.text.lines().count(), &source.path));
            functions.extend(long_functions(source));
        }
        files.sort_unstable();
        let total: usize = files.iter().map(|(lines, _)| lines).sum();
        let median = files.get(files.len() / 2).map_or(0, |(lines, _)| *lines);
        println!(
            "{folder}: {} files, {total} lines, median {median}",
            files.len()
        );
        for (lines, path) in files.iter().rev().filter(|(lines, _)| *lines > 300) {
            println!("  {lines:5} lines  {path}");
        }
        for (lines, name) in functions.iter().filter(|(lines, _)| *lines > 70) {
            println!("  {lines:5} lines  {name}");
        }
        assert!(median > 0 || files.is_empty());
    }
}

fn long_functions(source: &Source) -> Vec<(usize, String)> {
    let mut functions = Vec::new();
    for (index, token) in source.code.iter().enumerate() {
        let rest = &source.code[index..];
        let open = if token.text == "fn" {
            body_start(rest)
        } else {
            None
        };
        let Some(open) = open else {
            continue;
        };
        let last = &rest[open + lex::block_len(&rest[open..]) - 1];
        let name = format!("fn {} in {}", rest[1].text, source.path);
        functions.push((last.line + 1 - token.line, name));
    }
    functions
}

/// The brace that opens a function's body, if it has one.
fn body_start(function: &[Token]) -> Option<usize> {
    let mut depth = 0i32;
    for (index, token) in function.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "{" if depth == 0 => return Some(index),
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}
