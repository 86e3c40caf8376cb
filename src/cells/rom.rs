//! The fonts in a PC's VGA BIOS, those of text mode before any system has loaded its own.

use super::{cp437, font::Font, font::FontError, font::size};

/// Code 1 of SeaBIOS's fonts, a face, by which they are found; before it there is the blank of code 0.
/// Source: `vgafonts.c` of SeaBIOS.
const FACES: [&[u8]; 3] = [
    &[
        0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e, 0, 0, 0, 0,
    ],
    &[
        0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x7e, 0, 0, 0,
    ],
    &[0x7e, 0x81, 0xa5, 0x81, 0xbd, 0x99, 0x81, 0x7e],
];

pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Vec<Font>, FontError> {
    let mut fonts = vec![];
    for face in FACES {
        let height = face.len();
        let start = [vec![0; height], face.to_vec()].concat();
        let Some(at) = bytes.windows(start.len()).position(|part| part == start) else {
            continue;
        };
        let glyphs = bytes.get(at..at + 256 * height);
        let glyphs = glyphs.ok_or(FontError::CutOff("its glyphs"))?;
        let bitmaps = glyphs.chunks_exact(height).map(<[u8]>::to_vec);
        let characters = cp437::characters().map(|character| vec![character]);
        let cell = size(8, u32::try_from(height).unwrap_or(u32::MAX))?;
        let name = format!("{name}-8x{height}");
        fonts.push(Font::checked(name, cell, bitmaps.zip(characters))?);
    }
    if fonts.is_empty() {
        return Err(FontError::UnknownFormat);
    }
    Ok(fonts)
}
