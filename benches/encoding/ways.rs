//! The ways to write a picture that were thought of.

use png::{BitDepth, ColorType, Compression, DeflateCompression, Encoder, Filter};
use virtpilot::image::Picture;

pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// `None` where the picture cannot be written so.
    pub(crate) write: fn(&Picture) -> Option<Vec<u8>>,
}

type Set = fn(&mut Encoder<&mut Vec<u8>>);

pub(crate) const WAYS: [Way; 12] = [
    Way {
        name: "**virtpilot's PNG**",
        write: |picture| picture.to_png().ok(),
    },
    Way {
        name: "crate `png` as it comes",
        write: |picture| Some(rgb(picture, |_| ())),
    },
    Way {
        name: "its `Fast` (fdeflate)",
        write: |picture| Some(rgb(picture, |it| it.set_compression(Compression::Fast))),
    },
    Way {
        name: "level 2, no filter",
        write: |picture| Some(rgb(picture, |it| set(it, 2, Filter::NoFilter))),
    },
    Way {
        name: "level 2, adaptive",
        write: |picture| Some(rgb(picture, |it| set(it, 2, Filter::Adaptive))),
    },
    Way {
        name: "level 4, no filter",
        write: |picture| Some(rgb(picture, |it| set(it, 4, Filter::NoFilter))),
    },
    Way {
        name: "level 4, up",
        write: |picture| Some(rgb(picture, |it| set(it, 4, Filter::Up))),
    },
    Way {
        name: "level 4, adaptive",
        write: |picture| Some(rgb(picture, |it| set(it, 4, Filter::Adaptive))),
    },
    Way {
        name: "level 6, no filter",
        write: |picture| Some(rgb(picture, |it| set(it, 6, Filter::NoFilter))),
    },
    Way {
        name: "indexed in bytes, level 4",
        write: |picture| indexed(picture, |it| set(it, 4, Filter::NoFilter)),
    },
    Way {
        name: "indexed in bytes, level 6",
        write: |picture| indexed(picture, |it| set(it, 6, Filter::NoFilter)),
    },
    Way {
        name: "JPEG, quality 80",
        write: |picture| picture.to_jpeg().ok(),
    },
];

fn set(encoder: &mut Encoder<&mut Vec<u8>>, level: u8, filter: Filter) {
    encoder.set_deflate_compression(DeflateCompression::Level(level));
    encoder.set_filter(filter);
}

fn rgb(picture: &Picture, set: Set) -> Vec<u8> {
    written(picture, picture.rgb(), |encoder| {
        encoder.set_color(ColorType::Rgb);
        set(encoder);
    })
}

/// Plainly done: how long it takes to find the colours is no part of what is compared.
fn indexed(picture: &Picture, set: Set) -> Option<Vec<u8>> {
    let (pixels, _) = picture.rgb().as_chunks::<3>();
    let mut colours: Vec<[u8; 3]> = vec![];
    let mut last = ([0; 3], None);
    let mut indexes = Vec::with_capacity(pixels.len());
    for pixel in pixels {
        if last.1.is_none() || last.0 != *pixel {
            let found = colours.iter().position(|colour| colour == pixel);
            let index = found.unwrap_or_else(|| {
                colours.push(*pixel);
                colours.len() - 1
            });
            last = (*pixel, Some(u8::try_from(index).ok()?));
        }
        indexes.extend(last.1);
    }
    Some(written(picture, &indexes, |encoder| {
        encoder.set_color(ColorType::Indexed);
        encoder.set_palette(colours.into_flattened());
        set(encoder);
    }))
}

fn written(
    picture: &Picture,
    rows: &[u8],
    set: impl FnOnce(&mut Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut bytes = vec![];
    let size = picture.size();
    let mut encoder = Encoder::new(&mut bytes, size.width, size.height);
    encoder.set_depth(BitDepth::Eight);
    set(&mut encoder);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(rows).expect("pixels");
    writer.finish().expect("an end");
    bytes
}
