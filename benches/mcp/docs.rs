//! The place of measured tables in the documentation.

use std::{fs, path::Path};

/// Puts tables between the marks of this name in the documentation.
pub(crate) fn put(name: &str, tables: &str) {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
    let text = fs::read_to_string(&path).expect("docs/benchmarks.md can be read");
    let marks = "docs/benchmarks.md has its marks";
    let (before, rest) = text.split_once(&begin).expect(marks);
    let (_, after) = rest.split_once(&end).expect(marks);
    let text = format!("{before}{begin}\n{tables}\n{end}{after}");
    fs::write(&path, text).expect("docs/benchmarks.md can be written");
}
