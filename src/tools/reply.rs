//! The only builder of results: text, data, pictures, and the limit on their size.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::{Value, json};

use crate::secrets::Secrets;

use super::error::ToolError;

/// The most bytes of text in one reply. Clients close the connection at 10 MiB, and a model's
/// context ends long before.
const MAX_TEXT: usize = 1_000_000;

/// The most bytes of data, as JSON.
const MAX_DATA: usize = 3_500_000;

/// The most bytes of all pictures together: base64 makes them a third longer.
const MAX_PICTURES: usize = crate::capture::MAX_BYTES;

/// What a tool answers.
///
/// The text carries the whole answer. Data goes beside it, but never beside a picture: some
/// clients show nothing but data where there is any.
#[derive(Debug, Default)]
pub struct Reply {
    pub text: String,
    pub data: Option<Value>,
    pub pictures: Vec<ReplyPicture>,
    /// Why the call failed, in one line for a log.
    pub failure: Option<String>,
}

/// A picture in a reply.
#[derive(Clone)]
pub struct ReplyPicture {
    pub mime: &'static str,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for ReplyPicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyPicture({}, {} bytes)", self.mime, self.bytes.len())
    }
}

impl Reply {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Text that says what the data says.
    pub(crate) fn with_data<T: Serialize>(text: impl Into<String>, data: &T) -> Self {
        Self {
            text: text.into(),
            // Our own types serialise; a reply without its data still has the whole text.
            data: serde_json::to_value(data).ok(),
            ..Self::default()
        }
    }

    pub(crate) fn error(error: &ToolError) -> Self {
        Self {
            text: error.text(),
            failure: Some(error.line()),
            ..Self::default()
        }
    }

    /// Makes it a failure that still tells what was done.
    pub(crate) fn failed_with(&mut self, error: &ToolError) {
        self.failure = Some(error.line());
    }

    pub fn is_error(&self) -> bool {
        self.failure.is_some()
    }

    /// The same reply with what the guest has shown of secrets masked. Pictures are what they are.
    pub(crate) fn masked(mut self, secrets: &Secrets) -> Self {
        mask(&mut self.text, secrets);
        if let Some(data) = &mut self.data {
            mask_data(data, secrets);
        }
        if let Some(failure) = &mut self.failure {
            mask(failure, secrets);
        }
        self
    }

    pub(crate) fn add_picture(&mut self, mime: &'static str, bytes: Vec<u8>) {
        self.pictures.push(ReplyPicture { mime, bytes });
    }

    pub(crate) fn add_line(&mut self, line: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(line);
    }

    pub(crate) fn into_result(mut self) -> CallToolResult {
        self.limit_data();
        self.limit_pictures();
        self.limit_text();
        let failed = self.is_error();
        let mut content = vec![ContentBlock::text(self.text)];
        content.extend(
            self.pictures
                .iter()
                .map(|it| ContentBlock::image(STANDARD.encode(&it.bytes), it.mime)),
        );
        let mut result = if failed {
            CallToolResult::error(content)
        } else {
            CallToolResult::success(content)
        };
        result.structured_content = self.data;
        result
    }

    /// A tool that promises data must give it, so an answer whose data is too large is none.
    fn limit_data(&mut self) {
        let bytes = self.data.as_ref().map_or(0, |it| it.to_string().len());
        if bytes > MAX_DATA {
            let error = ToolError::new(
                format!("the call was done, but its answer of {bytes} bytes is too large"),
                "Ask for less: fewer lines, a smaller part, or the file itself.",
            );
            *self = Self::error(&error);
        }
    }

    /// Keeps the newest pictures; the text tells where each is to be had.
    fn limit_pictures(&mut self) {
        let mut left = MAX_PICTURES;
        let fitting = |it: &&ReplyPicture| {
            let fits = it.bytes.len() <= left;
            left = left.saturating_sub(it.bytes.len());
            fits
        };
        let kept = self.pictures.iter().rev().take_while(fitting).count();
        let dropped = self.pictures.len() - kept;
        if dropped > 0 {
            self.pictures.drain(..dropped);
            self.add_line(&format!(
                "Pictures left out, the first {dropped}: the reply would be too large. Read their \
                 resources."
            ));
        }
    }

    fn limit_text(&mut self) {
        if self.text.len() <= MAX_TEXT {
            return;
        }
        let whole = self.text.len();
        let end = self.text.floor_char_boundary(MAX_TEXT);
        self.text.truncate(end);
        // Writing to a string cannot fail.
        let _ = write!(
            self.text,
            "\n[cut: {} of {whole} bytes are left out]",
            whole - end
        );
    }
}

/// Masks what a text holds of secrets.
pub(super) fn mask(text: &mut String, secrets: &Secrets) {
    if let Some(masked) = secrets.mask_in_reply(text) {
        *text = masked;
    }
}

fn mask_data(data: &mut Value, secrets: &Secrets) {
    match data {
        Value::String(text) => mask(text, secrets),
        Value::Array(items) => items.iter_mut().for_each(|it| mask_data(it, secrets)),
        Value::Object(fields) => {
            let before = fields.get("text").cloned();
            fields.values_mut().for_each(|it| mask_data(it, secrets));
            // A secret of several words is not to be found in any of them.
            if fields.contains_key("words") && fields.get("text") != before.as_ref() {
                fields.insert("words".to_owned(), json!([]));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_text_is_cut_and_says_so() {
        let reply = Reply::text("ü".repeat(MAX_TEXT));
        let result = serde_json::to_value(reply.into_result()).unwrap();
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.len() < MAX_TEXT + 100);
        assert!(text.ends_with("[cut: 1000000 of 2000000 bytes are left out]"));
    }

    #[test]
    fn data_too_large_for_a_reply_is_an_error_that_says_so() {
        let reply = Reply::with_data("text", &"x".repeat(MAX_DATA));
        let result = serde_json::to_value(reply.into_result()).unwrap();
        assert_eq!(result["isError"], true);
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("The call was done, but its answer of 3500002 bytes"));
    }

    #[test]
    fn a_secret_of_several_words_is_in_no_word() {
        let secret = crate::model::Secret::new("open sesame now");
        let secrets = Secrets::new(std::collections::BTreeMap::new(), vec![secret]);
        let words = ["open", "sesame", "now"].map(|word| json!({"text": word}));
        let line = json!({"text": "$ open sesame now", "words": words});
        let reply = Reply::with_data("text", &line).masked(&secrets);
        let result = serde_json::to_value(reply.into_result()).unwrap();
        assert_eq!(
            result["structuredContent"],
            json!({"text": "$ ***", "words": []})
        );
    }

    #[test]
    fn the_newest_pictures_stay_within_the_limit() {
        let mut reply = Reply::text("seen");
        for length in [MAX_PICTURES, 10, MAX_PICTURES - 10] {
            reply.add_picture("image/png", vec![0; length]);
        }
        let result = serde_json::to_value(reply.into_result()).unwrap();
        assert_eq!(result["content"].as_array().unwrap().len(), 3);
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(
            text.contains("\nPictures left out, the first 1: "),
            "{text}"
        );
    }

    #[test]
    fn a_picture_comes_after_the_text_and_without_data() {
        let mut reply = Reply::text("seen");
        reply.add_picture("image/png", vec![1, 2, 3]);
        let result = serde_json::to_value(reply.into_result()).unwrap();
        assert_eq!(result["content"][0]["text"], "seen");
        assert_eq!(result["content"][1]["data"], "AQID");
        assert_eq!(result["content"][1]["mimeType"], "image/png");
        assert_eq!(result.get("structuredContent"), None);
    }
}
