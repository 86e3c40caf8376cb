//! Screenshots, shown and kept.

use std::sync::Arc;

use crate::{
    capture::{self, Shot},
    model::{Capability, TakeScreenshot, VmName},
    vm::Vm,
};

use super::{
    Server,
    error::ToolError,
    off_thread,
    reply::Reply,
    tool::{Call, Effect, Tool},
};

/// The resource of one screenshot is this and its id.
pub(crate) const SCREENSHOT_URI: &str = "vm://screenshot/";

pub(crate) fn tools() -> Vec<Tool> {
    vec![Tool::on_vm::<TakeScreenshot, _, _>(
        "take_screenshot",
        "Take a screenshot",
        Capability::View,
        Effect::Reads,
        take_screenshot,
    )]
}

async fn take_screenshot(
    server: Arc<Server>,
    vm: Option<VmName>,
    what: TakeScreenshot,
    _: Call,
) -> Result<Reply, ToolError> {
    let vm = server.fleet.vm(vm, Capability::View).await?;
    let shot = capture::look(&vm, &what).await?;
    let mut reply = Reply::default();
    show(&server, vm.name(), shot, &mut reply).await?;
    Ok(reply)
}

/// Adds a picture to a reply, and keeps it where the resource finds it: in the active project, or
/// else in memory.
pub(crate) async fn show(
    server: &Arc<Server>,
    vm: &VmName,
    shot: Shot,
    reply: &mut Reply,
) -> Result<(), ToolError> {
    let keeper = Arc::clone(server);
    let (shot, saved) = off_thread(move || {
        let saved = keeper.journal.save_shot(&shot);
        (shot, saved)
    })
    .await?;
    let head = match shot.head {
        0 => String::new(),
        head => format!(", head {head}"),
    };
    let sizes = shot.sizes();
    let line = match saved {
        Ok(Some((id, path, project))) => format!(
            "Screenshot {id} of {vm}{head}: {sizes}. Resource {SCREENSHOT_URI}{id}. Saved in \
             project {project} at native size: {}",
            path.display()
        ),
        Ok(None) => {
            let id = server.gallery.keep(vm, &shot);
            format!("Screenshot {id} of {vm}{head}: {sizes}. Resource {SCREENSHOT_URI}{id}.")
        }
        // The picture is what was asked for; that it could not be saved must be told.
        Err(error) => {
            let id = server.gallery.keep(vm, &shot);
            let error = ToolError::from(error);
            format!(
                "Screenshot {id} of {vm}{head}: {sizes}. Resource {SCREENSHOT_URI}{id}. It was not \
                 saved in the project: {}",
                error.text()
            )
        }
    };
    reply.add_line(&line);
    if let Some(mark) = shot.mark {
        reply.add_line(&format!(
            "The ring around {mark} is the pointer's place, drawn by this server."
        ));
    }
    if let Some(note) = &shot.note {
        reply.add_line(note);
    }
    reply.add_picture(shot.mime, shot.bytes);
    Ok(())
}

/// Ends a batch's report with a picture; that there is none is no failure of the batch.
pub(crate) async fn add_look(server: &Arc<Server>, vm: &Arc<Vm>, reply: &mut Reply) {
    let outcome = match capture::look(vm, &TakeScreenshot::default()).await {
        Ok(shot) => show(server, vm.name(), shot, reply).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = outcome {
        reply.add_line(&format!("No screenshot at the end: {}", error.text()));
    }
}
