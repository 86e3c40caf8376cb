//! Which server is the right one: OpenSSH's `known_hosts` files, read by OpenSSH's rules.
//!
//! Our own file is the only one that is ever written, and only appended to. Two rules are stricter than
//! OpenSSH's. Once any key is known for a name, a key of another kind is a changed key too: the key exchange
//! prefers the known kinds, so an honest server never shows another one. And a certificate of a known authority
//! that does not hold is refused, unless its key is known by itself.

use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::{
    Algorithm, Certificate, HashAlg, PublicKey, PublicKeyBase64 as _, PublicKeyOrCertificate,
    ssh_key::{
        certificate::CertType,
        known_hosts::{Entry, HostPatterns, Marker},
        public::KeyData,
    },
};
use sha1::Sha1;

use crate::model::HostKeyPolicy;

use super::{CertificateFault, SshError, Target, regular};

/// More than any file of host keys has.
const MOST_BYTES: u64 = 64 << 20;

/// The keys that are known for one server.
#[derive(Debug)]
pub(super) struct KnownHosts {
    name: String,
    /// The name that certificates are made out to: without a port.
    principal: String,
    own_file: PathBuf,
    policy: HostKeyPolicy,
    known: Vec<KnownKey>,
    /// Keys known for the host without its port: OpenSSH accepts a match there, and takes no offence.
    known_without_port: Vec<KnownKey>,
    /// Keys whose certificates count for the host.
    authorities: Vec<KnownKey>,
    revoked: Vec<KnownKey>,
}

#[derive(Debug)]
struct KnownKey {
    file: PathBuf,
    line: usize,
    /// Whether it stands for more than names: `ssh-keygen -R` leaves such lines alone.
    by_pattern: bool,
    key: PublicKey,
}

impl KnownKey {
    fn is(&self, key: &KeyData) -> bool {
        self.key.key_data() == key
    }
}

impl KnownHosts {
    /// Reads what is known about the target's server. The user's files speak of addresses: where the key goes
    /// by a name of its own, only what they revoke counts.
    pub(super) fn read(target: &Target) -> Result<Self, SshError> {
        let names = Names::of(target);
        let mut known = Self {
            name: names.own.clone(),
            principal: names.without_port.clone().unwrap_or(names.own.clone()),
            own_file: target.known_hosts.clone(),
            policy: target.host_keys,
            known: Vec::new(),
            known_without_port: Vec::new(),
            authorities: Vec::new(),
            revoked: Vec::new(),
        };
        known.read_file(&target.known_hosts, &names)?;
        for file in &target.user_known_hosts {
            known.read_file(file, &names)?;
        }
        if target.key_name.is_some() {
            let is_ours = |key: &KnownKey| key.file == target.known_hosts;
            known.known.retain(is_ours);
            known.authorities.retain(is_ours);
        }
        Ok(known)
    }

