//! What to do about what fails over SSH.

use std::path::Path;

use russh::ChannelOpenFailure;

use crate::{model::shell_word, ssh::quote};

use super::{SshError, Step, Unfit};

impl SshError {
    /// What whoever reads the error can do next.
    pub fn hint(&self) -> String {
        match self {
            Self::VmNotRunning { hint, .. } => hint.clone(),
            Self::Resolve { .. } => {
                "Check the spelling of `host` in the configuration, or give the guest's IP address.".into()
            }
            Self::Unreachable { .. } | Self::Slow { step: Step::Resolve | Step::Tcp, .. } => {
                "Check that the guest runs, that its SSH server is started (`systemctl status ssh` in the \
                 guest) and that no firewall is in between."
                    .into()
            }
            Self::Slow { step: Step::Greeting, .. } | Self::ClosedAtOnce { .. } => {
                "The guest may still be starting up: try again in a while. If it stays so, check in the \
                 guest that its SSH server runs and that this port leads to it."
                    .into()
            }
            Self::Slow { .. } => {
                "The guest is very busy or hangs: look at its screen, and try again.".into()
            }
            Self::Handshake { .. } => {
                "Check that the port is that of an SSH server (protocol 2) with current algorithms.".into()
            }
            Self::NotSsh { .. } => {
                "Set the port of the guest's SSH server: VM_PORT for the default VM, or `port` in the \
                 configuration."
                    .into()
            }
            Self::BadJump { .. } => {
                "Correct `ProxyJump` in ~/.ssh/config; `ssh -G` with the host's name shows what is in force.".into()
            }
            Self::AtJump { source, .. } => match &**source {
                Self::AuthenticationFailed { endpoint, user, .. } => format!(
                    "Let this host in there with `ssh-copy-id -p {} {}`, or set `User` and `IdentityFile` for it in \
                     ~/.ssh/config.",
                    endpoint.port,
                    shell_word(format_args!("{user}@{}", endpoint.host))
                ),
                Self::Resolve { .. } | Self::Unreachable { .. } | Self::Slow { .. } => {
                    "Check that the jump host is up, and `HostName` and `Port` of it in ~/.ssh/config.".into()
                }
                source => source.hint(),
            },
            Self::NotForwarded { jump, source, .. } => match &**source {
                russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => format!(
                    "Allow it by `AllowTcpForwarding` and `PermitOpen` in the sshd_config of {}.",
                    jump.host
                ),
                _ => format!(
                    "Check that the guest runs, and that {} reaches it at this address and port.",
                    jump.host
                ),
            },
            Self::BadProxyCommand { .. } => "Correct `ProxyCommand` in ~/.ssh/config.".into(),
            Self::ProxyCommandNotRun { .. } | Self::ProxyCommandFailed { .. } => {
                "Correct `ProxyCommand` in ~/.ssh/config, or try it at a shell; it must ask for nothing.".into()
            }
            Self::ReadKnownHosts { path, .. } => {
                format!("Check that {} is a regular file, and its permissions.", path.display())
            }
            Self::WriteKnownHosts { path, line, .. } => format!(
                "A new host key has to be remembered. Make {} a file that can be written, choose another \
                 `data_dir`, or have this line added there: `{line}`.",
                path.display()
            ),
            Self::HostKeyUnknown { file, line, .. } => format!(
                "Compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` run in the \
                 guest. If it is the same, add this line to {}: `{line}`; or set `host_keys = \"accept-new\"` \
                 for this VM once.",
                file.display()
            ),
            Self::HostKeyChanged { .. } => format!(
                "If the guest was reinstalled, forget the old key with `{}` and try again. If not, someone may be \
                 in between: find out first.",
                self.forgetting_command().unwrap_or_default()
            ),
            Self::HostKeyRevoked { file, line, .. } => format!(
                "Do not use this server before its host key is replaced. If the mark is wrong, remove it with \
                 `{}`.",
                without_line(*line, file)
            ),
            Self::HostCertificate { .. } => {
                "Have the authority sign the server's key anew, for this name (`ssh-keygen -s … -h -n NAME`), or \
                 set `host` to a name that it is made out to; check the clocks of both sides."
                    .into()
            }
            Self::ReadIdentity { .. } => {
                "Correct `identity` in the configuration, or leave it out to use the agent and the keys in \
                 ~/.ssh."
                    .into()
            }
            Self::BadIdentity { path, .. } => format!(
                "Check the file with `ssh-keygen -y -f {}`; it must be a private key, or the public \
                 one of a key that the agent holds.",
                shell_word(path.display())
            ),
            Self::LockedIdentity { path } => format!(
                "Run `ssh-add {}` in an agent that SSH_AUTH_SOCK names, or have `passphrase` name a secret of the \
                 configuration:\n[vm.NAME]\nssh = {{ identity = \"{}\", passphrase = \"key\" }}\n[secret]\n\
                 key = {{ file = \"/path/of/a/file\" }}",
                shell_word(path.display()),
                path.display()
            ),
            Self::NoPassphrase { source, .. } => source.hint.clone(),
            Self::WrongPassphrase { path, .. } => format!(
                "Try the passphrase with `ssh-keygen -y -f {}`, and correct the secret.",
                shell_word(path.display())
            ),
            Self::AuthenticationFailed { accepted, .. } if accepted == &["publickey"] => {
                "This server takes keys alone: set the right one as VM_IDENTITY or `identity` for this VM, or \
                 the right `user`; or let your key in by running guest-setup/prepare-linux-guest.sh in the \
                 guest."
                    .into()
            }
            Self::AuthenticationFailed { endpoint, user, .. } => format!(
                "Put a key there with `ssh-copy-id -p {} {}`, or set `user` or `identity` for this \
                 VM. A password is taken from VM_PASSWORD alone, for the default VM.",
                endpoint.port,
                shell_word(format_args!("{user}@{}", endpoint.host))
            ),
            Self::ChannelRefused { .. } => {
                "Wait until a running command or transfer has ended (`ssh_job` lists the commands that go on), or \
                 raise `MaxSessions` of the guest's SSH server."
                    .into()
            }
            Self::Busy { .. } => {
                "Wait until a running command or transfer has ended, or end one that is no longer needed: \
                 `ssh_job` lists the commands that go on."
                    .into()
            }
            Self::Disconnected { .. } => "Try again: the next call connects anew.".into(),
            Self::ConnectionLost { .. } => {
                "Look whether it ran before you run it again; the next call connects anew.".into()
            }
            Self::Cancelled { left_running: true } => {
                "Look for it with `ps -ef` on the guest.".into()
            }
            // What has a session of its own and no parent is nobody's that can be found.
            Self::Cancelled { left_running: false } => {
                "If it ran, nothing is left of its session. Whether something had left that before (`setsid`, a \
                 daemon) and goes on is not known: look with `ps -ef` on the guest."
                    .into()
            }
            Self::BadCommand(error) => error.hint(),
            Self::ExecRefused { .. } => {
                "Check the user's login shell and `ForceCommand` or `command=` in the guest's SSH \
                 configuration."
                    .into()
            }
            Self::NoExitStatus { .. } => "Look on the guest whether the command did its work.".into(),
            Self::NoProcess { .. } => {
                "Look for it on the guest with `ps -ef`, and signal it there with `kill`. On a guest that is no \
                 POSIX system, use its own commands."
                    .into()
            }
            Self::NoSftp { source: Some(_), .. } => {
                "Either the SFTP server is not installed in the guest (Debian, OpenWrt: `openssh-sftp-server`), or its \
                 user's shell says something first: see that start-up files (`~/.bashrc`) print nothing where there \
                 is no terminal. Or move the file through a command's input and output."
                    .into()
            }
            Self::NoSftp { source: None, .. } => {
                "Install the SFTP server in the guest (Debian: `openssh-sftp-server`) and keep `Subsystem \
                 sftp` in its sshd_config; or move the file through a command's input and output."
                    .into()
            }
            Self::TransferLost { .. } | Self::TransferCancelled => {
                "Try again: the target is as it was. With `resume` a transfer that is interrupted keeps what \
                 has arrived, and the next call goes on from there."
                    .into()
            }
            Self::Interrupted { source, .. } => {
                let again = "Call again with `resume` to go on from there; the target is as it was.";
                match &**source {
                    Self::TransferLost { .. } | Self::TransferCancelled => again.to_owned(),
                    Self::OldAside { .. } | Self::MaybeReplaced { .. } => source.hint(),
                    other => format!("{} {again}", other.hint()),
                }
            }
            Self::LeftBehind { source, .. } => {
                format!("{} Remove the temporary file on the guest.", source.hint())
            }
            Self::OfFolder(source) => source.hint_of_folder(),
            Self::OldAside { .. } => {
                "This server replaces a file in two steps, and stopped between them. List the folder with \
                 `ssh_execute`: if the target is missing, rename the old file back to it, otherwise remove the \
                 old file. Then transfer again."
                    .into()
            }
            Self::MaybeReplaced { .. } => {
                "Transfer it again, with `overwrite`, or compare the SHA-256 of both sides.".into()
            }
            Self::TransferBusy { .. } => "Wait until it has ended.".into(),
            Self::TooMany { .. } => {
                "Move parts of the folder, or pack it with `tar` and move the archive.".into()
            }
            Self::LocalMissing { .. } => "See that the file is on the host, not in the guest.".into(),
            Self::LocalUnfit { what, .. } | Self::RemoteUnfit { what, .. } => match what {
                Unfit::Folder => {
                    "Give the full name of the file, not only its folder; or set `recursive` to move a folder."
                        .into()
                }
                Unfit::NoFolder => {
                    "Nothing can lie below it: choose another path, or leave out `recursive` for a single file."
                        .into()
                },
                Unfit::Special => "Only regular files can be transferred.".into(),
                Unfit::Exists => "Set `overwrite`, or choose another name.".into(),
            },
            Self::Local { .. } => "Check the permissions and the free space on this host.".into(),
            Self::BadRemotePath { .. } => "Give the full name of the file on the guest.".into(),
            Self::NameTooLong { .. } => "Choose a shorter name.".into(),
            Self::RemoteMissing { path: there } | Self::RemoteFolderMissing { folder: there }
                if names_a_user(there) =>
            {
                "`~` stands for the user's own home folder alone, as in `~/file`. Give the absolute path."
                    .into()
            }
            Self::RemoteMissing { .. } => {
                "Check the path on the guest; relative paths start at the user's home folder.".into()
            }
            Self::RemoteFolderMissing { folder } => {
                format!("Make it with `mkdir -p {}` on the guest.", quote::folder(folder))
            }
            Self::RemoteDenied { act, .. } => match *act {
                "read" | "read the link" | "list" => {
                    "Copy it with `sudo` to where that user can read it, and download that."
                }
                // For either way.
                "look at" | "find" => {
                    "Choose a folder that this user can enter, and copy to or from there with `sudo`."
                }
                _ => "Choose a folder of that user, and move the file with `sudo` afterwards.",
            }
            .into(),
            Self::RemoteFull { .. } => "Free some space on the guest (`df -h`).".into(),
            Self::Remote { .. } => "Look at the path on the guest (`ls -la`, `df -h`).".into(),
            Self::Damaged { .. } => {
                "Try again; if the file is being written at the same time, copy it first.".into()
            }
        }
    }

