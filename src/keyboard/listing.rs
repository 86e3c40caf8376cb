//! Which layouts there are: what xkeyboard-config lists, looked up at start without compiling any.

use std::fs;

use xkbcommon::xkb;

use super::layout;

/// Below xkeyboard-config's folder.
const LIST: &str = "rules/evdev.lst";

/// How many near names are told.
const NAMED: usize = 6;

/// No layout or variant has this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotListed {
    /// Names that may have been meant, the nearest first.
    pub near: Vec<String>,
}

impl NotListed {
    /// What would be accepted, in words.
    pub fn allowed(&self) -> String {
        let near: Vec<_> = self.near.iter().map(|name| format!("{name:?}")).collect();
        let near = match near.as_slice() {
            [] => String::new(),
            near => format!("; near ones are {}", near.join(", ")),
        };
        format!("one layout of xkeyboard-config, or \"layout:variant\"{near}")
    }
}

/// Whether a guest can have this layout, which is `layout` or `layout:variant`.
pub fn check(name: &str) -> Result<(), NotListed> {
    let listing = Listing::read();
    // What is not listed, such as the user's own, is tried; most names are, and cost nothing.
    if is_plain(name) && (listing.has(name) || layout::load(name).is_some()) {
        return Ok(());
    }
    Err(NotListed {
        near: listing.near(&name.to_lowercase()),
    })
}

/// Letters, digits, `-` and `_`: others would mean files and sections to xkeyboard-config.
fn is_plain(name: &str) -> bool {
    let is_word = |word: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !word.is_empty() && word.chars().all(is_plain)
    };
    match name.split_once(':') {
        Some((layout, variant)) => is_word(layout) && is_word(variant),
        None => is_word(name),
    }
}

/// Names, and what they mean in English.
#[derive(Default)]
struct Listing {
    layouts: Vec<(String, String)>,
    /// As `layout:variant`.
    variants: Vec<(String, String)>,
}

impl Listing {
    /// Empty where xkeyboard-config is not installed.
    fn read() -> Self {
        let context = xkb::Context::new(xkb::CONTEXT_NO_ENVIRONMENT_NAMES);
        let mut lists = context
            .include_paths()
            .filter_map(|folder| fs::read_to_string(std::path::Path::new(folder).join(LIST)).ok());
        lists
            .next()
            .map_or_else(Self::default, |text| Self::parse(&text))
    }

    /// Sections that begin with `! layout` or `! variant`, and a line for each name in them.
    fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        let mut section = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('!') {
                section = name.trim();
                continue;
            }
            let Some((name, meaning)) = line.trim().split_once(char::is_whitespace) else {
                continue;
            };
            let meaning = meaning.trim();
            match (section, meaning.split_once(": ")) {
                ("layout", _) => listing.layouts.push((name.to_owned(), meaning.to_owned())),
                ("variant", Some((layout, meaning))) => {
                    let name = format!("{layout}:{name}");
                    listing.variants.push((name, meaning.to_owned()));
                }
                _ => {}
            }
        }
        listing
    }

    fn has(&self, name: &str) -> bool {
        let mut all = self.layouts.iter().chain(&self.variants);
        all.any(|(known, _)| known == name)
    }

    /// Near names: of the layout's variants where the layout is known, else of layouts. One may also
    /// have said what it means: `german`, or `uk` for `gb`.
    fn near(&self, wanted: &str) -> Vec<String> {
        let layout = wanted.split([':', '-', '(', ',']).next().unwrap_or(wanted);
        let own = format!("{layout}:");
        let variants = self.variants.iter().filter(|(it, _)| it.starts_with(&own));
        let is_known = self.layouts.iter().any(|(known, _)| known == layout);
        let mut near: Vec<_> = if is_known {
            let all = variants.map(|(name, _)| (strsim::damerau_levenshtein(name, wanted), name));
            let itself = self.layouts.iter().filter(|(known, _)| known == layout);
            // Where nothing was said of a variant, the layout itself was meant.
            let unsaid = if wanted.contains(':') { 3 } else { 0 };
            itself.map(|(name, _)| (unsaid, name)).chain(all).collect()
        } else {
            let distance = |(name, meaning): &(String, String)| {
                let meaning = meaning.to_lowercase();
                let mut words = meaning.split(|c: char| !c.is_alphanumeric());
                if meaning == layout {
                    return 0;
                } else if words.any(|word| word == layout) {
                    return 1;
                }
                strsim::damerau_levenshtein(name, layout)
            };
            let all = self.layouts.iter().map(|it| (distance(it), &it.0));
            all.filter(|(distance, name)| *distance < name.len().min(3))
                .collect()
        };
        near.sort();
        let near = near.into_iter().take(NAMED).map(|(_, name)| name.clone());
        near.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(name: &str) -> Vec<String> {
        check(name)
            .err()
            .unwrap_or_else(|| panic!("{name} is known"))
            .near
    }

    #[test]
    fn layouts_and_variants_are_known() {
        for name in [
            "us",
            "us:dvorak",
            "de",
            "de:neo",
            "fr",
            "gb",
            "es",
            "ru",
            "gr",
            "jp",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_only_the_extras_have_is_found_by_trying() {
        assert!(!Listing::read().has("de:lld"));
        assert_eq!(check("de:lld"), Ok(()));
    }

    #[test]
    fn unknown_names_are_answered_with_near_ones() {
        assert_eq!(near("dee")[0], "de");
        assert_eq!(near("german"), ["de", "at", "ch"]);
        assert!(near("uk").contains(&"gb".to_owned()), "{:?}", near("uk"));
        assert_eq!(near("us:dvork")[0], "us:dvorak");
        assert_eq!(near("de-neo")[0], "de");
        assert!(near("de-neo").contains(&"de:neo".to_owned()));
        assert_eq!(near("us,ru")[0], "us");
        assert_eq!(near("DE")[0], "de");
        for name in [
            "",
            ":",
            "us:",
            "../us",
            "pc+us",
            "us(dvorak)",
            "a\0b",
            "no-such-layout",
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert_eq!(near("qqqqqq"), [""; 0]);
        assert_eq!(
            check("qqqqqq").unwrap_err().allowed(),
            "one layout of xkeyboard-config, or \"layout:variant\""
        );
    }
}
