//! What is kept of a command's output: head and tail, however long it was.

use std::borrow::Cow;

/// What a command wrote to one of its output streams: the first and the last bytes, at most
/// [`Stream::KEPT`] together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    /// The first bytes.
    pub head: Vec<u8>,
    /// The last bytes that are not in `head`.
    pub tail: Vec<u8>,
    /// How many bytes between them were dropped.
    pub omitted: u64,
}

impl Stream {
    /// Bytes kept of one stream at most.
    pub const KEPT: usize = 32 * 1024;
    const HALF: usize = Self::KEPT / 2;

    /// The stream as text: bytes that are no UTF-8 become U+FFFD, and a line tells how many bytes were
    /// omitted where they were.
    pub fn text(&self) -> String {
        if self.omitted == 0 {
            let whole = [&self.head[..], &self.tail].concat();
            return String::from_utf8_lossy(&whole).into_owned();
        }
        let (head, cut_after) = without_cut_end(&self.head);
        let (cut_before, tail) = without_cut_start(&self.tail);
        let omitted = self.omitted + (cut_after + cut_before) as u64;
        let head = String::from_utf8_lossy(head);
        let line_break = if head.ends_with('\n') { "" } else { "\n" };
        format!(
            "{head}{line_break}[… {omitted} bytes omitted …]\n{}",
            String::from_utf8_lossy(tail)
        )
    }

    /// Whether what is kept is UTF-8. One that is not over may end in the middle of a character.
    pub fn is_text(&self, is_over: bool) -> bool {
        if self.omitted > 0 {
            return true;
        }
        let whole = [&self.head[..], &self.tail].concat();
        match std::str::from_utf8(&whole) {
            Ok(_) => true,
            Err(error) => !is_over && error.error_len().is_none(),
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = (Self::HALF - self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        if rest.len() >= Self::HALF {
            self.omitted += (self.tail.len() + rest.len() - Self::HALF) as u64;
            self.tail.clear();
            self.tail
                .extend_from_slice(&rest[rest.len() - Self::HALF..]);
            return;
        }
        let surplus = (self.tail.len() + rest.len()).saturating_sub(Self::HALF);
        self.tail.drain(..surplus);
        self.omitted += surplus as u64;
        self.tail.extend_from_slice(rest);
    }
}

/// The bytes without an unfinished UTF-8 sequence at their end, and how many that takes away.
fn without_cut_end(bytes: &[u8]) -> (&[u8], usize) {
    for length in 1..=bytes.len().min(3) {
        let start = bytes.len() - length;
        let needs = match bytes[start] {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            0x80..=0xBF => continue,
            _ => break,
        };
        if needs > length {
            return (&bytes[..start], length);
        }
        break;
    }
    (bytes, 0)
}

/// The bytes without the end of a UTF-8 sequence at their start, and how many that takes away.
fn without_cut_start(bytes: &[u8]) -> (usize, &[u8]) {
    let cut = bytes
        .iter()
        .take(3)
        .take_while(|byte| (0x80..=0xBF).contains(*byte))
        .count();
    (cut, &bytes[cut..])
}

/// Takes a text out of the beginning of a stream, where it stands there, and holds back only what looks like it.
#[derive(Debug)]
pub(super) struct CutOut {
    text: Vec<u8>,
    pending: Vec<u8>,
    passed: usize,
}

impl CutOut {
    /// So far into the stream it is looked for.
    const WITHIN: usize = 16 * 1024;
    /// Fewer bytes of the text are not held back: whoever watches would miss the end of many a word.
    const LEAST_HELD: usize = 6;

    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.as_bytes().to_vec(),
            pending: Vec::new(),
            passed: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        if self.text.is_empty() {
            return self.finish();
        }
        let mut windows = self.pending.windows(self.text.len());
        if let Some(start) = windows.position(|window| window == self.text) {
            self.pending.drain(start..start + self.text.len());
            return self.finish();
        }
        self.passed += bytes.len();
        if self.passed >= Self::WITHIN {
            return self.finish();
        }
        let kept = longest_start(&self.text, &self.pending);
        let kept = if kept < Self::LEAST_HELD { 0 } else { kept };
        let free = self.pending.len() - kept;
        self.pending.drain(..free).collect()
    }

    /// What was held back; from now on all is let through.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.text.clear();
        std::mem::take(&mut self.pending)
    }
}

/// How many of the last bytes are the beginning of the text, but not all of it.
fn longest_start(text: &[u8], bytes: &[u8]) -> usize {
    (1..text.len().min(bytes.len() + 1))
        .rev()
        .find(|length| bytes.ends_with(&text[..*length]))
        .unwrap_or(0)
}

/// Takes the line with the login shell's process id, and maybe its name, out of a command's output.
///
/// The line is usually the first; start-up files that print, or a server that runs something else, may
/// come before it or instead, and nothing of theirs is lost or held back.
#[derive(Debug)]
pub(super) struct MarkerScan {
    marker: Vec<u8>,
    pending: Vec<u8>,
    process: Option<u32>,
    shell: Option<String>,
}

impl MarkerScan {
    /// Digits of a process id, the 15 characters of a name in proc(5), and a line break, at most.
    const LONGEST_REST: usize = 40;

    pub(super) fn new(marker: &str) -> Self {
        Self {
            marker: marker.as_bytes().to_vec(),
            pending: Vec::new(),
            process: None,
            shell: None,
        }
    }

    /// A scan that finds nothing: all output is the command's.
    pub(super) fn off() -> Self {
        Self::new("")
    }

    /// Whether the line may still come.
    pub(super) fn is_awaited(&self) -> bool {
        self.process.is_none() && !self.marker.is_empty()
    }

