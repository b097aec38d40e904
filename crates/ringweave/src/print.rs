//! Standard output: lines for people, objects for programs. All else goes to standard error.

use std::io::{self, Write as _};

use ringweave_api::Word;
use serde::Serialize;

use crate::exit::Problem;

/// Prints a line.
///
/// # Errors
/// If standard output is closed, which is how a reader says that it has seen enough.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.as_ref())
        .and_then(|()| out.flush())
        .map_err(closed)
}

/// Prints bytes as they are.
///
/// # Errors
/// As [`line`].
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(closed)
}

fn closed(error: io::Error) -> Problem {
    Problem::new(
        Word::Failed,
        format!("cannot write to standard output: {error}"),
    )
}

/// Prints an object on one line.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(value: &impl Serialize) -> Result<(), Problem> {
    line(serde_json::to_string(value).expect("plain data always serialises into JSON"))
}
