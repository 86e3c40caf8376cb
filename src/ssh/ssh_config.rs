//! What the user's own SSH configuration says about a host: OpenSSH's answer, not ours.

use std::{env, path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use crate::model::shell_word;

use super::{AgentSocket, JumpFault, SshError};

const LIMIT: Duration = Duration::from_secs(5);
/// As many as OpenSSH's own forwarding sensibly takes, and more than anybody has.
const MOST_JUMPS: usize = 8;
/// So much of what ssh complains of is told.
const MOST_WORDS: usize = 300;

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
UserKnownHostsFile virtpilot-unset
";

const NO_USER: &str = "User virtpilot-unset\n";

/// What the SSH configuration says about a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostConfig {
    /// The name or address to connect to: a host alias resolved.
    pub hostname: String,
    pub port: u16,
    /// The user, where one is configured.
    pub user: Option<String>,
    /// The identity files that are configured for this host.
    pub identity_files: Vec<PathBuf>,
    /// The certificates that are configured for keys, wherever these lie.
    pub certificate_files: Vec<PathBuf>,
    /// Where the agent is asked for keys.
    pub agent: AgentSocket,
    /// Whether no other keys than those of `identity_files` are shown, wherever they lie.
    pub only_these: bool,
    /// The files of host keys, where the configuration names any.
    pub known_hosts: Option<Vec<PathBuf>>,
    /// The name that the host's key goes by.
    pub host_key_alias: Option<String>,
    /// The program that makes the connection.
    pub proxy_command: Option<String>,
    /// The jump hosts on the way, as they are written.
    pub proxy_jump: Vec<String>,
}

/// The way to a host, as the SSH configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub host: HostConfig,
    /// From the first one to connect to.
    pub jumps: Vec<HostConfig>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// OpenSSH's client is not installed, so nobody expects it to be asked.
    #[error("there is no ssh")]
    NoClient,
    #[error("ssh says: {said}")]
    Refused { said: String },
    #[error("ssh does not answer within {LIMIT:?}")]
    Slow,
}

/// Asks OpenSSH's client what it would use for `host`, and for the jump hosts on the way there.
pub async fn route(host: &str) -> Result<Result<Route, NoRoute>, SshError> {
    route_by(host, CONFIG).await
}

async fn route_by(host: &str, config: &str) -> Result<Result<Route, NoRoute>, SshError> {
    let own = match ask(&[], host, config).await {
        Ok(own) => own,
        Err(why) => return Ok(Err(why)),
    };
    // Jump hosts are nobody's VM: their user is the one that ssh takes.
    let config = config.replace(NO_USER, "");
    let refused = |jump: &str, fault| SshError::BadJump {
        host: host.to_owned(),
        jump: jump.to_owned(),
        fault,
    };
    let mut jumps: Vec<HostConfig> = Vec::new();
    let mut before = own.proxy_jump.clone();
    while !before.is_empty() {
        let mut further = Vec::new();
        for jump in &before {
            if jumps.len() + further.len() == MOST_JUMPS {
                return Err(refused(jump, JumpFault::TooMany));
            }
            let (options, name) = jump_host(jump).ok_or(refused(jump, JumpFault::Unreadable))?;
            let options: Vec<_> = options.iter().map(String::as_str).collect();
            let found = ask(&options, &name, &config).await;
            let found = found.map_err(|_| refused(jump, JumpFault::Unreadable))?;
            let is_passed = |it: &HostConfig| it.is_at(&found);
            if is_passed(&own) || jumps.iter().chain(&further).any(is_passed) {
                return Err(refused(jump, JumpFault::Loop));
            }
            further.push(found);
        }
        before = match further.first() {
            Some(first) => first.proxy_jump.clone(),
            None => Vec::new(),
        };
        further.append(&mut jumps);
        jumps = further;
    }
    Ok(Ok(Route { host: own, jumps }))
}

/// A jump host as `ssh -J` takes it, `[user@]host[:port]` or a URI: options for ssh, and the name.
fn jump_host(text: &str) -> Option<(Vec<String>, String)> {
    let text = text.strip_prefix("ssh://").unwrap_or(text);
    let text = text.strip_suffix('/').unwrap_or(text);
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, text),
    };
    let (name, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            (name, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (place, None),
        },
    };
    let mut options = Vec::new();
    if let Some(user) = user {
        options.extend(["-l".to_owned(), user.to_owned()]);
    }
    if let Some(port) = port {
        let port: u16 = port.parse().ok()?;
        options.extend(["-p".to_owned(), port.to_string()]);
    }
    (!name.is_empty() && user != Some("")).then(|| (options, name.to_owned()))
}