    /// What to do next where it ended the transfer of a folder: nothing can be said of the target as a whole.
    fn hint_of_folder(&self) -> String {
        let again =
            "What was moved until then stays; call again with `resume` to go on from there.";
        match self {
            Self::TransferLost { .. } | Self::TransferCancelled => again.into(),
            Self::Interrupted { source, .. } => source.hint_of_folder(),
            Self::LeftBehind { source, .. } => {
                format!(
                    "{} Remove the temporary file on the guest.",
                    source.hint_of_folder()
                )
            }
            other => format!("{} {again}", other.hint()),
        }
    }

    /// The command that forgets a host key that has changed.
    pub fn forgetting_command(&self) -> Option<String> {
        match self {
            Self::HostKeyChanged {
                file,
                line,
                by_pattern: true,
                ..
            } => Some(without_line(*line, file)),
            Self::HostKeyChanged { name, file, .. } => Some(format!(
                "ssh-keygen -R {} -f {}",
                shell_word(name),
                shell_word(file.display())
            )),
            Self::AtJump { source, .. } | Self::OfFolder(source) => source.forgetting_command(),
            _ => None,
        }
    }
}

/// Whether a path begins with a home folder as shells write another user's.
fn names_a_user(path: &str) -> bool {
    path.starts_with('~') && !path.starts_with("~/")
}

