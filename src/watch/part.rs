//! Which part of a screen a condition is about, look by look.

use crate::{
    capture::CaptureError,
    model::{Region, ScreenSize},
};

use super::WatchError;

/// All of a screen, or a region of it as it is shown.
#[derive(Debug)]
pub(super) struct Part {
    region: Option<Region>,
    /// The size at which the screen was shown when the region was found to fit.
    fitted: Option<ScreenSize>,
}

impl Part {
    pub(super) fn new(region: Option<Region>) -> Self {
        Self {
            region,
            fitted: None,
        }
    }

    /// In native pixels of a look.
    pub(super) fn of(
        &mut self,
        native: ScreenSize,
        shown: ScreenSize,
    ) -> Result<Region, WatchError> {
        let Some(region) = self.region else {
            return Ok(Region::whole(native));
        };
        if !region.fits(shown) {
            return Err(match self.fitted {
                Some(then) => WatchError::RegionGone {
                    region,
                    then,
                    now: shown,
                },
                None => CaptureError::Region { region, shown }.into(),
            });
        }
        self.fitted = Some(shown);
        Ok(region.native(shown, native))
    }

    /// `screen`, or `region [0, 0, 9, 9]`.
    pub(super) fn name(&self) -> String {
        match self.region {
            Some(region) => format!("region {region}"),
            None => "screen".to_owned(),
        }
    }
}
