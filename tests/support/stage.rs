//! A server in this process whose VM `demo` is the fake's.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "each test file uses a part of it, for short"
)]

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use virtpilot::{
    config::{Config, Environment, Overrides},
    perform::Progress,
    tools::{Reply, Server},
};

use crate::fake::Fake;

/// The size of the screen, until scenes give another.
pub const SIZE: (u32, u32) = (1000, 500);

/// A server whose VM `demo` is the fake's.
pub struct Stage {
    pub fake: Arc<Fake>,
    pub server: Arc<Server>,
    pub home: TempDir,
}

impl Stage {
    pub fn set() -> Self {
        Self::with(&[], "")
    }

    pub fn with(variables: &[(&str, &str)], config: &str) -> Self {
        let home = TempDir::new().unwrap();
        let file = home.path().join("config.toml");
        std::fs::write(&file, config).unwrap();
        let environment = Environment {
            home: Some(home.path().to_owned()),
            working_dir: home.path().to_owned(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.into()))
                .collect(),
            ..Environment::default()
        };
        let overrides = Overrides {
            config: Some(file),
            vms: vec!["demo".parse().unwrap()],
            ..Overrides::default()
        };
        let config = Config::load(overrides, &environment).unwrap();
        let fake = Fake::new(SIZE.0, SIZE.1);
        Self {
            server: Server::new(config, Arc::clone(&fake) as _),
            fake,
            home,
        }
    }

    pub async fn call_with(
        &self,
        cancel: CancellationToken,
        progress: Progress,
        tool: &str,
        arguments: Value,
    ) -> Reply {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object: {arguments}");
        };
        let arguments: Map<String, Value> = arguments;
        self.server.call(tool, arguments, cancel, progress).await
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Reply {
        let cancel = CancellationToken::new();
        self.call_with(cancel, Arc::new(|_, _| ()), tool, arguments)
            .await
    }

    /// Waits for what must come, and gives what the reply says without the time that it took.
    pub async fn held(&self, conditions: Value) -> String {
        let reply = self
            .call("wait_for", json!({"conditions": conditions}))
            .await;
        assert!(!reply.is_error(), "{}", reply.text);
        assert!(reply.pictures.is_empty(), "{}", reply.text);
        let (text, time) = reply.text.rsplit_once(", after ").unwrap();
        let seconds: f64 = time.strip_suffix(" s.").unwrap().parse().unwrap();
        assert!((0.0..30.0).contains(&seconds), "{}", reply.text);
        text.to_owned()
    }

    /// Waits for what does not come within this time.
    pub async fn in_vain(&self, conditions: Value, timeout: f64) -> Reply {
        let arguments = json!({"conditions": conditions, "timeout": timeout});
        let reply = self.call("wait_for", arguments).await;
        assert!(reply.is_error(), "{}", reply.text);
        reply
    }

    pub async fn refused(&self, tool: &str, arguments: Value) -> String {
        let reply = self.call(tool, arguments).await;
        assert!(reply.is_error(), "{}", reply.text);
        assert!(reply.pictures.is_empty());
        reply.text
    }
}
