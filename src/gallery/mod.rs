//! Screenshots kept in memory for the resource, where no project keeps them, and what was last shown.
//!
//! Whether a picture is the last one again is told by a hash of what would be sent: that costs no
//! memory, and whatever is drawn into a picture, scaled away or cut off is dealt with as it is seen.

mod saved;

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use saved::{SavedError, load};

use crate::{
    capture::Shot,
    model::{Region, VmName},
    store::ScreenshotId,
};

/// The newest so many are kept, of at most so many bytes together.
const MAX_SHOTS: usize = 32;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The last screenshots of all VMs.
#[derive(Debug, Default)]
pub struct Gallery {
    kept: Mutex<VecDeque<Kept>>,
    shown: Mutex<VecDeque<(Look, ScreenshotId)>>,
    /// Seeded by chance, so that no guest can make two pictures of one hash.
    hasher: RandomState,
}

/// The newest so many looks are known again.
const MAX_LOOKS: usize = 64;

/// What was looked at, and what was to be seen there.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    view: View,
    hash: u64,
}

/// What a picture is of.
#[derive(Debug, Clone, PartialEq)]
struct View {
    vm: VmName,
    head: u32,
    region: Option<Region>,
    mime: &'static str,
}

/// A screenshot as it was shown.
#[derive(Debug, Clone)]
pub struct Kept {
    pub id: ScreenshotId,
    pub vm: VmName,
    pub mime: &'static str,
    pub bytes: Arc<[u8]>,
    /// What it shows, in pixels of the full screenshot.
    pub place: Region,
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
            place: shot.region.unwrap_or(Region::whole(shot.shown)),
        });
        let mut bytes: usize = kept.iter().map(|it| it.bytes.len()).sum();
        // The newest stays, however large.
        while kept.len() > 1 && (kept.len() > MAX_SHOTS || bytes > MAX_BYTES) {
            bytes -= kept.pop_front().map_or(0, |oldest| oldest.bytes.len());
        }
        id
    }

    /// What a picture that is to be shown is of.
    pub fn look_of(&self, vm: &VmName, shot: &Shot) -> Look {
        let view = View {
            vm: vm.clone(),
            head: shot.head,
            region: shot.region,
            mime: shot.mime,
        };
        let native = (shot.native.width, shot.native.height);
        let hash = self.hasher.hash_one((native, &shot.bytes));
        Look { view, hash }
    }

    /// The screenshot that was last shown of the same view, where it is the same picture.
    pub fn shown_as(&self, look: &Look) -> Option<ScreenshotId> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, id) = shown.iter().find(|(last, _)| last.view == look.view)?;
        (last.hash == look.hash).then(|| id.clone())
    }

    /// Takes note of a picture that is shown.
    pub fn showed(&self, look: Look, id: ScreenshotId) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|(last, _)| last.view != look.view);
        if shown.len() == MAX_LOOKS {
            shown.pop_front();
        }
        shown.push_back((look, id));
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
            is_placeholder: false,
            mark: None,
            original: Original::Shown,
        }
    }

    #[test]
    fn a_look_is_known_again_by_its_view_and_its_bytes() {
        let vm: VmName = "demo".parse().unwrap();
        let other: VmName = "other".parse().unwrap();
        let gallery = Gallery::default();
        let id = ScreenshotId::now();
        let first = shot(100);
        gallery.showed(gallery.look_of(&vm, &first), id.clone());
        let known = |vm: &VmName, shot: &Shot| gallery.shown_as(&gallery.look_of(vm, shot));
        assert_eq!(known(&vm, &first), Some(id.clone()));
        assert_eq!(known(&other, &first), None);
        let mut differing = shot(100);
        differing.bytes[99] = 1;
        let elsewhere = Shot {
            head: 1,
            ..first.clone()
        };
        let part = Shot {
            region: Some(Region::from([0, 0, 1, 1])),
            ..first.clone()
        };
        let of_another_size = Shot {
            native: ScreenSize {
                width: 2,
                height: 1,
            },
            ..first.clone()
        };
        for changed in [&differing, &elsewhere, &part, &of_another_size] {
            assert_eq!(known(&vm, changed), None);
        }
        // Another view shown in between takes nothing away, the same view does.
        gallery.showed(gallery.look_of(&vm, &part), ScreenshotId::now());
        assert_eq!(known(&vm, &first), Some(id));
        gallery.showed(gallery.look_of(&vm, &differing), ScreenshotId::now());
        assert_eq!(known(&vm, &first), None);
    }

    #[test]
    fn as_many_looks_are_remembered_as_there_is_room_for() {
        let gallery = Gallery::default();
        let looks: Vec<_> = (0..=MAX_LOOKS)
            .map(|n| gallery.look_of(&format!("vm{n}").parse().unwrap(), &shot(1)))
            .collect();
        for look in &looks {
            gallery.showed(look.clone(), ScreenshotId::now());
        }
        assert_eq!(gallery.shown_as(&looks[0]), None);
        assert!(gallery.shown_as(&looks[1]).is_some());
        assert!(gallery.shown_as(&looks[MAX_LOOKS]).is_some());
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
