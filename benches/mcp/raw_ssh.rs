//! A command over russh alone: what is left of `ssh_execute` without MCP and without its checks.

use std::{fs, sync::Arc};

use russh::{
    ChannelMsg,
    client::{self, Handle},
    keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use tokio::runtime::Runtime;

use crate::guest::Guest;

/// A connection that is logged in.
pub(crate) struct RawSsh {
    runtime: Runtime,
    handle: Handle<AnyHostKey>,
}

/// The guest was just made on this machine, and only time is taken here.
struct AnyHostKey;

impl client::Handler for AnyHostKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl RawSsh {
    pub(crate) fn connect(guest: &Guest, user: &str) -> Self {
        let runtime = Runtime::new().expect("the async runtime starts");
        let text = fs::read_to_string(&guest.identity).expect("the demo's key can be read");
        let key = PrivateKey::from_openssh(text).expect("it is a private key");
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let config = client::Config {
            nodelay: true,
            ..client::Config::default()
        };
        let address = (guest.host.as_str(), guest.port);
        let mut handle = runtime
            .block_on(client::connect(Arc::new(config), address, AnyHostKey))
            .expect("the guest's SSH server answers");
        let login = runtime
            .block_on(handle.authenticate_publickey(user, key))
            .expect("the server answers");
        assert!(login.success(), "the demo's key is taken");
        Self { runtime, handle }
    }

    pub(crate) fn execute(&self, line: &str) {
        let status = self.runtime.block_on(async {
            let mut channel = self.handle.channel_open_session().await?;
            channel.exec(true, line).await?;
            channel.eof().await?;
            let mut status = None;
            while let Some(message) = channel.wait().await {
                if let ChannelMsg::ExitStatus { exit_status } = message {
                    status = Some(exit_status);
                }
            }
            Ok::<_, russh::Error>(status)
        });
        assert_eq!(status.expect("the connection holds"), Some(0), "{line}");
    }
}
