//! Which pieces are letters, and which letters follow each other.
//!
//! A run is a piece of a line: letters on one ground with no wide blanks between them. Columns that are far from
//! each other and a menu's shortcuts are runs of their own, so that no blanks are read.

use super::flat::{Drawn, NONE, Piece};

/// The heights that letters have. Higher pieces are pictures and frames.
const HEIGHTS: std::ops::RangeInclusive<u32> = 4..=72;

/// The widest blank within a run, in heights of its letters. A letter by itself is read worse than one that
/// others follow, and blanks take time.
const BLANK: u32 = 3;

/// Letters on one line with no wide gap between them, from left to right.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Numbers of pieces, those of dots and dashes included.
    pub(super) pieces: Vec<u32>,
    pub(super) x0: u32,
    pub(super) y0: u32,
    pub(super) x1: u32,
    pub(super) y1: u32,
    pub(super) ground: u32,
    /// Where its letters stand.
    pub(super) baseline: u32,
    /// The middle one of its letters' heights.
    pub(super) height: u32,
    /// The place of its last letters, while it grows.
    last: (u32, u32),
}

impl Run {
    fn of(number: u32, piece: &Piece) -> Self {
        Self {
            pieces: vec![number],
            x0: piece.x0,
            y0: piece.y0,
            x1: piece.x1,
            y1: piece.y1,
            ground: piece.ground,
            baseline: piece.y1,
            height: piece.height(),
            last: (piece.y0, piece.y1),
        }
    }

    /// How far a piece is from the last letters, where it can follow them.
    fn distance(&self, piece: &Piece) -> Option<u32> {
        let (top, bottom) = self.last;
        let own = bottom - top;
        let gap = piece.x0.saturating_sub(self.x1);
        let follows = gap <= own.max(piece.height()).max(6) * BLANK && self.x1 <= piece.x1 + own;
        if !follows {
            return None;
        }
        if is_mark(piece) {
            // A dash is within, an underscore below; there it may be nearer than to the line beneath.
            let away = top.saturating_sub(piece.y0) + piece.y1.saturating_sub(bottom);
            return (away <= own / 3 + 1).then_some(gap + away * 100);
        }
        let shared = bottom.min(piece.y1).checked_sub(top.max(piece.y0))?;
        let (low, high) = (own.min(piece.height()), own.max(piece.height()));
        // What begins with something much larger begins with an icon.
        let is_alike = high * 5 <= low * 11 || self.pieces.len() > 1 && piece.height() < own;
        (shared * 2 >= low && is_alike).then_some(gap)
    }

    fn add(&mut self, number: u32, piece: &Piece) {
        self.pieces.push(number);
        self.include(piece);
        if is_mark(piece) {
            return;
        }
        // An ascender widens the band, and letters without one narrow it slowly.
        let (top, bottom) = self.last;
        let top = top + u32::from(piece.y0 > top + 2);
        let bottom = bottom - u32::from(piece.y1 + 2 < bottom);
        self.last = (piece.y0.min(top), piece.y1.max(bottom));
    }

    fn include(&mut self, piece: &Piece) {
        self.x0 = self.x0.min(piece.x0);
        self.y0 = self.y0.min(piece.y0);
        self.x1 = self.x1.max(piece.x1);
        self.y1 = self.y1.max(piece.y1);
    }

    /// Leaves out what is no letter among these, and finds where the others stand.
    fn settle(&mut self, pieces: &[Piece]) {
        let of = |number: &u32| &pieces[*number as usize];
        let letters = self.pieces.iter().map(of).filter(|it| !is_mark(it));
        let mut heights: Vec<_> = letters.map(Piece::height).collect();
        self.height = median(&mut heights);
        let most = self.height;
        let is_icon = |piece: &Piece| {
            let (wide, high) = (piece.width(), piece.height());
            high * 10 > most * 19 && wide > most || wide.min(high) >= 14 && high * 2 > most * 3
        };
        self.pieces.retain(|it| !is_icon(of(it)));
        let Some(first) = self.pieces.first().map(of) else {
            return;
        };
        (self.x0, self.y0, self.x1, self.y1) = (first.x0, first.y0, first.x1, first.y1);
        for number in &self.pieces.clone() {
            self.include(of(number));
        }
        let letters = self.pieces.iter().map(of).filter(|it| !is_mark(it));
        let mut bottoms: Vec<_> = letters.map(|it| it.y1).collect();
        self.baseline = median(&mut bottoms);
    }
}