    fn read_file(&mut self, file: &Path, names: &Names) -> Result<(), SshError> {
        let bytes = match regular::read(file, MOST_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(SshError::ReadKnownHosts {
                    path: file.to_owned(),
                    source: Arc::new(error),
                });
            }
        };
        self.read_text(file, &String::from_utf8_lossy(&bytes), names);
        Ok(())
    }

    fn read_text(&mut self, file: &Path, text: &str, names: &Names) {
        for (index, line) in text.lines().enumerate() {
            let Some(entry) = parse_line(line) else {
                continue;
            };
            let stands_for = |name: &str| matches(entry.host_patterns(), name);
            let here = stands_for(&names.own);
            let without_port = names.without_port.as_deref().is_some_and(stands_for);
            let elsewhere = names.addresses.iter().any(|name| stands_for(name));
            if !here && !without_port && !elsewhere {
                continue;
            }
            let key = KnownKey {
                file: file.to_owned(),
                line: index + 1,
                by_pattern: has_wildcards(entry.host_patterns()),
                key: entry.public_key().clone(),
            };
            match entry.marker() {
                Some(Marker::Revoked) => self.revoked.push(key),
                None if here => self.known.push(key),
                None if without_port => self.known_without_port.push(key),
                Some(Marker::CertAuthority) if here || without_port => self.authorities.push(key),
                Some(Marker::CertAuthority) | None => {}
            }
        }
    }

    /// The host key algorithms to ask for, those with a known key first.
    pub(super) fn preferred_algorithms(&self, default: &[Algorithm]) -> Vec<Algorithm> {
        let is_known = |algorithm: &Algorithm| {
            let mut keys = self.known.iter().chain(&self.known_without_port);
            keys.any(|known| same_kind(&known.key.algorithm(), algorithm))
        };
        let (mut first, rest): (Vec<_>, Vec<_>) = default.iter().cloned().partition(is_known);
        first.extend(rest);
        first
    }

    /// The kinds of host certificates to ask for: none where no authority is known.
    pub(super) fn certificate_algorithms(&self, default: &[Algorithm]) -> Vec<Algorithm> {
        match self.authorities[..] {
            [] => Vec::new(),
            [..] => default.to_vec(),
        }
    }

    /// Accepts or refuses what the server showed; a new key that is accepted is written down. Gives the
    /// authority that vouched for the key.
    pub(super) fn check(
        &self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<Option<PublicKey>, SshError> {
        let key = presented.public_key();
        let Some(certificate) = presented.certificate() else {
            return self.check_key(&key).map(|()| None);
        };
        self.check_revoked(certificate.signature_key(), &key)?;
        let mut authorities = self.authorities.iter();
        let Some(authority) = authorities.find(|it| it.is(certificate.signature_key())) else {
            return self.check_key(&key).map(|()| None);
        };
        self.check_revoked(key.key_data(), &key)?;
        match fault_of(certificate, &self.principal) {
            None => Ok(Some(authority.key.clone())),
            Some(_) if self.knows(&key) => Ok(None),
            Some(fault) => Err(SshError::HostCertificate {
                name: self.name.clone(),
                fault: Box::new(fault),
                authority: describe(&authority.key),
                file: authority.file.clone(),
                line: authority.line,
                presented: describe(&key),
            }),
        }
    }

    fn knows(&self, key: &PublicKey) -> bool {
        let mut known = self.known.iter().chain(&self.known_without_port);
        known.any(|known| known.is(key.key_data()))
    }

    /// Refuses a server whose key, or its authority, is revoked.
    fn check_revoked(&self, key: &KeyData, presented: &PublicKey) -> Result<(), SshError> {
        match self.revoked.iter().find(|it| it.is(key)) {
            None => Ok(()),
            Some(revoked) => Err(SshError::HostKeyRevoked {
                name: self.name.clone(),
                file: revoked.file.clone(),
                line: revoked.line,
                revoked: describe(&revoked.key),
                presented: describe(presented),
            }),
        }
    }

    fn check_key(&self, presented: &PublicKey) -> Result<(), SshError> {
        self.check_revoked(presented.key_data(), presented)?;
        if self.known.iter().any(|it| it.is(presented.key_data())) {
            return Ok(());
        }
        let of_that_kind = self
            .known
            .iter()
            .find(|known| same_kind(&known.key.algorithm(), &presented.algorithm()));
        if let Some(changed) = of_that_kind.or(self.known.first()) {
            return Err(SshError::HostKeyChanged {
                name: self.name.clone(),
                file: changed.file.clone(),
                line: changed.line,
                by_pattern: changed.by_pattern,
                known: describe(&changed.key),
                presented: describe(presented),
            });
        }
        if self.knows(presented) {
            return Ok(());
        }
        match self.policy {
            HostKeyPolicy::AcceptNew => {
                let line = line_for(&self.name, presented);
                append(&self.own_file, &line).map_err(|error| SshError::WriteKnownHosts {
                    path: self.own_file.clone(),
                    line,
                    source: Arc::new(error),
                })
            }
            HostKeyPolicy::Strict => Err(SshError::HostKeyUnknown {
                name: self.name.clone(),
                presented: describe(presented),
                file: self.own_file.clone(),
                line: line_for(&self.name, presented),
            }),
        }
    }
}

