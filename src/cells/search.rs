//! Which grid a picture has, if any.

use crate::{
    image::Picture,
    model::{Grid, ScreenSize},
};

use super::{
    CellScreen,
    fonts::{Fonts, Sheet},
    pixels::{Pixels, Shape, Size},
    samples::samples,
    survey::{Layout, Survey},
};

/// How many of the likeliest grids are looked at in full.
const IN_FULL: usize = 4;

/// UEFI's firmware draws text in cells of this size, in the middle of the screen.
/// Source: edk2's `GraphicsConsole.c`.
const FIRMWARE_CELL: Size = Size {
    width: 8,
    height: 19,
};

/// Columns and rows of its modes, those first that are taken where the text lies within several.
const FIRMWARE_MODES: [(usize, usize); 6] = [
    (100, 31),
    (80, 25),
    (80, 50),
    (240, 56),
    (160, 42),
    (128, 40),
];

/// A layout and how much of the first look it explains.
struct Candidate<'a> {
    sheet: &'a Sheet,
    layout: Layout,
    tested: usize,
    found: usize,
}

/// Reads a text screen; `None` where the picture is none, or has no text. `hint` is where an earlier picture of the
/// same screen had its cells, and in which font, which is tried first.
pub fn read(picture: &Picture, fonts: &Fonts, hint: Option<&Grid>) -> Option<CellScreen> {
    let pixels = Pixels::of(picture);
    let favourite = hint.and_then(|hint| {
        let found = fonts.all().iter().position(|it| it.name() == hint.font);
        u32::try_from(found?).ok()
    });
    let again = hint
        .and_then(|hint| known(&pixels, fonts, hint))
        // A grid that ends before the screen does may have been outgrown.
        .filter(|(sheet, layout)| {
            whole(&pixels, sheet.cell, 0, 0) == Some(*layout)
                || layout.has_all(sheet.cell, &samples(&pixels))
        });
    let again = again.map(|(sheet, layout)| Survey::of(&pixels, fonts, sheet, layout, favourite));
    if let Some(again) = again.filter(Survey::is_certain) {
        return again.screen();
    }
    let samples = samples(&pixels);
    let usual = fonts.sheets().iter().flat_map(|sheet| {
        let layouts = usual_layouts(&pixels, sheet);
        layouts.into_iter().map(move |layout| (sheet, layout))
    });
    let candidates = usual.map(|(sheet, layout)| tried(&pixels, sheet, layout, &samples));
    let surveys = likeliest(candidates.collect())
        .into_iter()
        .map(|it| Survey::of(&pixels, fonts, it.sheet, it.layout, favourite));
    // The first of equals: `max_by_key` would give the last.
    let best = surveys.rev().max_by_key(Survey::score);
    if let Some(best) = best.filter(Survey::is_text) {
        return best.screen();
    }
    let surveys = likeliest(shifted(&pixels, fonts, &samples))
        .into_iter()
        .filter_map(|it| {
            let all = Survey::of(&pixels, fonts, it.sheet, it.layout, favourite);
            let layout = all.is_text_anywhere().then(|| all.trimmed())??;
            Some(Survey::of(&pixels, fonts, it.sheet, layout, favourite))
        });
    surveys.max_by_key(Survey::score)?.screen()
}

/// The grid of an earlier picture, where it still lies in this one.
fn known<'a>(pixels: &Pixels<'_>, fonts: &'a Fonts, hint: &Grid) -> Option<(&'a Sheet, Layout)> {
    let ScreenSize { width, height } = hint.cell;
    let cell = Size {
        width: width as usize,
        height: height as usize,
    };
    let sheet = fonts.sheets().iter().find(|sheet| sheet.cell == cell)?;
    let layout = Layout {
        x: usize::try_from(hint.origin.x).ok()?,
        y: usize::try_from(hint.origin.y).ok()?,
        columns: hint.columns as usize,
        rows: hint.rows as usize,
    };
    let most = whole(pixels, cell, layout.x, layout.y)?;
    // Elsewhere, a screen of another size has another grid.
    let is_console = (layout.x, layout.y) == (0, 0);
    let is_within = layout.columns <= most.columns && layout.rows <= most.rows;
    let fits = layout == most || (is_within && !is_console);
    fits.then_some((sheet, layout))
}

/// As many cells as there are from a point on.
fn whole(pixels: &Pixels<'_>, cell: Size, x: usize, y: usize) -> Option<Layout> {
    let layout = Layout {
        x,
        y,
        columns: pixels.width.checked_sub(x)? / cell.width,
        rows: pixels.height.checked_sub(y)? / cell.height,
    };
    (layout.columns > 0 && layout.rows > 0).then_some(layout)
}

