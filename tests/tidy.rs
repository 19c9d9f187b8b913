//! Style rules that a test can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of `src` from the bottom up. A module may import from lower layers only.
const LAYERS: [&[&str]; 11] = [
    &["protocol", "tls"],
    &["connection_info"],
    &["forwarding"],
    &["config", "stats", "peer_id"],
    &["address_limits", "open_peers", "peer_deadlines", "fanout"],
    &["context"],
    &["peer"],
    &["handler"],
    &["conn"],
    &["reactor"],
    &["server"],
];

/// Names that the protocol must not use, since it knows no socket, clock, thread or log.
const NOT_IN_PROTOCOL: [&str; 8] =
    ["std::io", "std::net", "std::time", "std::thread", "std::sync", "std::{", "mio::", "log::"];

/// The only pause in the tests, between two checks of a condition that nothing announces.
const PAUSE: (&str, &str) =
    ("tests/support/client.rs", concat!("std::thread::sl", "eep(CHECK_PAUSE);"));

/// The exceptions: `io::Write` for formatting into memory, `Arc` for shared memory, and the types of
/// addresses.
const ALLOWED_IN_PROTOCOL: [(&str, &str); 3] = [
    ("/response.rs", "use std::io::Write;"),
    ("/encoded.rs", "use std::sync::Arc;"),
    ("/proxy.rs", "use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};"),
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Phrases that a reader has to decode, or that only this project used. The field has a plain word
/// for each: unsent, queued, incomplete, lack of, ended, dropped, continues, handles, faults,
/// worker.
const PHRASES: [&str; 55] = [
    "anew",
    "whatever",
    "told to",
    "now and then",
    "the most bytes",
    "owe",
    "owed",
    "owes",
    "under way",
    "want of",
    "nobody",
    "anybody",
    "somebody",
    "whoever",
    "whom",
    "given up",
    "give up",
    "gives up",
    "goes on",
    "going on",
    "went on",
    "sees to",
    "see to",
    "is no more",
    "are no more",
    "is gone",
    "are gone",
    "is none",
    "by the letter",
    "made-up",
    "as it came",
    "as it comes",
    "at the door",
    "is to be",
    "are to be",
    "to be had",
    "all the same",
    "nothing but",
    "of its own accord",
    "put off",
    "take away",
    "takes away",
    "spoilt",
    "what is",
    "what was",
    "what it",
    "what are",
    "what were",
    "what has",
    "weather",
    "dice",
    "storm",
    "lanes",
    "house",
    "tape",
];

/// The folders whose comments must use plain words.
const PROSE: [&str; 4] = ["src", "examples", "benches", "tests"];

#[test]
fn comments_documents_and_test_names_use_plain_words() {
    let mut faults = Faults::default();
    let mut files = sources(&PROSE);
    files.extend(["README.md", "SECURITY.md", "CHANGELOG.md"].map(document));
    for file in files {
        let is_document = file.name.ends_with(".md");
        for (number, line) in (1..).zip(file.text.lines()) {
            let prose = if is_document { line.to_owned() } else { prose_of(line) };
            let prose = prose.to_lowercase();
            for phrase in PHRASES {
                if has_phrase(&prose, phrase) {
                    faults.add(&file, number, &format!("`{phrase}` has a plainer word"));
                }
            }
        }
    }
    faults.none("a private or elliptic phrase");
}

/// The comment of a line of code, or the words in the name of a test.
fn prose_of(line: &str) -> String {
    let test_name = line.trim().strip_prefix("fn ").and_then(|rest| rest.strip_suffix("() {"));
    match (test_name, line.split_once("//")) {
        (Some(name), _) => name.replace('_', " "),
        (None, Some((_, comment))) => comment.to_owned(),
        (None, None) => String::new(),
    }
}

/// Whether `prose` contains `phrase` as whole words.
fn has_phrase(prose: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    prose.match_indices(phrase).any(|(start, _)| {
        let before = prose[..start].chars().next_back();
        let after = prose[start + phrase.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[test]
fn modules_import_from_lower_layers_only() {
    let mut faults = Faults::default();
    for file in sources(&["src"]) {
        let module = file.top_module();
        if module == "lib" {
            continue;
        }
        let Some(layer) = layer(&module) else {
            faults.add(&file, 1, &format!("`{module}` has no layer: add it to LAYERS"));
            continue;
        };
        for (number, line) in file.code() {
            for named in modules_named(line) {
                let is_below = self::layer(named).is_some_and(|below| below < layer);
                if named != module && !is_below {
                    faults.add(&file, number, &format!("`{module}` must not name `{named}`"));
                }
            }
            if line.contains("super::super::") {
                faults.add(&file, number, "write `crate::`, not `super::super::`");
            }
            if !file.name.trim_start_matches("src/").contains('/') && line.contains("super::") {
                faults.add(&file, number, "write `crate::`, not `super::`");
            }
        }
    }
    faults.none("an import from the same or a higher layer");
}

/// Inside a folder of `src`, `mod.rs` declares the modules from the top down. A module may import
/// only from modules declared after its own, and from the module that defines a name, not from one
/// that re-exports it.
#[test]
fn modules_in_a_folder_import_from_later_modules_only() {
    let files = sources(&["src"]);
    let mut faults = Faults::default();
    for file in &files {
        let own = file.module();
        for (number, line) in file.code() {
            for named in paths_named(line, &own) {
                let shared = own.iter().zip(&named).take_while(|(own, named)| own == named).count();
                // LAYERS has the order of the top level, and a folder may import from its own
                // modules.
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
    faults.none("an import from an earlier module of the folder, or through a re-export");
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
    faults.none("I/O, time, threads or logging in the protocol");
}

#[test]
fn lib_only_declares_and_reexports() {
    let mut faults = Faults::default();
    // The struct makes the README's examples documentation tests.
    let starts = ["mod ", "pub mod ", "pub use ", "#[", "#![", "}", "pub struct Readme;"];
    for file in sources(&["src/lib.rs"]) {
        assert!(file.text.contains("#![forbid(unsafe_code)]"), "lib.rs forbids unsafe code");
        for (number, line) in file.code() {
            if !starts.iter().any(|start| line.starts_with(start)) {
                faults.add(&file, number, "lib.rs may only declare and export");
            }
        }
    }
    faults.none("code in lib.rs");
}

#[test]
fn only_tests_call_unwrap() {
    let mut faults = Faults::default();
    for file in sources(&["src", "examples"]) {
        for (number, line) in file.code() {
            if line.contains(".unwrap()") {
                faults.add(&file, number, "use `expect` with the reason why it cannot fail");
            }
            if line.contains(".expect(\"\")") {
                faults.add(&file, number, "`expect` without a reason");
            }
        }
    }
    faults.none("unwrap");
}

#[test]
fn every_file_has_a_module_comment() {
    let mut faults = Faults::default();
    for file in sources(&EVERYWHERE) {
        if !file.text.starts_with("//! ") {
            faults.add(&file, 1, "the first line must begin with `//!`");
        }
    }
    faults.none("a file without a module comment");
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
fn no_unfinished_code_remains() {
    // The words are split so that this file passes its own check.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let calls = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!(")];
    let mut faults = Faults::default();
    for file in sources(&EVERYWHERE) {
        for (at, line) in file.text.lines().enumerate() {
            for found in words.iter().chain(&calls).filter(|word| line.contains(**word)) {
                faults.add(&file, at + 1, &format!("`{found}`: finish it, or open an issue"));
            }
        }
    }
    faults.none("unfinished code");
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
    faults.none("a test that does not run, or waits for a time instead of a condition");
}

/// `FILE::NAME` in SECURITY.md must be a test.
#[test]
fn every_test_that_security_names_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join("SECURITY.md")).expect("the file can be read");
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
    assert!(count > 0, "SECURITY.md names tests");
    assert!(missing.is_empty(), "no such test:\n{}\n", missing.join("\n"));
}

/// For each bound in SECURITY.md there must be a patch that removes it. The tests named for the
/// bounds must be those that fail with these patches.
#[test]
fn every_bound_of_security_has_a_patch_with_the_same_tests() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join("SECURITY.md")).expect("the file can be read");
    let (_, bounds) = text.split_once("\n## Bounds\n").expect("a section for bounds");
    let (bounds, _) = bounds.split_once("\n## ").expect("another section follows");
    let rows = bounds.lines().filter(|line| line.starts_with("| ")).skip(1);
    let promised: BTreeSet<_> = rows
        .flat_map(|row| row.trim_end_matches(" |").rsplit(" | ").next())
        .flat_map(|cell| cell.split(", ").map(|test| test.trim_matches('`').to_owned()))
        .collect();
    let mut shown = BTreeSet::new();
    for entry in fs::read_dir(top.join("tests/mutants/bounds")).expect("the folder can be listed") {
        let path = entry.expect("the folder can be listed").path();
        let patch = fs::read_to_string(&path).expect("the file can be read");
        let tests = patch.lines().nth(1).and_then(|line| line.strip_prefix("Shown by "));
        let tests = tests.unwrap_or_else(|| panic!("{}: no line `Shown by`", path.display()));
        shown.extend(tests.split(", ").map(str::to_owned));
    }
    let differ: Vec<_> = promised.symmetric_difference(&shown).cloned().collect();
    assert!(differ.is_empty(), "in one of SECURITY.md and the patches:\n{}\n", differ.join("\n"));
}

#[test]
fn the_import_parser_finds_every_path() {
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
fn function_lengths_are_measured_correctly() {
    let text = "    pub(crate) const fn one(&self) -> u32 { 1 }\n    fn two(\n        a: u32,\n    ) \
                {\n        if a > 1 {\n        }\n    }\n    fn three(\n        a: u32,\n    );\n";
    let lines: Vec<_> = text.lines().collect();
    let lengths: Vec<_> = (0..lines.len())
        .filter(|at| begins_function(lines[*at]))
        .map(|at| function_lines(&lines[at..]))
        .collect();
    assert_eq!(lengths, [1, 6, 3]);
}

/// All folders with source files of the project.
const EVERYWHERE: [&str; 4] = ["src", "examples", "tests", "benches"];

/// A source file.
struct Source {
    /// Its path in the repository.
    name: String,
    text: String,
}

impl Source {
    /// The top-level module of `src` that contains it.
    fn top_module(&self) -> String {
        let inside = self.name.trim_start_matches("src/");
        let end = inside.find(['/', '.']).unwrap_or(inside.len());
        inside[..end].to_owned()
    }

    /// Its path as a module of the crate. A folder's `mod.rs` has the path of the folder.
    fn module(&self) -> Vec<String> {
        let inside = self.name.trim_start_matches("src/").trim_end_matches(".rs");
        let inside = inside.strip_suffix("/mod").unwrap_or(inside);
        inside.split('/').map(str::to_owned).collect()
    }

    /// Its lines of code with their numbers, without comments and without the tests at its end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().map(without_comment);
        (1..).zip(lines).filter(|(_, line)| !line.is_empty())
    }
}

/// A trimmed line without its comment. A `//` after a quote is kept, because it may be part of a
/// string.
fn without_comment(line: &str) -> &str {
    match line.find("//") {
        Some(at) if !line[..at].contains('"') => line[..at].trim(),
        _ => line.trim(),
    }
}

/// The top-level modules that a line names after `crate::`.
fn modules_named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

/// The module paths that a line of module `own` names after `crate::`, `super::` or `self::`. Each
/// ends before the first part that is not a module.
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

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn begins_function(line: &str) -> bool {
    let mut words = line.trim_start().split([' ', '(']);
    let modifiers = ["pub", "crate)", "super)", "const", "async", "unsafe", "extern"];
    words.find(|word| !modifiers.contains(word)) == Some("fn")
}

/// The number of lines of the function that begins in the first of `lines`. rustfmt has formatted
/// it, so it ends at the next closing line with the same indentation.
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

/// The given `.rs` files, and those in the given folders.
fn sources(places: &[&str]) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for place in places {
        collect(&top.join(place), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let inside = path.strip_prefix(top).expect("the path begins with `top`");
        Source { name: inside.to_string_lossy().into_owned(), text }
    };
    paths.into_iter().map(read).collect()
}

/// A document in the repository's root folder.
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

/// The violations of a rule, reported in one message.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, file: &Source, line: usize, fault: &str) {
        self.0.push(format!("{}:{line}: {fault}", file.name));
    }

    fn none(self, rule: &str) {
        assert!(self.0.is_empty(), "{rule}:\n{}\n", self.0.join("\n"));
    }
}
