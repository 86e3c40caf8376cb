//! An SSH server inside the test process, for what OpenSSH's server never does.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::{HashMap, HashSet},
    io,
    net::Ipv4Addr,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, SshId,
    keys::PrivateKey,
    server::{self, Auth, ChannelOpenHandle, Msg, Response, Session},
};
use russh_sftp::protocol::{
    Attrs, Data, ExtendedReply, File, FileAttributes, Handle, Name, OpenFlags, Packet, Status,
    StatusCode, Version,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the server does.
#[derive(Clone)]
pub(crate) struct Behaviour {
    pub(crate) id: &'static str,
    pub(crate) login: Login,
    pub(crate) exec: Exec,
    pub(crate) sftp: Option<Sftp>,
    /// Whether it opens any.
    pub(crate) channels: bool,
    /// Those that the client closed.
    pub(crate) closed: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
pub(crate) enum Login {
    Anyone,
    Password(&'static str),
    /// Asks for the password at a prompt.
    Prompt(&'static str),
}

#[derive(Clone, Copy)]
pub(crate) enum Exec {
    Refuse,
    /// Closes the channel without an exit status.
    SayNothing,
    /// Never answers.
    Ignore,
    /// Writes the command back.
    Repeat,
    /// Knows a command of its own alone.
    Router,
    /// Says where the command runs, which never ends, and starts nothing beside it.
    Hang,
}

#[derive(Clone, Default)]
pub(crate) struct Sftp {
    /// Fails all writes, and says that no space is left.
    pub(crate) full: bool,
    /// What it says lies in every folder: names, modes with their kinds, and where links lead.
    pub(crate) lies: &'static [(&'static str, u32, &'static str)],
    /// The place of a write that fails, once.
    pub(crate) refuses: Arc<AtomicU64>,
    /// Handles of files that are open.
    pub(crate) open: Arc<AtomicUsize>,
    /// Cancelled when the first file is renamed; each rename takes a while.
    pub(crate) renaming: CancellationToken,
    /// Never comes to the end of a rename, as one whose disk hangs.
    pub(crate) hangs_renaming: bool,
    /// Renames one file, and refuses all others.
    pub(crate) renames_once: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            id: "SSH-2.0-odd",
            login: Login::Anyone,
            exec: Exec::Refuse,
            sftp: None,
            channels: true,
            closed: Arc::default(),
        }
    }
}

pub(crate) struct OddServer {
    pub(crate) port: u16,
    accepting: tokio::task::JoinHandle<()>,
}

impl OddServer {
    pub(crate) async fn start(host_key: &PathBuf, behaviour: Behaviour) -> Self {
        let key = PrivateKey::read_openssh_file(host_key).unwrap();
        let methods: &[MethodKind] = match behaviour.login {
            Login::Anyone => &[MethodKind::None],
            Login::Password(_) => &[MethodKind::Password],
            Login::Prompt(_) => &[MethodKind::KeyboardInteractive],
        };
        let config = Arc::new(server::Config {
            server_id: SshId::Standard(behaviour.id.into()),
            methods: MethodSet::from(methods),
            keys: vec![key],
            auth_rejection_time: Duration::from_millis(10),
            ..server::Config::default()
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let handler = Connection {
                    behaviour: behaviour.clone(),
                    channels: HashMap::new(),
                };
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    if let Ok(session) = server::run_stream(config, stream, handler).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Self { port, accepting }
    }
}

impl Drop for OddServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Connection {
    behaviour: Behaviour,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl Connection {
    fn verdict(let_in: bool) -> Auth {
        if let_in { Auth::Accept } else { Auth::reject() }
    }
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Ok(Self::verdict(matches!(self.behaviour.login, Login::Anyone)))
    }

    async fn auth_password(&mut self, _user: &str, given: &str) -> Result<Auth, russh::Error> {
        Ok(Self::verdict(
            matches!(self.behaviour.login, Login::Password(right) if right == given),
        ))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut response) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Password: ".into(), false)].into(),
            });
        };
        let given = response.next().unwrap_or_default();
        Ok(Self::verdict(
            matches!(self.behaviour.login, Login::Prompt(right) if right.as_bytes() == &*given),
        ))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if !self.behaviour.channels {
            reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
            return Ok(());
        }
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        _channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.behaviour.closed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.behaviour.exec {
            Exec::Refuse => session.channel_failure(channel)?,
            Exec::Ignore => {}
            Exec::SayNothing => {
                session.channel_success(channel)?;
                session.close(channel)?;
            }
            Exec::Router => {
                session.channel_success(channel)?;
                if command == b"show version" {
                    session.data(channel, "1.0\n")?;
                    session.exit_status_request(channel, 0)?;
                } else {
                    session.data(channel, "% Unknown command\n")?;
                }
                session.eof(channel)?;
                session.close(channel)?;
            }
            Exec::Hang if command == b"sh" => session.channel_failure(channel)?,
            Exec::Hang => {
                let line = String::from_utf8_lossy(command);
                let marker = line.split("virtpilot-").nth(1).unwrap();
                session.channel_success(channel)?;
                session.data(channel, format!("virtpilot-{}:1234:sh\n", &marker[..16]))?;
            }
            Exec::Repeat => {
                session.channel_success(channel)?;
                session.data(channel, command.to_vec())?;
                session.exit_status_request(channel, 0)?;
                session.eof(channel)?;
                session.close(channel)?;
            }
        }
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match (self.behaviour.sftp.clone(), self.channels.remove(&id)) {
            (Some(sftp), Some(channel)) => {
                session.channel_success(id)?;
                let files = Files {
                    sftp,
                    open: Mutex::default(),
                    opened: 0,
                    listed: HashSet::new(),
                };
                russh_sftp::server::run(channel.into_stream(), files).await;
            }
            _ => session.channel_failure(id)?,
        }
        Ok(())
    }
}

