//! Lines of standard input: told apart with a limit on their length, and made into messages.
//!
//! What is no message becomes a refusal, so that whoever sent it hears why. The text of such a line
//! goes nowhere else: it may hold what was to be typed.

use std::{
    fmt,
    io::{self, BufRead, Read},
};

use rmcp::{
    RoleServer,
    model::{ErrorCode, RequestId},
    service::RxJsonRpcMessage,
};
use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, json};

/// The longest line that is read, as in rmcp's own transports: far above what any tool has a use
/// for, and little enough to be held several times over, as text and as what it says.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// How much of a line that is too long is kept at either end, to find its id.
const KEPT: usize = 1024;

/// How much of such a line is read at once.
const STRIDE: u64 = 64 * 1024;

pub(super) type Message = RxJsonRpcMessage<RoleServer>;

/// What a line says.
#[derive(Debug)]
pub(super) enum Line {
    Message(Box<Message>),
    Refused(Refusal),
}

/// An answer to what is no request: an error in the form of JSON-RPC 2.0.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    id: Option<RequestId>,
    code: ErrorCode,
    message: String,
}

impl Refusal {
    /// A request whose id another one has that is still worked on. The answer carries the id, since
    /// clients keep one waiting call for each: the newer one, whose answer this is.
    pub(super) fn of_repeated_id(id: RequestId) -> Self {
        Self {
            message: format!("the id {id} belongs to a request that is still worked on"),
            id: Some(id),
            code: ErrorCode::INVALID_REQUEST,
        }
    }

    fn of_long_line(start: &[u8], end: &[u8]) -> Self {
        Self {
            id: id_at_start(start).or_else(|| id_at_end(end)),
            code: ErrorCode::INVALID_REQUEST,
            message: format!(
                "the line is longer than {MAX_LINE} bytes, the most that is read; send less at \
                 once, and files with `ssh_upload`"
            ),
        }
    }

    /// The line that goes out. An id that could not be read is null, as section 5.1 of JSON-RPC 2.0
    /// has it; rmcp's own type would leave it out.
    pub(super) fn to_line(&self) -> Vec<u8> {
        let error = json!({"code": self.code, "message": self.message});
        let answer = json!({"jsonrpc": "2.0", "id": self.id, "error": error});
        format!("{answer}\n").into_bytes()
    }
}

/// The lines of an input.
pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            line: vec![],
        }
    }

    /// The next line that says anything, and how many bytes it has. None at the end of the input,
    /// which ends a last line as well.
    pub(super) fn read(&mut self) -> io::Result<Option<(Line, usize)>> {
        loop {
            self.line.clear();
            // One long line does not keep its memory for ever.
            self.line.shrink_to(KEPT * KEPT);
            let one_more = MAX_LINE as u64 + 1;
            let mut bounded = self.input.by_ref().take(one_more);
            if bounded.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if self.line.len() > MAX_LINE && !self.line.ends_with(b"\n") {
                return self.refuse_long_line().map(Some);
            }
            if let Some(line) = decoded(&self.line) {
                return Ok(Some((line, self.line.len())));
            }
        }
    }

    /// Reads the rest of a line that is too long, and keeps its ends alone.
    fn refuse_long_line(&mut self) -> io::Result<(Line, usize)> {
        let start = self.line[..KEPT].to_vec();
        let mut end = self.line.split_off(self.line.len() - KEPT);
        self.line = vec![];
        loop {
            let read = self
                .input
                .by_ref()
                .take(STRIDE)
                .read_until(b'\n', &mut end)?;
            end.drain(..end.len().saturating_sub(KEPT));
            if read == 0 || end.ends_with(b"\n") {
                let refusal = Refusal::of_long_line(&start, &end);
                return Ok((Line::Refused(refusal), KEPT));
            }
        }
    }
}

/// What a line says; nothing where it is blank, or where it may not be answered and means nothing here.
fn decoded(line: &[u8]) -> Option<Line> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let line = line.trim_ascii();
    if line.is_empty() {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(message) => Some(Line::Message(Box::new(message))),
        Err(_) => refusal(line).map(Line::Refused),
    }
}

