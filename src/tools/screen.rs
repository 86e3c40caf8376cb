//! Screenshots, shown and kept.

use std::sync::Arc;

use crate::{
    capture::Shot,
    model::{Capability, TakeScreenshot, VmName, act::Image},
    perform,
    vm::Vm,
    watch,
};

use super::{
    Server,
    error::ToolError,
    off_thread,
    reply::Reply,
    tool::{Call, Effect, Tool},
};

/// The resource of one screenshot is this and its id.
pub(crate) const SCREENSHOT_URI: &str = Image::SCREENSHOT_URI;

/// How long the picture at the end of a batch waits for the screen to be still.
const FINAL_SETTLE_MS: u32 = 2000;

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
    call: Call,
) -> Result<Reply, ToolError> {
    let vm = server.fleet.vm(vm, Capability::View).await?;
    let shot = watch::look(&vm, &what, &call.progress).await?;
    reply_with(&server, vm.name(), shot, IfChanged::of(&what)).await
}

/// A reply that is one picture.
pub(crate) async fn reply_with(
    server: &Arc<Server>,
    vm: &VmName,
    shot: Shot,
    if_changed: IfChanged,
) -> Result<Reply, ToolError> {
    let mut reply = Reply::default();
    show(server, vm, shot, if_changed, &mut reply).await?;
    Ok(reply)
}

/// Whether a picture is left out where it would be the last one shown once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfChanged {
    Yes,
    No,
}

impl IfChanged {
    pub(crate) fn of(what: &TakeScreenshot) -> Self {
        if what.if_changed { Self::Yes } else { Self::No }
    }
}

/// Adds a picture to a reply, and keeps it where the resource finds it: in the active project, or
/// else in memory.
pub(crate) async fn show(
    server: &Arc<Server>,
    vm: &VmName,
    shot: Shot,
    if_changed: IfChanged,
    reply: &mut Reply,
) -> Result<(), ToolError> {
    let head = match shot.head {
        0 => String::new(),
        head => format!(", head {head}"),
    };
    let look = server.gallery.look_of(vm, &shot);
    if if_changed == IfChanged::Yes
        && let Some(id) = server.gallery.shown_as(&look)
    {
        reply.add_line(&format!(
            "Unchanged: this picture of {vm}{head} would be exactly that of screenshot {id}, so it \
             is not sent again."
        ));
        if let Some(note) = &shot.note {
            reply.add_line(note);
        }
        return Ok(());
    }
    let keeper = Arc::clone(server);
    let (shot, saved) = off_thread(move || {
        let saved = keeper.journal.save_shot(&shot);
        (shot, saved)
    })
    .await?;
    let sizes = shot.sizes();
    let (id, more) = match saved {
        Ok(Some((id, path, project))) => {
            let path = path.display();
            let more = format!(" Saved in project {project} at native size: {path}");
            (id, more)
        }
        Ok(None) => (server.gallery.keep(vm, &shot), String::new()),
        // The picture is what was asked for; that it could not be saved must be told.
        Err(error) => {
            let error = ToolError::from(error).text();
            let more = format!(" It was not saved in the project: {error}");
            (server.gallery.keep(vm, &shot), more)
        }
    };
    reply.add_line(&format!(
        "Screenshot {id} of {vm}{head}: {sizes}. Resource {SCREENSHOT_URI}{id}.{more}"
    ));
    server.gallery.showed(look, id);
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
    let what = TakeScreenshot {
        settle: FINAL_SETTLE_MS,
        ..TakeScreenshot::default()
    };
    let outcome = match watch::look(vm, &what, &perform::untold()).await {
        Ok(shot) => show(server, vm.name(), shot, IfChanged::No, reply).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = outcome {
        reply.add_line(&format!("No screenshot at the end: {}", error.text()));
    }
}