/// An SFTP server of version 3 without OpenSSH's extensions.
struct Files {
    sftp: Sftp,
    open: Mutex<HashMap<String, std::fs::File>>,
    opened: u64,
    /// Folders that were told.
    listed: HashSet<String>,
}

fn code(error: &io::Error) -> StatusCode {
    match error.kind() {
        io::ErrorKind::NotFound => StatusCode::NoSuchFile,
        io::ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
        _ => StatusCode::Failure,
    }
}

fn ok(id: u32) -> Status {
    Status {
        id,
        status_code: StatusCode::Ok,
        error_message: "Ok".into(),
        language_tag: "en".into(),
    }
}

fn attributes(metadata: &std::fs::Metadata) -> FileAttributes {
    FileAttributes {
        size: Some(metadata.len()),
        permissions: Some(metadata.mode()),
        ..FileAttributes::empty()
    }
}

impl russh_sftp::server::Handler for Files {
    type Error = StatusCode;

    fn unimplemented(&self) -> StatusCode {
        StatusCode::OpUnsupported
    }

    async fn init(
        &mut self,
        _version: u32,
        _extensions: HashMap<String, String>,
    ) -> Result<Version, StatusCode> {
        let mut version = Version::new();
        if self.sftp.full {
            version
                .extensions
                .insert("statvfs@openssh.com".into(), "2".into());
        }
        Ok(version)
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, StatusCode> {
        let metadata = std::fs::metadata(path).map_err(|error| code(&error))?;
        Ok(Attrs {
            id,
            attrs: attributes(&metadata),
        })
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, StatusCode> {
        let metadata = std::fs::symlink_metadata(path).map_err(|error| code(&error))?;
        Ok(Attrs {
            id,
            attrs: attributes(&metadata),
        })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, StatusCode> {
        let metadata = self.open.lock().unwrap()[&handle].metadata();
        Ok(Attrs {
            id,
            attrs: attributes(&metadata.map_err(|error| code(&error))?),
        })
    }

    async fn fsetstat(
        &mut self,
        id: u32,
        handle: String,
        attributes: FileAttributes,
    ) -> Result<Status, StatusCode> {
        if let Some(size) = attributes.size {
            let open = self.open.lock().unwrap();
            open[&handle].set_len(size).map_err(|error| code(&error))?;
        }
        Ok(ok(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Result<Name, StatusCode> {
        let path = std::fs::canonicalize(path).map_err(|error| code(&error))?;
        let path = path.to_str().ok_or(StatusCode::Failure)?;
        Ok(Name {
            id,
            files: vec![File::dummy(path)],
        })
    }

    async fn opendir(&mut self, id: u32, path: String) -> Result<Handle, StatusCode> {
        self.listed.remove(&path);
        Ok(Handle { id, handle: path })
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Result<Name, StatusCode> {
        if !self.listed.insert(handle) {
            return Err(StatusCode::Eof);
        }
        let told = self.sftp.lies.iter().map(|(name, mode, _)| {
            let attributes = FileAttributes {
                size: Some(4),
                permissions: Some(*mode),
                ..FileAttributes::empty()
            };
            File::new(*name, attributes)
        });
        let files = told.collect();
        Ok(Name { id, files })
    }

    async fn readlink(&mut self, id: u32, path: String) -> Result<Name, StatusCode> {
        let name = path.rsplit('/').next();
        let lie = self.sftp.lies.iter().find(|lie| name == Some(lie.0));
        let (_, _, target) = lie.ok_or(StatusCode::NoSuchFile)?;
        Ok(Name {
            id,
            files: vec![File::dummy(*target)],
        })
    }

    async fn open(
        &mut self,
        id: u32,
        path: String,
        flags: OpenFlags,
        _attributes: FileAttributes,
    ) -> Result<Handle, StatusCode> {
        let file = std::fs::OpenOptions::from(flags)
            .read(flags.contains(OpenFlags::READ))
            .write(flags.contains(OpenFlags::WRITE))
            .open(&path)
            .map_err(|error| code(&error))?;
        self.opened += 1;
        let handle = self.opened.to_string();
        self.open.lock().unwrap().insert(handle.clone(), file);
        self.sftp.open.fetch_add(1, Ordering::SeqCst);
        Ok(Handle { id, handle })
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, StatusCode> {
        if self.open.lock().unwrap().remove(&handle).is_some() {
            self.sftp.open.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(ok(id))
    }

    async fn read(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        length: u32,
    ) -> Result<Data, StatusCode> {
        // Never more than this, so that every read comes up short.
        let mut data = vec![0; (length as usize).min(10_000)];
        let open = self.open.lock().unwrap();
        let read = open[&handle]
            .read_at(&mut data, offset)
            .map_err(|error| code(&error))?;
        if read == 0 {
            return Err(StatusCode::Eof);
        }
        data.truncate(read);
        Ok(Data { id, data })
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<Status, StatusCode> {
        let refused = self.sftp.refuses.load(Ordering::SeqCst);
        let is_refused = refused > 0 && refused == offset;
        if is_refused {
            self.sftp.refuses.store(0, Ordering::SeqCst);
        }
        if self.sftp.full || is_refused {
            return Err(StatusCode::Failure);
        }
        let open = self.open.lock().unwrap();
        open[&handle]
            .write_all_at(&data, offset)
            .map_err(|error| code(&error))?;
        Ok(ok(id))
    }

    async fn remove(&mut self, id: u32, path: String) -> Result<Status, StatusCode> {
        std::fs::remove_file(path).map_err(|error| code(&error))?;
        Ok(ok(id))
    }

    async fn rename(&mut self, id: u32, old: String, new: String) -> Result<Status, StatusCode> {
        if self.sftp.hangs_renaming {
            self.sftp.renaming.cancel();
            std::future::pending::<()>().await;
        }
        let refuses = self.sftp.renames_once && self.sftp.renaming.is_cancelled();
        if refuses || std::fs::exists(&new).map_err(|error| code(&error))? {
            return Err(StatusCode::Failure);
        }
        std::fs::rename(old, new).map_err(|error| code(&error))?;
        self.sftp.renaming.cancel();
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(ok(id))
    }

    async fn extended(
        &mut self,
        id: u32,
        request: String,
        _data: Vec<u8>,
    ) -> Result<Packet, StatusCode> {
        if request == "statvfs@openssh.com" && self.sftp.full {
            // Eleven numbers: block sizes, then blocks and files, of which none are free.
            let numbers: [u64; 11] = [4096, 4096, 100, 0, 0, 100, 0, 0, 1, 0, 255];
            let data = numbers
                .iter()
                .flat_map(|number| number.to_be_bytes())
                .collect();
            return Ok(Packet::ExtendedReply(ExtendedReply { id, data }));
        }
        Err(StatusCode::OpUnsupported)
    }
}