/// What is wrong with a certificate that a known authority signed, for a server of this name. Names in host
/// certificates are no patterns, and none at all stands for every host, as for OpenSSH's client.
fn fault_of(certificate: &Certificate, name: &str) -> Option<CertificateFault> {
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    let is_signed = certificate
        .validate_at(certificate.valid_after(), [&authority])
        .is_ok();
    let with_sha1 = Algorithm::Rsa { hash: None };
    if !is_signed || certificate.signature().algorithm() == with_sha1 {
        return Some(CertificateFault::Signature);
    }
    if certificate.cert_type() != CertType::Host {
        return Some(CertificateFault::NotForHosts);
    }
    if certificate.validate([&authority]).is_err() {
        return Some(CertificateFault::Time);
    }
    if !certificate.critical_options().is_empty() {
        return Some(CertificateFault::UnknownOption);
    }
    let names = certificate.valid_principals();
    let is_named = names.iter().any(|it| it.eq_ignore_ascii_case(name));
    (!names.is_empty() && !is_named).then(|| CertificateFault::OtherName {
        names: names.to_vec(),
    })
}

/// A key as people compare it: `ssh-ed25519 SHA256:…`.
pub(super) fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

/// The names that a server goes by in `known_hosts` files.
struct Names {
    /// The one that its key is kept under.
    own: String,
    /// The host, where the port makes another name of it.
    without_port: Option<String>,
    /// Where it answers, if `own` does not say that: names under which its key may be revoked.
    addresses: Vec<String>,
}

impl Names {
    fn of(target: &Target) -> Self {
        let host = target.host.to_ascii_lowercase();
        let with_port = (target.port != 22).then(|| format!("[{host}]:{}", target.port));
        let own_name = target.key_name.as_ref().or(target.host_key_alias.as_ref());
        match (own_name, with_port) {
            (Some(name), with_port) => Self {
                own: name.to_ascii_lowercase(),
                without_port: None,
                addresses: with_port.into_iter().chain([host]).collect(),
            },
            (None, Some(with_port)) => Self {
                own: with_port,
                without_port: Some(host),
                addresses: vec![],
            },
            (None, None) => Self {
                own: host,
                without_port: None,
                addresses: vec![],
            },
        }
    }
}

/// RSA keys are of one kind whatever hash they sign with.
fn same_kind(one: &Algorithm, other: &Algorithm) -> bool {
    match (one, other) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        _ => one == other,
    }
}

/// One line of a `known_hosts` file; `None` for empty lines, comments, and what nobody can read.
fn parse_line(line: &str) -> Option<Entry> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    if words.first().is_none_or(|word| word.starts_with('#')) {
        return None;
    }
    // The parser wants single spaces, OpenSSH takes tabs and several.
    words.join(" ").parse().ok()
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            Hmac::<Sha1>::new_from_slice(salt).is_ok_and(|mut mac| {
                mac.update(name.as_bytes());
                mac.verify_slice(hash).is_ok()
            })
        }
        HostPatterns::Patterns(patterns) => {
            let mut matched = false;
            for pattern in patterns {
                let pattern = pattern.to_ascii_lowercase();
                if let Some(excluded) = pattern.strip_prefix('!') {
                    if glob(excluded.as_bytes(), name.as_bytes()) {
                        return false;
                    }
                } else if glob(pattern.as_bytes(), name.as_bytes()) {
                    matched = true;
                }
            }
            matched
        }
    }
}

fn has_wildcards(patterns: &HostPatterns) -> bool {
    match patterns {
        HostPatterns::HashedName { .. } => false,
        HostPatterns::Patterns(patterns) => {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| pattern.contains(['*', '?', '!']))
        }
    }
}

/// Matches `*` and `?` as OpenSSH does; brackets are plain characters.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < name.len() {
        match pattern.get(at.0) {
            Some(b'*') => {
                star = Some(at);
                at.0 += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == name[at.1] => at = (at.0 + 1, at.1 + 1),
            _ => {
                let Some((pattern_at, name_at)) = star else {
                    return false;
                };
                star = Some((pattern_at, name_at + 1));
                at = (pattern_at + 1, name_at + 1);
            }
        }
    }
    pattern[at.0..].iter().all(|rest| *rest == b'*')
}

