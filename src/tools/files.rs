//! Files and folders to and from the guest, over SFTP.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{Capability, VmName},
    ssh::{Manner, Note, Notes, Transfer, TreeTransfer, Verified},
};

use super::{
    Server, Words,
    error::ToolError,
    off_thread,
    reply::Reply,
    shell::milliseconds,
    tool::{Call, Effect, Tool},
};

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        Tool::on_vm::<SshUpload, _, _>(
            "ssh_upload",
            "Upload a file or folder",
            Capability::Files,
            Effect::Replaces,
            ssh_upload,
        )
        .giving::<TransferData>(),
        Tool::on_vm::<SshDownload, _, _>(
            "ssh_download",
            "Download a file or folder",
            Capability::Files,
            Effect::Replaces,
            ssh_download,
        )
        .giving::<TransferData>(),
    ]
}

/// Copies a file, or with `recursive` a folder, from the host into the guest, over SFTP. Each file appears
/// there whole or not at all, with its mode and times.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "parameters that clients know by these names"
)]
struct SshUpload {
    /// What to copy, in a folder that this server may touch. Relative paths start at its working directory or
    /// data folder.
    local_path: String,
    /// Its full new name in the guest; relative to the home folder.
    remote_path: String,
    /// False makes a file that is there an error, and in a folder leaves it as it is.
    #[serde(default = "yes")]
    overwrite: bool,
    /// Copy a folder with all in it; one that is there is merged into.
    #[serde(default)]
    recursive: bool,
    /// Keep what an interrupted copy has moved, and go on from there when called again.
    #[serde(default)]
    resume: bool,
    /// Whether the guest's SHA-256 is compared too.
    #[serde(default = "yes")]
    verify: bool,
}

/// Copies a file, or with `recursive` a folder, from the guest to the host, over SFTP. Each file appears there
/// whole or not at all, with its mode and times; missing folders are made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "parameters that clients know by these names"
)]
struct SshDownload {
    /// What to copy in the guest; relative to the home folder, `~/` is understood.
    remote_path: String,
    /// Its full new name on the host, in a folder that this server may touch.
    local_path: String,
    /// False makes a file that is there an error, and in a folder leaves it as it is.
    #[serde(default = "yes")]
    overwrite: bool,
    /// Copy a folder with all in it; one that is there is merged into.
    #[serde(default)]
    recursive: bool,
    /// Keep what an interrupted copy has moved, and go on from there when called again.
    #[serde(default)]
    resume: bool,
    /// Whether the guest's SHA-256 is compared too.
    #[serde(default = "yes")]
    verify: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, JsonSchema)]
struct TransferData {
    bytes: u64,
    files: u64,
    /// Of a single file.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// How the guest's side was compared: by sha256, read_back (it has no sha256sum), or nothing.
    verified: &'static str,
    /// Of a single file, what an earlier call had left.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_bytes: Option<u64>,
    /// Of a folder: how many folders and links were made, how many files were unchanged, skipped or failed, and
    /// notes on the first of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    tree: Option<TreeData>,
    local_path: String,
    remote_path: String,
    transfer_ms: u64,
    verify_ms: u64,
}

/// What else there is to say of a folder.
#[derive(Debug, Serialize)]
struct TreeData {
    /// Folders that were made.
    folders: u64,
    links: u64,
    /// Files that were there already, as `resume` has found.
    unchanged: u64,
    skipped: u64,
    failed: u64,
    /// The first of those skipped, and of those failed, with the reasons.
    notes: Vec<NoteData>,
}

#[derive(Debug, Serialize)]
struct NoteData {
    path: String,
    why: String,
}

