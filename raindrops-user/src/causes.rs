//! An error and what caused it, on one line: for reasons that are data of the view.

use std::error::Error;

/// The error's message followed by those of its causes.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
