//! Why a screen could not be read.

use crate::{capture::CaptureError, ocr::OcrError, vm::VmError};

#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error("the screen shows no text in cells, and cannot be read by OCR")]
    Ocr(#[from] OcrError),
}

impl ReadingError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Capture(error) => error.hint(),
            Self::Vm(error) => error.hint(),
            Self::Ocr(error) => error.hint(),
        }
    }
}