async fn ssh_upload(
    server: Arc<Server>,
    vm: Option<VmName>,
    wanted: SshUpload,
    call: Call,
) -> Result<Reply, ToolError> {
    let guest = call
        .unless_cancelled(server.guests.guest(vm, Capability::Files))
        .await??;
    let paths = server.host_paths.clone();
    let path = wanted.local_path;
    let found = off_thread(move || paths.readable(&path).map(|path| (path, paths.reserved())));
    let (local, reserved) = found.await??;
    let remote = wanted.remote_path;
    let manner = Manner {
        overwrite: wanted.overwrite,
        resume: wanted.resume,
        verify: wanted.verify,
    };
    let (client, cancel) = (&guest.client, &call.cancel);
    let progress = telling(call.words.clone());
    let ends = Ends {
        what: format!("{} to {remote}", local.display()),
        local: local.clone(),
        remote: remote.clone(),
    };
    if wanted.recursive {
        let permits = Arc::new(move |path: &Path| reserved.may_read(path));
        let upload = client.upload_tree(&local, &remote, manner, permits, cancel, progress);
        let outcome = Box::pin(upload).await;
        let mut tree = outcome.map_err(|error| server.guests.failed(&guest, error))?;
        let stopped = tree.stopped.take();
        let stopped = stopped.map(|error| server.guests.failed(&guest, error).into());
        return Ok(ends.of_tree("Uploaded", &tree, stopped));
    }
    let upload = client.upload(&local, &remote, manner, cancel, progress);
    let outcome = Box::pin(upload).await;
    let transfer = outcome.map_err(|error| server.guests.failed(&guest, error))?;
    Ok(ends.of_file("Uploaded", &transfer))
}

async fn ssh_download(
    server: Arc<Server>,
    vm: Option<VmName>,
    wanted: SshDownload,
    call: Call,
) -> Result<Reply, ToolError> {
    let guest = call
        .unless_cancelled(server.guests.guest(vm, Capability::Files))
        .await??;
    let paths = server.host_paths.clone();
    let path = wanted.local_path;
    let found = off_thread(move || paths.writable(&path).map(|path| (path, paths.reserved())));
    let (local, reserved) = found.await??;
    let remote = wanted.remote_path;
    let manner = Manner {
        overwrite: wanted.overwrite,
        resume: wanted.resume,
        verify: wanted.verify,
    };
    let (client, cancel) = (&guest.client, &call.cancel);
    let progress = telling(call.words.clone());
    let ends = Ends {
        what: format!("{remote} to {}", local.display()),
        local: local.clone(),
        remote: remote.clone(),
    };
    if wanted.recursive {
        let permits = Arc::new(move |path: &Path| reserved.may_write(path));
        let download = client.download_tree(&remote, &local, manner, permits, cancel, progress);
        let outcome = Box::pin(download).await;
        let mut tree = outcome.map_err(|error| server.guests.failed(&guest, error))?;
        let stopped = tree.stopped.take();
        let stopped = stopped.map(|error| server.guests.failed(&guest, error).into());
        return Ok(ends.of_tree("Downloaded", &tree, stopped));
    }
    let download = client.download(&remote, &local, manner, cancel, progress);
    let outcome = Box::pin(download).await;
    let transfer = outcome.map_err(|error| server.guests.failed(&guest, error))?;
    Ok(ends.of_file("Downloaded", &transfer))
}

/// Tells bytes with their rate, which does not count what was there before. What is told twice tells that something
/// else goes on: both sides are compared.
fn telling(words: Words) -> impl FnMut(u64, u64) + Send {
    let mut begun = Instant::now();
    let (mut first, mut last) = (None, None);
    move |done, total| {
        if last.replace(done) == Some(done) {
            begun = Instant::now();
            first = Some(done);
            let line = format!("{} of {}, comparing", size(done), size(total));
            return words(done, total, &line);
        }
        let first = *first.get_or_insert(done);
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = (done - first.min(done)).saturating_mul(1000) / milliseconds.max(1);
        let line = format!("{} of {}, {}/s", size(done), size(total), size(rate));
        words(done, total, &line);
    }
}

/// A count of bytes for reading.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return if tenths < 1000 {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                format!("{} {unit}", tenths / 10)
            };
        }
    }
    format!("{bytes} bytes")
}

pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The two ends of a transfer, for its reply.
struct Ends {
    what: String,
    local: std::path::PathBuf,
    remote: String,
}

impl Ends {
    fn of_file(self, done: &str, transfer: &Transfer) -> Reply {
        let data = TransferData {
            bytes: transfer.bytes,
            files: 1,
            sha256: Some(transfer.sha256.clone()),
            verified: verified(transfer.verified),
            resumed_bytes: (transfer.resumed > 0).then_some(transfer.resumed),
            tree: None,
            local_path: self.local.display().to_string(),
            remote_path: self.remote,
            transfer_ms: milliseconds(transfer.transfer_time),
            verify_ms: milliseconds(transfer.verify_time),
        };
        let mut text = format!(
            "{done} {}: {} bytes in {} ms, sha256 {}, verified by {}.",
            self.what, data.bytes, data.transfer_ms, transfer.sha256, data.verified
        );
        if transfer.resumed > 0 {
            let _ = write!(
                text,
                " {} bytes of it were there from an earlier call.",
                transfer.resumed
            );
        }
        if !transfer.atomic {
            text += " The guest's SSH server cannot replace a file in one step: it was missing for a moment.";
        }
        Reply::with_data(text, &data)
    }

