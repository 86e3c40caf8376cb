//! Screenshots kept in memory for the resource, where no project keeps them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{capture::Shot, model::VmName, store::ScreenshotId};

/// The newest so many are kept, of at most so many bytes together.
const MAX_SHOTS: usize = 32;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The last screenshots of all VMs.
#[derive(Debug, Default)]
pub struct Gallery {
    kept: Mutex<VecDeque<Kept>>,
}

/// A screenshot as it was shown.
#[derive(Debug, Clone)]
pub struct Kept {
    pub id: ScreenshotId,
    pub vm: VmName,
    pub mime: &'static str,
    pub bytes: Arc<[u8]>,
}

impl Gallery {
    pub fn keep(&self, vm: &VmName, shot: &Shot) -> ScreenshotId {
        let id = ScreenshotId::now();
        let mut kept = self.lock();
        kept.push_back(Kept {
            id: id.clone(),
            vm: vm.clone(),
            mime: shot.mime,
            bytes: shot.bytes.as_slice().into(),
        });
        let mut bytes: usize = kept.iter().map(|it| it.bytes.len()).sum();
        // The newest stays, however large.
        while kept.len() > 1 && (kept.len() > MAX_SHOTS || bytes > MAX_BYTES) {
            bytes -= kept.pop_front().map_or(0, |oldest| oldest.bytes.len());
        }
        id
    }

    pub fn find(&self, id: &ScreenshotId) -> Option<Kept> {
        self.lock().iter().find(|it| it.id == *id).cloned()
    }

    /// All of them, newest first.
    pub fn all(&self) -> Vec<Kept> {
        self.lock().iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        // Whatever a panic left behind is a list of whole pictures.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capture::Original, model::ScreenSize};

    fn shot(length: usize) -> Shot {
        let size = ScreenSize {
            width: 1,
            height: 1,
        };
        Shot {
            bytes: vec![0; length],
            mime: "image/png",
            native: size,
            shown: size,
            head: 0,
            region: None,
            note: None,
            mark: None,
            original: Original::Shown,
        }
    }

    #[test]
    fn keeps_the_newest_within_its_limits() {
        let vm: VmName = "demo".parse().unwrap();
        let gallery = Gallery::default();
        let first = gallery.keep(&vm, &shot(1));
        for _ in 0..32 {
            gallery.keep(&vm, &shot(1));
        }
        assert_eq!(gallery.all().len(), 32);
        assert!(gallery.find(&first).is_none());
        let large = gallery.keep(&vm, &shot(MAX_BYTES + 1));
        assert_eq!(gallery.all().len(), 1);
        assert!(gallery.find(&large).is_some());
    }
}