/// Where consoles and firmware have their cells.
fn usual_layouts(pixels: &Pixels<'_>, sheet: &Sheet) -> Vec<Layout> {
    let mut layouts = vec![];
    // VGA text mode fills its screen.
    if !sheet.is_widened || pixels.width.is_multiple_of(sheet.cell.width) {
        layouts.extend(whole(pixels, sheet.cell, 0, 0));
    }
    if sheet.cell == FIRMWARE_CELL {
        layouts.extend(FIRMWARE_MODES.iter().filter_map(|&(columns, rows)| {
            let x = pixels.width.checked_sub(columns * sheet.cell.width)? / 2;
            let y = pixels.height.checked_sub(rows * sheet.cell.height)? / 2;
            Some(Layout {
                x,
                y,
                columns,
                rows,
            })
        }));
    }
    layouts
}

/// The first look: how many of the cells at some places have a bitmap of any font.
fn tried<'a>(
    pixels: &Pixels<'_>,
    sheet: &'a Sheet,
    layout: Layout,
    samples: &[(usize, usize)],
) -> Candidate<'a> {
    /// So few of them tell already that it is another grid.
    const FEW: usize = 16;
    let Size { width, height } = sheet.cell;
    let mut candidate = Candidate {
        sheet,
        layout,
        tested: 0,
        found: 0,
    };
    let mut bitmap = vec![];
    let mut last = None;
    for (x, y) in samples {
        let place = |at: usize, from: usize, length: usize, count: usize| {
            let cell = at.checked_sub(from)? / length;
            (cell < count).then_some(from + cell * length)
        };
        let place = (
            place(*x, layout.x, width, layout.columns),
            place(*y, layout.y, height, layout.rows),
        );
        // One cell can have several samples, mostly one after the other.
        if last.replace(place) == Some(place) {
            continue;
        }
        // What is drawn outside the grid is not explained by it.
        if let (Some(x), Some(y)) = place {
            let shape = pixels.shape(x, y, sheet.cell, &mut bitmap);
            if let Shape::Blank(_) = shape {
                continue;
            }
            let is_found = shape != Shape::Motley && !sheet.entries(&bitmap).is_empty();
            candidate.found += usize::from(is_found);
        }
        candidate.tested += 1;
        if candidate.tested >= FEW && candidate.found * 4 < candidate.tested {
            break;
        }
    }
    candidate
}

/// The best few of those that explain half of what was looked at.
fn likeliest(mut candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    candidates.retain(|it| it.found > 0 && it.found * 2 >= it.tested);
    // By the share that was found, without a division; the sort keeps the order of equals.
    candidates.sort_by(|a, b| (b.found * a.tested).cmp(&(a.found * b.tested)));
    candidates.truncate(IN_FULL);
    candidates
}

/// Cells of every size at every offset: the best offset of each size.
fn shifted<'a>(
    pixels: &Pixels<'_>,
    fonts: &'a Fonts,
    samples: &[(usize, usize)],
) -> Vec<Candidate<'a>> {
    /// So many places tell which offsets are worth a closer look.
    const FEW: usize = 12;
    /// After so many that show nothing, an offset is dropped.
    const IN_VAIN: usize = 4;
    let few: Vec<(usize, usize)> = (0..FEW.min(samples.len()))
        .map(|at| samples[at * samples.len() / FEW.min(samples.len())])
        .collect();
    let mut bitmap = vec![];
    let mut candidates = vec![];
    for sheet in fonts.sheets().iter().filter(|sheet| !sheet.is_widened) {
        let cell = sheet.cell;
        let mut best = (0, 0, 0);
        for top in 0..cell.height {
            for left in 0..cell.width {
                let mut found = 0;
                for (tested, (x, y)) in few.iter().enumerate() {
                    if tested >= IN_VAIN && found * 4 < tested {
                        break;
                    }
                    let start = |at: usize, offset: usize, length: usize, all: usize| {
                        let at = at.checked_sub(offset)? / length * length + offset;
                        (at + length <= all).then_some(at)
                    };
                    let (Some(x), Some(y)) = (
                        start(*x, left, cell.width, pixels.width),
                        start(*y, top, cell.height, pixels.height),
                    ) else {
                        continue;
                    };
                    if let Shape::Drawn { .. } = pixels.shape(x, y, cell, &mut bitmap) {
                        found += usize::from(!sheet.entries(&bitmap).is_empty());
                    }
                }
                best = best.max((found, left, top));
            }
        }
        let (found, left, top) = best;
        if found * 2 < few.len() {
            continue;
        }
        if let Some(layout) = whole(pixels, cell, left, top) {
            candidates.push(tried(pixels, sheet, layout, samples));
        }
    }
    candidates
}
