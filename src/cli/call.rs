//! One tool call from a shell.

use std::{
    ffi::OsString,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::{
    perform,
    tools::{Reply, ReplyPicture, Server},
};

use super::Call;

/// Calls the tool, prints its text or data, and writes its pictures. A failure of the tool goes to
/// standard error and makes the exit status 1; that is what comes back.
pub async fn call(
    server: &Arc<Server>,
    call: &Call,
    parameters: Map<String, Value>,
    stop: CancellationToken,
) -> anyhow::Result<i32> {
    let reply = server
        .call(&call.tool, parameters, stop, perform::untold())
        .await;
    if server.has_jobs() {
        writeln!(
            std::io::stderr(),
            "The command is ended now, as jobs end with the program that started them. Give it a longer `timeout`."
        )?;
    }
    server.shut_down().await;
    if reply.is_error() {
        writeln!(std::io::stderr(), "{}", reply.text)?;
    } else {
        print(&reply, call.json)?;
    }
    write_pictures(&reply, call.output.as_deref())?;
    Ok(i32::from(reply.is_error()))
}

impl Call {
    /// The parameters as given, or from standard input where they are `-`.
    pub fn read_parameters(&self) -> anyhow::Result<Map<String, Value>> {
        parameters(&self.parameters)
    }
}

fn parameters(text: &str) -> anyhow::Result<Map<String, Value>> {
    let mut read = String::new();
    let text = if text == "-" {
        std::io::stdin()
            .read_to_string(&mut read)
            .context("the parameters cannot be read from standard input")?;
        &read
    } else {
        text
    };
    match serde_json::from_str(text).context("the parameters are no JSON")? {
        Value::Object(parameters) => Ok(parameters),
        _ => bail!("the parameters must be a JSON object, such as '{{\"x\": 10, \"y\": 20}}'"),
    }
}

fn print(reply: &Reply, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match &reply.data {
        Some(data) if as_json => writeln!(out, "{data:#}")?,
        _ => writeln!(out, "{}", reply.text)?,
    }
    out.flush()?;
    Ok(())
}

fn write_pictures(reply: &Reply, output: Option<&Path>) -> anyhow::Result<()> {
    for (at, picture) in reply.pictures.iter().enumerate() {
        let path = numbered(output, picture, at);
        std::fs::write(&path, &picture.bytes)
            .with_context(|| format!("the picture cannot be written to {}", path.display()))?;
        writeln!(std::io::stderr(), "Picture: {}", path.display())?;
    }
    Ok(())
}

/// The first picture's name as given, the others' with a number before the extension.
fn numbered(output: Option<&Path>, picture: &ReplyPicture, at: usize) -> PathBuf {
    let extension = picture.mime.strip_prefix("image/").unwrap_or("png");
    let first = output.map_or_else(
        || PathBuf::from(format!("screenshot.{extension}")),
        Path::to_path_buf,
    );
    if at == 0 {
        return first;
    }
    let mut name = OsString::from(first.file_stem().unwrap_or_default());
    name.push(format!("-{}.{extension}", at + 1));
    first.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_after_the_first_are_numbered() {
        let picture = ReplyPicture {
            mime: "image/jpeg",
            bytes: vec![],
        };
        let name = |output: Option<&str>, at| numbered(output.map(Path::new), &picture, at);
        assert_eq!(name(None, 0), Path::new("screenshot.jpeg"));
        assert_eq!(name(None, 1), Path::new("screenshot-2.jpeg"));
        assert_eq!(name(Some("a/b.png"), 0), Path::new("a/b.png"));
        assert_eq!(name(Some("a/b.png"), 2), Path::new("a/b-3.jpeg"));
    }

    #[test]
    fn parameters_are_an_object() {
        assert!(parameters("{}").unwrap().is_empty());
        assert!(parameters("[1]").is_err());
        assert!(parameters("{").is_err());
    }
}
