//! Pictures of at most 256 colours, as indexes into a list of those.

use std::borrow::Cow;

use png::BitDepth;

use super::Picture;

/// So many colours have an index of one byte.
const MAX_COLOURS: usize = 256;

/// A power of two, and so many more than colours that a free slot is soon found.
const SLOTS: usize = 1024;

/// No colour: those have 24 bits.
const FREE: u32 = u32::MAX;

/// So many pixels of one colour are compared at once.
const RUN: usize = 16;

/// The colours of a picture in the order in which they come, and each pixel as an index into them.
pub(super) struct Palette {
    colours: Vec<[u8; 3]>,
    indexes: Vec<u8>,
}

impl Palette {
    /// `None` where there are too many colours, most often after a few rows.
    pub(super) fn of(picture: &Picture) -> Option<Self> {
        let (pixels, _) = picture.rgb().as_chunks::<3>();
        let mut table = Table::new();
        let mut indexes = Vec::with_capacity(pixels.len());
        let mut rest = pixels;
        while let Some((&colour, _)) = rest.split_first() {
            let index = table.index(colour)?;
            // Screens are mostly ground: long runs of one colour cost no look at each pixel.
            let run = [colour; RUN];
            while let Some(after) = rest.strip_prefix(&run) {
                indexes.extend_from_slice(&[index; RUN]);
                rest = after;
            }
            while let Some(([first], after)) = rest.split_first_chunk()
                && *first == colour
            {
                indexes.push(index);
                rest = after;
            }
        }
        Some(Self {
            colours: table.colours,
            indexes,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.colours.len()
    }

    pub(super) fn colours(&self) -> Vec<u8> {
        self.colours.as_flattened().to_vec()
    }

    pub(super) fn depth(&self) -> BitDepth {
        match self.len() {
            0..=2 => BitDepth::One,
            3..=4 => BitDepth::Two,
            5..=16 => BitDepth::Four,
            _ => BitDepth::Eight,
        }
    }

    /// The rows as PNG wants them: each begins with a byte of its own, and the leftmost pixel is in the
    /// highest bits.
    pub(super) fn rows(&self, width: u32) -> Cow<'_, [u8]> {
        let bits = self.depth() as usize;
        if bits == 8 {
            return Cow::Borrowed(&self.indexes);
        }
        let mut rows = Vec::with_capacity((self.indexes.len() * bits).div_ceil(8));
        for row in self.indexes.chunks_exact(width as usize) {
            let bytes = row.chunks(8 / bits);
            rows.extend(bytes.map(|indexes| {
                let packed = indexes.iter().fold(0, |byte, index| byte << bits | index);
                // The last byte of a row may be half full.
                packed << (8 - bits * indexes.len())
            }));
        }
        Cow::Owned(rows)
    }
}

/// Which index a colour has: an open hash table.
struct Table {
    slots: [(u32, u8); SLOTS],
    colours: Vec<[u8; 3]>,
}

impl Table {
    fn new() -> Self {
        Self {
            slots: [(FREE, 0); SLOTS],
            colours: Vec::with_capacity(MAX_COLOURS),
        }
    }

    /// `None` where the colour is one too many.
    fn index(&mut self, colour: [u8; 3]) -> Option<u8> {
        let [red, green, blue] = colour;
        let key = u32::from_be_bytes([0, red, green, blue]);
        // Knuth's multiplicative hash: the upper bits depend on all others.
        let mut slot = (key.wrapping_mul(0x9e37_79b1) >> 22) as usize;
        loop {
            match self.slots[slot % SLOTS] {
                (known, index) if known == key => return Some(index),
                (FREE, _) => break,
                _ => slot += 1,
            }
        }
        let index = u8::try_from(self.colours.len()).ok()?;
        self.slots[slot % SLOTS] = (key, index);
        self.colours.push(colour);
        Some(index)
    }
}