async fn ask(options: &[&str], host: &str, config: &str) -> Result<HostConfig, NoRoute> {
    let mut ssh = Command::new("ssh")
        .args(["-G", "-F", "/dev/stdin"])
        .args(options)
        .args(["--", host])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| NoRoute::NoClient)?;
    let stdin = ssh.stdin.take();
    let answer = async {
        if let Some(mut stdin) = stdin {
            // Where it does not take all of it, it says why.
            let _ = stdin.write_all(config.as_bytes()).await;
        }
        ssh.wait_with_output().await
    };
    let refused = |said| NoRoute::Refused { said };
    let output = timeout(LIMIT, answer).await.map_err(|_| NoRoute::Slow)?;
    let output = output.map_err(|error| refused(error.to_string()))?;
    if !output.status.success() {
        return Err(refused(first_line(&output.stderr)));
    }
    parse(&String::from_utf8_lossy(&output.stdout), host)
        .ok_or_else(|| refused("nothing that can be read".to_owned()))
}

/// What a program complains of first.
fn first_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or("nothing");
    let plain = line.chars().take(MOST_WORDS);
    plain
        .map(|c| if c.is_control() { '.' } else { c })
        .collect()
}

impl HostConfig {
    fn is_at(&self, other: &Self) -> bool {
        (&self.hostname, self.port) == (&other.hostname, other.port)
    }
}

/// Reads ssh's answer about the host that it was asked for by this name.
fn parse(answer: &str, name: &str) -> Option<HostConfig> {
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
        certificate_files: values("certificatefile")
            .filter(|file| *file != "none")
            .filter_map(expand)
            .collect(),
        agent: values("identityagent")
            .next()
            .map_or_else(Default::default, agent),
        only_these: values("identitiesonly").next() == Some("yes"),
        // Names with spaces come as two, as ssh prints no quotes; files that are missing do no harm.
        known_hosts: values("userknownhostsfile")
            .next()
            .filter(|files| !files.ends_with(UNSET))
            .map(|files| {
                files
                    .split(' ')
                    .filter(|file| !matches!(*file, "none" | "/dev/null"))
            })
            .map(|files| files.filter_map(expand).collect()),
        host_key_alias: values("hostkeyalias").next().map(str::to_owned),
        proxy_command: values("proxycommand")
            .next()
            .filter(|command| *command != "none")
            .map(|command| with_name(command, name)),
        proxy_jump: values("proxyjump")
            .filter(|jumps| *jumps != "none")
            .flat_map(|jumps| jumps.split(','))
            .map(str::to_owned)
            .collect(),
    })
}

/// A `ProxyCommand` with the name in it, which nobody knows later on (`%n`). One that means something to a shell
/// stays out, and the command is refused.
fn with_name(command: &str, name: &str) -> String {
    if shell_word(name) != name {
        return command.to_owned();
    }
    let percents = command.split("%%").map(|part| part.replace("%n", name));
    percents.collect::<Vec<_>>().join("%%")
}

/// Where the agent is, as `IdentityAgent` says it.
fn agent(text: &str) -> AgentSocket {
    match (text, text.strip_prefix('$')) {
        ("none", _) => AgentSocket::None,
        ("SSH_AUTH_SOCK", _) => AgentSocket::Environment,
        (_, Some(variable)) => {
            env::var_os(variable).map_or(AgentSocket::None, |it| AgentSocket::At(it.into()))
        }
        (path, None) => expand(path).map_or(AgentSocket::None, AgentSocket::At),
    }
}

