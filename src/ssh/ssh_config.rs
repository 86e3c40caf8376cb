//! What the user's own SSH configuration says about a host: OpenSSH's answer, not ours.

use std::{env, path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

const LIMIT: Duration = Duration::from_secs(5);

/// A value that no configuration sets: where it comes back, nothing was configured.
const UNSET: &str = "virtpilot-unset";

/// The user's and the system's files as ssh reads them, with our last words behind: the first value given
/// wins, so `UNSET` shows through only where ssh would fall back to its own default.
const CONFIG: &str = "\
Include ~/.ssh/config
Include /etc/ssh/ssh_config
Match all
User virtpilot-unset
IdentityFile virtpilot-unset
";

/// What the SSH configuration says about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The name or address to connect to: a host alias resolved.
    pub hostname: String,
    pub port: u16,
    /// The user, where one is configured.
    pub user: Option<String>,
    /// The identity files that are configured for this host.
    pub identity_files: Vec<PathBuf>,
}

/// Asks OpenSSH's client what it would use for `host`. `None` where it is not installed, does not take the
/// name, or does not answer.
pub async fn host_config(host: &str) -> Option<HostConfig> {
    ask(host, CONFIG).await
}

async fn ask(host: &str, config: &str) -> Option<HostConfig> {
    let mut ssh = Command::new("ssh")
        .args(["-G", "-F", "/dev/stdin", "--", host])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut stdin = ssh.stdin.take()?;
    let answer = async {
        stdin.write_all(config.as_bytes()).await.ok()?;
        drop(stdin);
        ssh.wait_with_output().await.ok()
    };
    let output = timeout(LIMIT, answer).await.ok().flatten()?;
    if !output.status.success() {
        return None;
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(answer: &str) -> Option<HostConfig> {
    let values = |key: &'static str| {
        answer
            .lines()
            .filter_map(move |line| line.split_once(' ').filter(|(name, _)| *name == key))
            .map(|(_, value)| value)
    };
    Some(HostConfig {
        hostname: values("hostname").next()?.to_owned(),
        port: values("port").next()?.parse().ok()?,
        user: values("user")
            .next()
            .filter(|user| *user != UNSET)
            .map(str::to_owned),
        identity_files: values("identityfile")
            .filter(|file| !file.ends_with(UNSET) && *file != "none")
            .filter_map(expand)
            .collect(),
    })
}

/// An identity file's path, which ssh prints as it is configured. Tokens other than the home folder are left
/// to ssh.
fn expand(file: &str) -> Option<PathBuf> {
    let home = || env::home_dir();
    let path = match (file.strip_prefix("~/"), file.strip_prefix("%d/")) {
        (Some(rest), _) | (_, Some(rest)) => home()?.join(rest),
        (None, None) => PathBuf::from(file),
    };
    (!path.to_string_lossy().contains('%')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(hostname: &str) -> HostConfig {
        HostConfig {
            hostname: hostname.into(),
            port: 22,
            user: None,
            identity_files: vec![],
        }
    }

    #[tokio::test]
    async fn tells_configured_values_from_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        // The local user's own name is what ssh takes by default; here it is configured.
        let own = env::var("USER").unwrap_or_else(|_| "root".into());
        let text = format!(
            "Host full\n HostName 10.0.0.9\n Port 2222\n User {own}\n IdentityFile \"/k/a b\"\n \
             IdentityFile /k/%h\nHost name-only\n HostName 10.0.0.8\n"
        );
        std::fs::write(&file, text).unwrap();
        let included = CONFIG.replace("~/.ssh/config", file.to_str().unwrap());
        let ask = async |host| ask(host, &included).await;

        let full = HostConfig {
            hostname: "10.0.0.9".into(),
            port: 2222,
            user: Some(own.clone()),
            identity_files: vec!["/k/a b".into()],
        };
        assert_eq!(ask("full").await, Some(full));
        assert_eq!(ask("name-only").await, Some(bare("10.0.0.8")));
        assert_eq!(ask("other").await, Some(bare("other")));
    }

    #[tokio::test]
    async fn takes_no_host_for_an_option() {
        for host in ["-oProxyCommand=touch /tmp/virtpilot-proxy", "-V", "a b;c"] {
            assert_eq!(host_config(host).await, None, "{host}");
        }
        assert!(!std::fs::exists("/tmp/virtpilot-proxy").unwrap());
    }
}
