//! QEMU's own picture of a head that the guest draws nothing on. Pure.
//!
//! It is no error for QEMU, which gives 640×480 black pixels with one centred line such as "Guest has not
//! initialized the display (yet)." So it is told by its looks, whatever the line says.

use crate::{image::Picture, model::ScreenSize};

/// `qemu_create_placeholder_surface` in QEMU's ui/console.c, as the next ones.
pub(crate) const PLACEHOLDER_SIZE: ScreenSize = ScreenSize {
    width: 640,
    height: 480,
};
/// A cell of QEMU's font.
const CELL: (usize, usize) = (8, 16);
/// The line is row 14 of the 30 that fit.
const ROW: usize = 14;
const GREY: [u8; 3] = [0xaa; 3];
const BLACK: [u8; 3] = [0; 3];

/// Whether a picture is QEMU's placeholder: black, and in the middle row a line of grey text whose
/// margins differ by one cell at most.
pub(crate) fn is_placeholder(picture: &Picture) -> bool {
    if picture.size() != PLACEHOLDER_SIZE {
        return false;
    }
    let width = PLACEHOLDER_SIZE.width as usize;
    let columns = width / CELL.0;
    let mut used = vec![false; columns];
    for (at, pixel) in picture.rgb().as_chunks::<3>().0.iter().enumerate() {
        let (x, y) = (at % width, at / width);
        match *pixel {
            BLACK => {}
            GREY if y / CELL.1 == ROW => used[x / CELL.0] = true,
            _ => return false,
        }
    }
    let first = used.iter().position(|is_used| *is_used);
    let last = used.iter().rposition(|is_used| *is_used);
    match (first, last) {
        (Some(first), Some(last)) => first.abs_diff(columns - 1 - last) <= 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of a line of so many cells that begins at this column of this row.
    fn line(row: usize, column: usize, cells: usize, colour: u8) -> Picture {
        let mut ppm = b"P6 640 480 255\n".to_vec();
        for at in 0..640 * 480 {
            let (x, y) = (at % 640, at / 640);
            let is_in = y / CELL.1 == row && (column..column + cells).contains(&(x / CELL.0));
            // A letter leaves some of its cell black.
            let is_lit = is_in && (x + y) % 3 == 0;
            ppm.extend([if is_lit { colour } else { 0 }; 3]);
        }
        Picture::decode("image/x-portable-pixmap", &ppm).unwrap()
    }

    #[test]
    fn a_grey_line_in_the_middle_is_the_placeholder_and_no_other_picture_is() {
        // "Guest has not initialized the display (yet)." and "Display output is not active."
        assert!(is_placeholder(&line(14, 18, 44, 0xaa)));
        assert!(is_placeholder(&line(14, 25, 29, 0xaa)));
        let others = [
            ("nothing", line(14, 18, 0, 0xaa)),
            ("another colour", line(14, 18, 44, 0xff)),
            ("another row", line(13, 18, 44, 0xaa)),
            ("a prompt", line(14, 0, 44, 0xaa)),
        ];
        for (what, picture) in others {
            assert!(!is_placeholder(&picture), "{what}");
        }
    }
}
