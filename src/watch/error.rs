//! Why a wait ended without what was waited for.

use std::time::Duration;

use crate::{
    capture::{CaptureError, Shot},
    guest::GuestError,
    model::{Region, ScreenSize, act::BadAct},
    reading::ReadingError,
    vm::VmError,
};

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Bad(BadAct),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Reading(#[from] ReadingError),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(
        "the screen became {now} pixels large during the wait, and the region {region} of one of \
         {then} pixels is not inside it"
    )]
    RegionGone {
        region: Region,
        then: ScreenSize,
        now: ScreenSize,
    },
    #[error("the picture of {picture} pixels is larger than the region {region}")]
    PictureTooLarge { picture: ScreenSize, region: Region },
    #[error("the picture `{0}` was not read before the wait")]
    PictureUnread(String),
    #[error("nothing held within {} s: {}", limit.as_secs_f64(), findings.join("; "))]
    TimedOut {
        limit: Duration,
        /// What is known of each condition.
        findings: Vec<String>,
        /// The screen when the time was up, where it could be seen.
        last: Option<Box<Shot>>,
    },
}

impl WatchError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Bad(_) => "Correct the value and call again; nothing was done.".to_owned(),
            Self::Vm(error) => error.hint(),
            Self::Capture(error) => error.hint(),
            Self::Reading(error) => error.hint(),
            Self::Guest(error) => error.hint(),
            Self::RegionGone { .. } => {
                "Take a screenshot, and wait again with a region of the present screen.".to_owned()
            }
            Self::PictureTooLarge { .. } => {
                "Give a larger region, or none, or only a part of the picture.".to_owned()
            }
            Self::PictureUnread(_) => "This is a defect of the server; please report it.".to_owned(),
            Self::TimedOut { last: Some(_), .. } => {
                "The picture shows the screen as it was then. See what is missing, then wait again, \
                 for longer or for something else."
                    .to_owned()
            }
            Self::TimedOut { last: None, .. } => {
                "The screen could not be seen at the end: `vm_list` tells whether the VM runs, or it was busy. Then \
                 wait again, for longer or for something else."
                    .to_owned()
            }
        }
    }

    /// The screen when the time was up.
    pub fn last(&self) -> Option<&Shot> {
        match self {
            Self::TimedOut { last, .. } => last.as_deref(),
            _ => None,
        }
    }
}
