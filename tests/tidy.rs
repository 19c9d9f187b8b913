//! The rules of the house that a machine can hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src` from the ground up: a room may name those below it, and itself.
const FLOORS: [&[&str]; 9] = [
    &["protocol"],
    &["config", "stats", "peer_id", "connection_info"],
    &["open_peers", "fanout"],
    &["context"],
    &["peer"],
    &["handler"],
    &["conn"],
    &["reactor"],
    &["server"],
];

/// What the protocol must not name: it knows no socket, clock, thread or log.
const NOT_IN_PROTOCOL: [&str; 8] =
    ["std::io", "std::net", "std::time", "std::thread", "std::sync", "std::{", "mio::", "log::"];

/// The one pause of the tests, between two looks at a condition that nothing announces.
const PAUSE: (&str, &str) =
    ("tests/support/client.rs", concat!("std::thread::sl", "eep(CHECK_PAUSE);"));

/// The exceptions: formatting into memory is an `io::Write`, and shared memory is an `Arc`.
const ALLOWED_IN_PROTOCOL: [(&str, &str); 2] =
    [("/response.rs", "use std::io::Write;"), ("/encoded.rs", "use std::sync::Arc;")];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Phrases that a reader has to decode, or that only this project used. Each has a plain word in the
/// field: unsent, queued, incomplete, lack of, ended, dropped, continues, handles, faults, worker.
const PHRASES: [&str; 20] = [
    "owed",
    "under way",
    "want of",
    "nobody",
    "anybody",
    "given up",
    "goes on",
    "sees to",
    "is no more",
    "is gone",
    "is none",
    "by the letter",
    "made-up",
    "what is",
    "what was",
    "what it",
    "weather",
    "dice",
    "storm",
    "lanes",
];

/// The files whose language this test reads: all that a user or a maintainer reads first.
const PROSE: [&str; 3] = ["src", "examples", "benches"];

#[test]
fn comments_and_documents_use_plain_words() {
    let mut faults = Faults::default();
    let mut files = sources(&PROSE);
    files.extend(["README.md", "SECURITY.md", "CHANGELOG.md"].map(document));
    for file in files {
        let is_document = file.name.ends_with(".md");
        for (number, line) in (1..).zip(file.text.lines()) {
            let prose =
                if is_document { Some(line) } else { line.split_once("//").map(|(_, it)| it) };
            for phrase in PHRASES {
                if prose.is_some_and(|prose| has_phrase(&prose.to_lowercase(), phrase)) {
                    faults.add(&file, number, &format!("`{phrase}` has a plainer word"));
                }
            }
        }
    }
    faults.none("a private or elliptic phrase");
}

