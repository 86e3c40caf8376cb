//! What must hold for whatever comes as a picture: a guest chooses its screen's size and pixels, and a
//! hypervisor on another host may send anything.

use virtpilot::{
    image::{self, Picture},
    model::Region,
};

/// Larger pictures are not decoded here: a few bytes of PNG can stand for millions of pixels, and the
/// time is better spent on other inputs.
const MAX_PIXELS: u64 = 1 << 20;

/// Reads bytes as a picture, and where they are one, writes it and reads it again.
pub(crate) fn round_trip(mime: &str, bytes: &[u8]) {
    let Ok(size) = image::size(mime, bytes) else {
        assert!(
            Picture::decode(mime, bytes).is_err(),
            "a picture without a size"
        );
        return;
    };
    if u64::from(size.width) * u64::from(size.height) > MAX_PIXELS {
        return;
    }
    let Ok(picture) = Picture::decode(mime, bytes) else {
        return;
    };
    assert_eq!(picture.size(), size, "the header's size is the picture's");
    assert_eq!(
        picture.rgb().len(),
        size.width as usize * size.height as usize * 3
    );

    let png = picture.to_png().expect("a picture can be written as PNG");
    assert_eq!(image::size("image/png", &png).ok(), Some(size));
    let again = Picture::decode("image/png", png).expect("what was written can be read");
    assert!(again == picture, "other pixels came back");

    picture.to_jpeg().expect("a picture can be written as JPEG");
    let edge = |length: u32| i32::try_from(length).expect("a side fits");
    let whole = Region::from([0, 0, edge(size.width), edge(size.height)]);
    assert!(picture.crop(whole) == picture);
}