fn refusal(line: &[u8]) -> Option<Refusal> {
    let fields = match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => {
            return Some(Refusal {
                id: None,
                code: ErrorCode::INVALID_REQUEST,
                message: "a message is one JSON object; several go on lines of their own"
                    .to_owned(),
            });
        }
        // It tells the place and what is missing there, not what stands there.
        Err(error) => {
            return Some(Refusal {
                id: None,
                code: ErrorCode::PARSE_ERROR,
                message: format!("the line is no JSON: {error}"),
            });
        }
    };
    let method = fields.get("method");
    // Neither a notification nor an answer is ever answered: two ends that do would not stop.
    let is_notification = method.is_some_and(Value::is_string) && !fields.contains_key("id");
    let is_answer = fields.contains_key("result") || fields.contains_key("error");
    if is_notification || (is_answer && method.is_none()) {
        return None;
    }
    Some(Refusal {
        id: fields
            .get("id")
            .and_then(|id| serde_json::from_value(id.clone()).ok()),
        code: ErrorCode::INVALID_REQUEST,
        message: "the line is no request: that has `jsonrpc` \"2.0\", an `id` that is a string or \
                  a whole number, and a `method` that is a string"
            .to_owned(),
    })
}

/// The id of an object that breaks off, where it is among the first fields.
fn id_at_start(start: &[u8]) -> Option<RequestId> {
    let mut id = None;
    // It always fails, where the object breaks off.
    let _ = serde_json::Deserializer::from_slice(start).deserialize_map(FirstId(&mut id));
    id
}

/// The id of an object that begins somewhere before, where it is among the last fields: from there
/// on, the rest has to be the end of an object.
fn id_at_end(end: &[u8]) -> Option<RequestId> {
    const KEY: &[u8] = b"\"id\"";
    let at = end.windows(KEY.len()).rposition(|part| part == KEY)?;
    let rest = [b"{", &end[at..]].concat();
    let fields: Value = serde_json::from_slice(&rest).ok()?;
    serde_json::from_value(fields["id"].clone()).ok()
}

struct FirstId<'a>(&'a mut Option<RequestId>);