/// Whether `phrase` stands in `prose` as whole words. A name in code may contain it.
fn has_phrase(prose: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    prose.match_indices(phrase).any(|(start, _)| {
        let before = prose[..start].chars().next_back();
        let after = prose[start + phrase.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[test]
fn imports_go_down_only() {
    let mut faults = Faults::default();
    for file in sources(&["src"]) {
        let room = file.room();
        if room == "lib" {
            continue;
        }
        let Some(floor) = floor(&room) else {
            faults.add(&file, 1, &format!("`{room}` has no floor: give it one in FLOORS"));
            continue;
        };
        for (number, line) in file.code() {
            for named in rooms_named(line) {
                let is_below = self::floor(named).is_some_and(|below| below < floor);
                if named != room && !is_below {
                    faults.add(&file, number, &format!("`{room}` must not name `{named}`"));
                }
            }
            if line.contains("super::super::") {
                faults.add(&file, number, "name the room: `crate::`, not `super::super::`");
            }
            if !file.name.trim_start_matches("src/").contains('/') && line.contains("super::") {
                faults.add(&file, number, "name the room: `crate::`, not `super::`");
            }
        }
    }
    faults.none("an import goes up, or sideways");
}

/// Inside a folder of `src`, `mod.rs` declares the modules from the top down: a module imports from
/// those declared after its own, and from the module that defines a name, not from one that
/// re-exports it.
#[test]
fn imports_inside_a_folder_go_down_only() {
    let files = sources(&["src"]);
    let mut faults = Faults::default();
    for file in &files {
        let own = file.module();
        for (number, line) in file.code() {
            for named in paths_named(line, &own) {
                let shared = own.iter().zip(&named).take_while(|(own, named)| own == named).count();
                // The whole of `src` has its order in FLOORS, and a folder may name what is in it.
                if shared == 0 || shared == own.len() {
                    continue;
                }
                let modules = declared_modules(&files, &own[..shared]);
                let place = |name: &str| modules.iter().position(|module| *module == name);
                let is_below = named
                    .get(shared)
                    .and_then(|name| place(name))
                    .is_some_and(|below| Some(below) > place(&own[shared]));
                if !is_below {
                    let fault =
                        format!("`{}` must not name `{}`", own.join("::"), named.join("::"));
                    faults.add(file, number, &fault);
                }
            }
        }
    }
    faults.none("an import goes up inside its folder, or through a re-export");
}

#[test]
fn the_protocol_knows_no_socket_clock_thread_or_log() {
    let mut faults = Faults::default();
    for file in sources(&["src/protocol"]) {
        for (number, line) in file.code() {
            let is_allowed =
                |&(name, code): &(&str, &str)| file.name.ends_with(name) && line == code;
            if ALLOWED_IN_PROTOCOL.iter().any(is_allowed) {
                continue;
            }
            for name in NOT_IN_PROTOCOL {
                if line.contains(name) {
                    faults.add(&file, number, &format!("`{name}` in the protocol"));
                }
            }
        }
    }
    faults.none("the protocol takes bytes and gives bytes");
}

#[test]
fn lib_only_declares_and_reexports() {
    let mut faults = Faults::default();
    // The struct carries the README's examples to the documentation tests.
    let starts = ["mod ", "pub mod ", "pub use ", "#[", "#![", "}", "pub struct Readme;"];
    for file in sources(&["src/lib.rs"]) {
        assert!(file.text.contains("#![forbid(unsafe_code)]"), "lib.rs forbids unsafe code");
        for (number, line) in file.code() {
            if !starts.iter().any(|start| line.starts_with(start)) {
                faults.add(&file, number, "lib.rs holds declarations and exports only");
            }
        }
    }
    faults.none("code in lib.rs");
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut faults = Faults::default();
    for file in sources(&["src", "examples"]) {
        for (number, line) in file.code() {
            if line.contains(".unwrap()") {
                faults.add(&file, number, "`expect` says why it cannot fail");
            }
            if line.contains(".expect(\"\")") {
                faults.add(&file, number, "`expect` says nothing");
            }
        }
    }
    faults.none("unwrap");
}

#[test]
fn every_file_says_what_it_is() {
    let mut faults = Faults::default();
    for file in sources(&EVERYWHERE) {
        if !file.text.starts_with("//! ") {
            faults.add(&file, 1, "a file begins with `//!`");
        }
    }
    faults.none("a file without its first words");
}

#[test]
fn files_and_functions_are_short() {
    let mut faults = Faults::default();
    for file in sources(&EVERYWHERE) {
        let lines: Vec<_> = file.text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            faults.add(&file, lines.len(), &format!("more than {FILE_LINES_MAX} lines"));
        }
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            let length = function_lines(&lines[at..]);
            if length > FUNCTION_LINES_MAX {
                let fault = format!("a function of {length} lines: {}", line.trim());
                faults.add(&file, at + 1, &fault);
            }
        }
    }
    faults.none("too long");
}

#[test]
fn nothing_is_left_for_later() {
    // Written apart, so that this file may keep the rule.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let calls = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!(")];
    let mut faults = Faults::default();
    for file in sources(&EVERYWHERE) {
        for (at, line) in file.text.lines().enumerate() {
            for found in words.iter().chain(&calls).filter(|word| line.contains(**word)) {
                faults.add(&file, at + 1, &format!("`{found}`: do it, or open an issue"));
            }
        }
    }
    faults.none("left for later");
}

#[test]
fn no_test_is_ignored_or_sleeps() {
    let forbidden = [concat!("#[ig", "nore"), concat!("sl", "eep(")];
    let mut faults = Faults::default();
    for file in sources(&["src", "tests"]) {
        for (at, line) in file.text.lines().enumerate() {
            if (&*file.name, line.trim()) == PAUSE {
                continue;
            }
            for found in forbidden.iter().filter(|found| line.contains(**found)) {
                faults.add(&file, at + 1, &format!("`{found}` in a test"));
            }
        }
    }
    faults.none("a test that does not run, or waits for time instead of a condition");
}

/// `FILE::NAME` in SECURITY.md is a test.
#[test]
fn every_test_that_security_names_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join("SECURITY.md")).expect("it can be read");
    let mut missing = Vec::new();
    let mut count = 0;
    for (file, name) in text.split('`').filter_map(|span| span.split_once("::")) {
        if !file.ends_with(".rs") {
            continue;
        }
        count += 1;
        let source = fs::read_to_string(top.join(file)).unwrap_or_default();
        if !source.contains(&format!("fn {name}() {{")) {
            missing.push(format!("{file}::{name}"));
        }
    }
    assert!(count > 0, "it names tests");
    assert!(missing.is_empty(), "no such test:\n{}\n", missing.join("\n"));
}

