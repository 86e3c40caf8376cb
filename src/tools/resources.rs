//! Resources: screenshots that were taken, the screen as it is now, and the output of jobs.

use std::{fmt::Write, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use rmcp::{
    ErrorData,
    model::{
        CompleteRequestParams, CompleteResult, CompletionInfo, ReadResourceResult, Reference,
        Resource, ResourceContents, ResourceTemplate,
    },
};
use serde_json::json;

use crate::{
    capture,
    jobs::{Job, JobError},
    model::{Capability, OutputStream, TakeScreenshot, VmName},
    perform,
    store::{ScreenshotId, Taken},
    watch,
};

use super::{Server, error::ToolError, off_thread, screen::SCREENSHOT_URI};

const SCREEN_URI: &str = "vm://screen/";
const SCREENSHOT_TEMPLATE: &str = "vm://screenshot/{id}";
const SCREEN_TEMPLATE: &str = "vm://screen/{vm}";
const TEXT: &str = "text/plain";
const JOB_URI: &str = "vm://job/";
const JOB_TEMPLATE: &str = "vm://job/{id}/{stream}";

/// The most of a job's output that is given at once; base64 makes it a third longer.
const MAX_OUTPUT: usize = 3_000_000;

/// The most that a text may take as JSON, which writes some characters as six; past that it is a blob.
const MAX_WRITTEN: usize = 4_000_000;

/// A list is for a person or a model to choose from; older screenshots are read by their id.
const MAX_LISTED: usize = 100;

pub(super) fn templates() -> Vec<ResourceTemplate> {
    let mut screenshot = ResourceTemplate::new(SCREENSHOT_TEMPLATE, "screenshot");
    screenshot.title = Some("A screenshot that was taken".to_owned());
    screenshot.description = Some("By the id in the text beside the picture.".to_owned());
    let mut screen = ResourceTemplate::new(SCREEN_TEMPLATE, "screen");
    screen.title = Some("The screen of a VM now".to_owned());
    screen.description = Some("A `/` in the VM's name is written as %2F.".to_owned());
    let mut job = ResourceTemplate::new(JOB_TEMPLATE, "output of a job");
    job.title = Some("What a command wrote".to_owned());
    job.description = Some("The stream is stdout or stderr.".to_owned());
    vec![screenshot, screen, job]
}

/// The screens of granted VMs, and the newest screenshots of this server and of all projects.
pub(super) async fn list(server: &Arc<Server>) -> Vec<Resource> {
    let mut resources: Vec<_> = screens(server)
        .iter()
        .map(|vm| {
            let uri = format!("{SCREEN_URI}{}", encode(vm.as_str()));
            let mut resource = Resource::new(uri, format!("screen of {vm}"));
            resource.mime_type = Some("image/png".to_owned());
            resource
        })
        .collect();
    for job in jobs(server) {
        let state = job.state();
        for stream in OutputStream::ALL {
            let uri = format!("{JOB_URI}{}/{stream}", job.id);
            let mut resource = Resource::new(uri, format!("{stream} of job {}", job.id));
            resource.size = Some(state.output(stream).bytes);
            resources.push(resource);
        }
    }
    if !may_view_any(server) {
        return resources;
    }
    let of = |id: &ScreenshotId, mime: &str, from: String| {
        let uri = format!("{SCREENSHOT_URI}{id}");
        let mut resource = Resource::new(uri, format!("screenshot {id}"));
        resource.description = Some(from);
        resource.mime_type = Some(mime.to_owned());
        resource
    };
    resources.extend(server.gallery.all().iter().map(|kept| {
        let from = format!("Of {}, kept in memory.", kept.vm);
        let mut resource = of(&kept.id, kept.mime, from);
        resource.size = Some(kept.bytes.len() as u64);
        resource
    }));
    let saved = saved(server, "").await;
    resources.extend(saved.iter().map(|taken| {
        let from = format!("Saved in project {}.", taken.project);
        of(&taken.id, taken.format.mime(), from)
    }));
    resources
}

/// The newest first, of the active project and all others.
async fn saved(server: &Arc<Server>, begin: &str) -> Vec<Taken> {
    let reader = Arc::clone(server);
    let begin = begin.to_owned();
    off_thread(move || {
        let active = reader.journal.active();
        let projects = reader.journal.projects();
        projects.screenshots(active.as_deref(), &begin, MAX_LISTED)
    })
    .await
    .unwrap_or_default()
}

/// VMs whose screen may be seen, without waiting for libvirt.
fn screens(server: &Server) -> Vec<VmName> {
    let fleet = &server.fleet;
    let mut names = fleet.known_names();
    names.retain(|vm| fleet.grants(vm).has(Capability::View));
    names
}

/// Jobs whose output may be seen.
fn jobs(server: &Server) -> Vec<Arc<Job>> {
    let mut jobs = server.jobs.all();
    jobs.retain(|job| may_be_seen(server, job));
    jobs
}

fn may_be_seen(server: &Server, job: &Job) -> bool {
    let guests = &server.guests;
    guests.grants(job.vm.as_ref(), Capability::Shell)
}

pub(super) async fn read(server: &Arc<Server>, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let (mime, bytes) = if let Some(id) = uri.strip_prefix(SCREENSHOT_URI) {
        screenshot(server, id).await
    } else if let Some(vm) = uri.strip_prefix(SCREEN_URI) {
        screen(server, vm).await
    } else if let Some((id, stream)) = uri
        .strip_prefix(JOB_URI)
        .and_then(|rest| rest.split_once('/'))
    {
        output(server, id, stream).await
    } else {
        Err(ToolError::new(
            format!("there is no resource {uri}"),
            format!("There are {SCREENSHOT_TEMPLATE}, {SCREEN_TEMPLATE} and {JOB_TEMPLATE}."),
        ))
    }
    .map_err(|error| ErrorData::resource_not_found(error.text(), Some(json!({"uri": uri}))))?;
    let contents = match String::from_utf8(bytes) {
        Ok(text) if mime == TEXT && written(&text) <= MAX_WRITTEN => {
            ResourceContents::text(text, uri)
        }
        Ok(text) => ResourceContents::blob(STANDARD.encode(text), uri),
        Err(error) => ResourceContents::blob(STANDARD.encode(error.as_bytes()), uri),
    };
    let contents = contents.with_mime_type(mime);
    Ok(ReadResourceResult::new(vec![contents]))
}

async fn screenshot(server: &Arc<Server>, id: &str) -> Result<(String, Vec<u8>), ToolError> {
    if !may_view_any(server) {
        return Err(ToolError::new(
            "`view` is granted for no VM",
            "Only the person who runs this server can grant it.",
        ));
    }
    let id: ScreenshotId = id.parse()?;
    if let Some(kept) = server.gallery.find(&id) {
        return Ok((kept.mime.to_owned(), kept.bytes.to_vec()));
    }
    let reader = Arc::clone(server);
    let wanted = id.clone();
    let saved = off_thread(move || {
        let journal = &reader.journal;
        if let Some(project) = journal.active()
            && let Some(found) = project.screenshot(&wanted)?
        {
            return Ok(Some(found));
        }
        journal.projects().find_screenshot(&wanted)
    })
    .await??;
    match saved {
        Some(saved) => {
            let fitted = off_thread(move || capture::fit(saved.mime(), saved.bytes)).await?;
            let (mime, bytes) = fitted.map_err(capture::CaptureError::Saved)?;
            Ok((mime.to_owned(), bytes))
        }
        None => Err(ToolError::new(
            format!("there is no screenshot {id}"),
            "Without a project only the last ones are kept. Take a new one.",
        )),
    }
}

async fn screen(server: &Arc<Server>, vm: &str) -> Result<(String, Vec<u8>), ToolError> {
    let name: VmName = decode(vm)
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| ToolError::new("that is no VM's name", "`vm_list` shows all VMs."))?;
    let vm = server.fleet.vm(Some(name), Capability::View).await?;
    let shot = watch::look(&vm, &TakeScreenshot::default(), &perform::untold()).await?;
    Ok((shot.mime.to_owned(), shot.bytes))
}

