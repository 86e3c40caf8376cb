//! The house's floors: who may name whom, and which room each foreign library lives in.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Rooms from the highest floor to the lowest. Imports run downward, or along floors 3 and 2.
const FLOORS: [&[&str]; 4] = [
    // 0: plain values, decoded pictures, settings
    &["cells", "config", "image", "model"],
    // 1: the outer world, each part by itself
    &[
        "fonts",
        "hypervisor",
        "keyboard",
        "ocr",
        "secrets",
        "ssh",
        "store",
    ],
    // 2: what can be done with a VM
    &[
        "capture", "fleet", "gallery", "guest", "jobs", "journal", "perform", "reading", "vm",
        "watch",
    ],
    // 3: who asks for it
    &["cli", "http", "tools"],
];

/// Foreign libraries and their only rooms.
const HOMES: [(&str, &str); 20] = [
    ("axum", "http"),
    ("clap", "cli"),
    ("clap_complete", "cli"),
    ("clap_mangen", "cli"),
    ("dotenvy", "config"),
    ("fast_image_resize", "image"),
    ("flate2", "cells"),
    ("jpeg_encoder", "image"),
    ("png", "image"),
    ("quick_xml", "hypervisor"),
    ("realfft", "image"),
    ("regex", "model"),
    ("rmcp", "tools"),
    ("russh", "ssh"),
    ("russh_sftp", "ssh"),
    ("rustfft", "image"),
    ("strip_ansi_escapes", "watch"),
    ("virt", "hypervisor"),
    ("xkbcommon", "keyboard"),
    ("zune_jpeg", "image"),
];

/// A source file: its path below `src`, and its text without comments.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The top-level module it belongs to; the crate's own files have none.
    fn room(&self) -> Option<&str> {
        let first = self.path.iter().next()?.to_str()?;
        let room = first.strip_suffix(".rs").unwrap_or(first);
        (room != "main" && room != "lib").then_some(room)
    }

    fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![];
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = without_comments(&fs::read_to_string(&path).unwrap());
                let path = path.strip_prefix(&root).unwrap().to_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 40, "the sources are not where they were");
    found
}

/// Lines that are comments are left out, and what comes after ` // `.
fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let lines = lines.map(|line| line.split(" // ").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn floor(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("the room {room} has no floor yet"))
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Places where a word stands by itself.
fn places<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = text[..*at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !before.is_some_and(is_part_of_word) && !after.is_some_and(is_part_of_word)
        })
}

/// The rooms that a text names by `crate::room` or `crate::{room::…, room::…}`.
fn named_rooms(text: &str) -> Vec<String> {
    let word =
        |text: &str| -> String { text.chars().take_while(|c| is_part_of_word(*c)).collect() };
    let mut rooms = vec![];
    for at in places(text, "crate") {
        let Some(rest) = text[at + "crate".len()..].strip_prefix("::") else {
            continue;
        };
        let Some(group) = rest.strip_prefix('{') else {
            rooms.push(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut is_start = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => is_start = depth == 1,
                c if is_start && is_part_of_word(c) => {
                    rooms.push(word(&group[at..]));
                    is_start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    rooms
}

#[test]
fn rooms_are_found_in_imports_of_every_form() {
    let text = "use crate::model::Act;\nuse crate::{\n    a::{self, b::C, d},\n    e,\n};\n\
                fn f() { crate::g::h(); pub(crate) fn i() {} }";
    assert_eq!(named_rooms(text), ["model", "a", "e", "g"]);
}

#[test]
fn imports_run_downward() {
    for source in sources() {
        let Some(room) = source.room() else {
            continue;
        };
        let own = floor(room);
        for named in named_rooms(&source.text) {
            if named == room {
                continue;
            }
            let other = floor(&named);
            let is_fine = other < own || (other == own && own >= 2);
            // Settings and pictures are made of the model's words, which know nobody.
            let is_fine = is_fine || (own == 0 && named == "model");
            // Cells are read off pictures.
            let is_fine = is_fine || (room == "cells" && named == "image");
            assert!(
                is_fine,
                "{}, floor {own}, names {named}, floor {other}",
                source.name()
            );
        }
        let groups = source.text.split("super::{").skip(1);
        let mut imports = groups.map(|group| group.split(';').next().unwrap_or_default());
        assert!(
            !source.text.contains("super::super") && !imports.any(|it| it.contains("super::")),
            "{}: it hides a floor",
            source.name()
        );
    }
}

#[test]
fn every_foreign_library_stays_in_its_room() {
    for source in sources() {
        for (library, home) in HOMES {
            let names_it = places(&source.text, library).any(|at| {
                let is_path = source.text[at + library.len()..].starts_with("::");
                let is_root = !source.text[..at].ends_with("::");
                is_path && is_root
            });
            let is_at_home = source.room() == Some(home);
            // The program parses its own command line.
            let is_main = library == "clap" && source.path == Path::new("main.rs");
            assert!(
                !names_it || is_at_home || is_main,
                "{} names {library}, whose room is {home}",
                source.name()
            );
        }
    }
}

#[test]
fn the_model_is_pure() {
    let impure = [
        "tokio",
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "tracing",
    ];
    for source in sources() {
        if source.room() == Some("model") {
            for word in impure {
                assert!(
                    !source.text.contains(word),
                    "{} names {word}",
                    source.name()
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_half_done_or_printed() {
    const BANNED: [&str; 8] = [
        "allow(dead_code",
        "todo!(",
        "unimplemented!(",
        "dbg!(",
        "println!(",
        "print!(",
        "FIXME",
        "TODO",
    ];
    for source in sources() {
        for banned in BANNED {
            assert!(!source.text.contains(banned), "{}: {banned}", source.name());
        }
        let is_ffi = source.path.starts_with("hypervisor/ffi");
        let is_unsafe = places(&source.text, "unsafe").next().is_some();
        assert!(!is_unsafe || is_ffi, "{} has unsafe code", source.name());
    }
}

#[test]
fn every_module_says_what_it_owns_and_main_is_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for source in sources() {
        let text = fs::read_to_string(root.join(&source.path)).unwrap();
        let is_tests = source.path.ends_with("tests.rs");
        assert!(
            text.starts_with("//! ") || is_tests,
            "{} does not open with //!",
            source.name()
        );
        if source.path == Path::new("main.rs") {
            assert!(text.lines().count() < 100, "main.rs is no place to work");
        }
    }
}
