//! The pixels of a picture that an act carries.

use std::{fmt, sync::Arc};

use super::ScreenSize;

/// 8-bit RGB pixels, row by row.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    pub size: ScreenSize,
    /// As many as the size says.
    pub rgb: Arc<[u8]>,
}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pixels({})", self.size)
    }
}
