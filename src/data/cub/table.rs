//! CUB's text tables: one record a line, fields apart by blanks, faults collected with their place.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

pub(super) use crate::data::faults::{Faults, TableFaults};
use crate::data::listing::{LEADS_OUT, leads_out};

/// What a line's text becomes, or what is wrong with it.
pub(super) type Parsed<T> = Result<T, String>;

/// No table may be larger: the largest of the full set, image_attribute_labels.txt, has about 100 MB.
const LIMIT_BYTES: u64 = 1 << 30;

/// The text of a table, or a fault.
pub(super) fn text(folder: &Path, faults: &mut TableFaults<'_>) -> Option<String> {
    let path = folder.join(&faults.name);
    // `attributes.txt` alone may lie beside the folder.
    if !faults.name.starts_with("..") && folder.canonicalize().is_ok_and(|folder| leads_out(&folder, &path)) {
        faults.add(None, LEADS_OUT);
        return None;
    }
    let read = std::fs::metadata(&path).and_then(|metadata| match metadata.len() {
        0 => Err(std::io::Error::other("is empty")),
        length if length > LIMIT_BYTES => {
            Err(std::io::Error::other(format!("has {length} bytes, more than {LIMIT_BYTES}")))
        }
        _ => std::fs::read_to_string(&path),
    });
    match read {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            faults.add(None, "not found");
            None
        }
        Err(e) => {
            faults.add(None, e);
            None
        }
    }
}

/// Lines that are not blank, numbered from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())).filter(|(_, line)| !line.is_empty())
}

/// A table of `ID REST` lines: for each id its line number and what `parse` makes of the rest.
/// `None` if the file cannot be read.
pub(super) fn by_id<T>(
    folder: &Path,
    name: &str,
    all: &mut Faults,
    mut parse: impl FnMut(&str) -> Parsed<T>,
) -> Option<BTreeMap<u32, (usize, T)>> {
    let mut faults = all.table(name);
    let text = text(folder, &mut faults)?;
    let mut records = BTreeMap::new();
    for (number, line) in lines(&text) {
        let (id, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let record = field::<u32>(id, "an id").and_then(|id| Ok((id, parse(rest.trim())?)));
        match record {
            Ok((id, _)) if records.contains_key(&id) => faults.add(Some(number), format!("id {id} is given twice")),
            Ok((id, value)) => drop(records.insert(id, (number, value))),
            Err(what) => faults.add(Some(number), what),
        }
    }
    Some(records)
}

/// One field as a number.
pub(super) fn field<T: FromStr>(text: &str, what: &str) -> Parsed<T> {
    text.parse().map_err(|_| format!("`{text}` is not {what}"))
}

/// All fields of a line as finite numbers, exactly `N` of them.
pub(super) fn numbers<const N: usize>(text: &str) -> Result<[f64; N], String> {
    let mut numbers = [0.0; N];
    let mut fields = text.split_whitespace();
    for number in &mut numbers {
        let text = fields.next().ok_or_else(|| format!("`{text}` has fewer than {N} numbers"))?;
        *number = field::<f64>(text, "a number")?;
        if !number.is_finite() {
            return Err(format!("`{text}` is not finite"));
        }
    }
    match fields.next() {
        None => Ok(numbers),
        Some(_) => Err(format!("`{text}` has more than {N} numbers")),
    }
}

/// A field that is 0 or 1.
pub(super) fn flag(text: &str) -> Parsed<bool> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(format!("`{other}` is neither 0 nor 1")),
    }
}