impl<'de> Visitor<'de> for FirstId<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut found = None;
        while let Some(key) = fields.next_key::<String>()? {
            // Only here is it sure that the id did not break off after some of its digits.
            if found.is_some() {
                *self.0 = found;
                return Ok(());
            }
            if key == "id" {
                found = Some(fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the lines of an input say: the method or id of a message, or code and id of a refusal.
    fn said(input: &str) -> Vec<String> {
        let mut lines = Lines::new(input.as_bytes());
        let mut said = vec![];
        while let Some((line, _)) = lines.read().unwrap() {
            said.push(match line {
                Line::Message(message) => {
                    let message = serde_json::to_value(message).unwrap();
                    format!("{} {}", message["method"], message["id"])
                }
                Line::Refused(Refusal { id, code, .. }) => format!("{} {}", code.0, json!(id)),
            });
        }
        said
    }

    #[test]
    fn lines_are_messages_or_are_refused_with_the_id_that_can_be_read() {
        let cases = [
            ("", ""),
            (" \t\r", ""),
            (
                r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#,
                "\"ping\" 1",
            ),
            (
                "\u{feff}{\"jsonrpc\": \"2.0\", \"id\": \"a\", \"method\": \"ping\"}\r",
                "\"ping\" \"a\"",
            ),
            (
                r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#,
                "\"notifications/initialized\" null",
            ),
            // No JSON.
            ("hello", "-32700 null"),
            (r#"{"jsonrpc": "2.0", "id": 1"#, "-32700 null"),
            (
                r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"} x"#,
                "-32700 null",
            ),
            // JSON, but no request.
            ("7", "-32600 null"),
            ("[]", "-32600 null"),
            ("{}", "-32600 null"),
            (
                r#"[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]"#,
                "-32600 null",
            ),
            (r#"{"id": 1, "method": "ping"}"#, "-32600 1"),
            (
                r#"{"jsonrpc": "1.0", "id": "a", "method": "ping"}"#,
                "-32600 \"a\"",
            ),
            (
                r#"{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}"#,
                "-32600 null",
            ),
            (
                r#"{"jsonrpc": "2.0", "id": null, "method": "ping"}"#,
                "-32600 null",
            ),
            (r#"{"jsonrpc": "2.0", "id": 1, "method": 7}"#, "-32600 1"),
            // Not to be answered.
            (r#"{"method": "window/logMessage"}"#, ""),
            (r#"{"id": 1, "result": 7}"#, ""),
            (r#"{"jsonrpc": "2.0", "id": [], "error": {}}"#, ""),
        ];
        for (line, expected) in cases {
            let expected: Vec<_> = [expected].into_iter().filter(|it| !it.is_empty()).collect();
            assert_eq!(said(line), expected, "{line}");
        }
        // All of them in a row, the last one without a line break.
        let all = cases.map(|(line, _)| line).join("\n");
        let expected: Vec<_> = cases
            .iter()
            .map(|it| it.1)
            .filter(|it| !it.is_empty())
            .collect();
        assert_eq!(said(&all), expected);
    }

    #[test]
    fn text_that_is_not_utf_8_is_no_json() {
        let mut lines = Lines::new(&b"{\"id\": \"\xff\"}\n"[..]);
        let (line, _) = lines.read().unwrap().unwrap();
        assert!(matches!(line, Line::Refused(it) if it.code == ErrorCode::PARSE_ERROR));
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_with_the_id_near_its_ends() {
        let text = "x".repeat(MAX_LINE);
        let digits = "1".repeat(KEPT);
        let cases = [
            (
                format!(r#"{{"jsonrpc": "2.0", "id": 5, "params": "{text}"}}"#),
                "5",
            ),
            (
                format!(r#"{{"params": {{"id": 6}}, "id": "a", "rest": "{text}"}}"#),
                "\"a\"",
            ),
            (format!(r#"{{"params": "{text}", "id": 7}}"#), "7"),
            (
                format!(r#"{{"params": "{text}", "id": "b", "jsonrpc": "2.0"}} "#),
                "\"b\"",
            ),
            // Those of something else, or not whole.
            (
                format!(r#"{{"params": {{"id": 8, "text": "{text}"}}}}"#),
                "null",
            ),
            (
                format!(r#"{{"params": {{"text": "{text}", "id": 9}}}}"#),
                "null",
            ),
            (format!(r#"{{"params": "{text}, \"id\": 10}}"}}"#), "null"),
            (format!(r#"{{"id": {digits}, "params": "{text}"}}"#), "null"),
            (format!("{text}x"), "null"),
        ];
        for (line, id) in cases {
            let shown = format!("{}…{}", &line[..30], &line[line.len() - 30..]);
            let next = r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#;
            let expected = [&format!("-32600 {id}"), "\"ping\" 1"];
            assert_eq!(said(&format!("{line}\n{next}\n")), expected, "{shown}");
            assert_eq!(said(&line), expected[..1], "{shown}");
        }
    }

    #[test]
    fn the_longest_line_is_read() {
        let around = r#"{"jsonrpc": "2.0", "id": 1, "method": ""}"#.len();
        let line = |more: usize| {
            let method = "x".repeat(MAX_LINE - around + more);
            said(&format!(
                r#"{{"jsonrpc": "2.0", "id": 1, "method": "{method}"}}"#
            ))
            .remove(0)
        };
        assert!(line(0).ends_with("x\" 1"));
        assert_eq!(line(1), "-32600 1");
    }

    #[test]
    fn a_refusal_has_a_null_where_no_id_could_be_read() {
        let refusal = refusal(b"[").unwrap();
        assert_eq!(
            String::from_utf8(refusal.to_line()).unwrap(),
            "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"the line is no \
             JSON: EOF while parsing a list at line 1 column 1\"}}\n"
        );
    }
}
