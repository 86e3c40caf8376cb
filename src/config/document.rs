//! A TOML document that is read value by value.
//!
//! It is walked by hand rather than deserialised, so that an error names the dotted key, its line
//! and what would be accepted there.

use std::path::{Path, PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, Place},
    expand_home,
};

const PATH: &str = "a path that begins with `/` or `~/`";
const TABLE: &str = "a table";

/// The keys of a table: those that work, and those that the contract has for later.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) now: &'static [&'static str],
    pub(super) later: &'static [&'static str],
}

impl Keys {
    /// The known key that this one is probably a slip of.
    fn nearest(self, key: &str) -> Option<&'static str> {
        self.now
            .iter()
            .map(|&known| (strsim::damerau_levenshtein(key, known), known))
            .filter(|&(distance, known)| distance <= known.len().div_ceil(3).min(3))
            .min()
            .map(|(_, known)| known)
    }
}

/// The config file's text, and what its errors and paths need.
pub(super) struct Document<'d> {
    file: &'d Path,
    text: &'d str,
    home: Option<&'d Path>,
}

impl<'d> Document<'d> {
    /// `~/` in a path stands for `home`.
    pub(super) fn new(file: &'d Path, text: &'d str, home: Option<&'d Path>) -> Self {
        Self { file, text, home }
    }

    /// The outermost table.
    pub(super) fn table(&'d self, keys: Keys) -> Result<Table<'d, 'd>, ConfigError> {
        // The parser's own display of an error quotes the line, so take its message alone.
        let root = DeTable::parse(self.text).map_err(|error| ConfigError::Syntax {
            place: self.place(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        Table::checked(self, String::new(), root.into_inner(), keys, false)
    }

    fn place(&self, at: usize) -> Place {
        let before = self.text.get(..at).unwrap_or(self.text);
        Place::File {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
        }
    }
}

/// A table whose keys are all known.
pub(super) struct Table<'d, 'i> {
    document: &'d Document<'d>,
    path: String,
    entries: DeTable<'i>,
    hides_values: bool,
}

impl<'d, 'i> Table<'d, 'i> {
    fn checked(
        document: &'d Document<'d>,
        path: String,
        entries: DeTable<'i>,
        keys: Keys,
        hides_values: bool,
    ) -> Result<Self, ConfigError> {
        let unknown = entries
            .keys()
            .filter(|key| !keys.now.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        if let Some(key) = unknown {
            let place = document.place(key.span().start);
            let name = key.get_ref();
            let key = dotted(&path, name);
            if keys.later.contains(&name.as_ref()) {
                return Err(ConfigError::KeyNotYet { place, key });
            }
            return Err(ConfigError::UnknownKey {
                place,
                key,
                nearest: keys.nearest(name),
                allowed: keys.now,
            });
        }
        Ok(Self {
            document,
            path,
            entries,
            hides_values,
        })
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry<'d, 'i>> {
        let (name, value) = self.entries.remove_entry(key)?;
        Some(Entry {
            document: self.document,
            key: dotted(&self.path, name.get_ref()),
            at: name.span().start,
            name: name.into_inner().into_owned(),
            value: value.into_inner(),
            hides_value: self.hides_values,
        })
    }

    /// What `read` makes of the value, if the key is there.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Entry<'d, 'i>) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        self.take(key).as_ref().map(read).transpose()
    }
}

/// One value, and what an error about it needs.
pub(super) struct Entry<'d, 'i> {
    document: &'d Document<'d>,
    /// The last part of `key`, as the user wrote it.
    pub(super) name: String,
    key: String,
    at: usize,
    value: DeValue<'i>,
    hides_value: bool,
}

impl<'d, 'i> Entry<'d, 'i> {
    pub(super) fn place(&self) -> Place {
        self.document.place(self.at)
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The same value, which no error shows from now on, nor any that is in it: it may be a secret that
    /// was written into the wrong place.
    pub(super) fn hidden(self) -> Self {
        Self {
            hides_value: true,
            ..self
        }
    }

    fn shown(&self) -> String {
        match &self.value {
            DeValue::String(_) if self.hides_value => "another text".to_owned(),
            value => shown(value),
        }
    }

    pub(super) fn wrong(&self, allowed: impl Into<String>) -> ConfigError {
        ConfigError::WrongValue {
            place: self.place(),
            key: self.key.clone(),
            found: self.shown(),
            allowed: allowed.into(),
        }
    }

    pub(super) fn not_yet(&self, allowed: impl Into<String>) -> ConfigError {
        ConfigError::ValueNotYet {
            place: self.place(),
            key: self.key.clone(),
            found: self.shown(),
            allowed: allowed.into(),
        }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(super) fn table(self, keys: Keys) -> Result<Table<'d, 'i>, ConfigError> {
        match self.value {
            DeValue::Table(entries) => {
                Table::checked(self.document, self.key, entries, keys, self.hides_value)
            }
            _ => Err(self.wrong(TABLE)),
        }
    }

    /// The entries of a table whose keys are names that the user chose, in the file's order.
    pub(super) fn named_entries(self) -> Result<Vec<Self>, ConfigError> {
        let DeValue::Table(entries) = self.value else {
            return Err(self.wrong(TABLE));
        };
        let mut entries: Vec<_> = entries
            .into_iter()
            .map(|(name, value)| Self {
                document: self.document,
                key: dotted(&self.key, name.get_ref()),
                at: name.span().start,
                name: name.into_inner().into_owned(),
                value: value.into_inner(),
                hides_value: self.hides_value,
            })
            .collect();
        entries.sort_by_key(|entry| entry.at);
        Ok(entries)
    }

    /// The items of a list, each under the list's own key.
    pub(super) fn items(self, allowed: &str) -> Result<impl Iterator<Item = Self>, ConfigError> {
        let DeValue::Array(items) = self.value else {
            return Err(self.wrong(allowed));
        };
        Ok(items.into_iter().map(move |item: Spanned<_>| Self {
            document: self.document,
            name: self.name.clone(),
            key: self.key.clone(),
            at: item.span().start,
            value: item.into_inner(),
            hides_value: self.hides_value,
        }))
    }

    pub(super) fn text(
        &self,
        allowed: &str,
        is_good: fn(&str) -> bool,
    ) -> Result<String, ConfigError> {
        match self.as_text() {
            Some(text) if is_good(text) => Ok(text.to_owned()),
            _ => Err(self.wrong(allowed)),
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        self.value.as_str()
    }

    pub(super) fn number(&self) -> Option<i64> {
        match &self.value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }

    /// An absolute path: a relative one would mean another place for every client that starts the
    /// server.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        let Some(text) = self.as_text() else {
            return Err(self.wrong(PATH));
        };
        let Some(path) = expand_home(text, self.document.home) else {
            return Err(ConfigError::HomeUnknown {
                place: self.place(),
                key: self.key.clone(),
            });
        };
        if !path.is_absolute() || text.contains('\0') {
            return Err(self.wrong(PATH));
        }
        Ok(path)
    }
}

/// `path.name`, quoted where TOML would want it so.
fn dotted(path: &str, name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = if !name.is_empty() && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        format!("{name:?}")
    };
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}

/// A value as an error shows it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
