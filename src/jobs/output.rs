//! One stream of a command: what is kept in memory, and what lies in a file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use crate::ssh::Stream;

/// The longest line that progress carries, in characters.
const LONGEST_LINE: usize = 200;

/// What a command wrote to one stream so far.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// The beginning and the end.
    pub kept: Stream,
    /// All that came.
    pub bytes: u64,
    /// The file with all of it, or with the first `logged` bytes where it was cut.
    pub log: Option<PathBuf>,
    pub(super) logged: u64,
    /// Why not all of it is in a file.
    pub cut: Option<String>,
}

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts: later than asked for, where what is between is nowhere.
    pub start: u64,
    pub bytes: Vec<u8>,
}

/// What comes after a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    Nothing,
    Something,
    /// Nothing yet.
    MoreLater,
}

impl Piece {
    /// As text, and where the next piece starts: no character is cut in two.
    pub fn text(mut self, follows: Follows) -> (String, u64) {
        let cut = unfinished(&self.bytes);
        let is_cut = match follows {
            Follows::Nothing => false,
            // A piece of nothing would be asked for again for ever.
            Follows::Something => cut < self.bytes.len(),
            Follows::MoreLater => true,
        };
        if is_cut {
            self.bytes.truncate(self.bytes.len() - cut);
        }
        let next = self.start + self.bytes.len() as u64;
        (String::from_utf8_lossy(&self.bytes).into_owned(), next)
    }
}

/// How many of the last bytes are the beginning of a character that goes on after them.
fn unfinished(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        // Only a sequence that more bytes could make whole is given as the last one's invalid part with
        // nothing behind it; other bytes that are no UTF-8 stay.
        Some(chunk) => {
            let rest = chunk.invalid();
            let needs = match rest.first() {
                Some(0xC2..=0xDF) => 2,
                Some(0xE0..=0xEF) => 3,
                Some(0xF0..=0xF4) => 4,
                _ => 0,
            };
            if rest.len() < needs { rest.len() } else { 0 }
        }
        None => 0,
    }
}

impl Output {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.kept.push(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The last line, unfinished or not.
    pub fn last_line(&self) -> String {
        let tail = if self.kept.tail.is_empty() {
            &self.kept.head
        } else {
            &self.kept.tail
        };
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let end = tail.iter().rposition(|byte| !is_end(byte));
        let line = &tail[..end.map_or(0, |end| end + 1)];
        let start = line.iter().rposition(is_end).map_or(0, |at| at + 1);
        let line = String::from_utf8_lossy(&line[start..]);
        line.chars()
            .filter(|it| !it.is_control())
            .take(LONGEST_LINE)
            .collect()
    }

    /// So many bytes from an offset on, at most; what of them came so far. Blocks.
    pub fn read(&self, offset: u64, most: usize) -> io::Result<Piece> {
        if let Some(log) = &self.log
            && offset < self.logged
        {
            let mut file = File::open(log)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            file.take((self.logged - offset).min(most as u64))
                .read_to_end(&mut bytes)?;
            if bytes.is_empty() && most > 0 {
                let shortened = "it was shortened";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, shortened));
            }
            return Ok(Piece {
                start: offset,
                bytes,
            });
        }
        Ok(self.read_kept(offset, most))
    }

    fn read_kept(&self, offset: u64, most: usize) -> Piece {
        let head = self.kept.head.len() as u64;
        let tail = self.bytes - self.kept.tail.len() as u64;
        let (start, from) = if offset < head {
            (offset, &self.kept.head[index(offset)..])
        } else {
            let start = offset.max(tail);
            let skipped = index(start - tail).min(self.kept.tail.len());
            (start, &self.kept.tail[skipped..])
        };
        let mut bytes = from[..from.len().min(most)].to_vec();
        if offset < head && tail == head {
            let room = (most - bytes.len()).min(self.kept.tail.len());
            bytes.extend_from_slice(&self.kept.tail[..room]);
        }
        Piece { start, bytes }
    }
}

/// An offset within what is kept, which is far shorter than memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(bytes: &[u8]) -> Output {
        let mut output = Output::default();
        output.push(bytes);
        output
    }

    #[test]
    fn the_last_line_is_the_newest_that_says_something() {
        let cases: [(&[u8], &str); 7] = [
            (b"", ""),
            (b"one", "one"),
            (b"one\ntwo\n", "two"),
            (b"one\n\n\r\n", "one"),
            (b"10%\r20%\r30%", "30%"),
            (b"a\x1b[1mb\xff\n", "a[1mb\u{fffd}"),
            (&[b'x'; 300], &"x".repeat(200)),
        ];
        for (bytes, line) in cases {
            assert_eq!(output(bytes).last_line(), line);
        }
    }

    #[test]
    fn short_output_is_read_from_memory() {
        let all: Vec<u8> = (0..30_000u32).map(|n| (n % 251) as u8).collect();
        let whole = output(&all);
        for (offset, most) in [
            (0, 40_000),
            (0, 100),
            (16_000, 1000),
            (16_384, 10),
            (29_999, 5),
            (30_000, 5),
        ] {
            let piece = whole.read(offset, most).unwrap();
            let from = usize::try_from(offset).unwrap();
            let to = (from + most).min(all.len());
            assert_eq!((piece.start, &piece.bytes[..]), (offset, &all[from..to]));
        }
    }

    #[test]
    fn what_no_log_has_is_skipped() {
        let all = vec![b'x'; 100_000];
        let lossy = output(&all);
        let piece = lossy.read(20_000, 1000).unwrap();
        assert_eq!((piece.start, piece.bytes.len()), (100_000 - 16_384, 1000));
        let piece = lossy.read(16_000, 1000).unwrap();
        assert_eq!((piece.start, piece.bytes.len()), (16_000, 384));
    }

    #[test]
    fn a_log_that_was_shortened_is_told_as_such() {
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&log, [b'x'; 10]).unwrap();
        let shortened = Output {
            log: Some(log.path().to_owned()),
            logged: 100,
            bytes: 100,
            ..Output::default()
        };
        let begin = shortened.read(0, 100).unwrap();
        assert_eq!((begin.start, begin.bytes.len()), (0, 10));
        let error = shortened.read(10, 100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "it was shortened");
    }

    #[test]
    fn no_character_is_cut_between_pieces() {
        use Follows::{MoreLater, Nothing, Something};

        let cases: [(&[u8], Follows, &str, u64); 8] = [
            (b"a\xe2\x82", Something, "a", 11),
            (b"a\xe2\x82", MoreLater, "a", 11),
            (b"a\xe2\x82", Nothing, "a\u{fffd}", 13),
            (b"a\xe2\x82\xac", Something, "a€", 14),
            (b"a\xff", Something, "a\u{fffd}", 12),
            (b"\xe2", Something, "\u{fffd}", 11),
            (b"\xe2", MoreLater, "", 10),
            (b"", Something, "", 10),
        ];
        for (bytes, follows, text, next) in cases {
            let piece = Piece {
                start: 10,
                bytes: bytes.to_vec(),
            };
            assert_eq!(piece.text(follows), (text.to_owned(), next), "{bytes:?}");
        }
    }
}
