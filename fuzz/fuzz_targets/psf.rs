#![no_main]
//! What must hold for whatever comes as a console's font: it can be read with, or it is refused.

use virtpilot::{
    cells::{self, Font, Fonts},
    image::Picture,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(fonts) = Font::from_vga_bios("fuzzed", bytes) {
        assert!(!fonts.is_empty());
    }
    let font = Font::from_psf("fuzzed", bytes).or_else(|_| Font::from_pf2("fuzzed", bytes));
    let Ok(font) = font else {
        return;
    };
    let cell = font.cell();
    let row = cell.width.div_ceil(8) as usize;
    assert!(!font.glyphs().is_empty());
    for glyph in font.glyphs() {
        assert_eq!(glyph.bitmap.len(), row * cell.height as usize);
        assert!(!glyph.characters.is_empty());
    }
    // Its own first glyphs, side by side, are a picture that it can be tried on.
    let glyphs: Vec<_> = font.glyphs().iter().take(12).cloned().collect();
    let mut picture = format!("P6 {} {} 255\n", cell.width * 12, cell.height).into_bytes();
    for y in 0..cell.height as usize {
        for at in 0..12 {
            for x in 0..cell.width as usize {
                let bit = |bitmap: &[u8]| bitmap[y * row + x / 8] & (0x80 >> (x % 8)) != 0;
                let is_ink = glyphs.get(at).is_some_and(|glyph| bit(&glyph.bitmap));
                picture.extend([if is_ink { 0xff } else { 0 }; 3]);
            }
        }
    }
    let picture = Picture::decode("image/x-portable-pixmap", picture).expect("a picture");
    let fonts = Fonts::new(vec![font]);
    if let Some(screen) = cells::read(&picture, &fonts, None) {
        let again = cells::read(&picture, &fonts, Some(&screen.grid));
        assert!(again.is_some(), "what was read is read again");
        screen.to_reading();
    }
});
