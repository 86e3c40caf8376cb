//! Words of a line that a person runs at the host's shell.
//!
//! What a guest's login shell is sent, `ssh` quotes for itself.

use std::fmt;

/// A text as one word, bare where it is plain.
///
/// Backslashes stand outside the quotes: inside, fish reads two of them as one.
pub(crate) fn shell_word(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    let mut quoted = String::from("'");
    for character in text.chars() {
        match character {
            '\'' => quoted.push_str(r"'\''"),
            '\\' => quoted.push_str(r"'\\'"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_may_take_apart_is_quoted() {
        let table = [
            ("", "''"),
            ("demo", "demo"),
            (
                "qemu+ssh://root@10.0.0.1:22/system",
                "qemu+ssh://root@10.0.0.1:22/system",
            ),
            ("/a_b/c-d,e%f=g.h", "/a_b/c-d,e%f=g.h"),
            ("win 10", "'win 10'"),
            ("~/x", "'~/x'"),
            (
                "qemu:///session?socket=/run/x",
                "'qemu:///session?socket=/run/x'",
            ),
            ("it's", r"'it'\''s'"),
            (r"a\\b", r"'a'\\''\\'b'"),
            ("$(id) `id` \"x\" ; &\n", "'$(id) `id` \"x\" ; &\n'"),
            ("ü", "'ü'"),
        ];
        for (text, expected) in table {
            assert_eq!(shell_word(text), expected, "{text:?}");
        }
    }
}
