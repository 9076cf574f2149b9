//! Labels named on the command line.

use std::path::Path;

use super::array_file::{ArrayFile, split_key};
use super::classes::classes_are;
use super::idx;
use super::impostor::what_is;
use crate::error::{Error, Result};
use crate::input;

/// Bytes that a text of labels may have.
const LIMIT_TEXT: u64 = 64 << 20;

/// Reads a labels argument, one whole number for each image: an IDX label file, `FILE.safetensors:KEY` or `FILE.npy` of
/// integers `(N)`, or a text file with one number on each line.
///
/// # Errors
/// Names the file and, in a text, the line that is not a label; labels are below `classes`.
pub fn read_label_argument(argument: &str, classes: usize) -> Result<Vec<u32>> {
    let path = Path::new(argument);
    let array = match split_key(argument) {
        Some((file, key)) if !path.exists() => Some(ArrayFile::safetensors(&file, key)?),
        _ if argument.ends_with(".npy") => Some(ArrayFile::npy(path)?),
        _ => None,
    };
    let numbers = match array {
        Some(array) => match *array.shape() {
            [count] => array.integers(0..count)?,
            _ => {
                return Err(array.fault(format!("labels must be (N), its shape is {:?}", array.shape())));
            }
        },
        None if argument.ends_with(".txt") || argument.ends_with(".csv") => {
            let text = String::from_utf8(input::read(path, LIMIT_TEXT)?).map_err(|error| {
                let what = what_is(error.as_bytes()).unwrap_or_else(|| "is not a text in UTF-8".into());
                Error::format(path, format!("{what}; labels are one whole number on each line"))
            })?;
            let number = |(line, text): (usize, &str)| {
                let parsed = text.trim().parse::<i64>();
                parsed.map_err(|_| {
                    let what = format!("line {}: `{text}` is not a label, a whole number alone on its line", line + 1);
                    Error::format(path, what)
                })
            };
            // Editors begin a text with a mark of its encoding and end it with empty lines.
            let text = text.trim_start_matches('\u{feff}').trim_end();
            if text.is_empty() {
                return Err(Error::format(path, "holds no label"));
            }
            text.lines().enumerate().map(number).collect::<Result<Vec<_>>>()?
        }
        None => idx::read_labels(path, classes)?.into_iter().map(i64::from).collect(),
    };
    let checked = numbers.iter().enumerate().map(|(i, &n)| match u32::try_from(n) {
        Ok(label) if (label as usize) < classes => Ok(label),
        _ => Err(Error::format(path, format!("label {n} of image {i} is out of range: {}", classes_are(classes)))),
    });
    checked.collect()
}
