//! Reading files of measured data, packed (gzip) or plain: lines of fields, with their numbers.
//!
//! Lines that are empty or begin with `#` do not count. Fields are parted by commas, or by white
//! space where a line has no comma. What is wrong is told as `FILE:LINE: FIELD: what`, because such
//! files come from elsewhere and are long. Whether a file is packed is told by its first two bytes,
//! not by its name.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

/// Why a file of measured data, or a setting in its place, cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be opened, read or unpacked.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A field of a line is not what it should be.
    #[error("{}:{line}: {field}: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field, by its name or as `column N` from 1.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// A line as a whole is not what it should be.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Each line is right and the file as a whole is not.
    #[error("{}: {problem}", path.display())]
    Whole {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No file is at fault: a model's own figures make no sense.
    #[error("{field}: {problem}")]
    Setting {
        /// The setting, by its name in a scenario file.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// A whole file in memory.
pub(crate) struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    /// Reads the file, unpacking it if it is packed.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = bytes(path, MOST_BYTES).map_err(|cause| FileError::Read {
            path: path.into(),
            cause,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            FileError::Line {
                path: path.into(),
                line: good.iter().filter(|&&byte| byte == b'\n').count() + 1,
                problem: "this is no text (UTF-8)".into(),
            }
        })?;
        Ok(Self::new(path, text))
    }

    /// A text that is already there; `path` is how errors call it.
    pub(crate) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// The lines that count, in order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.text
            .strip_prefix('\u{feff}')
            .unwrap_or(&self.text)
            .lines()
            .enumerate()
            .map(|(index, text)| Line {
                path: &self.path,
                number: index + 1,
                text: text.trim_end(),
            })
            .filter(|line| {
                let text = line.text.trim_start();
                !text.is_empty() && !text.starts_with('#')
            })
    }

    /// The error that the file as a whole has this problem.
    pub(crate) fn error(&self, problem: impl Into<String>) -> FileError {
        FileError::Whole {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }
}

/// One line that counts.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    path: &'a Path,
    /// Its number in the file, from 1.
    pub(crate) number: usize,
    /// What it says, without the white space at its end.
    pub(crate) text: &'a str,
}

impl<'a> Line<'a> {
    /// Its fields, parted by commas if it has one and by white space if not.
    pub(crate) fn fields(&self) -> Vec<&'a str> {
        if self.text.contains(',') {
            self.text.split(',').map(str::trim).collect()
        } else {
            self.text.split_whitespace().collect()
        }
    }

    /// Its fields, parted by tabs if it has one and by commas if not: for fields that hold spaces.
    pub(crate) fn columns(&self) -> Vec<&'a str> {
        let mark = if self.text.contains('\t') { '\t' } else { ',' };
        self.text.split(mark).map(str::trim).collect()
    }

    /// Whether it names columns instead of holding figures: none of its fields is a number.
    pub(crate) fn is_header(&self) -> bool {
        !self.fields().into_iter().any(is_number)
    }

    /// The error that the line as a whole has this problem.
    pub(crate) fn error(&self, problem: impl Into<String>) -> FileError {
        FileError::Line {
            path: self.path.into(),
            line: self.number,
            problem: problem.into(),
        }
    }

    /// The error that one field has this problem.
    pub(crate) fn field_error(
        &self,
        field: impl Into<String>,
        problem: impl Into<String>,
    ) -> FileError {
        FileError::Field {
            path: self.path.into(),
            line: self.number,
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// A figure from 0 to `most`; `what` says what it should have been, in an error.
    pub(crate) fn figure(
        &self,
        field: &str,
        text: &str,
        most: f64,
        what: &str,
    ) -> Result<f64, FileError> {
        figure(text, most)
            .map_err(|problem| self.field_error(field, format!("{text:?} {problem} {what}")))
    }

    /// A round trip in milliseconds.
    pub(crate) fn round_trip(&self, field: &str, text: &str) -> Result<f64, FileError> {
        self.figure(field, text, MOST_MS, "round trip in milliseconds")
    }
}

/// The longest round trip that a file may hold, in milliseconds: ten minutes, past any network.
pub(crate) const MOST_MS: f64 = 600_000.0;

/// The most bytes of a file once unpacked: 1 GiB, because all of it is held in memory.
const MOST_BYTES: u64 = 1 << 30;

/// Whether it reads as a number, be it one that makes sense or not.
pub(crate) fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

fn figure(text: &str, most: f64) -> Result<f64, &'static str> {
    let value: f64 = text.parse().map_err(|_| "is no")?;
    if !value.is_finite() || value < 0.0 {
        return Err("is no");
    }
    if value > most {
        return Err("is too large for a");
    }
    Ok(value)
}

fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start)?;
    let is_packed = start == [0x1f, 0x8b];
    let whole = io::Cursor::new(start).chain(file);
    let mut bytes = Vec::new();
    if is_packed {
        let unpacked = MultiGzDecoder::new(BufReader::new(whole));
        unpacked.take(most + 1).read_to_end(&mut bytes)?;
    } else {
        whole.take(most + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!(
            "it holds more than {most} bytes once unpacked"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use tempfile::{TempDir, tempdir};

    use super::*;

    /// A file that lives as long as the test; errors call it by `name` at the end of a path.
    pub(crate) fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
        let dir = tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    pub(crate) fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(bytes: &[u8]) -> Vec<(usize, String)> {
        let (_dir, path) = file("some.txt", bytes);
        let text = Text::read(&path).unwrap();
        text.lines()
            .map(|line| (line.number, line.fields().join("|")))
            .collect()
    }

    #[test]
    fn comments_and_empty_lines_do_not_count_but_are_numbered() {
        let expected = vec![(2, "a|b".to_string()), (5, "1|2".to_string())];
        assert_eq!(lines(b"# hello\na b\n\n  # more\n1 ,  2\r\n"), expected);
    }

    #[test]
    fn packed_files_read_like_plain_ones() {
        let text = "\u{feff}node,up_s\n1, 2\n";
        assert_eq!(lines(&packed(text)), lines(text.as_bytes()));
        let twice = [packed("1\n"), packed("2\n")].concat();
        assert_eq!(lines(&twice), lines(b"1\n2\n"));
    }

    #[test]
    fn a_file_that_unpacks_to_too_much_is_refused() {
        let (_dir, path) = file("bomb.gz", &packed(&"0".repeat(10_000)));
        assert!(bytes(&path, 10_000).is_ok());
        let error = bytes(&path, 9_999).unwrap_err().to_string();
        assert!(error.contains("more than 9999 bytes"), "{error}");
    }

    #[test]
    fn a_file_that_is_cut_short_cannot_be_read() {
        let whole = packed("1 2 3 4 5 6 7 8 9\n");
        let (_dir, path) = file("cut.gz", &whole[..whole.len() - 9]);
        let error = Text::read(&path).err().unwrap().to_string();
        assert!(
            error.starts_with("cannot read ") && error.contains("cut.gz: "),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Text::read(Path::new("nowhere.txt")).err().unwrap();
        assert!(error.to_string().starts_with("cannot read nowhere.txt: "));
    }

    #[test]
    fn bytes_that_are_no_text_are_told_with_their_line() {
        let (_dir, path) = file("bytes.txt", b"1 2\n3 \xff\n");
        let error = Text::read(&path).err().unwrap().to_string();
        assert!(
            error.ends_with("bytes.txt:2: this is no text (UTF-8)"),
            "{error}"
        );
    }

    #[test]
    fn only_finite_figures_from_zero_upward_are_figures() {
        assert_eq!(figure("1e2", 100.0), Ok(100.0));
        for bad in ["", "abc", "nan", "NaN", "inf", "-inf", "-1", "1;2", "0x10"] {
            assert_eq!(figure(bad, 1.0), Err("is no"), "{bad}");
        }
        assert_eq!(figure("101", 100.0), Err("is too large for a"));
    }

    #[test]
    fn a_header_is_a_line_without_numbers() {
        let is_header = |text: &str| Text::new("", text).lines().next().unwrap().is_header();
        assert!(is_header("node,up_s,down_s"));
        assert!(is_header("h1 h2 10.0.0.1"));
        assert!(!is_header("abc 1 2"));
        assert!(!is_header("nan nan"));
    }
}
