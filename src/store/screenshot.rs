//! Names of screenshots.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};

use super::StoreError;
use crate::model::ImageFormat;

/// `YYYYMMDD-HHMMSS-micros`, in UTC: digits and hyphens alone, so that an id never holds a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScreenshotId(String);

impl ScreenshotId {
    const MAX_BYTES: usize = 40;

    /// The id of this moment, and of no other picture of this process.
    pub fn now() -> Self {
        static LAST: AtomicI64 = AtomicI64::new(0);
        let now = Utc::now().timestamp_micros();
        let next = |last: i64| Some(now.max(last + 1));
        let last = LAST
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or_else(|last| last);
        let at = DateTime::from_timestamp_micros(now.max(last + 1)).unwrap_or_else(Utc::now);
        Self(at.format("%Y%m%d-%H%M%S-%6f").to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn file_name(&self, format: ImageFormat) -> String {
        format!("{}.{}", self.0, extension(format))
    }
}

impl FromStr for ScreenshotId {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let is_good = |byte: u8| byte.is_ascii_digit() || byte == b'-';
        let begins = text.starts_with(|c: char| c.is_ascii_digit());
        if !begins || text.len() > Self::MAX_BYTES || !text.bytes().all(is_good) {
            return Err(StoreError::BadScreenshotId {
                found: text.escape_debug().to_string(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ScreenshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) const FORMATS: [ImageFormat; 2] = [ImageFormat::Png, ImageFormat::Jpeg];

fn extension(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "png",
        ImageFormat::Jpeg => "jpg",
    }
}

/// The id in a file name of the `screenshots` folder, if it is one, and the format.
pub(super) fn id_of(file_name: &str) -> Option<(ScreenshotId, ImageFormat)> {
    FORMATS.into_iter().find_map(|format| {
        let stem = file_name.strip_suffix(extension(format))?;
        Some((stem.strip_suffix('.')?.parse().ok()?, format))
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn ids_that_could_be_paths_are_refused() {
        for text in [
            "",
            "..",
            "-1",
            "a",
            "1/2",
            "20260131-235959-123456.png",
            "1\0",
            "１",
            &"1".repeat(41),
        ] {
            let error = text.parse::<ScreenshotId>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{}` is no screenshot id", text.escape_debug())
            );
        }
        let id: ScreenshotId = "20261122-062613-660053".parse().unwrap();
        assert_eq!(id.as_str(), "20261122-062613-660053");
    }

    #[test]
    fn ids_of_one_moment_differ_and_rise() {
        let many = || (0..500).map(|_| ScreenshotId::now()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(many)).collect();
        let mut all = HashSet::new();
        for thread in threads {
            let ids = thread.join().unwrap();
            assert!(ids.is_sorted());
            all.extend(ids);
        }
        assert_eq!(all.len(), 2000);
        for id in all {
            assert_eq!(id.as_str().len(), "20261122-062613-660053".len());
            assert_eq!(id_of(&format!("{id}.png")), Some((id, ImageFormat::Png)));
        }
    }
}
