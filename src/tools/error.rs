//! A failure as a client reads it: what failed, why, and what to do next.

use std::error::Error;

use crate::{
    capture::CaptureError,
    config::Toolset,
    fleet::FleetError,
    gallery::SavedError,
    guest::GuestError,
    jobs::JobError,
    keyboard::BadKeys,
    perform::ActError,
    reading::ReadingError,
    secrets::SecretError,
    ssh::SshError,
    store::{PathError, StoreError},
    vm::VmError,
    watch::WatchError,
};

use super::computer;

/// What a tool answers instead of a result. Its text is made here alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolError {
    pub(crate) message: String,
    causes: Vec<String>,
    hint: String,
    /// What a log is told instead, where the message quotes what was given.
    logged: Option<String>,
}

impl ToolError {
    /// A failure that has no cause below it, such as a wrong parameter.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            causes: vec![],
            hint: hint.into(),
            logged: None,
        }
    }

    /// Keeps what the message quotes out of logs: it may be something typed in a wrong place.
    pub(crate) fn logged_as(mut self, line: impl Into<String>) -> Self {
        self.logged = Some(line.into());
        self
    }

    fn of(error: &dyn Error, hint: String) -> Self {
        let mut causes = vec![];
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self {
            message: error.to_string(),
            causes,
            hint,
            logged: None,
        }
    }

    /// Puts in front what was being done.
    pub(crate) fn during(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self.logged = self.logged.map(|line| format!("{what}: {line}"));
        self
    }

    /// With the names that tools have in the toolset in use.
    pub(crate) fn in_words_of(mut self, toolset: Toolset) -> Self {
        let pairs = match toolset {
            Toolset::Standard => return self,
            Toolset::Computer => computer::NAMES,
        };
        for (standard, name) in pairs {
            let standard = format!("`{standard}`");
            self.hint = self.hint.replace(&standard, &format!("`{name}`"));
        }
        self
    }

    /// The three parts, for a person or a model to read.
    pub(crate) fn text(&self) -> String {
        let mut text = sentence(&self.message);
        if !self.causes.is_empty() {
            text.push_str("\nCause: ");
            text.push_str(&self.causes.join(": "));
        }
        text.push_str("\nNext: ");
        text.push_str(&self.hint);
        text
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }

    /// One line, for a log.
    pub(crate) fn line(&self) -> String {
        if let Some(logged) = &self.logged {
            return logged.clone();
        }
        let mut line = self.message.clone();
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase);
    let mut sentence: String = first.into_iter().flatten().collect();
    sentence.push_str(characters.as_str());
    if !sentence.ends_with(['.', '?', '!']) {
        sentence.push('.');
    }
    sentence
}

macro_rules! from_errors {
    ($($error:ty),+) => {$(
        impl From<$error> for ToolError {
            fn from(error: $error) -> Self {
                Self::of(&error, error.hint())
            }
        }
    )+};
}

impl From<ActError> for ToolError {
    fn from(error: ActError) -> Self {
        let told = Self::of(&error, error.hint());
        match logged(&error) {
            Some(line) => told.logged_as(line),
            None => told,
        }
    }
}

/// What stands in a log for an error that quotes what was typed, or may have been meant to be.
fn logged(error: &ActError) -> Option<String> {
    match error {
        ActError::Keys(BadKeys::Unknown { .. }) => Some("there is no such key".to_owned()),
        ActError::Keys(BadKeys::NeedsModifiers { .. }) => {
            Some("a key needs modifiers that the chord does not list".to_owned())
        }
        ActError::Keys(BadKeys::Twice(_)) => Some("a key is in the chord twice".to_owned()),
        ActError::Untypable(it) => Some(format!(
            "the keyboard layout `{}` cannot type {} of the characters",
            it.layout,
            it.characters.len()
        )),
        // The last line of a screen or console may be what was just typed there.
        ActError::Watch(WatchError::TimedOut { limit, .. }) => {
            Some(format!("nothing held within {} s", limit.as_secs_f64()))
        }
        ActError::LetGo { source, .. } => logged(source).map(|line| format!("{error}: {line}")),
        _ => None,
    }
}

impl From<SecretError> for ToolError {
    fn from(error: SecretError) -> Self {
        let told = Self::of(&error, error.hint());
        match error {
            // It quotes what may have been meant as the secret itself.
            SecretError::Unknown { .. } => told.logged_as("there is no such secret"),
            _ => told,
        }
    }
}

impl From<GuestError> for ToolError {
    fn from(error: GuestError) -> Self {
        let told = Self::of(&error, error.hint());
        match error {
            // It quotes names that the caller chose, which may hold a value by mistake.
            GuestError::Ssh(SshError::BadCommand(_)) => {
                told.logged_as("the command or its surroundings cannot be used")
            }
            _ => told,
        }
    }
}

impl From<JobError> for ToolError {
    fn from(error: JobError) -> Self {
        let told = Self::of(&error, error.hint());
        match error {
            // They quote what may be meant for another parameter.
            JobError::Unknown { .. } => told.logged_as("there is no such job"),
            JobError::BadSignal { .. } => told.logged_as("there is no such signal"),
            _ => told,
        }
    }
}

from_errors!(
    CaptureError,
    FleetError,
    PathError,
    ReadingError,
    SavedError,
    StoreError,
    VmError
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{DomainState, FullName, HypervisorError};

    #[test]
    fn a_log_never_quotes_typed_text() {
        let untypable = crate::keyboard::Untypable {
            layout: "us".into(),
            characters: vec![(4, 'ß')],
            compose_file: None,
        };
        let error = ToolError::from(ActError::Untypable(untypable));
        assert!(error.text().contains('ß'));
        assert_eq!(
            error.line(),
            "the keyboard layout `us` cannot type 1 of the characters"
        );

        let in_vain = |button_held: bool| {
            let error = ActError::Watch(WatchError::TimedOut {
                limit: std::time::Duration::from_secs(5),
                findings: vec!["the screen ended with \"hunter2\"".to_owned()],
                last: None,
            });
            if !button_held {
                return ToolError::from(error);
            }
            ToolError::from(ActError::LetGo {
                buttons: vec![crate::model::Button::Left],
                source: Box::new(error),
            })
        };
        for button_held in [false, true] {
            let error = in_vain(button_held);
            assert!(error.text().contains("hunter2"), "{error:?}");
            assert!(
                error.line().ends_with("nothing held within 5 s"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn has_what_failed_why_and_what_next() {
        let error = ActError::Typing {
            typed: 3,
            of: 9,
            source: VmError::from(HypervisorError::NotRunning {
                vm: FullName {
                    uri: "qemu:///system".to_owned(),
                    name: "demo".parse().unwrap(),
                },
                state: DomainState::Shutoff,
            }),
        };
        let error = ToolError::from(error);
        assert_eq!(
            error.text(),
            "Typing broke off after 3 of 9 characters.\n\
             Cause: the VM `demo` is shut off\n\
             Next: Start it: `virsh -c qemu:///system start demo`. Then take a screenshot to see \
             what arrived, and type the rest."
        );
        assert_eq!(
            error.line(),
            "typing broke off after 3 of 9 characters: the VM `demo` is shut off"
        );
    }
}
