//! Text made safe for a guest's login shell, and what comes before a command there.
//!
//! The command itself is never quoted: it reaches the login shell as plain `ssh host 'command'` would hand
//! it over. Only the line's head is ours: it names the shell's process, changes the folder, sets variables.

/// Quotes a text as one word for POSIX shells and fish alike.
///
/// fish treats `\\` and `\'` inside single quotes as escapes, POSIX shells do not; outside quotes both read
/// them the same way. So quotes and backslashes stand outside, everything else inside.
fn word(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    let mut inside = false;
    for character in text.chars() {
        let escaped = matches!(character, '\'' | '\\');
        if inside == escaped {
            quoted.push('\'');
            inside = !escaped;
        }
        if escaped {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    if inside {
        quoted.push('\'');
    }
    if quoted.is_empty() {
        quoted.push_str("''");
    }
    quoted
}

/// Quotes a text as one word for csh and tcsh, which take `!` and line breaks for something of their own
/// inside quotes too.
fn csh_word(text: &str) -> String {
    word(text).replace('!', "\\!").replace('\n', "\\\n")
}

/// A folder as one word for `cd`: a leading `~/` is the home folder, and a relative path meets neither
/// `CDPATH` nor `cd -`.
pub(super) fn folder(path: &str) -> String {
    folder_by(word, path)
}

fn folder_by(word: fn(&str) -> String, path: &str) -> String {
    if path == "~" {
        "~".to_owned()
    } else if let Some(rest) = path.strip_prefix("~/") {
        if rest.is_empty() {
            "~/".to_owned()
        } else {
            format!("~/{}", word(rest))
        }
    } else if path.starts_with('/') {
        word(path)
    } else {
        word(&format!("./{path}"))
    }
}

/// Whether a text can be the name of an environment variable in every shell.
pub(super) fn is_variable_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
}

/// What is known of the shell that reads the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginShell {
    /// Nobody has told yet.
    Unknown,
    /// It quotes as POSIX shells do, and has no `$$`.
    Fish,
    /// It knows its process id as `$$`.
    Posix,
    /// It sets variables by `setenv`.
    Csh,
    /// How it quotes is not known here.
    Foreign,
    /// It runs no `sh`, as that of a router: nothing may stand before the command.
    Bare,
}

impl LoginShell {
    /// By the name of its program.
    pub(super) fn of_name(name: &str) -> Self {
        const POSIX: [&str; 17] = [
            "ash", "bash", "busybox", "dash", "ksh", "ksh93", "ksh2020", "lksh", "mksh", "oksh",
            "pdksh", "posh", "rbash", "rksh", "sh", "yash", "zsh",
        ];
        const CSH: [&str; 3] = ["bsd-csh", "csh", "tcsh"];
        // A dash marks one that ps(1) tells of, where the login began with it.
        let name = name.strip_prefix('-').unwrap_or(name);
        // As in `bash-static` and `zsh-5.9`.
        let kind = name.split('-').next().unwrap_or_default();
        if POSIX.contains(&kind) {
            Self::Posix
        } else if CSH.contains(&name) {
            Self::Csh
        } else if name == "fish" {
            Self::Fish
        } else {
            Self::Foreign
        }
    }
}

/// Whether what stands before the command differs with the shell that reads it, and so the shell should be
/// known first.
pub(super) fn depends_on_shell(line: &str, cwd: Option<&str>, env: &[(String, String)]) -> bool {
    !env.is_empty() || cwd.is_some() || has_background(line)
}

/// Whether something in the line may go to the background: a `&` that is neither one of `&&` nor part of a
/// redirection.
fn has_background(line: &str) -> bool {
    let rest = line.replace("&&", "").replace(">&", "").replace("&>", "");
    rest.contains('&')
}

