//! Where on a picture a text stands, and whether it does.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use crate::{
    cells::{Font, font},
    image::Picture,
    model::{Point, ScreenSize},
};

use super::{
    Fault, KnownText, LearnError, Learned, Place, Spot,
    sheet::{Cell, Sheet, point},
};

/// Cells that are tried where none is given: those of firmware, of VGA's text modes and of consoles' fonts.
const COMMON: [[u32; 2]; 14] = [
    [8, 16],
    [8, 19],
    [9, 16],
    [8, 14],
    [9, 14],
    [8, 8],
    [6, 12],
    [10, 18],
    [10, 20],
    [11, 22],
    [12, 24],
    [14, 28],
    [16, 28],
    [16, 32],
];

/// A text of fewer cells that show what another one shows fits by chance.
const MIN_REPEATS: usize = 8;

/// The text may stand in a window or a bar, whose background is not the screen's.
const BACKGROUNDS: usize = 3;

/// So many characters of a font may look the same, as A, Α and А do. Where more do, the screen shows the
/// same sign for all that its font lacks.
const MAX_ALIKE: usize = 3;

pub(super) fn find(
    picture: &Picture,
    text: &KnownText,
    place: Place,
    known: Option<&Font>,
) -> Result<Learned, LearnError> {
    let cells = match place.cell {
        Some(cell) if font::size(cell.width, cell.height).is_ok() => vec![cell],
        Some(cell) => return Err(LearnError::BadCell { cell }),
        None => COMMON
            .map(|[width, height]| ScreenSize { width, height })
            .to_vec(),
    };
    let is_given = place.cell.is_some() && place.origin.is_some();
    if !is_given && text.repeats() < MIN_REPEATS {
        return Err(LearnError::TooFewRepeats(text.repeats()));
    }
    let known = known.map(looks).unwrap_or_default();
    let mut search = Search {
        text,
        known,
        anchor: (0..text.rows())
            .max_by_key(|line| text.pairs(*line).len())
            .unwrap_or(0),
        found: vec![],
        nearest: None,
        is_too_large: true,
    };
    for background in Sheet::colours(picture, BACKGROUNDS) {
        let sheet = Sheet::of(picture, background);
        for cell in cells.iter().copied().map(Cell::from) {
            match place.origin {
                Some(origin) => search.look_at(&sheet, cell, origin),
                None => search.look_everywhere(&sheet, cell),
            }
        }
    }
    search.end(picture.size(), place.origin, cells)
}

/// How each character of a font looks.
fn looks(font: &Font) -> HashMap<char, &[u8]> {
    let glyphs = font.glyphs().iter();
    glyphs
        .flat_map(|glyph| {
            let bitmap = glyph.bitmap.as_slice();
            glyph.characters.iter().map(move |it| (*it, bitmap))
        })
        .collect()
}

struct Search<'a> {
    text: &'a KnownText,
    known: HashMap<char, &'a [u8]>,
    /// The line that says most about whether the text is there.
    anchor: usize,
    found: Vec<Learned>,
    /// Where nothing is found: the place with the fewest faults, and the first one of them.
    nearest: Option<(usize, LearnError)>,
    is_too_large: bool,
}

