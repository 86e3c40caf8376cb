//! Where a picture is flat, and where something is drawn upon it.
//!
//! Windows, buttons and selected rows are each of one colour, or of colours that run into each other. What
//! is drawn upon such a ground falls into pieces, most of them letters. Which ground a piece stands
//! on keeps windows apart that lie side by side.

use crate::image::Picture;

/// How much neighbours may differ in each colour to be of one ground. Gradients take smaller steps, the
/// edges of letters larger ones.
const STEP: u8 = 6;

/// A ground has room for a square of this size somewhere. No stroke of a letter is so thick.
const ROOM: u32 = 9;

/// The smallest ground without such a room: a button or a selected word, with little around its letters.
const SMALLEST: u32 = 120;

/// Stands for no ground.
pub(super) const NONE: u32 = u32::MAX;

/// A connected piece of what is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) x0: u32,
    pub(super) y0: u32,
    pub(super) x1: u32,
    pub(super) y1: u32,
    /// How many pixels it has.
    pub(super) area: u32,
    /// The ground around it, or [`NONE`].
    pub(super) ground: u32,
    /// The ground's colour beside it.
    pub(super) colour: [u8; 3],
}

impl Piece {
    fn at(x: u32, y: u32) -> Self {
        Self {
            x0: x,
            y0: y,
            x1: x + 1,
            y1: y + 1,
            area: 0,
            ground: NONE,
            colour: [0; 3],
        }
    }

    fn grow(&mut self, x: u32, y: u32) {
        self.x0 = self.x0.min(x);
        self.x1 = self.x1.max(x + 1);
        self.y1 = self.y1.max(y + 1);
        self.area += 1;
    }

    pub(super) fn width(&self) -> u32 {
        self.x1 - self.x0
    }

    pub(super) fn height(&self) -> u32 {
        self.y1 - self.y0
    }
}

/// What is drawn on a picture, pixel by pixel.
pub(super) struct Drawn<'a> {
    pub(super) width: usize,
    pub(super) pixels: &'a [[u8; 3]],
    pub(super) pieces: Vec<Piece>,
    /// For each pixel the piece that it is of, or [`NONE`].
    pub(super) piece_of: Vec<u32>,
}

impl<'a> Drawn<'a> {
    pub(super) fn on(picture: &'a Picture) -> Self {
        let width = picture.size().width as usize;
        let (pixels, _) = picture.rgb().as_chunks::<3>();
        let grounds = grounds(width, pixels);
        let (piece_of, mut pieces) = pieces(width, &grounds);
        name_grounds(width, pixels, &grounds, &piece_of, &mut pieces);
        Self {
            width,
            pixels,
            pieces,
            piece_of,
        }
    }
}

/// Sets that grow together. Each number stands for itself or leads to a smaller one.
struct Sets(Vec<u32>);

impl Sets {
    fn add(&mut self) -> u32 {
        // A picture has fewer pixels than u32 counts.
        let new = u32::try_from(self.0.len()).unwrap_or(NONE);
        self.0.push(new);
        new
    }

    fn root(&mut self, mut of: u32) -> u32 {
        while self.0[of as usize] != of {
            let next = self.0[of as usize];
            self.0[of as usize] = self.0[next as usize];
            of = next;
        }
        of
    }

    fn join(&mut self, a: u32, b: u32) -> u32 {
        let (a, b) = (self.root(a), self.root(b));
        let (low, high) = (a.min(b), a.max(b));
        self.0[high as usize] = low;
        low
    }
}

/// For each pixel the ground that it is of, or [`NONE`].
fn grounds(width: usize, pixels: &[[u8; 3]]) -> Vec<u32> {
    let alike = |a: [u8; 3], b: [u8; 3]| (0..3).all(|at| a[at].abs_diff(b[at]) <= STEP);
    let mut sets = Sets(vec![]);
    let mut of = vec![NONE; pixels.len()];
    for (y, row) in pixels.chunks_exact(width).enumerate() {
        for x in 0..width {
            let at = y * width + x;
            let mut own = NONE;
            if x > 0 && alike(row[x], row[x - 1]) {
                own = of[at - 1];
            }
            if y > 0 && alike(row[x], pixels[at - width]) {
                let above = of[at - width];
                own = if own == NONE || own == above {
                    above
                } else {
                    sets.join(own, above)
                };
            }
            of[at] = if own == NONE { sets.add() } else { own };
        }
    }
    for label in &mut of {
        *label = sets.root(*label);
    }
    let is_ground = are_grounds(width, &of, sets.0.len());
    for label in &mut of {
        if !is_ground[*label as usize] {
            *label = NONE;
        }
    }
    of
}