    fn of_tree(self, done: &str, tree: &TreeTransfer, stopped: Option<ToolError>) -> Reply {
        let (skipped, failed) = (&tree.skipped, &tree.failed);
        let data = TransferData {
            bytes: tree.bytes,
            files: tree.files,
            sha256: None,
            verified: verified(tree.verified),
            resumed_bytes: None,
            tree: Some(TreeData {
                folders: tree.folders,
                links: tree.links,
                unchanged: tree.unchanged,
                skipped: skipped.count,
                failed: failed.count,
                notes: failed
                    .first
                    .iter()
                    .chain(&skipped.first)
                    .map(note)
                    .collect(),
            }),
            local_path: self.local.display().to_string(),
            remote_path: self.remote,
            transfer_ms: milliseconds(tree.transfer_time),
            verify_ms: milliseconds(tree.verify_time),
        };
        let mut text = format!(
            "{done} {}: {}, {} bytes in {} ms; {} and {} made; verified by {}.",
            self.what,
            counted(tree.files, "file", "files"),
            tree.bytes,
            data.transfer_ms,
            counted(tree.folders, "folder", "folders"),
            counted(tree.links, "link", "links"),
            data.verified
        );
        if tree.unchanged > 0 {
            let _ = write!(
                text,
                " {} there already, the same.",
                counted(tree.unchanged, "file was", "files were")
            );
        }
        list(&mut text, "Failed", failed);
        list(&mut text, "Left out", skipped);
        let error = match stopped {
            Some(error) => Some(error.during("the transfer stopped early")),
            None if failed.count > 0 => Some(ToolError::new(
                format!(
                    "{} of the folder could not be moved",
                    counted(failed.count, "part", "parts")
                ),
                "Mend what is told of each and call again; with `resume` what is there already is not moved a \
                 second time.",
            )),
            None => None,
        };
        match error {
            None => Reply::with_data(text, &data),
            Some(error) => {
                let mut reply = Reply::with_data(format!("{}\n{text}", error.text()), &data);
                reply.failed_with(&error);
                reply
            }
        }
    }
}

fn verified(verified: Verified) -> &'static str {
    match verified {
        Verified::Sha256 => "sha256",
        Verified::ReadBack => "read_back",
        Verified::Skipped | Verified::No => "nothing",
    }
}

fn note(note: &Note) -> NoteData {
    NoteData {
        path: note.path.clone(),
        why: note.why.clone(),
    }
}

fn list(text: &mut String, title: &str, notes: &Notes) {
    if notes.count == 0 {
        return;
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "\n{title}: {}", notes.count);
    for Note { path, why } in &notes.first {
        let _ = write!(text, "\n- {path}: {why}");
    }
    let more = notes.count - notes.first.len() as u64;
    if more > 0 {
        let _ = write!(text, "\n- and {more} more");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn sizes_are_told_with_three_digits() {
        let table = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (123 << 20, "123 MiB"),
            ((1 << 30) + (1 << 29), "1.5 GiB"),
            (u64::MAX, "16777215 TiB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn progress_is_told_in_bytes_and_words() {
        let told = Arc::new(Mutex::new(vec![]));
        let all = Arc::clone(&told);
        let mut progress = telling(Arc::new(move |done, total, line| {
            all.lock().unwrap().push((done, total, line.to_owned()));
        }));
        progress(1 << 20, 4 << 20);
        progress(2 << 20, 4 << 20);
        progress(2 << 20, 4 << 20);
        let told = told.lock().unwrap();
        assert_eq!(
            told[0],
            (1 << 20, 4 << 20, "1.0 MiB of 4.0 MiB, 0 bytes/s".to_owned())
        );
        assert!(
            told[1].2.starts_with("2.0 MiB of 4.0 MiB, "),
            "{}",
            told[1].2
        );
        assert_eq!(told[2].2, "2.0 MiB of 4.0 MiB, comparing");
    }
}
