//! What the screen says, as text.

use std::{
    fmt::Write,
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{Capability, Line, Pattern, Reader, Region, VmName, Word},
    reading::{self, ScreenText},
};

use super::{
    Server,
    error::ToolError,
    off_thread,
    reply::Reply,
    tool::{Call, Effect, Tool},
};

/// The most lines in a reply, and the most bytes of their texts or of all matches: a screen full of small
/// print is more, but of no use to a model at once.
const MAX_LINES: usize = 120;
const MAX_TEXT: usize = 12_000;

/// The most matches in a reply.
const MAX_HITS: usize = 50;

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        Tool::on_vm::<Parameters, _, _>(
            "screen_text",
            "Read the screen's text",
            Capability::View,
            Effect::Reads,
            screen_text,
        )
        .giving::<ScreenTextData>(),
    ]
}

/// Reads the screen and gives its lines with their boxes, [x0, y0, x1, y1] in pixels of the full
/// screenshot, so that the middle of a box can be clicked. Text screens (firmware, boot loaders, consoles,
/// text installers) are read exactly, in milliseconds, frames around text left out; everything else by OCR, which takes a second and
/// makes mistakes in small print: compare with a picture where a letter matters. With `pattern` only
/// what matches is given. For reading much text, and for finding where a word is; a picture
/// shows what text alone does not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Only this part, as [x0, y0, x1, y1] in pixels of the full screenshot.
    #[serde(default)]
    region: Option<Region>,
    /// A regular expression; `^` and `$` are the ends of lines, which have no blanks at their end. Gives its
    /// matches instead of the lines.
    #[serde(default)]
    pattern: Option<Pattern>,
    /// Also give the box of each word.
    #[serde(default)]
    words: bool,
    /// Which of the VM's screens, from 0.
    #[serde(default)]
    head: u32,
}

/// [x0, y0, x1, y1] in pixels of the full screenshot, right and bottom edges exclusive.
type Edges = [i32; 4];

#[derive(Debug, Serialize, JsonSchema)]
struct ScreenTextData {
    reader: ReaderName,
    /// The font of a text screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    font: Option<String>,
    /// The columns and rows of a text screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    cells: Option<[u32; 2]>,
    /// From top to bottom; none where a pattern was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<LineData>>,
    /// What the pattern matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<Vec<MatchData>>,
    /// How many lines are left out, since the reply would be too long; of matches so many at least.
    omitted: usize,
    /// How many characters could not be read: each is U+FFFD in the text.
    unreadable: usize,
}

/// Who read the screen.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum ReaderName {
    /// Each cell of a text screen was compared with the glyphs of its font.
    Cells,
    Ocr,
    /// Nothing is drawn there.
    Nobody,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LineData {
    text: String,
    r#box: Edges,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Vec<WordData>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct WordData {
    text: String,
    r#box: Edges,
    /// How sure OCR is, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<u8>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct MatchData {
    text: String,
    /// Missing where only blanks were matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#box: Option<Edges>,
}

async fn screen_text(
    server: Arc<Server>,
    vm: Option<VmName>,
    what: Parameters,
    _: Call,
) -> Result<Reply, ToolError> {
    let vm = server.fleet.vm(vm, Capability::View).await?;
    let read = reading::look(&vm, what.head, what.region).await?;
    // A pattern may take a while for many matches.
    off_thread(move || reply(&what, &read)).await
}

