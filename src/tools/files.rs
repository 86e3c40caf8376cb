//! Files to and from the guest, over SFTP.

use std::{path::Path, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{Capability, VmName},
    ssh::{Transfer, Verified},
};

use super::{
    Server,
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
            "Upload a file",
            Capability::Files,
            Effect::Replaces,
            ssh_upload,
        )
        .giving::<TransferData>(),
        Tool::on_vm::<SshDownload, _, _>(
            "ssh_download",
            "Download a file",
            Capability::Files,
            Effect::Replaces,
            ssh_download,
        )
        .giving::<TransferData>(),
    ]
}

/// Copies a file from the host into the guest, over SFTP. It appears there whole or not at all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SshUpload {
    /// The file on the host, in a folder that this server may touch. Relative paths start at its
    /// working directory or data folder.
    local_path: String,
    /// The file's full name in the guest; relative to the home folder, `~/` is understood.
    remote_path: String,
    /// Whether a file that is there is replaced; false makes that an error.
    #[serde(default = "yes")]
    overwrite: bool,
}

/// Copies a file from the guest to the host, over SFTP. It appears there whole or not at all; missing
/// folders are made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SshDownload {
    /// The file in the guest; relative to the home folder, `~/` is understood.
    remote_path: String,
    /// The file's full name on the host, in a folder that this server may touch. Relative paths
    /// start at its working directory or data folder.
    local_path: String,
    /// Whether a file that is there is replaced; false makes that an error.
    #[serde(default = "yes")]
    overwrite: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, JsonSchema)]
struct TransferData {
    bytes: u64,
    files: u64,
    sha256: String,
    /// What both ends were compared by afterwards: sha256; size, where the guest has no sha256sum;
    /// nothing, where its file has no size, as those of /proc.
    verified: &'static str,
    local_path: String,
    remote_path: String,
    transfer_ms: u64,
    verify_ms: u64,
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
    let local = off_thread(move || paths.readable(&path)).await??;
    let remote = wanted.remote_path;
    let overwrite = wanted.overwrite;
    let upload = guest
        .client
        .upload(&local, &remote, overwrite, &call.cancel, |done, total| {
            (call.progress)(done, total);
        });
    let outcome = Box::pin(upload).await;
    let transfer = outcome.map_err(|error| server.guests.failed(&guest, error))?;
    let what = format!("Uploaded {} to {remote}", local.display());
    Ok(reply(&what, transfer, &local, remote))
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
    let local = off_thread(move || paths.writable(&path)).await??;
    let remote = wanted.remote_path;
    let overwrite = wanted.overwrite;
    let download =
        guest
            .client
            .download(&remote, &local, overwrite, &call.cancel, |done, total| {
                (call.progress)(done, total);
            });
    let outcome = Box::pin(download).await;
    let transfer = outcome.map_err(|error| server.guests.failed(&guest, error))?;
    let what = format!("Downloaded {remote} to {}", local.display());
    Ok(reply(&what, transfer, &local, remote))
}

fn reply(what: &str, transfer: Transfer, local: &Path, remote_path: String) -> Reply {
    let data = TransferData {
        bytes: transfer.bytes,
        files: 1,
        sha256: transfer.sha256,
        verified: match transfer.verified {
            Verified::Sha256 => "sha256",
            Verified::Size => "size",
            Verified::No => "nothing",
        },
        local_path: local.display().to_string(),
        remote_path,
        transfer_ms: milliseconds(transfer.transfer_time),
        verify_ms: milliseconds(transfer.verify_time),
    };
    let atomic = if transfer.atomic {
        ""
    } else {
        " The guest's SSH server cannot replace a file in one step: it was missing for a moment."
    };
    let text = format!(
        "{what}: {} bytes in {} ms, sha256 {}, verified by {}.{atomic}",
        data.bytes, data.transfer_ms, data.sha256, data.verified
    );
    Reply::with_data(text, &data)
}
