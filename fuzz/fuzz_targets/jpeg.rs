#![no_main]

use virtpilot::image::Picture;

// A file of the host that a wait looks for: whoever asks for it chose its bytes.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let jpeg = [&[0xff, 0xd8, 0xff], bytes].concat();
    if let Ok(picture) = Picture::read(&jpeg) {
        let size = picture.size();
        let length = size.width as usize * size.height as usize * 3;
        assert_eq!(picture.rgb().len(), length);
    }
});