/// A file's path, which ssh prints as it is configured. Tokens other than the home folder are left
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
            ..HostConfig::default()
        }
    }

    /// A folder with an SSH configuration, and the text that makes ssh read it.
    fn config(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(&file, text).unwrap();
        let included = CONFIG.replace("~/.ssh/config", file.to_str().unwrap());
        (folder, included)
    }

    #[tokio::test]
    async fn tells_configured_values_from_defaults() {
        // The local user's own name is what ssh takes by default; here it is configured.
        let own = env::var("USER").unwrap_or_else(|_| "root".into());
        let (_folder, config) = config(&format!(
            "Host full\n HostName 10.0.0.9\n Port 2222\n User {own}\n IdentityFile \"/k/a b\"\n \
             IdentityFile /k/%h\n ProxyCommand nc %h %p %n %%n\n \
             CertificateFile /k/cert\n HostKeyAlias pet\n IdentitiesOnly yes\n IdentityAgent /k/agent\n \
             UserKnownHostsFile /k/a /k/b /dev/null\n\
             Host name-only\n HostName 10.0.0.8\n\
             Host no-agent\n IdentityAgent none\n UserKnownHostsFile none\n\
             Host unset-agent\n IdentityAgent $VIRTPILOT_NO_SUCH_AGENT\n"
        ));
        let ask = async |host| ask(&[], host, &config).await;

        let full = HostConfig {
            hostname: "10.0.0.9".into(),
            port: 2222,
            user: Some(own.clone()),
            identity_files: vec!["/k/a b".into()],
            certificate_files: vec!["/k/cert".into()],
            agent: AgentSocket::At("/k/agent".into()),
            only_these: true,
            known_hosts: Some(vec!["/k/a".into(), "/k/b".into()]),
            host_key_alias: Some("pet".into()),
            proxy_command: Some("nc %h %p full %%n".into()),
            proxy_jump: vec![],
        };
        assert_eq!(ask("full").await, Ok(full));
        assert_eq!(ask("name-only").await, Ok(bare("10.0.0.8")));
        assert_eq!(ask("other").await, Ok(bare("other")));
        let without_agent = HostConfig {
            agent: AgentSocket::None,
            ..bare("unset-agent")
        };
        assert_eq!(ask("unset-agent").await, Ok(without_agent));
        let with_nothing = HostConfig {
            agent: AgentSocket::None,
            known_hosts: Some(vec![]),
            ..bare("no-agent")
        };
        assert_eq!(ask("no-agent").await, Ok(with_nothing));
    }

    /// The jump hosts in one line, or what is wrong with them.
    async fn way(host: &str, config: &str) -> String {
        match route_by(host, config).await {
            Ok(Ok(route)) => {
                let jumps = route.jumps.iter();
                let jumps = jumps.map(|it| {
                    let user = it.user.as_deref().unwrap_or("?");
                    format!("{user}@{}:{}", it.hostname, it.port)
                });
                jumps.collect::<Vec<_>>().join(" ")
            }
            Ok(Err(why)) => why.to_string(),
            Err(SshError::BadJump { jump, fault, .. }) => format!("{jump}: {fault:?}"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn follows_jump_hosts_to_the_first_one() {
        let many: Vec<_> = (0..9).map(|n| format!("h{n}")).collect();
        let (_folder, config) = config(&format!(
            "Host outer\n HostName 10.0.0.1\n User ann\n\
             Host inner\n HostName 10.0.0.2\n User bob\n Port 2222\n ProxyJump outer\n\
             Host vm\n ProxyJump inner\n\
             Host list\n ProxyJump eve@outer,ssh://bob@[10.0.0.3]:2200\n\
             Host straight\n ProxyJump none\n\
             Host round\n ProxyJump trip\nHost trip\n ProxyJump round\n\
             Host twice\n ProxyJump outer,inner,outer\n\
             Host many\n ProxyJump {}\n\
             Host *.all gate\n ProxyJump gate\nHost gate\n User carl\n",
            many.join(",")
        ));
        let table = [
            ("vm", "ann@10.0.0.1:22 bob@10.0.0.2:2222"),
            ("list", "eve@10.0.0.1:22 bob@10.0.0.3:2200"),
            ("straight", ""),
            ("round", "round: Loop"),
            ("twice", "outer: Loop"),
            ("many", "h8: TooMany"),
            // ssh itself refuses a host that is its own jump host.
            ("vm.all", "gate: Unreadable"),
        ];
        for (host, expected) in table {
            assert_eq!(way(host, &config).await, expected, "{host}");
        }
    }

    #[tokio::test]
    async fn tells_what_ssh_says_to_a_configuration_that_it_refuses() {
        let (folder, config) = config("Host vm\n  Prot 2222\n");
        let said = way("vm", &config).await;
        let file = folder.path().join("config");
        assert_eq!(
            said,
            format!(
                "ssh says: {}: line 2: Bad configuration option: prot",
                file.display()
            )
        );
    }

    #[test]
    fn reads_a_jump_host_as_ssh_does() {
        let table = [
            ("box", "box"),
            ("a@b@box", "-l a@b box"),
            ("box:22", "-p 22 box"),
            ("[fe80::1]:22", "-p 22 fe80::1"),
            ("ssh://u@box/", "-l u box"),
            ("box:port", "none"),
            ("@box", "none"),
            ("", "none"),
        ];
        for (text, expected) in table {
            let read = match jump_host(text) {
                Some((options, name)) => [options, vec![name]].concat().join(" "),
                None => "none".to_owned(),
            };
            assert_eq!(read, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn takes_no_host_for_an_option() {
        for host in ["-oProxyCommand=touch /tmp/virtpilot-proxy", "-V", "a b;c"] {
            let refused = NoRoute::Refused {
                said: "hostname contains invalid characters".into(),
            };
            assert_eq!(route(host).await.unwrap(), Err(refused), "{host}");
        }
        assert!(!std::fs::exists("/tmp/virtpilot-proxy").unwrap());
    }
}
