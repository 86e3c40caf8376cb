//! What a model should know before its first call: in short as the server's instructions, whole as a
//! prompt.

use rmcp::{
    ErrorData,
    model::{GetPromptResult, Prompt, PromptMessage, Role},
};

use crate::config::Toolset;

/// Sent to every client when it connects.
pub(super) fn instructions(toolset: Toolset) -> &'static str {
    match toolset {
        Toolset::Standard => include_str!("instructions.md"),
        Toolset::Computer => include_str!("instructions_computer.md"),
    }
}

/// The working habits, whole.
const HABITS: &str = include_str!("habits.md");

/// What concerns tools that the computer toolset has not: from where, and up to what comes after it.
const STANDARD_ONLY: [(&str, &str); 3] = [
    ("## Read what is text", "## A click is no proof"),
    ("`wait_for` ends as soon as", "| after | pause |"),
    ("## Batch what belongs together", "## Commands go over SSH"),
];

/// The working habits as far as they concern the tools that there are.
fn habits(toolset: Toolset) -> String {
    let mut text = HABITS.to_owned();
    if toolset == Toolset::Computer {
        for (from, to) in STANDARD_ONLY {
            if let (Some(from), Some(to)) = (text.find(from), text.find(to)) {
                text.replace_range(from..to.max(from), "");
            }
        }
    }
    text
}

const NAME: &str = "working_habits";

pub(super) fn list() -> Vec<Prompt> {
    let mut prompt = Prompt::new(
        NAME,
        Some("How to drive a VM well: looking, focus, waiting, batches, recovery."),
        None,
    );
    prompt.title = Some("Working habits for driving a VM".to_owned());
    vec![prompt]
}

pub(super) fn get(name: &str, toolset: Toolset) -> Result<GetPromptResult, ErrorData> {
    if name != NAME {
        let message = format!("there is no prompt `{name}`; there is `{NAME}`");
        return Err(ErrorData::invalid_params(message, None));
    }
    let messages = vec![PromptMessage::new_text(Role::User, habits(toolset))];
    Ok(GetPromptResult::new(messages))
}
