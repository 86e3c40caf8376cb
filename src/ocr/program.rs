//! Tesseract, as a process: started, fed, listened to and ended.

use std::{io, path::Path, process::Stdio};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::model::OcrLanguage;

use super::OcrError;

/// More than any screen has text.
const MOST_OUTPUT: u64 = 16 << 20;

/// Enough for its last words.
const MOST_SAID: u64 = 64 << 10;

/// What it reads off the pages of a TIFF, as TSV. It ends when this is dropped.
pub(super) async fn recognise(
    program: &Path,
    language: &OcrLanguage,
    tiff: &[u8],
) -> Result<String, OcrError> {
    let mut command = Command::new(program);
    command.args(["stdin", "stdout", "--oem", "1", "--psm", "7"]);
    command.args(["-l", language.as_str()]);
    command.arg("tsv");
    run(command, program, tiff).await
}

/// The languages that are installed.
pub(super) async fn languages(program: &Path) -> Result<Vec<String>, OcrError> {
    let mut command = Command::new(program);
    command.arg("--list-langs");
    let listed = run(command, program, &[]).await?;
    // A heading, then one on each line.
    Ok(listed
        .lines()
        .skip(1)
        .map(|it| it.trim().to_owned())
        .collect())
}

/// The first line of what it says of itself: `tesseract 5.3.0`.
pub(super) async fn version(program: &Path) -> Result<String, OcrError> {
    let mut command = Command::new(program);
    command.arg("--version");
    let told = run(command, program, &[]).await?;
    Ok(told.lines().next().unwrap_or_default().to_owned())
}

async fn run(mut command: Command, program: &Path, input: &[u8]) -> Result<String, OcrError> {
    // Its own threads wait for each other more than they work.
    command.env("OMP_THREAD_LIMIT", "1");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => OcrError::Missing {
            program: program.to_owned(),
            source,
        },
        _ => OcrError::Start { source },
    })?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that ends early tells why on its standard error.
            let _ = stdin.write_all(input).await;
        }
    };
    let talk = async {
        let output = listen(child.stdout.take(), MOST_OUTPUT);
        let said = listen(child.stderr.take(), MOST_SAID);
        let ((), output, said) = tokio::join!(feed, output, said);
        (output, said)
    };
    let (output, said) = talk.await;
    let talk = |source| OcrError::Talk { source };
    let status = child.wait().await.map_err(talk)?;
    let (output, said) = (output.map_err(talk)?, said.map_err(talk)?);
    if !status.success() {
        let last = said.lines().map(str::trim).rfind(|it| !it.is_empty());
        let said = last.map_or_else(|| status.to_string(), str::to_owned);
        return Err(OcrError::Failed { said });
    }
    Ok(output)
}

async fn listen(from: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<String> {
    let mut bytes = vec![];
    if let Some(from) = from {
        from.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