/// What stands before the command on the line for the login shell: it prints `marker` and the login shell's
/// process id, goes to `cwd` and sets `env`.
///
/// It is no wrapper around the command and stays on the command's first line, so that exit codes, functions
/// of the user's start-up files and line numbers in messages are those of plain ssh. `$PPID` of a child
/// works in fish too, where `$$` is an error. csh takes all that stands before a `&` on the line into the
/// background with it, so there these are lines of their own: it counts none in its messages. The child also prints the name of the shell, as proc(5) gives
/// it, or ps(1) on systems without that: starting a child takes an emulated guest as long as a small command itself.
pub(super) fn head(
    marker: &str,
    shell: LoginShell,
    cwd: Option<&str>,
    env: &[(String, String)],
) -> String {
    use std::fmt::Write as _;

    let mut head = match shell {
        LoginShell::Bare => return String::new(),
        LoginShell::Unknown | LoginShell::Fish | LoginShell::Csh | LoginShell::Foreign => format!(
            "sh -c '{{ read -r shell </proc/$PPID/comm || shell=$(ps -o comm= -p $PPID); }} 2>/dev/null; \
             echo {marker}$PPID:${{shell##*/}}'"
        ),
        // The backslash keeps an alias out.
        LoginShell::Posix => format!("\\echo {marker}$$"),
    };
    let is_csh = shell == LoginShell::Csh;
    let (word, end): (fn(&str) -> String, _) = if is_csh {
        (csh_word, "\n")
    } else {
        (word, "; ")
    };
    head.push_str(end);
    // Not `exit`: csh reads such a line to its end.
    if let Some(cwd) = cwd {
        let _ = write!(head, "cd -- {} || exec false{end}", folder_by(word, cwd));
    }
    for (name, value) in env {
        let value = word(value);
        let _ = if is_csh {
            write!(head, "setenv {name} {value} || exec false{end}")
        } else {
            write!(head, "export {name}={value} || exec false{end}")
        };
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_a_word_for_posix_and_fish() {
        let table = [
            ("", "''"),
            ("plain", "'plain'"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("'", r"\'"),
            ("''", r"\'\'"),
            (r"\", r"\\"),
            (r"a\'b", r"'a'\\\''b'"),
            ("$(id) `id` \"x\" ; &\n", "'$(id) `id` \"x\" ; &\n'"),
        ];
        for (text, expected) in table {
            assert_eq!(word(text), expected, "{text:?}");
        }
    }

    #[test]
    fn keeps_folders_away_from_options_and_cdpath() {
        let table = [
            ("~", "~"),
            ("~/", "~/"),
            ("~/my files", "~/'my files'"),
            ("~root", "'./~root'"),
            ("-", "'./-'"),
            ("src", "'./src'"),
            ("/a b", "'/a b'"),
        ];
        for (path, expected) in table {
            assert_eq!(folder(path), expected, "{path:?}");
        }
    }

    #[test]
    fn the_shell_is_told_on_systems_without_proc_too() {
        for missing in ["/nonexistent/", "/proc/"] {
            let head = head("m:", LoginShell::Unknown, None, &[]);
            let line = format!("{}true", head.replace("/proc/", missing));
            let shell = std::process::Command::new("bash")
                .args(["-c", &line])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let process = shell.id();
            let output = shell.wait_with_output().unwrap();
            let told = String::from_utf8(output.stdout).unwrap();
            assert_eq!(told, format!("m:{process}:bash\n"), "{missing}");
        }
        assert_eq!(LoginShell::of_name("-tcsh"), LoginShell::Csh);
    }

    #[test]
    fn takes_only_portable_variable_names() {
        for good in ["A", "_x", "PATH2"] {
            assert!(is_variable_name(good), "{good}");
        }
        for bad in ["", "2A", "A-B", "A=B", "A B", "Ä", "A;id"] {
            assert!(!is_variable_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_line_that_csh_would_take_to_the_background_is_told_from_others() {
        for line in ["sleep 9 &", "a & b", "a && b & c"] {
            assert!(depends_on_shell(line, None, &[]), "{line}");
        }
        for line in ["true", "a && b", "a >&2", "a &> b", "a 2>&1 | b"] {
            assert!(!depends_on_shell(line, None, &[]), "{line}");
        }
        assert!(depends_on_shell("true", Some("/tmp"), &[]));
    }

    #[test]
    fn sets_folder_and_variables_before_the_command() {
        assert_eq!(
            head("m:", LoginShell::of_name("fish"), None, &[]),
            "sh -c '{ read -r shell </proc/$PPID/comm || shell=$(ps -o comm= -p $PPID); } 2>/dev/null; \
             echo m:$PPID:${shell##*/}'; "
        );
        assert_eq!(
            head(
                "m:",
                LoginShell::of_name("bash"),
                Some("/tmp"),
                &[("A".into(), "1'2".into())]
            ),
            r"\echo m:$$; cd -- '/tmp' || exec false; export A='1'\''2' || exec false; "
        );
        let csh = head(
            "m:",
            LoginShell::of_name("tcsh"),
            Some("a!b"),
            &[("A".into(), "1\n2'!".into())],
        );
        assert_eq!(
            csh.split_once("'\ncd ").unwrap().1,
            "-- './a\\!b' || exec false\nsetenv A '1\\\n2'\\''\\!' || exec false\n"
        );
    }
}