    pub(super) fn process(&self) -> Option<u32> {
        self.process
    }

    /// The name of the login shell's program, where the line had it.
    pub(super) fn shell(&self) -> Option<&str> {
        self.shell.as_deref()
    }

    /// Gives what of the output so far belongs to the command.
    pub(super) fn push<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.is_awaited() {
            return Cow::Borrowed(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let found = self
            .pending
            .windows(self.marker.len())
            .position(|window| window == self.marker);
        let Some(start) = found else {
            let kept = longest_start(&self.marker, &self.pending);
            let free = self.pending.len() - kept;
            return Cow::Owned(self.pending.drain(..free).collect());
        };
        let digits = start + self.marker.len();
        let after = &self.pending[digits..];
        let end = after.iter().position(|byte| *byte == b'\n');
        if end.is_none() && after.len() < Self::LONGEST_REST {
            return Cow::Owned(self.pending.drain(..start).collect());
        }
        let rest = end.and_then(|end| std::str::from_utf8(&after[..end]).ok());
        if let Some(rest) = rest {
            let (number, shell) = rest.trim_end().split_once(':').unwrap_or((rest, ""));
            self.process = number.trim_end().parse().ok();
            self.shell = Some(shell.to_owned()).filter(|shell| !shell.is_empty());
        }
        let mut output = std::mem::take(&mut self.pending);
        match (self.process, end) {
            (Some(_), Some(end)) => drop(output.drain(start..=digits + end)),
            _ => self.marker.clear(),
        }
        Cow::Owned(output)
    }

    /// What was held back, once no more output comes.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.marker.clear();
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(parts: &[&[u8]]) -> Stream {
        let mut stream = Stream::default();
        for part in parts {
            stream.push(part);
        }
        stream
    }

    #[test]
    fn keeps_short_output_whole() {
        let kept = stream(&[b"gr\xc3", b"\xbc\xc3\x9fe\n", b"\xff"]);
        assert_eq!(kept.omitted, 0);
        assert_eq!(kept.text(), "grüße\n\u{fffd}");
        let full = stream(&[&vec![b'x'; Stream::KEPT]]);
        assert_eq!((full.omitted, full.text().len()), (0, Stream::KEPT));
    }

    #[test]
    fn keeps_head_and_tail_of_long_output_however_it_arrives() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        for size in [1, 7, 1000, 16_384, 30_000, 100_000] {
            let mut kept = Stream::default();
            for part in bytes.chunks(size) {
                kept.push(part);
            }
            assert_eq!(kept.head, &bytes[..16_384], "in parts of {size}");
            assert_eq!(kept.tail, &bytes[100_000 - 16_384..], "in parts of {size}");
            assert_eq!(kept.omitted, 100_000 - 32_768, "in parts of {size}");
        }
    }

    #[test]
    fn tells_what_it_omitted_and_cuts_no_character() {
        let cut = Stream {
            head: b"ab\xe2\x82".to_vec(),
            tail: b"\x82\xacend".to_vec(),
            omitted: 10,
        };
        assert_eq!(cut.text(), "ab\n[… 14 bytes omitted …]\nend");
        let at_line_end = Stream {
            head: "ü\n".into(),
            tail: b"z".to_vec(),
            omitted: 1,
        };
        assert_eq!(at_line_end.text(), "ü\n[… 1 bytes omitted …]\nz");
    }

    #[test]
    fn cuts_a_text_out_once_however_it_arrives() {
        let whole = "line 1: `the head; command' the head; the he";
        for size in [6, 7, 20, 100] {
            let mut cut = CutOut::new("the head; ");
            let mut got = cut.push(b"line 1: `");
            for part in whole.as_bytes()[9..].chunks(size) {
                got.extend(cut.push(part));
            }
            got.extend(cut.finish());
            assert_eq!(
                String::from_utf8_lossy(&got),
                "line 1: `command' the head; the he",
                "in parts of {size}"
            );
        }
        let mut cut = CutOut::new("the head; ");
        assert_eq!(cut.push(b"the"), b"the");
        assert_eq!(cut.push(b"a the head"), b"a ");
        assert_eq!(cut.push(b"ache"), b"the headache");
        cut.push(&[b'x'; CutOut::WITHIN]);
        assert_eq!(cut.push(b"the head; "), b"the head; ");
    }

    #[test]
    fn takes_the_marker_out_wherever_it_stands() {
        let table: [(&[&str], &str, Option<u32>); 9] = [
            (&["m:42\nout"], "out", Some(42)),
            (&["m", ":", "4", "2\n", "out"], "out", Some(42)),
            (&["motd\nm:42\nout"], "motd\nout", Some(42)),
            (&["mm:7\r\n"], "m", Some(7)),
            (&["no marker", " here"], "no marker here", None),
            (&["ends with m"], "ends with m", None),
            (&["m:x\nout"], "m:x\nout", None),
            (&["m:42:ba", "sh\nout"], "out", Some(42)),
            (&["m:42:\nout"], "out", Some(42)),
        ];
        for (parts, output, process) in table {
            let mut scan = MarkerScan::new("m:");
            let mut got = Vec::new();
            for part in parts {
                got.extend_from_slice(&scan.push(part.as_bytes()));
            }
            got.extend(scan.finish());
            assert_eq!(String::from_utf8_lossy(&got), output, "{parts:?}");
            assert_eq!(scan.process(), process, "{parts:?}");
            let shell = parts.concat().contains("bash").then_some("bash");
            assert_eq!(scan.shell(), shell, "{parts:?}");
        }
    }
}