impl Search<'_> {
    fn look_at(&mut self, sheet: &Sheet<'_>, cell: Cell, origin: Point) {
        let (Ok(x), Ok(y)) = (usize::try_from(origin.x), usize::try_from(origin.y)) else {
            return;
        };
        let is_inside = |from: usize, cells: usize, each: usize, length: usize| {
            let end = cells.checked_mul(each).and_then(|it| it.checked_add(from));
            end.is_some_and(|end| end <= length)
        };
        if is_inside(x, self.text.columns(), cell.width, sheet.width())
            && is_inside(y, self.text.rows(), cell.height, sheet.height())
        {
            self.is_too_large = false;
            self.judge(sheet, cell, x, y);
        }
    }

    fn look_everywhere(&mut self, sheet: &Sheet<'_>, cell: Cell) {
        let right = sheet.width().checked_sub(self.text.columns() * cell.width);
        let below = sheet.height().checked_sub(self.text.rows() * cell.height);
        let (Some(right), Some(below)) = (right, below) else {
            return;
        };
        self.is_too_large = false;
        let anchor: Vec<_> = self.text.line(self.anchor).collect();
        let pairs = self.text.pairs(self.anchor);
        let down = self.anchor * cell.height;
        for y in 0..=below {
            for x in 0..=right {
                let ay = y + down;
                let at = |column: usize| x + column * cell.width;
                let is_there = anchor
                    .iter()
                    .all(|(column, it)| (sheet.ink(at(*column), ay, cell) == 0) == (*it == ' '))
                    && pairs
                        .iter()
                        .all(|(one, other)| sheet.are_same(at(*one), at(*other), ay, cell));
                if is_there {
                    self.judge(sheet, cell, x, y);
                }
            }
        }
    }

    /// Lays the whole text over a place where it has room.
    fn judge(&mut self, sheet: &Sheet<'_>, cell: Cell, x: usize, y: usize) {
        // Seen from its ink, a screen has its text on the other side.
        let drawn = self.text.cells().map(|(line, column, _)| {
            let ink = sheet.ink(x + column * cell.width, y + line * cell.height, cell);
            (u64::from(ink), u64::from(cell.pixels()))
        });
        let (ink, all) = drawn.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        if ink > all / 2 {
            return;
        }
        let origin = point(x, y);
        let mut faults = vec![];
        let mut seen: HashMap<char, (Vec<u8>, Spot)> = HashMap::new();
        for (line, column, character) in self.text.cells() {
            let (x, y) = (x + column * cell.width, y + line * cell.height);
            let here = Spot {
                line: line + 1,
                column: column + 1,
                at: point(x, y),
            };
            let ink = sheet.ink(x, y, cell);
            if matches!(character, ' ' | '\u{a0}') {
                if ink > 0 {
                    faults.push(Fault::Drawn { here });
                }
                continue;
            }
            if let Some(fault) = fault(sheet, cell, [x, y], character, here) {
                faults.push(fault);
                continue;
            }
            let bitmap = sheet.bitmap(x, y, cell);
            if self.known.get(&character).is_some_and(|it| **it != bitmap) {
                faults.push(Fault::Known { character, here });
                continue;
            }
            match seen.entry(character) {
                Entry::Occupied(before) => {
                    let (other, there) = before.get();
                    if *other != bitmap {
                        let there = *there;
                        faults.push(Fault::Differs {
                            character,
                            here,
                            there,
                        });
                    }
                }
                Entry::Vacant(place) => {
                    place.insert((bitmap, here));
                }
            }
        }
        let glyphs: BTreeMap<char, Vec<u8>> = seen
            .into_iter()
            .map(|(character, (bitmap, _))| (character, bitmap))
            .collect();
        faults.extend(alike(&glyphs));
        let count = faults.len();
        let cell = cell.size();
        match faults.into_iter().next() {
            None => self.found.push(Learned {
                cell,
                origin,
                glyphs,
            }),
            Some(fault)
                if self
                    .nearest
                    .as_ref()
                    .is_none_or(|(least, _)| count < *least) =>
            {
                let error = LearnError::Contradiction {
                    cell,
                    origin,
                    fault,
                };
                self.nearest = Some((count, error));
            }
            Some(_) => {}
        }
    }

    fn end(
        mut self,
        picture: ScreenSize,
        origin: Option<Point>,
        cells: Vec<ScreenSize>,
    ) -> Result<Learned, LearnError> {
        // A screen's grid mostly starts at its corner. Where the edges of all glyphs are blank, a place a
        // pixel beside the right one fits as well.
        if self.found.len() > 1 {
            let starts_at_corner = |it: &Learned| {
                let whole = |at: i32, length: u32| at.unsigned_abs().is_multiple_of(length);
                whole(it.origin.x, it.cell.width) && whole(it.origin.y, it.cell.height)
            };
            let at_corner: Vec<Learned> = self
                .found
                .iter()
                .filter(|it| starts_at_corner(it))
                .cloned()
                .collect();
            if at_corner.len() == 1 {
                self.found = at_corner;
            }
        }
        match (self.found.len(), self.nearest) {
            (0, _) if self.is_too_large => Err(LearnError::TooLarge { picture, origin }),
            (0, Some((_, error))) => Err(error),
            (0, None) => Err(LearnError::NotFound { cells }),
            (1, _) => Ok(self.found.remove(0)),
            _ => Err(LearnError::Ambiguous {
                places: self.found.iter().map(|it| (it.cell, it.origin)).collect(),
            }),
        }
    }
}

/// What speaks against a character in a cell, by itself.
fn fault(
    sheet: &Sheet<'_>,
    cell: Cell,
    [x, y]: [usize; 2],
    character: char,
    here: Spot,
) -> Option<Fault> {
    let ink = sheet.ink(x, y, cell);
    if ink == 0 {
        return Some(Fault::Blank { character, here });
    }
    if !sheet.is_plain(x, y, cell) {
        return Some(Fault::Motley { character, here });
    }
    let [top, bottom, left, right] = sheet.edges(x, y, cell);
    // These join those beside them, and so tell where a cell ends.
    let reaches = match character {
        '█' => ink == cell.pixels(),
        '│' | '║' => top && bottom,
        '─' | '═' => left && right,
        _ => true,
    };
    (!reaches).then_some(Fault::Short { character, here })
}

fn alike(glyphs: &BTreeMap<char, Vec<u8>>) -> Vec<Fault> {
    let mut characters: BTreeMap<&[u8], Vec<char>> = BTreeMap::new();
    for (character, bitmap) in glyphs {
        characters.entry(bitmap).or_default().push(*character);
    }
    let many = characters
        .into_values()
        .filter(|characters| characters.len() > MAX_ALIKE);
    many.map(|characters| Fault::Alike { characters }).collect()
}
