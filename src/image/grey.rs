//! Scaling pixels of one shade each.

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use crate::model::ScreenSize;

use super::ImageError;

/// Grey pixels, row by row, made into a picture of another size, with soft edges: a recogniser reads enlarged bitmap
/// fonts better so than with sharp ones.
pub fn scale_grey(grey: &[u8], from: ScreenSize, to: ScreenSize) -> Result<Vec<u8>, ImageError> {
    let from = images::ImageRef::new(from.width, from.height, grey, PixelType::U8)
        .map_err(|_| ImageError::Broken("its pixels do not fill it"))?;
    let mut scaled = images::Image::new(to.width, to.height, PixelType::U8);
    let how = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Gaussian));
    Resizer::new()
        .resize(&from, &mut scaled, &how)
        .map_err(ImageError::Scale)?;
    Ok(scaled.into_vec())
}
