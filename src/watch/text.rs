//! Watching what the screen says: `text`.
//!
//! It is read only where it changed since it was last read, and at the pace that reading allows.

use std::{sync::Arc, time::Instant};

use crate::{
    capture,
    image::Picture,
    model::{Condition, Hit, Line, Pattern, Reader},
    reading::{self, ReadingError},
    vm::{Vm, VmError},
};

use super::{Findings, WatchError, eye::not_running, may_be_off, pace::pause, part::Part};

/// Of what was read, so many characters are told.
const QUOTED: usize = 200;

/// Waits until the screen shows what one of the patterns finds; for ever where there is none.
pub(super) async fn watch(
    vm: &Arc<Vm>,
    conditions: &[Condition],
    findings: &Findings,
) -> Result<String, WatchError> {
    let mut wanted: Vec<_> = conditions
        .iter()
        .enumerate()
        .filter_map(|(at, condition)| match condition {
            Condition::Text(text) => Some(Wanted {
                condition: at,
                head: text.head,
                part: Part::new(text.region),
                pattern: text.pattern.clone(),
                read: None,
            }),
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return std::future::pending().await;
    }
    let nothing_else = wanted.len() == conditions.len();
    let may_be_off = may_be_off(conditions);
    let mut is_first = true;
    loop {
        let begun = Instant::now();
        let mut heads: Vec<_> = wanted.iter().map(|text| text.head).collect();
        heads.sort_unstable();
        heads.dedup();
        for head in heads {
            let picture = match capture::glance(vm, head).await {
                Ok(picture) => Arc::new(picture),
                Err(error) if may_be_off => {
                    let Some(state) = not_running(&error) else {
                        return Err(error.into());
                    };
                    for text in wanted.iter_mut().filter(|text| text.head == head) {
                        // The same screen, once it is back, is news.
                        text.read = None;
                        findings.note(text.condition, format!("the VM is {}", state.as_str()));
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for text in wanted.iter_mut().filter(|text| text.head == head) {
                match text.see(vm, &picture).await {
                    Ok(Seen::Holds(told)) => return Ok(told),
                    Ok(Seen::NotYet(told)) => findings.note(text.condition, told),
                    Ok(Seen::AsBefore) => {}
                    // A text screen may come, which needs no OCR; but who waits for words alone, and looks
                    // at something else from the beginning, is told at once that nobody can read it.
                    Err(WatchError::Reading(ReadingError::Ocr(error)))
                        if !(is_first && nothing_else) =>
                    {
                        findings.note(text.condition, error.to_string());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        is_first = false;
        tokio::time::sleep(pause(begun, None)).await;
    }
}

/// One text that is waited for.
struct Wanted {
    condition: usize,
    head: u32,
    part: Part,
    pattern: Pattern,
    /// What was read last.
    read: Option<Arc<Picture>>,
}

enum Seen {
    Holds(String),
    NotYet(String),
    /// What was read already.
    AsBefore,
}

impl Wanted {
    async fn see(&mut self, vm: &Arc<Vm>, picture: &Arc<Picture>) -> Result<Seen, WatchError> {
        let native = picture.size();
        let shown = vm.shown(native);
        let part = self.part.of(native, shown)?;
        let is_read = |read: &Picture| picture.differing(read, part) == 0;
        if self.read.as_deref().is_some_and(is_read) {
            return Ok(Seen::AsBefore);
        }
        let reading = reading::read(vm, self.head, picture, part).await?;
        self.read = Some(Arc::clone(picture));
        let what = self.part.name();
        let by = match reading.reader {
            Reader::Nobody | Reader::Cells(_) => "",
            Reader::Ocr => ", read by OCR",
        };
        // Searching may take a tenth of a second: see `Pattern`.
        let pattern = self.pattern.clone();
        let searching = tokio::task::spawn_blocking(move || {
            let found = reading.find(&pattern, 1).into_iter().next();
            (reading, found)
        });
        let (reading, found) = searching
            .await
            .map_err(|broke| VmError::Broke(vm.name().clone(), broke))?;
        let Some(Hit { text, area }) = found else {
            let mut lines = reading.lines.iter().map(Line::without_cursor);
            return Ok(Seen::NotYet(match lines.rfind(|line| !line.is_empty()) {
                Some(line) => format!("the {what}{by}, ended with \"{}\"", quoted(line.trim())),
                None => format!("the {what} showed no text"),
            }));
        };
        capture::told_of(vm, self.head, native);
        let text = quoted(&text);
        Ok(Seen::Holds(match area {
            Some(area) => {
                let at = area.shown(native, shown);
                format!("The {what} shows \"{text}\" at {at}{by}")
            }
            None => format!("The {what} shows \"{text}\"{by}"),
        }))
    }
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}
