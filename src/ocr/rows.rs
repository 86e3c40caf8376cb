//! Which pieces are letters, and which letters follow each other.
//!
//! A run is a piece of a line: letters on one ground with gaps no wider than between words. A table's columns
//! and a menu's shortcuts are runs of their own, so that no blanks are read.

use super::flat::{Drawn, NONE, Piece};

/// The heights that letters have. Higher pieces are pictures and frames.
const HEIGHTS: std::ops::RangeInclusive<u32> = 4..=72;

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

    /// How many rows of pixels a letter shares with the last ones, where it can follow them.
    fn fit(&self, piece: &Piece) -> Option<u32> {
        let (top, bottom) = self.last;
        let shared = bottom.min(piece.y1).checked_sub(top.max(piece.y0))?;
        let (own, other) = (bottom - top, piece.height());
        let gap = piece.x0.saturating_sub(self.x1);
        let fits = shared * 2 >= own.min(other)
            && own.max(other) <= own.min(other) * 4
            && gap * 2 <= own.max(other).max(6) * 3;
        fits.then_some(shared)
    }

    fn add(&mut self, number: u32, piece: &Piece) {
        self.pieces.push(number);
        self.include(piece);
        // An ascender widens the band, and letters without one narrow it slowly.
        let (top, bottom) = self.last;
        self.last = (
            piece.y0.min(top + u32::from(piece.y0 > top + 2)),
            piece
                .y1
                .max(bottom - u32::from(piece.y1 + 2 < bottom).min(bottom)),
        );
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
        let mut heights: Vec<_> = self.pieces.iter().map(|it| of(it).height()).collect();
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
        let mut bottoms: Vec<_> = self.pieces.iter().map(|it| of(it).y1).collect();
        self.baseline = median(&mut bottoms);
    }
}

fn median(values: &mut [u32]) -> u32 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// All runs of a picture, in no order that matters.
pub(super) fn runs(drawn: &Drawn<'_>) -> Vec<Run> {
    let pieces = &drawn.pieces;
    let is_rule =
        |it: &Piece| it.height() <= 3 && it.width() > 24 || it.width() <= 3 && it.height() > 40;
    let (mut letters, mut marks) = (vec![], vec![]);
    for (number, piece) in (0_u32..).zip(pieces) {
        if piece.ground == NONE || is_rule(piece) {
            continue;
        }
        if HEIGHTS.contains(&piece.height()) && piece.width() <= piece.height() * 60 {
            letters.push(number);
        } else if piece.height() < *HEIGHTS.start() {
            marks.push(number);
        }
    }
    let key = |number: &u32| {
        let piece = &pieces[*number as usize];
        (piece.ground, piece.x0, piece.y0)
    };
    letters.sort_unstable_by_key(key);
    let mut runs: Vec<Run> = vec![];
    // Where the runs of this ground begin.
    let mut first = 0;
    for number in letters {
        let piece = &pieces[number as usize];
        if runs.last().is_some_and(|run| run.ground != piece.ground) {
            first = runs.len();
        }
        let fits = runs[first..]
            .iter_mut()
            .filter_map(|run| Some((run.fit(piece)?, run)));
        match fits.max_by_key(|(shared, _)| *shared) {
            Some((_, run)) => run.add(number, piece),
            None => runs.push(Run::of(number, piece)),
        }
    }
    for run in &mut runs {
        run.settle(pieces);
    }
    runs.retain(|run| !run.pieces.is_empty());
    attach(&mut runs, marks, pieces);
    runs
}

/// Dots, dashes and accents belong to the run that they are in, or next to.
fn attach(runs: &mut [Run], mut marks: Vec<u32>, pieces: &[Piece]) {
    // From left to right, so that each of `...` follows the one before it.
    marks.sort_unstable_by_key(|number| pieces[*number as usize].x0);
    let mut leading = vec![];
    for number in marks {
        if !attach_one(runs, number, pieces) {
            leading.push(number);
        }
    }
    // Those before a run, from right to left.
    for number in leading.into_iter().rev() {
        attach_one(runs, number, pieces);
    }
}

fn attach_one(runs: &mut [Run], number: u32, pieces: &[Piece]) -> bool {
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
    match near.min_by_key(|(distance, _)| *distance) {
        Some((_, run)) => {
            run.pieces.push(number);
            run.include(piece);
            true
        }
        None => false,
    }
}