/// All that a job wrote to a stream so far. What is no text is a blob.
async fn output(
    server: &Arc<Server>,
    id: &str,
    stream: &str,
) -> Result<(String, Vec<u8>), ToolError> {
    let Some(stream) = OutputStream::ALL
        .into_iter()
        .find(|it| it.as_str() == stream)
    else {
        return Err(ToolError::new(
            "a job has no such stream",
            "There are stdout and stderr.",
        ));
    };
    let job = server.jobs.find(id, |job| may_be_seen(server, job))?;
    let secrets = Arc::clone(&server.secrets);
    let reading = move || {
        let whole = job.read_whole(stream, MAX_OUTPUT)?;
        Ok::<_, JobError>(secrets.mask_output(whole))
    };
    let whole = off_thread(reading).await??;
    let mime = match std::str::from_utf8(&whole) {
        Ok(_) => TEXT,
        Err(_) => "application/octet-stream",
    };
    Ok((mime.to_owned(), whole))
}

/// How many bytes a text takes as JSON.
fn written(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |json| json.len())
}

fn may_view_any(server: &Server) -> bool {
    let grants = server.fleet.config().grants_anywhere();
    grants.has(Capability::View)
}

/// Completes names of VMs, ids of screenshots and those of jobs.
pub(super) async fn complete(
    server: &Arc<Server>,
    request: &CompleteRequestParams,
) -> Result<CompleteResult, ErrorData> {
    let Reference::Resource(template) = &request.r#ref else {
        return Ok(CompleteResult::default());
    };
    let candidates: Vec<String> = match (template.uri.as_str(), request.argument.name.as_str()) {
        (SCREEN_TEMPLATE, "vm") => {
            // Completing is a reason to find the default VM, where there is one.
            let _ = server.fleet.default_vm().await;
            let names = screens(server);
            names.iter().map(|name| encode(name.as_str())).collect()
        }
        (JOB_TEMPLATE, "id") => jobs(server).iter().map(|job| job.id.to_string()).collect(),
        (JOB_TEMPLATE, "stream") => OutputStream::ALL.map(|it| it.to_string()).to_vec(),
        (SCREENSHOT_TEMPLATE, "id") if may_view_any(server) => {
            let kept = server.gallery.all().into_iter().map(|kept| kept.id);
            let saved = saved(server, &request.argument.value).await;
            let saved = saved.into_iter().map(|taken| taken.id);
            kept.chain(saved).map(|id| id.to_string()).collect()
        }
        _ => vec![],
    };
    let start = &request.argument.value;
    let fitting: Vec<_> = candidates
        .into_iter()
        .filter(|candidate| candidate.starts_with(start.as_str()))
        .take(CompletionInfo::MAX_VALUES)
        .collect();
    let completion = CompletionInfo::with_all_values(fitting)
        .map_err(|error| ErrorData::internal_error(error, None))?;
    Ok(CompleteResult::new(completion))
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_uri() {
        for name in ["demo", "a/b", "50% off", "дом", "a?b#c"] {
            let encoded = encode(name);
            assert!(!encoded.contains(['/', '?', '#', ' ']), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(name));
        }
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