/// For each bound that SECURITY.md promises there is a patch that removes it, and the tests that are
/// named there are those that the patches must fail.
#[test]
fn every_bound_of_security_has_a_patch_that_its_tests_notice() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join("SECURITY.md")).expect("it can be read");
    let (_, bounds) = text.split_once("\n## Bounds\n").expect("a chapter");
    let (bounds, _) = bounds.split_once("\n## ").expect("another one follows");
    let rows = bounds.lines().filter(|line| line.starts_with("| ")).skip(1);
    let promised: BTreeSet<_> = rows
        .flat_map(|row| row.trim_end_matches(" |").rsplit(" | ").next())
        .flat_map(|cell| cell.split(", ").map(|test| test.trim_matches('`').to_owned()))
        .collect();
    let mut shown = BTreeSet::new();
    for entry in fs::read_dir(top.join("tests/mutants/bounds")).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        let patch = fs::read_to_string(&path).expect("it can be read");
        let tests = patch.lines().nth(1).and_then(|line| line.strip_prefix("Shown by "));
        let tests = tests.unwrap_or_else(|| panic!("{}: shown by what?", path.display()));
        shown.extend(tests.split(", ").map(str::to_owned));
    }
    let differ: Vec<_> = promised.symmetric_difference(&shown).cloned().collect();
    assert!(differ.is_empty(), "in one of SECURITY.md and the patches:\n{}\n", differ.join("\n"));
}