fn reply(what: &Parameters, read: &ScreenText) -> Reply {
    let reading = &read.reading;
    let mut data = ScreenTextData {
        reader: ReaderName::Nobody,
        font: None,
        cells: None,
        lines: None,
        matches: None,
        omitted: 0,
        unreadable: reading.unreadable(),
    };
    let part = if what.region.is_some() {
        "region"
    } else {
        "screen"
    };
    let mut text = match &reading.reader {
        Reader::Nobody => "The guest draws nothing on this head.".to_owned(),
        Reader::Cells(grid) => {
            data.reader = ReaderName::Cells;
            data.font = Some(grid.font.clone());
            data.cells = Some([grid.columns, grid.rows]);
            format!(
                "Read exactly: a text screen of {}×{} cells, font {}.",
                grid.columns, grid.rows, grid.font
            )
        }
        Reader::Ocr => {
            data.reader = ReaderName::Ocr;
            "Read by OCR, which may be wrong in letters.".to_owned()
        }
    };
    if data.unreadable > 0 {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            " {} characters could not be read, such as one under the cursor; each is \u{fffd}.",
            data.unreadable
        );
    }
    let edges = |area: Region| read.edges(area);
    if let Some(pattern) = &what.pattern {
        let mut hits = reading.find(pattern, MAX_HITS + 1);
        let found = hits.len();
        hits.truncate(MAX_HITS);
        let mut left = MAX_TEXT;
        // One pattern may match all there is.
        hits.retain(|hit| {
            let rest = left.checked_sub(hit.text.len());
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        data.omitted = found - hits.len();
        let hits = hits.into_iter().map(|hit| MatchData {
            text: hit.text,
            r#box: hit.area.map(edges),
        });
        let hits: Vec<_> = hits.collect();
        if found == 0 {
            let _ = write!(text, "\nNothing on the {part} matches the pattern.");
        }
        for hit in &hits {
            let _ = match hit.r#box {
                Some(edges) => write!(text, "\n{edges:?} {}", hit.text),
                None => write!(text, "\n{:?}", hit.text),
            };
        }
        if data.omitted > 0 {
            let _ = write!(text, "\nThere are more matches, which are left out.");
        }
        data.matches = Some(hits);
        return Reply::with_data(text, &data);
    }
    let mut left = MAX_TEXT;
    let mut lines = vec![];
    for line in &reading.lines {
        let part = without_frame(&line.text);
        let Some(area) = line.area_of(part.clone()) else {
            continue;
        };
        let said = line.text.get(part.clone()).unwrap_or_default();
        if lines.len() == MAX_LINES || said.len() > left {
            data.omitted += 1;
            left = 0;
            continue;
        }
        left -= said.len();
        let _ = write!(text, "\n{:?} {said}", edges(area));
        lines.push(LineData {
            text: said.to_owned(),
            r#box: edges(area),
            words: what.words.then(|| words(read, line, &part)),
        });
    }
    if lines.is_empty() {
        let _ = write!(text, "\nThere is no text on the {part}.");
    }
    if data.omitted > 0 {
        let _ = write!(
            text,
            "\n{} more lines are left out: give a region or a pattern.",
            data.omitted
        );
    }
    data.lines = Some(lines);
    Reply::with_data(text, &data)
}

/// A line without the blanks and frames at its ends: dialogs and menus are full of them, and they say
/// nothing.
fn without_frame(line: &str) -> Range<usize> {
    let is_frame = |it: char| it == ' ' || LINES_AND_BLOCKS.contains(&it);
    let begin = line.len() - line.trim_start_matches(is_frame).len();
    let end = line.trim_end_matches(is_frame).len();
    begin..end.max(begin)
}

/// Unicode's blocks of them.
const LINES_AND_BLOCKS: RangeInclusive<char> = '\u{2500}'..='\u{259f}';

fn words(read: &ScreenText, line: &Line, part: &Range<usize>) -> Vec<WordData> {
    let is_exact = matches!(read.reading.reader, Reader::Cells(_));
    let is_said = |word: &&Word| word.at.start < part.end && word.at.end > part.start;
    let words = line.words.iter().filter(is_said).map(|word| WordData {
        text: line
            .text
            .get(word.at.clone())
            .unwrap_or_default()
            .to_owned(),
        r#box: read.edges(word.area),
        confidence: (!is_exact).then_some(word.confidence),
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Reading, ScreenSize};

    #[test]
    fn matches_are_no_longer_than_lines_may_be() {
        let size = ScreenSize {
            width: 8,
            height: 8,
        };
        let line = Line {
            text: "x".repeat(5000),
            words: vec![],
        };
        let read = ScreenText {
            native: size,
            shown: size,
            reading: Reading {
                reader: Reader::Ocr,
                lines: vec![line; 3],
            },
        };
        for (pattern, matches, omitted) in [("x+", 2, 1), ("(?s)x.+", 0, 1), ("^x{10}", 3, 0)] {
            let what = Parameters {
                region: None,
                pattern: Some(pattern.parse().unwrap()),
                words: false,
                head: 0,
            };
            let reply = reply(&what, &read);
            let data = reply.data.unwrap();
            assert_eq!(data["matches"].as_array().unwrap().len(), matches);
            assert_eq!(data["omitted"], omitted, "{pattern}");
            let is_told = reply.text.ends_with("which are left out.");
            assert_eq!(is_told, omitted > 0, "{pattern}");
            assert!(!reply.text.contains("Nothing"), "{pattern}");
        }
    }
}
