//! Looking often: by shared memory where that works, and what is known of where it does not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::VmName;

use super::{
    HypervisorError, Screenshot, Sight,
    framebuffer::{Framebuffer, Trouble},
    sessions::Sessions,
};

/// One eye for each VM that was looked at this way.
#[derive(Debug, Default)]
pub(super) struct Eyes {
    of: Mutex<HashMap<VmName, Arc<Mutex<Eye>>>>,
}

/// What is known of the quick way to one VM's screen.
#[derive(Debug, Default)]
enum Eye {
    #[default]
    Closed,
    Open(Framebuffer),
    /// It cannot be taken over this connection, for as long as the VM stays as it is.
    Blind {
        why: String,
        seen: Seen,
    },
}

/// Which connection it was, and how often the VM had changed.
type Seen = (u64, Option<u64>);

impl Eyes {
    /// The present picture of a head; `None` where it has to be had by a screenshot.
    pub(super) fn look(
        &self,
        sessions: &Sessions,
        vm: &VmName,
        head: u32,
    ) -> Result<Option<Screenshot>, HypervisorError> {
        let eye = self.eye(vm);
        let picture = lock(&eye).look(sessions, vm, head)?;
        Ok(picture)
    }

    /// Which way looks take, found out by a look.
    pub(super) fn sight(&self, sessions: &Sessions, vm: &VmName) -> Result<Sight, HypervisorError> {
        let eye = self.eye(vm);
        let mut eye = lock(&eye);
        eye.look(sessions, vm, 0)?;
        Ok(match &*eye {
            Eye::Blind { why, .. } => Sight::Screenshot { why: why.clone() },
            Eye::Closed | Eye::Open(_) => Sight::Framebuffer,
        })
    }

    /// Takes all memory away from the VMs again.
    pub(super) fn close(&self, sessions: &Sessions) {
        let eyes = std::mem::take(&mut *self.of.lock().unwrap_or_else(PoisonError::into_inner));
        for (vm, eye) in eyes {
            // A look that hangs keeps its lock, and its VM would hang this one too.
            if let Ok(mut eye) = eye.try_lock() {
                eye.close(sessions, &vm);
            }
        }
    }

    fn eye(&self, vm: &VmName) -> Arc<Mutex<Eye>> {
        let mut eyes = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(eyes.entry(vm.clone()).or_default())
    }
}

fn lock(eye: &Mutex<Eye>) -> MutexGuard<'_, Eye> {
    // A panic leaves at worst an eye that has to be opened again.
    eye.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Eye {
    fn look(
        &mut self,
        sessions: &Sessions,
        vm: &VmName,
        head: u32,
    ) -> Result<Option<Screenshot>, HypervisorError> {
        let seen = (sessions.number(vm)?, sessions.changes(vm));
        if let Self::Blind { seen: then, .. } = self
            && *then == seen
        {
            return Ok(None);
        }
        let was_open = matches!(self, Self::Open(_));
        let mut outcome = self.attempt(sessions, vm, head);
        // A VM that was started anew does not have the file any more.
        if was_open && matches!(outcome, Err(Trouble::Refused(_))) {
            self.close(sessions, vm);
            outcome = self.attempt(sessions, vm, head);
        }
        match outcome {
            Ok(picture) => Ok(picture),
            Err(Trouble::Failed(error)) => Err(error),
            Err(Trouble::Refused(why)) => {
                tracing::info!(%vm, why, "its screen is looked at by screenshots");
                self.close(sessions, vm);
                *self = Self::Blind { why, seen };
                Ok(None)
            }
        }
    }

    fn attempt(
        &mut self,
        sessions: &Sessions,
        vm: &VmName,
        head: u32,
    ) -> Result<Option<Screenshot>, Trouble> {
        if let Self::Open(framebuffer) = self {
            return framebuffer.picture(sessions, vm, head);
        }
        let mut framebuffer = Framebuffer::open(sessions, vm)?;
        let picture = framebuffer.picture(sessions, vm, head);
        *self = Self::Open(framebuffer);
        picture
    }

    fn close(&mut self, sessions: &Sessions, vm: &VmName) {
        if let Self::Open(framebuffer) = std::mem::take(self) {
            framebuffer.close(sessions, vm);
        }
    }
}
