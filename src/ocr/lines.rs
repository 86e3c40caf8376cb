//! What was read of each run, put together to lines.

use crate::model::{Line, Region, Word};

use super::{Drawing, StripWord, Strips, glyphs, strip::Place};

/// The widest blank within a line, in heights of its letters: farther apart are two columns.
const BLANK: u32 = 12;

/// A line that more runs may follow on.
struct Open {
    ground: u32,
    baseline: u32,
    height: u32,
    x1: u32,
    line: Line,
}

impl Open {
    fn with(drawing: &Drawing) -> Self {
        Self {
            ground: drawing.run.ground,
            baseline: drawing.run.baseline,
            height: drawing.run.height,
            x1: drawing.run.x0,
            line: Line {
                text: String::new(),
                words: vec![],
            },
        }
    }

    /// Whether a run stands on the same line, on the same ground, in letters of about the same size.
    fn takes(&self, drawing: &Drawing) -> bool {
        let run = &drawing.run;
        let (low, high) = (run.height.min(self.height), run.height.max(self.height));
        self.ground == run.ground
            && self.baseline.abs_diff(run.baseline) * 3 <= low
            && high <= low * 2
            && self.x1 <= run.x0 + 2
            && run.x0.saturating_sub(self.x1) <= high * BLANK
    }

    fn add(&mut self, drawing: &Drawing, words: &[StripWord]) {
        self.x1 = drawing.run.x1;
        let Place { x, y } = drawing.place;
        let edge = |base: u32, at: u32| i32::try_from(base + at).unwrap_or(i32::MAX);
        let line = &mut self.line;
        for word in words {
            if !line.text.is_empty() {
                line.text.push(' ');
            }
            let start = line.text.len();
            line.text.push_str(&word.text);
            line.words.push(Word {
                at: start..line.text.len(),
                area: Region {
                    x0: edge(x, word.x0),
                    y0: edge(y, word.y0),
                    x1: edge(x, word.x1),
                    y1: edge(y, word.y1),
                },
                confidence: word.confidence,
            });
        }
    }
}

/// All lines from top to bottom; one blank stands between words, however far they are from each other.
pub(super) fn join(drawings: &[Drawing], strips: &Strips) -> Vec<Line> {
    let agreed = glyphs::agree(strips);
    let mut lines: Vec<Open> = vec![];
    let mut from_left: Vec<&Drawing> = drawings.iter().collect();
    from_left.sort_by_key(|drawing| drawing.place.x);
    for drawing in from_left {
        let Some(words) = agreed.get(&*drawing.strip).filter(|it| !it.is_empty()) else {
            continue;
        };
        if let Some(line) = lines.iter_mut().find(|line| line.takes(drawing)) {
            line.add(drawing, words);
        } else {
            let mut line = Open::with(drawing);
            line.add(drawing, words);
            lines.push(line);
        }
    }
    let left = |line: &Line| line.words.first().map_or(0, |word| word.area.x0);
    lines.sort_by_key(|it| (it.baseline, left(&it.line)));
    lines.into_iter().map(|it| it.line).collect()
}