/// The line of a `known_hosts` file that makes the key known, without line break.
fn line_for(name: &str, key: &PublicKey) -> String {
    format!("{name} {} {}", key.algorithm(), key.public_key_base64())
}

/// Adds one line in one write, so that two servers may share the file.
fn append(file: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut opened = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)?;
    let mut line = format!("{line}\n");
    if opened.seek(io::SeekFrom::End(0))? > 0 {
        opened.seek(io::SeekFrom::End(-1))?;
        let mut last = [0];
        opened.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, '\n');
        }
    }
    opened.write_all(line.as_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMkR\
        JyBYxhdT0+xzyDr3FbuIm/P2mrrfK8+zeU5LWVKQy8j5jUlmh+OYKSy11BXiMGXaZUxzZLVN1RlTXfpjOpA=";

    pub(in crate::ssh) fn target(host: &str, port: u16, key_name: Option<&str>) -> Target {
        Target {
            host: host.into(),
            port,
            user: "user".into(),
            host_keys: HostKeyPolicy::Strict,
            key_name: key_name.map(str::to_owned),
            known_hosts: "/nonexistent/own".into(),
            ..Target::default()
        }
    }

    fn known(target: &Target, text: &str) -> KnownHosts {
        let mut known = KnownHosts::read(target).unwrap();
        known.read_text(Path::new("file"), text, &Names::of(target));
        known
    }

    /// The verdict in one word, with the line where one is named.
    fn verdict(target: &Target, text: &str, key: &str) -> String {
        match known(target, text).check_key(&key.parse().unwrap()) {
            Ok(()) => "known".into(),
            Err(SshError::HostKeyUnknown { .. }) => "unknown".into(),
            Err(SshError::HostKeyChanged { line, .. }) => format!("changed {line}"),
            Err(SshError::HostKeyRevoked { line, .. }) => format!("revoked {line}"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn judges_a_key_as_openssh_does() {
        let box22 = target("Box", 22, None);
        let box2222 = target("box", 2222, None);
        let table = [
            (&box22, format!("box {ONE}"), "known"),
            (&box22, format!("BOX {ONE} a comment with words"), "known"),
            (&box22, format!("other,box\t {ONE}\r"), "known"),
            (&box22, format!("other {ONE}"), "unknown"),
            (&box22, format!("[box]:2222 {ONE}"), "unknown"),
            (&box22, format!("# box {OTHER}\n\nbox {OTHER}"), "changed 3"),
            (
                &box22,
                format!("box garbage\nbox\n@odd box {OTHER}\nbox {ONE}"),
                "known",
            ),
            (&box22, format!("box {OTHER}\nbox {ONE}"), "known"),
            (&box22, format!("box {ECDSA}"), "changed 1"),
            (&box22, format!("box {ECDSA}\nbox {OTHER}"), "changed 2"),
            (&box22, format!("b?x {ONE}"), "known"),
            (&box22, format!("*,!box {ONE}"), "unknown"),
            (&box22, format!("!other,* {ONE}"), "known"),
            (&box22, format!("@revoked * {ONE}\nbox {ONE}"), "revoked 1"),
            (&box22, format!("@revoked other {ONE}\nbox {ONE}"), "known"),
            (
                &box22,
                format!("@cert-authority * {OTHER}\nbox {ONE}"),
                "known",
            ),
            (&box22, format!("@cert-authority * {ONE}"), "unknown"),
            (&box2222, format!("[box]:2222 {ONE}"), "known"),
            (&box2222, format!("[box]:* {ONE}"), "known"),
            (
                &box2222,
                format!("[box]:2222 {OTHER}\nbox {ONE}"),
                "changed 1",
            ),
            // Without the port a match counts, and a difference does not.
            (&box2222, format!("box {ONE}"), "known"),
            (&box2222, format!("box {OTHER}"), "unknown"),
        ];
        for (target, text, expected) in table {
            assert_eq!(
                verdict(target, &text, ONE),
                expected,
                "{}: {text}",
                target.port
            );
        }
    }

    #[test]
    fn finds_hashed_names() {
        // `|1|salt|hash`, as `ssh-keygen -H` writes it.
        let hashed = "|1|AQEBAQEBAQEBAQEBAQEBAQEBAQE=|";
        let mut mac = Hmac::<Sha1>::new_from_slice(&[1; 20]).unwrap();
        mac.update(b"box");
        let hash = mac.finalize().into_bytes();
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, hash);
        let text = format!("{hashed}{encoded} {ONE}");
        assert_eq!(verdict(&target("box", 22, None), &text, ONE), "known");
        assert_eq!(verdict(&target("bax", 22, None), &text, ONE), "unknown");
    }

    #[test]
    fn keeps_a_key_under_its_own_name() {
        let named = target("10.0.0.5", 22, Some("0C1D-UUID"));
        assert_eq!(
            verdict(&named, &format!("10.0.0.5 {OTHER}"), ONE),
            "unknown"
        );
        assert_eq!(verdict(&named, &format!("0c1d-uuid {ONE}"), ONE), "known");
        assert_eq!(
            verdict(&named, &format!("0c1d-uuid {OTHER}"), ONE),
            "changed 1"
        );
    }

    #[test]
    fn a_key_under_its_own_name_is_revoked_under_any() {
        let named = |port| target("10.0.0.5", port, Some("0C1D-UUID"));
        let table = [
            (22, "*", "revoked 2"),
            (22, "0c1d-uuid", "revoked 2"),
            (22, "10.0.0.5", "revoked 2"),
            (2222, "[10.0.0.5]:2222", "revoked 2"),
            (2222, "10.0.0.5", "revoked 2"),
            (2222, "[10.0.0.5]:22", "known"),
            (22, "10.0.0.6", "known"),
            (22, "*,!10.0.0.5,!0c1d-uuid", "known"),
        ];
        for (port, pattern, expected) in table {
            let text = format!("0c1d-uuid {ONE}\n@revoked {pattern} {ONE}");
            assert_eq!(verdict(&named(port), &text, ONE), expected, "{pattern}");
        }
    }

    #[test]
    fn the_users_files_make_nothing_known_under_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        fs::write(
            &file,
            format!("0c1d-uuid,10.0.0.5 {OTHER}\n@revoked * {ECDSA}\n"),
        )
        .unwrap();
        let mut named = target("10.0.0.5", 22, Some("0C1D-UUID"));
        named.user_known_hosts = vec![file];
        assert_eq!(verdict(&named, "", ONE), "unknown");
        assert_eq!(verdict(&named, "", OTHER), "unknown");
        assert_eq!(verdict(&named, "", ECDSA), "revoked 2");
    }

    #[test]
    fn asks_for_known_kinds_of_keys_first() {
        let known = known(&target("box", 22, None), &format!("box {ECDSA}"));
        let default = russh::Preferred::DEFAULT.key;
        let order = known.preferred_algorithms(&default);
        assert_eq!(order[0].as_str(), "ecdsa-sha2-nistp256");
        assert_eq!(order[1].as_str(), "ssh-ed25519");
        assert_eq!(order.len(), default.len());
    }

    #[test]
    fn matches_wildcards() {
        let table = [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("*.lan", "box.lan", true),
            ("*.*.lan", "box.lan", false),
            ("??", "ab", true),
            ("??", "a", false),
            ("[*]:22", "[x]:22", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(
                glob(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn appends_to_a_file_of_its_own() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/known_hosts");
        let key: PublicKey = format!("{ONE} its comment").parse().unwrap();
        append(&file, &line_for("box", &key)).unwrap();
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(&file, "# no line break").unwrap();
        append(&file, &line_for("[box]:2222", &key)).unwrap();
        append(&file, &line_for("box", &key)).unwrap();
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("# no line break\n[box]:2222 {ONE}\nbox {ONE}\n")
        );
    }
}
