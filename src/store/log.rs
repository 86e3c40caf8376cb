//! The project log: one entry a line, `[YYYY-MM-DD HH:MM:SS] [LEVEL] message`, in UTC.
//!
//! It is read from its end, block by block: a log of any size costs the memory of the entries
//! that are asked for.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    str::FromStr,
};

use chrono::{DateTime, Utc};

use super::StoreError;

/// How much an entry matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    pub const ALL: [Self; 5] = [
        Self::Debug,
        Self::Info,
        Self::Warning,
        Self::Error,
        Self::Critical,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// A filter as the tool takes it: an empty text is none.
    pub fn filter(text: &str) -> Result<Option<Self>, StoreError> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some)
    }
}

impl FromStr for Level {
    type Err = StoreError;

    /// In any case; `WARN` is `WARNING`.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text.eq_ignore_ascii_case("WARN") {
            return Ok(Self::Warning);
        }
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| StoreError::BadLevel {
                found: text.to_owned(),
            })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entry as its line, with the line break. Line breaks and other control characters of the
/// message are escaped, so that an entry stays one line and no terminal obeys it.
pub(super) fn line(at: DateTime<Utc>, level: Level, message: &str) -> String {
    let mut line = format!("[{}] [{level}] ", at.format("%Y-%m-%d %H:%M:%S"));
    for c in message.chars() {
        if c.is_control() && c != '\t' {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// The last entries of a log, oldest first. Lines without a head belong to the entry above them,
/// as the Python server wrote messages of several lines.
pub(super) fn last_entries(
    file: File,
    count: usize,
    level: Option<Level>,
) -> io::Result<Vec<String>> {
    let mut entries = Vec::new();
    let mut below: Vec<Vec<u8>> = Vec::new();
    let mut lines = LinesBackwards::new(file)?;
    while entries.len() < count {
        let Some(line) = lines.previous()? else {
            // Lines above the first head: an entry of their own, of no level.
            if level.is_none() && !below.is_empty() {
                entries.push(joined(below));
            }
            break;
        };
        match level_of(&line) {
            Head::None => below.push(line),
            Head::Level(found) => {
                let mut entry = std::mem::take(&mut below);
                entry.push(line);
                if level.is_none_or(|wanted| found == Some(wanted)) {
                    entries.push(joined(entry));
                }
            }
        }
    }
    entries.reverse();
    Ok(entries)
}

/// How many entries a log has.
pub(super) fn count_entries(file: File) -> io::Result<usize> {
    /// A head is shorter than this.
    const HEAD: usize = 64;
    let mut reader = BufReader::new(file);
    let mut count = 0;
    loop {
        let mut start = Vec::new();
        if reader
            .by_ref()
            .take(HEAD as u64)
            .read_until(b'\n', &mut start)?
            == 0
        {
            return Ok(count);
        }
        if matches!(level_of(&start), Head::Level(_)) {
            count += 1;
        }
        if start.last() != Some(&b'\n') {
            reader.skip_until(b'\n')?;
        }
    }
}

/// How a line begins.
enum Head {
    None,
    /// `[time] [LEVEL]`; the level is `None` where it is not one of ours.
    Level(Option<Level>),
}

fn level_of(line: &[u8]) -> Head {
    let head = || {
        let rest = line.strip_prefix(b"[")?;
        let (time, rest) = rest.split_at_checked("YYYY-MM-DD HH:MM:SS".len())?;
        let is_time = time
            .iter()
            .all(|&byte| byte.is_ascii_digit() || b"- :".contains(&byte));
        let rest = rest.strip_prefix(b"] [")?;
        let end = rest.iter().position(|&byte| byte == b']')?;
        is_time.then(|| str::from_utf8(&rest[..end]).ok())?
    };
    match head() {
        Some(name) => Head::Level(name.parse().ok()),
        None => Head::None,
    }
}

/// Lines that were read from the last to the first.
fn joined(mut lines: Vec<Vec<u8>>) -> String {
    lines.reverse();
    String::from_utf8_lossy(&lines.join(&b'\n')).into_owned()
}

/// The lines of a file from its end, without their breaks.
struct LinesBackwards {
    file: File,
    /// Where `unread` begins in the file.
    at: u64,
    unread: Vec<u8>,
    is_done: bool,
}

impl LinesBackwards {
    const BLOCK: u64 = 64 * 1024;

    fn new(mut file: File) -> io::Result<Self> {
        let at = file.seek(SeekFrom::End(0))?;
        let mut lines = Self {
            file,
            at,
            unread: Vec::new(),
            is_done: at == 0,
        };
        lines.read_block()?;
        // The last break ends a line; no line follows it.
        if lines.unread.last() == Some(&b'\n') {
            lines.unread.pop();
        }
        Ok(lines)
    }

    fn previous(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.is_done {
            if let Some(end) = self.unread.iter().rposition(|&byte| byte == b'\n') {
                let line = self.unread.split_off(end + 1);
                self.unread.pop();
                return Ok(Some(line));
            }
            if self.at == 0 {
                self.is_done = true;
                return Ok(Some(std::mem::take(&mut self.unread)));
            }
            self.read_block()?;
        }
        Ok(None)
    }

    fn read_block(&mut self) -> io::Result<()> {
        let start = self.at.saturating_sub(Self::BLOCK);
        self.file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        self.file
            .by_ref()
            .take(self.at - start)
            .read_to_end(&mut block)?;
        block.append(&mut self.unread);
        self.unread = block;
        self.at = start;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    fn last(text: &str, count: usize, level: Option<Level>) -> Vec<String> {
        last_entries(file(text), count, level).unwrap()
    }

    const LOG: &str = "[2026-11-22 08:28:25] [INFO] one\n\
                       [2026-11-22 08:28:26] [WARNING] two\n\
                       more of two\n\
                       [ERROR] and more\n\
                       [2026-11-22 08:28:27] [NOTICE] three\n\
                       [2026-11-22 08:28:28] [INFO] four\n";

    #[test]
    fn entries_are_read_from_the_end_with_their_further_lines() {
        let one = "[2026-11-22 08:28:25] [INFO] one";
        let two = "[2026-11-22 08:28:26] [WARNING] two\nmore of two\n[ERROR] and more";
        let three = "[2026-11-22 08:28:27] [NOTICE] three";
        let four = "[2026-11-22 08:28:28] [INFO] four";
        assert_eq!(last(LOG, 1, None), [four]);
        assert_eq!(last(LOG, 3, None), [two, three, four]);
        assert_eq!(last(LOG, 99, None), [one, two, three, four]);
        assert_eq!(last(LOG, 99, Some(Level::Info)), [one, four]);
        assert_eq!(last(LOG, 1, Some(Level::Warning)), [two]);
        assert_eq!(last(LOG, 99, Some(Level::Error)), [""; 0]);
        assert_eq!(last(LOG.trim_end(), 1, None), [four]);
        assert_eq!(last("", 1, None), [""; 0]);
        assert_eq!(last("no\nhead\n", 5, None), ["no\nhead"]);
        assert_eq!(count_entries(file(LOG)).unwrap(), 4);
        assert_eq!(count_entries(file("")).unwrap(), 0);
    }

    #[test]
    fn a_log_longer_than_a_block_is_read_whole() {
        let mut text = String::new();
        let mut expected = Vec::new();
        for number in 0..5000 {
            let long = if number == 2500 {
                "ä".repeat(100_000)
            } else {
                String::new()
            };
            let entry = format!("[2026-11-22 08:28:25] [INFO] {number} {long}");
            text.push_str(&entry);
            text.push('\n');
            expected.push(entry);
        }
        assert_eq!(last(&text, 10_000, None), expected);
        assert_eq!(last(&text, 2, None), expected[4998..]);
        assert_eq!(count_entries(file(&text)).unwrap(), 5000);
    }

    #[test]
    fn an_entry_is_one_line_that_no_terminal_obeys() {
        let at = DateTime::from_timestamp(1_795_336_105, 0).unwrap();
        assert_eq!(
            line(at, Level::Warning, "a\r\nb\tc \u{1b}[2J ü"),
            "[2026-11-22 08:28:25] [WARNING] a\\r\\nb\tc \\u{1b}[2J ü\n"
        );
    }

    #[test]
    fn levels_are_read_in_any_case_and_others_refused() {
        let cases = [
            ("debug", Level::Debug),
            ("Info", Level::Info),
            ("WARN", Level::Warning),
            ("warning", Level::Warning),
            ("ERROR", Level::Error),
            ("critical", Level::Critical),
        ];
        for (text, level) in cases {
            assert_eq!(text.parse::<Level>().unwrap(), level);
        }
        assert_eq!(Level::filter("").unwrap(), None);
        assert_eq!(Level::filter("error").unwrap(), Some(Level::Error));
        let error = Level::filter("fatal").unwrap_err();
        assert_eq!(error.to_string(), "`fatal` is no log level");
        assert_eq!(
            error.hint(),
            "The levels are DEBUG, INFO, WARNING, ERROR, CRITICAL."
        );
    }
}
