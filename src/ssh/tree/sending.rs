//! Small files on their way to the guest, in groups: all are sent, then compared, then named.

use std::{sync::Arc, time::Instant};

use russh_sftp::protocol::FileAttributes;

use crate::ssh::{
    SshError, Unfit, checksum,
    flow::{IN_FLIGHT, ticking},
    on_files,
    pool::until,
    sftp::{Kind, Replaces, kind},
    transfer::naming,
};

use super::{
    below, folder_of, guest_side::send_small, host_side::sha256, is_blocked, side_by_side, up::Up,
    walk::Entry,
};

/// A file that is to be sent.
pub(super) struct Wanted<'a> {
    pub(super) entry: &'a Entry,
    /// What it replaces.
    pub(super) old: Option<FileAttributes>,
}

impl Wanted<'_> {
    /// Whether its owner may read it in the end.
    fn is_readable(&self) -> bool {
        let old_mode = self.old.as_ref().and_then(|old| old.permissions);
        let mode = old_mode.or(self.entry.mode);
        mode.is_none_or(|mode| mode & 0o400 != 0)
    }
}

/// A file that was sent under a temporary name.
struct Sent {
    path: String,
    temporary: String,
    replaces: bool,
    bytes: u64,
    sha256: String,
}

impl<P: FnMut(u64, u64) + Send> Up<'_, P> {
    /// Moves files that fit into one request each; gives those that have to be moved one by one.
    pub(super) async fn move_group<'e>(
        &mut self,
        group: &[&'e Entry],
    ) -> Result<Vec<Wanted<'e>>, SshError> {
        let cancel = self.cancel;
        let (sent, alone) = until(cancel, self.bring_group(group)).await?;
        let start = Instant::now();
        self.name_group(sent).await?;
        self.tree.transfer_time += start.elapsed();
        Ok(alone)
    }

    /// Sends and compares those that it can, and leaves them under their temporary names.
    async fn bring_group<'e>(
        &mut self,
        group: &[&'e Entry],
    ) -> Result<(Vec<Sent>, Vec<Wanted<'e>>), SshError> {
        let start = Instant::now();
        let wanted = self.wanted(group).await?;
        // Those get their modes with their content, before they are compared.
        let (wanted, alone): (Vec<_>, Vec<_>) = wanted.into_iter().partition(Wanted::is_readable);
        let wanted = self.without_unchanged(wanted).await?;
        let sent = self.send_group(wanted).await?;
        self.tree.transfer_time += start.elapsed();

        let start = Instant::now();
        let sent = if self.manner.verify {
            self.verify_group(sent).await?
        } else {
            sent
        };
        self.tree.verify_time += start.elapsed();
        Ok((sent, alone))
    }

    /// Looks at what stands in the files' places, and leaves out what cannot be replaced.
    pub(super) async fn wanted<'e>(
        &mut self,
        group: &[&'e Entry],
    ) -> Result<Vec<Wanted<'e>>, SshError> {
        let mut wanted = Vec::new();
        let mut looking = Vec::new();
        for entry in group {
            if is_blocked(&entry.path, &self.blocked) {
                self.tree.failed.add(&entry.path, "its folder is missing");
            } else if self.new.contains(folder_of(&entry.path)) {
                wanted.push(Wanted { entry, old: None });
            } else {
                let (sftp, path) = (Arc::clone(&self.sftp), below(&self.to, &entry.path));
                let at = looking.len();
                looking.push((*entry, async move { (at, sftp.lstat(&path).await) }));
            }
        }
        let (entries, looking): (Vec<_>, Vec<_>) = looking.into_iter().unzip();
        let mut found = Vec::new();
        side_by_side(IN_FLIGHT, looking, |it| {
            found.push(it);
            Ok(())
        })
        .await?;
        found.sort_unstable_by_key(|(at, _)| *at);
        for (at, found) in found {
            let entry = entries[at];
            match found.and_then(|old| self.replaceable(&entry.path, old)) {
                Ok(old) => wanted.push(Wanted { entry, old }),
                Err(error) => self.tree.fail(&entry.path, error)?,
            }
        }
        Ok(wanted)
    }

    fn replaceable(
        &self,
        path: &str,
        old: Option<FileAttributes>,
    ) -> Result<Option<FileAttributes>, SshError> {
        let Some(old) = old else {
            return Ok(None);
        };
        let unfit = |what| {
            Err(SshError::RemoteUnfit {
                path: below(&self.to, path),
                what,
            })
        };
        match kind(&old) {
            Kind::Folder => unfit(Unfit::Folder),
            Kind::Special => unfit(Unfit::Special),
            Kind::File | Kind::Link if !self.manner.overwrite => unfit(Unfit::Exists),
            Kind::File => Ok(Some(old)),
            // Replaced itself, and its own mode means nothing.
            Kind::Link => Ok(Some(FileAttributes::empty())),
        }
    }

    /// With `resume`, leaves out the files that are there already.
    pub(super) async fn without_unchanged<'e>(
        &mut self,
        wanted: Vec<Wanted<'e>>,
    ) -> Result<Vec<Wanted<'e>>, SshError> {
        if !self.manner.resume {
            return Ok(wanted);
        }
        let is_like = |it: &Wanted<'_>| {
            it.old
                .as_ref()
                .is_some_and(|old| old.size == Some(it.entry.size()))
        };
        let (alike, mut others): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_like);
        let paths: Vec<_> = alike
            .iter()
            .map(|it| below(&self.to, &it.entry.path))
            .collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let bytes = alike.iter().map(|it| it.entry.size()).sum();
        let (moved, total, progress) = (self.moved, self.total, &mut self.progress);
        let mut tick = || progress(moved, total);
        let theirs = if paths.is_empty() {
            None
        } else {
            ticking(&mut tick, checksum::of_all(&self.sftp, &paths, bytes)).await
        };
        let Some(theirs) = theirs else {
            others.extend(alike);
            return Ok(others);
        };
        let files: Vec<_> = alike
            .iter()
            .map(|it| (it.entry.path.clone(), it.entry.size()))
            .collect();
        let (from, cancel) = (Arc::clone(&self.from), self.cancel.clone());
        let hash = move |it: &_| sha256(&from, it, &cancel);
        let ours = on_files(move || Ok(files.iter().map(hash).collect::<Vec<_>>()));
        let ours = ticking(tick, ours).await?;
        for ((it, ours), theirs) in alike.into_iter().zip(ours).zip(theirs) {
            if ours.is_some_and(|ours| ours == theirs) {
                self.tree.unchanged += 1;
                self.advance(it.entry.size());
            } else {
                others.push(it);
            }
        }
        Ok(others)
    }

    async fn send_group(&mut self, wanted: Vec<Wanted<'_>>) -> Result<Vec<Sent>, SshError> {
        let mut sending = Vec::new();
        for Wanted { entry, old } in wanted {
            let temporary = self.temporary(&entry.path);
            self.temporaries.insert(temporary.clone());
            let sftp = Arc::clone(&self.sftp);
            let (path, from) = (entry.path.clone(), Arc::clone(&self.from));
            let shown = below(&self.to, &entry.path);
            sending.push(async move {
                let replaces = old.is_some();
                let source = (from, path.clone());
                let sent = send_small(&sftp, source, &temporary, &shown, old).await;
                if sent.is_err() {
                    // It may never have been made.
                    let _ = sftp.remove(&temporary).await;
                }
                (path, temporary, replaces, sent)
            });
        }
        let mut all = Vec::new();
        let (tree, temporaries) = (&mut self.tree, &mut self.temporaries);
        let (moved, total, progress) = (&mut self.moved, self.total, &mut self.progress);
        side_by_side(IN_FLIGHT, sending, |(path, temporary, replaces, sent)| {
            match sent {
                Ok((bytes, sha256)) => {
                    *moved += bytes;
                    progress(*moved, total.max(*moved));
                    all.push(Sent {
                        path,
                        temporary,
                        replaces,
                        bytes,
                        sha256,
                    });
                }
                Err(error) => {
                    tree.fail(&path, error)?;
                    temporaries.remove(&temporary);
                }
            }
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// Compares what the guest has with what was sent, and removes what differs.
    async fn verify_group(&mut self, sent: Vec<Sent>) -> Result<Vec<Sent>, SshError> {
        if sent.is_empty() {
            return Ok(sent);
        }
        let paths: Vec<_> = sent.iter().map(|it| it.temporary.clone()).collect();
        let bytes = sent.iter().map(|it| it.bytes).sum();
        let (moved, total, progress) = (self.moved, self.total, &mut self.progress);
        let sums = self.tree.sums(&self.sftp, &paths, bytes);
        let sums = ticking(|| progress(moved, total.max(moved)), sums).await?;
        let mut whole = Vec::new();
        for (it, sum) in sent.into_iter().zip(sums) {
            match sum {
                Ok(sum) if sum == it.sha256 => whole.push(it),
                Ok(_) => {
                    let path = below(&self.to, &it.path);
                    let what = "its SHA-256 differs";
                    self.tree.fail(&it.path, SshError::Damaged { path, what })?;
                }
                Err(error) => self.tree.fail(&it.path, error)?,
            }
        }
        Ok(whole)
    }

    async fn name_group(&mut self, sent: Vec<Sent>) -> Result<(), SshError> {
        let (cancel, to) = (self.cancel, self.to.clone());
        let renaming = sent.into_iter().map(|it| {
            let (sftp, path) = (Arc::clone(&self.sftp), below(&self.to, &it.path));
            // To replace costs OpenSSH's server less than to make sure that the name is free.
            let overwrite = self.manner.overwrite;
            let is_cheaper = overwrite && sftp.replaces;
            let replaces = Replaces::of(overwrite, it.replaces || is_cheaper);
            async move {
                let named = sftp.put(&it.temporary, &path, replaces).await;
                (it, named)
            }
        });
        let renaming = renaming.collect();
        let (tree, temporaries) = (&mut self.tree, &mut self.temporaries);
        let renaming = side_by_side(IN_FLIGHT, renaming, |(it, named)| {
            match named {
                Ok(_) => {
                    temporaries.remove(&it.temporary);
                    tree.files += 1;
                    tree.bytes += it.bytes;
                }
                Err(error) => tree.fail(&it.path, error)?,
            }
            Ok(())
        });
        match naming(cancel, renaming).await {
            Some(Ok(())) if cancel.is_cancelled() => Err(SshError::TransferCancelled),
            Some(named) => named,
            // It has not told of all, and may still name them.
            None => Err(SshError::MaybeReplaced {
                path: to,
                source: Box::new(SshError::TransferCancelled),
            }),
        }
    }
}
