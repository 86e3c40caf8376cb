//! A secret that a program prints, such as a password store.
//!
//! What it says on its standard error may hold the secret as well, and goes nowhere.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};

use super::{MOST_BYTES, SecretError};

/// The standard output of a program, which is run without a shell. Dropped before its end, it ends the
/// program with its children.
pub(super) async fn output(
    secret: &str,
    program: &str,
    arguments: &[String],
) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::RunCommand {
        secret: secret.to_owned(),
        program: program.to_owned(),
        source,
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut group = Group(child);
    let mut bytes = vec![];
    if let Some(stdout) = group.0.stdout.take() {
        let read = stdout.take(MOST_BYTES + 1).read_to_end(&mut bytes).await;
        read.map_err(failed)?;
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Ok(bytes);
    }
    let status = group.0.wait().await.map_err(failed)?;
    if !status.success() {
        return Err(SecretError::CommandFailed {
            secret: secret.to_owned(),
            program: program.to_owned(),
            status,
        });
    }
    Ok(bytes)
}

/// A program that leads a process group of its own, which ends with it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // There is an id until the program was waited for, and so long no other process can have it.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = id.and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