fn median(values: &mut [u32]) -> u32 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Dots, dashes and accents are too low to tell where a line is.
fn is_mark(piece: &Piece) -> bool {
    piece.height() < *HEIGHTS.start()
}

/// What can be part of a text. Rules, frames and large pictures cannot.
fn is_text(piece: &Piece) -> bool {
    let (wide, high) = (piece.width(), piece.height());
    let is_rule = high <= 3 && wide > 24 || wide <= 3 && high > 40;
    let is_frame = high > 8 && wide > 20 && piece.area * 20 < wide * high * 3;
    let is_wide = high > 30 && wide > high * 4 || wide > high.max(4) * 60;
    high <= *HEIGHTS.end() && !is_rule && !is_frame && !is_wide
}

/// More runs, and more pieces of them, than any screen has that a person reads; noise has more. The time
/// that finding runs takes is in proportion to both.
const MOST_RUNS: usize = 4000;
const MOST_PIECES: usize = 60_000;

/// All runs of a picture, in no order that matters; `None` where there are too many.
pub(super) fn runs(drawn: &Drawn<'_>) -> Option<Vec<Run>> {
    let pieces = &drawn.pieces;
    let numbered = (0_u32..).zip(pieces);
    let mut texts: Vec<u32> = numbered
        .filter(|(_, piece)| piece.ground != NONE && is_text(piece))
        .map(|(number, _)| number)
        .collect();
    if texts.len() > MOST_PIECES {
        return None;
    }
    texts.sort_unstable_by_key(|number| {
        let piece = &pieces[*number as usize];
        (piece.ground, piece.x0, piece.y0)
    });
    let mut runs: Vec<Run> = vec![];
    let mut marks = vec![];
    // Where the runs of this ground begin.
    let mut first = 0;
    for number in texts {
        let piece = &pieces[number as usize];
        if runs.last().is_some_and(|run| run.ground != piece.ground) {
            first = runs.len();
        }
        let is_full = runs.len() == MOST_RUNS;
        let near = runs[first..]
            .iter_mut()
            .filter_map(|run| Some((run.distance(piece)?, run)));
        match near.min_by_key(|(distance, _)| *distance) {
            Some((_, run)) => run.add(number, piece),
            None if is_mark(piece) => marks.push(number),
            None if is_full => return None,
            None => runs.push(Run::of(number, piece)),
        }
    }
    for run in &mut runs {
        run.settle(pieces);
    }
    runs.retain(|run| !run.pieces.is_empty());
    attach(&mut runs, marks, pieces);
    Some(runs)
}

/// Dots, dashes and accents belong to the run that they are in, or next to.
fn attach(runs: &mut [Run], mut marks: Vec<u32>, pieces: &[Piece]) {
    // From right to left: what is left over stands before a run.
    marks.sort_unstable_by_key(|number| std::cmp::Reverse(pieces[*number as usize].x0));
    for number in marks {
        attach_one(runs, number, pieces);
    }
}

fn attach_one(runs: &mut [Run], number: u32, pieces: &[Piece]) {
    let piece = &pieces[number as usize];
    let near = runs.iter_mut().filter_map(|run| {
        let reach = run.height;
        let is_near = run.ground == piece.ground
            && piece.x1 + reach >= run.x0
            && piece.x0 <= run.x1 + reach
            && piece.y1 + reach / 2 + 1 >= run.y0
            && piece.y0 <= run.y1 + reach / 4 + 1;
        let above = run.y0.saturating_sub(piece.y0);
        let below = piece.y1.saturating_sub(run.y1);
        let aside = run.x0.saturating_sub(piece.x0) + piece.x1.saturating_sub(run.x1);
        is_near.then_some(((above + below) * 2 + aside, run))
    });
    if let Some((_, run)) = near.min_by_key(|(distance, _)| *distance) {
        run.pieces.push(number);
        run.include(piece);
    }
}