/// The command that takes a line out of a file.
fn without_line(line: usize, file: &Path) -> String {
    format!("sed -i {line}d {}", shell_word(file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::Endpoint;

    #[test]
    fn of_a_folder_it_is_not_said_that_nothing_was_moved() {
        const GO_ON: &str =
            "What was moved until then stays; call again with `resume` to go on from there.";
        let file = || "/there/file".to_owned();
        let lost = || {
            let (host, port) = ("guest".to_owned(), 22);
            let endpoint = Endpoint { host, port };
            SshError::TransferLost { endpoint }
        };
        let table = [
            (lost(), GO_ON.to_owned()),
            (SshError::TransferCancelled, GO_ON.to_owned()),
            (
                SshError::Interrupted {
                    partial: file(),
                    source: Box::new(lost()),
                },
                GO_ON.to_owned(),
            ),
            (
                SshError::LeftBehind {
                    leftover: file(),
                    source: Box::new(lost()),
                },
                format!("{GO_ON} Remove the temporary file on the guest."),
            ),
            (
                SshError::RemoteFull { path: file() },
                format!("Free some space on the guest (`df -h`). {GO_ON}"),
            ),
        ];
        for (error, expected) in table {
            let text = format!("{error:?}");
            assert_eq!(
                SshError::OfFolder(Box::new(error)).hint(),
                expected,
                "{text}"
            );
        }
    }
}
