//! What a model should know before its first call: in short as the server's instructions, whole as a
//! prompt.

use rmcp::{
    ErrorData,
    model::{GetPromptResult, Prompt, PromptMessage, Role},
};

/// Sent to every client when it connects.
pub(super) const INSTRUCTIONS: &str = include_str!("instructions.md");

/// The working habits, whole.
const HABITS: &str = include_str!("habits.md");

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

pub(super) fn get(name: &str) -> Result<GetPromptResult, ErrorData> {
    if name != NAME {
        let message = format!("there is no prompt `{name}`; there is `{NAME}`");
        return Err(ErrorData::invalid_params(message, None));
    }
    let messages = vec![PromptMessage::new_text(Role::User, HABITS)];
    Ok(GetPromptResult::new(messages))
}
