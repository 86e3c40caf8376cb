//! File names from texts that people write.

use super::StoreError;

/// Leaves room in a file name's 255 bytes (`NAME_MAX`) for a time, a counter and an extension.
const MAX_BYTES: usize = 100;

/// The longest file name that Linux takes, in bytes: `NAME_MAX` in linux/limits.h.
const NAME_MAX: usize = 255;

/// A text in any script as part of a file name: what a file system, a shell or a terminal would
/// stumble over becomes `_`, and it is cut to [`MAX_BYTES`].
pub(super) fn safe_name(text: &str, what: &'static str) -> Result<String, StoreError> {
    if text.trim().is_empty() {
        return Err(StoreError::Empty { what });
    }
    let at_edge = |c: char| c == '.' || c.is_whitespace();
    let inner = text.trim_matches(at_edge);
    let lead = text.len() - text.trim_start_matches(at_edge).len();
    let inner_ends = lead + inner.len();

    let mut name = String::new();
    for (at, c) in text.char_indices() {
        let is_edge = at < lead || at >= inner_ends;
        let c = if is_edge || is_unsafe(c) { '_' } else { c };
        if name.len() + c.len_utf8() > MAX_BYTES {
            break;
        }
        name.push(c);
    }
    Ok(name)
}

fn is_unsafe(c: char) -> bool {
    let is_reserved = matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    // Line separators, and marks that turn the direction of what follows them.
    let misleads = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_reserved || misleads
}

/// Refuses a file name that is no plain name in one folder.
pub(super) fn check_file_name(name: &str) -> Result<(), StoreError> {
    let fault = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "it names a folder"
    } else if name.contains(['/', '\\']) {
        "it has a separator"
    } else if name.contains(char::is_control) {
        "it has a control character"
    } else if name.len() > NAME_MAX {
        "it is longer than 255 bytes"
    } else {
        return Ok(());
    };
    Err(StoreError::BadFileName {
        name: name.escape_debug().to_string(),
        fault,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_script_are_kept_and_made_safe() {
        const CASES: &[(&str, &str)] = &[
            ("sample task", "sample task"),
            ("Focus in Citrix: use keys", "Focus in Citrix_ use keys"),
            ("Prüfung 検査 проверка", "Prüfung 検査 проверка"),
            ("a/b\\c", "a_b_c"),
            ("../../etc/passwd", "___.._etc_passwd"),
            ("..", "__"),
            (".hidden", "_hidden"),
            (" led and trailed. ", "_led and trailed__"),
            ("a\0b\nc\td\u{7f}e", "a_b_c_d_e"),
            ("what? \"*\" <x|y>", "what_ ___ _x_y_"),
            ("gpj.\u{202e}exe", "gpj._exe"),
            ("v1.2", "v1.2"),
        ];
        for (text, name) in CASES {
            assert_eq!(safe_name(text, "name").unwrap(), *name, "{text:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = safe_name(&"ä検".repeat(50), "name").unwrap();
        assert_eq!(name, "ä検".repeat(20));
        assert_eq!(safe_name(&"検".repeat(50), "name").unwrap().len(), 99);
    }

    #[test]
    fn empty_names_are_refused() {
        for text in ["", "  ", "\n\t"] {
            let error = safe_name(text, "advice title").unwrap_err();
            assert_eq!(error.to_string(), "the advice title is empty", "{text:?}");
        }
    }

    #[test]
    fn result_file_names_that_are_no_plain_names_are_refused() {
        let long = "x".repeat(256);
        let cases = [
            ("", "`` is no file name for a result: it is empty"),
            (".", "`.` is no file name for a result: it names a folder"),
            ("..", "`..` is no file name for a result: it names a folder"),
            (
                "../x",
                "`../x` is no file name for a result: it has a separator",
            ),
            (
                "a/b",
                "`a/b` is no file name for a result: it has a separator",
            ),
            (
                "/etc/x",
                "`/etc/x` is no file name for a result: it has a separator",
            ),
            (
                "a\\b",
                "`a\\\\b` is no file name for a result: it has a separator",
            ),
            (
                "a\0",
                "`a\\0` is no file name for a result: it has a control character",
            ),
            (
                "a\nb",
                "`a\\nb` is no file name for a result: it has a control character",
            ),
        ];
        for (name, error) in cases {
            assert_eq!(check_file_name(name).unwrap_err().to_string(), error);
        }
        assert_eq!(
            check_file_name(&long).unwrap_err().to_string(),
            format!("`{long}` is no file name for a result: it is longer than 255 bytes")
        );
        for name in ["a..b", "...", "report 検査.txt", ".env", &long[1..]] {
            check_file_name(name).unwrap();
        }
    }
}