fn are_grounds(width: usize, of: &[u32], count: usize) -> Vec<bool> {
    #[derive(Clone)]
    struct Flat {
        piece: Piece,
        room: u32,
    }
    let none = Flat {
        piece: Piece::at(0, 0),
        room: 0,
    };
    // In noise each pixel has a label of its own: only what is large enough is looked at more closely.
    let mut areas = vec![0_u32; count];
    for label in of {
        areas[*label as usize] += 1;
    }
    let mut large = 0;
    let places: Vec<u32> = areas
        .into_iter()
        .map(|area| {
            let is_large = area >= SMALLEST.min(ROOM * ROOM);
            let place = if is_large { large } else { NONE };
            large += u32::from(is_large);
            place
        })
        .collect();
    let mut flats = vec![none; large as usize];
    // The side of the largest square of one label that ends at a pixel, for this row and the one before.
    let mut before = vec![0_u32; width];
    for (y, row) in of.chunks_exact(width).enumerate() {
        let mut corner = 0;
        for (x, label) in row.iter().enumerate() {
            let at = y * width + x;
            let above = before[x];
            let is_inner = x > 0
                && y > 0
                && row[x - 1] == *label
                && of[at - width] == *label
                && of[at - width - 1] == *label;
            let side = if is_inner {
                1 + above.min(corner).min(before[x - 1])
            } else {
                1
            };
            corner = above;
            before[x] = side;
            let Some(flat) = flats.get_mut(places[*label as usize] as usize) else {
                continue;
            };
            let (x, y) = (as_u32(x), as_u32(y));
            if flat.piece.area == 0 {
                flat.piece = Piece::at(x, y);
            }
            flat.piece.grow(x, y);
            flat.room = flat.room.max(side);
        }
    }
    let frames = |label: u32, piece: &Piece| {
        let is = |x: u32, y: u32| u32::from(of[y as usize * width + x as usize] == label);
        let (wide, high) = (piece.width(), piece.height());
        let row = |y: u32| (piece.x0..piece.x1).map(|x| is(x, y)).sum::<u32>();
        let column = |x: u32| (piece.y0..piece.y1).map(|y| is(x, y)).sum::<u32>();
        row(piece.y0) * 10 >= wide * 6
            && row(piece.y1 - 1) * 10 >= wide * 6
            && column(piece.x0) * 10 >= high * 5
            && column(piece.x1 - 1) * 10 >= high * 5
    };
    places
        .iter()
        .enumerate()
        .map(|(label, place)| {
            let Some(flat) = flats.get(*place as usize) else {
                return false;
            };
            let piece = &flat.piece;
            let is_button = || {
                piece.area >= SMALLEST
                    && piece.width().min(piece.height()) >= ROOM
                    && frames(as_u32(label), piece)
            };
            flat.room >= ROOM || is_button()
        })
        .collect()
}

/// The connected pieces of what is of no ground, corners being connections.
fn pieces(width: usize, grounds: &[u32]) -> (Vec<u32>, Vec<Piece>) {
    let mut sets = Sets(vec![]);
    let mut of = vec![NONE; grounds.len()];
    for at in 0..grounds.len() {
        if grounds[at] != NONE {
            continue;
        }
        let x = at % width;
        let mut own = NONE;
        let mut meet = |other: u32| {
            if other != NONE {
                own = if own == NONE || own == other {
                    other
                } else {
                    sets.join(own, other)
                };
            }
        };
        if x > 0 {
            meet(of[at - 1]);
        }
        if at >= width {
            meet(of[at - width]);
            if x > 0 {
                meet(of[at - width - 1]);
            }
            if x + 1 < width {
                meet(of[at - width + 1]);
            }
        }
        of[at] = if own == NONE { sets.add() } else { own };
    }
    let mut numbers = vec![NONE; sets.0.len()];
    let mut pieces: Vec<Piece> = vec![];
    for (at, label) in of.iter_mut().enumerate() {
        if *label == NONE {
            continue;
        }
        let (x, y) = (as_u32(at % width), as_u32(at / width));
        let number = &mut numbers[sets.root(*label) as usize];
        if *number == NONE {
            *number = as_u32(pieces.len());
            pieces.push(Piece::at(x, y));
        }
        pieces[*number as usize].grow(x, y);
        *label = *number;
    }
    (of, pieces)
}

/// Each piece stands on the ground that most of its edge touches.
fn name_grounds(
    width: usize,
    pixels: &[[u8; 3]],
    grounds: &[u32],
    piece_of: &[u32],
    pieces: &mut [Piece],
) {
    let beside = |at: usize| {
        let x = at % width;
        let left = (x > 0).then(|| at - 1);
        let right = (x + 1 < width).then_some(at + 1);
        let above = at.checked_sub(width);
        let below = (at + width < grounds.len()).then_some(at + width);
        [left, right, above, below].into_iter().flatten()
    };
    let edges = || {
        piece_of
            .iter()
            .enumerate()
            .filter(|(_, piece)| **piece != NONE)
            .flat_map(|(at, piece)| {
                beside(at)
                    .filter(|at| grounds[*at] != NONE)
                    .map(|at| (*piece as usize, at))
            })
    };
    // The one that outvotes all others, if there is one (Boyer and Moore).
    let mut votes = vec![0_u32; pieces.len()];
    for (piece, at) in edges() {
        let (vote, ground) = (&mut votes[piece], &mut pieces[piece].ground);
        if *vote == 0 {
            *ground = grounds[at];
        }
        if *ground == grounds[at] {
            *vote += 1;
        } else {
            *vote -= 1;
        }
    }
    let mut sums = vec![[0_u32; 4]; pieces.len()];
    for (piece, at) in edges() {
        if pieces[piece].ground == grounds[at] {
            let sum = &mut sums[piece];
            for (sum, value) in sum.iter_mut().zip(pixels[at]) {
                *sum += u32::from(value);
            }
            sum[3] += 1;
        }
    }
    for (piece, [r, g, b, count]) in pieces.iter_mut().zip(sums) {
        let mean = |sum: u32| u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX);
        piece.colour = [mean(r), mean(g), mean(b)];
    }
}

/// Of a place or a count within a picture, which are small.
fn as_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NONE)
}
