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

#[cfg(test)]
mod tests {
    use super::*;

    /// The face's font, with the code of each other glyph in its middle row.
    fn glyphs(face: &[u8]) -> Vec<u8> {
        let mut glyphs = vec![0; 256 * face.len()];
        for (glyph, code) in glyphs.chunks_mut(face.len()).zip(0..=u8::MAX).skip(2) {
            glyph[4] = code;
        }
        glyphs[face.len()..2 * face.len()].copy_from_slice(face);
        glyphs
    }

    #[test]
    fn all_fonts_of_a_bios_are_found_wherever_they_are() {
        let parts = [
            vec![0x55, 0xaa, 0x4c],
            glyphs(FACES[0]),
            vec![7; 5],
            glyphs(FACES[2]),
            glyphs(FACES[1]),
        ];
        let fonts = parse("bios", &parts.concat()).unwrap();
        let names: Vec<&str> = fonts.iter().map(Font::name).collect();
        assert_eq!(names, ["bios-8x16", "bios-8x14", "bios-8x8"]);
        for font in fonts {
            let face = font.glyphs().iter().find(|it| it.characters == ['☺']);
            let height = font.cell().height as usize;
            let expected = FACES.iter().find(|face| face.len() == height).unwrap();
            assert_eq!(face.unwrap().bitmap, *expected);
            let has_a = |row: &u8| *row == b'A';
            let letter = font.glyphs().iter().find(|it| it.bitmap.iter().any(has_a));
            assert_eq!(letter.unwrap().characters, ['A']);
            let repeats = |it: &&crate::cells::Glyph| it.may_repeat;
            assert_eq!(font.glyphs().iter().filter(repeats).count(), 0x30);
        }
    }

    #[test]
    fn a_bios_without_fonts_is_told() {
        let none = parse("bios", &[0; 4096]).unwrap_err().to_string();
        assert_eq!(none, "it is neither a PSF or PF2 font nor a VGA BIOS");
        let all = glyphs(FACES[0]);
        let cut = parse("bios", &all[..all.len() - 1]).unwrap_err();
        assert_eq!(cut.to_string(), "it ends in the middle of its glyphs");
    }
}
