//! Login shells that are none of POSIX, as their users have them: tcsh and fish, and others.

use std::{fs, time::Duration};

use virtpilot::ssh::{BadCommand, Client, Command, SshError, Status};

use crate::{
    command,
    commands::{FOLDERS, VALUES},
    ending::{processes_with, unique},
    execute, run,
    sshd::Sshd,
};

/// A server whose users have this login shell: theirs becomes it, under the same process id.
fn server_of(shell: &str) -> Sshd {
    let runs = std::process::Command::new(shell)
        .args(["-c", "true"])
        .status();
    assert!(
        runs.is_ok_and(|status| status.success()),
        "these tests need {shell} (Debian: {shell})"
    );
    Sshd::start_with(&format!(
        "ForceCommand exec {shell} -c \"$SSH_ORIGINAL_COMMAND\""
    ))
}

#[tokio::test]
async fn tcsh_runs_commands_in_folders_and_with_variables_of_any_name() {
    let server = server_of("tcsh");
    let client = Client::new(server.target());
    let output = run(&client, "echo $tcsh[1-1]; sh -c 'echo err >&2; exit 3'").await;
    assert_eq!(output.status, Status::Exited(3));
    assert_eq!(output.stderr.text(), "err\n");
    assert!(output.stdout.text().starts_with('6'), "{output:?}");
    assert_runs_in_folders_and_with_variables(&server, &client).await;
}

#[tokio::test]
async fn fish_runs_commands_in_folders_and_with_variables_of_any_name() {
    let server = server_of("fish");
    let client = Client::new(server.target());
    let output = run(&client, "echo (math 2 x 3); sh -c 'echo err >&2; exit 3'").await;
    assert_eq!(output.status, Status::Exited(3));
    assert_eq!(output.stderr.text(), "err\n");
    assert_eq!(output.stdout.text(), "6\n");
    assert_runs_in_folders_and_with_variables(&server, &client).await;
}

#[tokio::test]
async fn a_shell_whose_quotes_are_not_known_gets_no_folder_and_no_variables() {
    let folder = tempfile::TempDir::new().unwrap();
    let shell = folder.path().join("pwsh");
    fs::copy("/bin/dash", &shell).unwrap();
    let server = server_of(shell.to_str().unwrap());
    let client = Client::new(server.target());
    let mut in_folder = command("true");
    in_folder.cwd = Some("/tmp".into());
    let mut with_variable = command("true");
    with_variable.env = vec![("A".into(), "1".into())];
    for refused in [in_folder, with_variable] {
        let error = execute(&client, refused).await.unwrap_err();
        assert!(
            matches!(error, SshError::BadCommand(BadCommand::ForeignShell)),
            "{error:?}"
        );
    }
    assert_eq!(run(&client, "echo 1").await.stdout.text(), "1\n");
}

async fn assert_runs_in_folders_and_with_variables(server: &Sshd, client: &Client) {
    for value in VALUES {
        let mut with = command("printenv VALUE_1");
        with.env = vec![("VALUE_1".into(), value.into())];
        let output = execute(client, with).await.unwrap();
        assert_eq!(output.stdout.text(), format!("{value}\n"), "{value:?}");
    }
    for name in FOLDERS {
        let folder = server.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let mut inside = command("/bin/pwd -P");
        inside.cwd = Some(folder.to_str().unwrap().to_owned());
        let output = execute(client, inside).await.unwrap();
        let expected = format!("{}\n", folder.display());
        assert_eq!(output.stdout.text(), expected, "{name:?}: {output:?}");
    }
    let mut nowhere = command("echo ran");
    nowhere.cwd = Some("/no/such folder".into());
    let output = execute(client, nowhere).await.unwrap();
    assert_eq!(
        (output.stdout.text().as_str(), output.status),
        ("", Status::Exited(1))
    );
}

#[tokio::test]
async fn commands_of_tcsh_are_ended_with_all_they_started() {
    let unique = unique();
    // csh takes what stands before the `&` along, were it on the same line.
    let line = format!("sleep 60.{unique} & ; sleep 60.{unique}");
    assert_ends_with_all_it_started("tcsh", line, &unique).await;
}

#[tokio::test]
async fn commands_of_fish_are_ended_with_all_they_started() {
    let unique = unique();
    let line = format!("sleep 60.{unique} &; sleep 60.{unique}");
    assert_ends_with_all_it_started("fish", line, &unique).await;
}

async fn assert_ends_with_all_it_started(shell: &str, line: String, unique: &str) {
    let server = server_of(shell);
    let client = Client::new(server.target());
    let limited = Command::new(line, Duration::from_millis(800));
    let output = execute(&client, limited).await.unwrap();
    assert_eq!(
        output.status,
        Status::TimedOut {
            left_running: false
        },
        "{output:?}"
    );
    assert_eq!(processes_with(unique), [""; 0]);
}