#[test]
fn the_reader_of_imports_finds_every_path() {
    let own = ["a", "b"].map(str::to_owned);
    for (line, expected) in [
        ("use crate::c::d::{E, F};", &["c::d"][..]),
        ("use super::{E, F};", &["a"]),
        ("use super::Upper;", &["a"]),
        ("use super::c::lower;", &["a::c::lower"]),
        ("use self::c::E;", &["a::b::c"]),
        ("pub(in crate::a) fn f(e: super::c::E, g: crate::G) {}", &["", "a::c"]),
        ("pub(super) fn f(me: myself::E) {}", &[]),
    ] {
        let found: Vec<_> = paths_named(line, &own).iter().map(|path| path.join("::")).collect();
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn the_ruler_measures_functions() {
    let text = "    pub(crate) const fn one(&self) -> u32 { 1 }\n    fn two(\n        a: u32,\n    ) \
                {\n        if a > 1 {\n        }\n    }\n    fn three(\n        a: u32,\n    );\n";
    let lines: Vec<_> = text.lines().collect();
    let lengths: Vec<_> = (0..lines.len())
        .filter(|at| begins_function(lines[*at]))
        .map(|at| function_lines(&lines[at..]))
        .collect();
    assert_eq!(lengths, [1, 6, 3]);
}

/// Where a `.rs` file is the project's own.
const EVERYWHERE: [&str; 4] = ["src", "examples", "tests", "benches"];

/// A source file.
struct Source {
    /// Its path from the top of the repository.
    name: String,
    text: String,
}

impl Source {
    /// The module of `src` that it belongs to.
    fn room(&self) -> String {
        let inside = self.name.trim_start_matches("src/");
        let end = inside.find(['/', '.']).unwrap_or(inside.len());
        inside[..end].to_owned()
    }

    /// Its path as a module of the crate; a folder's `mod.rs` is the folder.
    fn module(&self) -> Vec<String> {
        let inside = self.name.trim_start_matches("src/").trim_end_matches(".rs");
        let inside = inside.strip_suffix("/mod").unwrap_or(inside);
        inside.split('/').map(str::to_owned).collect()
    }

    /// Its lines of code with their numbers: no comments, no tests at its end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().map(without_comment);
        (1..).zip(lines).filter(|(_, line)| !line.is_empty())
    }
}

/// A line up to its comment, trimmed. A `//` behind a quote may be text, and is left.
fn without_comment(line: &str) -> &str {
    match line.find("//") {
        Some(at) if !line[..at].contains('"') => line[..at].trim(),
        _ => line.trim(),
    }
}

/// The rooms that a line names behind `crate::`.
fn rooms_named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

/// The paths that a line of module `own` names from `crate`, `super` or `self` on, without `crate`:
/// up to the first part that is not a module's name.
fn paths_named(line: &str, own: &[String]) -> Vec<Vec<String>> {
    let parent = &own[..own.len().saturating_sub(1)];
    let mut paths = Vec::new();
    for (start, base) in [("crate::", &[][..]), ("super::", parent), ("self::", own)] {
        for (at, _) in line.match_indices(start) {
            let before = &line[..at];
            let is_visibility = before.ends_with("(in ");
            if is_visibility || before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &line[at + start.len()..];
            let end = rest.find(|c: char| !is_of_a_module(c) && c != ':').unwrap_or(rest.len());
            let names = rest[..end].split("::").take_while(|name| !name.is_empty());
            paths.push(base.iter().cloned().chain(names.map(str::to_owned)).collect());
        }
    }
    paths
}

const fn is_of_a_module(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// The modules that the `mod.rs` of `folder` declares, in their order.
fn declared_modules<'f>(files: &'f [Source], folder: &[String]) -> Vec<&'f str> {
    let is_folder = |file: &&Source| file.name.ends_with("/mod.rs") && file.module() == folder;
    let lines = files.iter().find(is_folder).into_iter().flat_map(Source::code);
    lines.filter_map(|(_, line)| line.rsplit_once("mod ")?.1.strip_suffix(';')).collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn begins_function(line: &str) -> bool {
    let mut words = line.trim_start().split([' ', '(']);
    let modifiers = ["pub", "crate)", "super)", "const", "async", "unsafe", "extern"];
    words.find(|word| !modifiers.contains(word)) == Some("fn")
}

/// The lines of the function that begins with the first of `lines`, laid out by rustfmt: its last
/// is the next with the same indentation that closes it.
fn function_lines(lines: &[&str]) -> usize {
    let first = lines[0];
    if first.ends_with(['}', ';']) {
        return 1;
    }
    let indentation = &first[..first.len() - first.trim_start().len()];
    let closes = |line: &&str| {
        line.strip_prefix(indentation).is_some_and(|rest| {
            rest.starts_with('}') || (rest.starts_with(')') && rest.ends_with(';'))
        })
    };
    lines.iter().skip(1).position(closes).map_or(lines.len(), |at| at + 2)
}

/// The `.rs` files in these folders, or these files themselves.
fn sources(places: &[&str]) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for place in places {
        collect(&top.join(place), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let inside = path.strip_prefix(top).expect("it was found there");
        Source { name: inside.to_string_lossy().into_owned(), text }
    };
    paths.into_iter().map(read).collect()
}

/// A document at the top of the tree.
fn document(name: &str) -> Source {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = fs::read_to_string(path).expect("a document can be read");
    Source { name: name.to_owned(), text }
}

fn collect(path: &Path, paths: &mut Vec<PathBuf>) {
    if path.extension().is_some_and(|extension| extension == "rs") {
        paths.push(path.to_owned());
    } else if path.is_dir() && !path.ends_with("target") {
        for entry in fs::read_dir(path).expect("a folder can be listed") {
            collect(&entry.expect("a folder can be listed").path(), paths);
        }
    }
}

/// What was found, for one message about all of it.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, file: &Source, line: usize, what: &str) {
        self.0.push(format!("{}:{line}: {what}", file.name));
    }

    fn none(self, rule: &str) {
        assert!(self.0.is_empty(), "{rule}:\n{}\n", self.0.join("\n"));
    }
}
