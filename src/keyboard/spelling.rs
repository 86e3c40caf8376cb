//! Shortcuts in one word, as the program xdotool takes them: `ctrl+s`, `alt+Tab`, `Page_Up`.

use super::BadKeys;

/// The names of keys in each chord of a text: chords are divided by spaces, keys by `+`. A `+` where a
/// name should be is the key itself, as in `ctrl++`, and a space alone is the space bar.
pub fn chords_of(text: &str) -> Result<Vec<Vec<String>>, BadKeys> {
    if text == " " {
        return Ok(vec![vec![text.to_owned()]]);
    }
    let chords: Vec<_> = text
        .split_whitespace()
        .map(names_of)
        .collect::<Result<_, _>>()?;
    if chords.is_empty() {
        return Err(BadKeys::Empty);
    }
    Ok(chords)
}

fn names_of(word: &str) -> Result<Vec<String>, BadKeys> {
    let mut names = vec![];
    let mut rest = word;
    loop {
        let end = match rest.strip_prefix('+') {
            Some(_) => 1,
            None => rest.find('+').unwrap_or(rest.len()),
        };
        let (name, after) = rest.split_at(end);
        names.push(name.to_owned());
        if after.is_empty() {
            return Ok(names);
        }
        rest = match after.strip_prefix('+') {
            Some(rest) if !rest.is_empty() => rest,
            _ => {
                return Err(BadKeys::Unknown {
                    name: word.to_owned(),
                    near: vec![],
                });
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chords_are_read_as_xdotool_has_them() {
        let cases: &[(&str, &[&[&str]])] = &[
            ("a", &[&["a"]]),
            ("Return", &[&["Return"]]),
            ("ctrl+s", &[&["ctrl", "s"]]),
            ("ctrl+shift+T", &[&["ctrl", "shift", "T"]]),
            ("ctrl++", &[&["ctrl", "+"]]),
            ("+", &[&["+"]]),
            ("ctrl+plus", &[&["ctrl", "plus"]]),
            (" ", &[&[" "]]),
            ("  alt+Tab ", &[&["alt", "Tab"]]),
            (
                "Down Down ctrl+a\nReturn",
                &[&["Down"], &["Down"], &["ctrl", "a"], &["Return"]],
            ),
        ];
        for (text, chords) in cases {
            assert_eq!(chords_of(text).unwrap(), *chords, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_chord_is_refused() {
        for text in ["", "   ", "\n"] {
            assert_eq!(chords_of(text), Err(BadKeys::Empty), "{text:?}");
        }
        for word in ["ctrl+", "++", "+a", "ctrl++s"] {
            let error = chords_of(&format!("a {word}")).unwrap_err();
            assert_eq!(error.to_string(), format!("there is no key named `{word}`"));
        }
    }
}
