//! Writing a font as a PSF file, version 2, with its characters.
//!
//! Source: <https://www.win.tue.nl/~aeb/linux/kbd/font-formats-1.html>.

use super::{Font, psf::PSF2};

impl Font {
    /// A file that [`from_psf`](Self::from_psf) and `setfont` read.
    pub fn to_psf(&self) -> Vec<u8> {
        const VERSION: u32 = 0;
        const HEADER: u32 = 32;
        const HAS_TABLE: u32 = 1;
        const END: u8 = 0xff;
        let cell = self.cell();
        let count = u32::try_from(self.glyphs().len()).unwrap_or(u32::MAX);
        let bytes_each = u32::try_from(self.size().stride()).unwrap_or(u32::MAX) * cell.height;
        let mut bytes = PSF2.to_vec();
        for field in [
            VERSION,
            HEADER,
            HAS_TABLE,
            count,
            bytes_each,
            cell.height,
            cell.width,
        ] {
            bytes.extend(field.to_le_bytes());
        }
        for glyph in self.glyphs() {
            bytes.extend(&glyph.bitmap);
        }
        for glyph in self.glyphs() {
            bytes.extend(glyph.characters.iter().collect::<String>().bytes());
            bytes.push(END);
        }
        bytes
    }
}
