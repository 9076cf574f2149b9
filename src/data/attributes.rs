//! Which pictures show which attribute, from a CSV table: `image,striped,winged`, then a line for each picture.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use crate::data::ConceptTable;
use crate::data::faults::Faults;
use crate::error::{Error, Result, near_miss};

/// No table may be larger: 200,000 pictures of 100 attributes have about 50 MiB.
const LIMIT_BYTES: u64 = 512 << 20;

/// Reads a table whose first column names pictures, by paths in `place_of` (with `/`), and whose
/// others are attributes: `1`, `true` or `yes` where the picture shows it, `0`, `-1`, `false` or
/// `no` where it does not, empty or `?` where that is doubtful. `place_of` gives the number of a
/// picture, or nothing for one that is not used; pictures without a line are doubtful.
///
/// # Errors
/// One [`Error::Faults`] with the faults by line: a picture that is not in the folder or named
/// twice, a value that is none of these, a line that is too short or long; an attribute that no
/// picture shows.
pub(crate) fn read_attributes(path: &Path, place_of: &BTreeMap<String, Option<usize>>) -> Result<ConceptTable> {
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    let size = metadata.len();
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a file"));
    }
    if size > LIMIT_BYTES {
        return Err(Error::format(path, format!("has {size} bytes, more than {LIMIT_BYTES}")));
    }
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let reader = BufReader::new(file).take(LIMIT_BYTES);
    let mut reader = ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(reader);
    let broken = |e: csv::Error| Error::format(path, format!("is not a CSV table in UTF-8: {e}"));
    let header = reader.headers().map_err(broken)?.clone();
    let names: Vec<String> = header.iter().skip(1).map(str::to_owned).collect();
    if names.is_empty() || names.iter().any(|name| name.is_empty() || name.contains(char::is_control)) {
        let what = "line 1: the first column names pictures, each other column an attribute, such as `image,striped`";
        return Err(Error::format(path, what));
    }
    let mut all = Faults::default();
    let mut faults = all.table(&path.display().to_string());
    let (mut members, mut others) = (vec![Vec::new(); names.len()], vec![Vec::new(); names.len()]);
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        match row(&record, names.len(), line, place_of, &mut lines) {
            // The nearest of many names takes its time: only where it is told.
            Err(Fault::Unknown(name)) if !faults.is_full() => {
                let near = near_miss(&name, place_of.keys().map(String::as_str));
                faults.add(Some(line), format!("there is no picture `{name}`{near}"));
            }
            Err(Fault::Unknown(name)) => faults.add(Some(line), name),
            Err(Fault::Other(what)) => faults.add(Some(line), what),
            Ok(None) => {}
            Ok(Some(place)) => {
                for (column, text) in record.iter().skip(1).enumerate() {
                    match value(text) {
                        Ok(Some(true)) => members[column].push(place),
                        Ok(Some(false)) => others[column].push(place),
                        Ok(None) => {}
                        Err(what) => faults.add(Some(line), format!("`{}`: {what}", names[column])),
                    }
                }
            }
        }
    }
    for (name, _) in names.iter().zip(&members).filter(|(_, members)| members.is_empty()) {
        faults.add(None, format!("attribute `{name}`: no picture shows it"));
    }
    drop(faults);
    all.check(path.parent().unwrap_or(path))?;
    ConceptTable::new(names, members, others).map_err(|e| Error::format(path, format!("line 1: {e}")))
}

enum Fault {
    Unknown(String),
    Other(String),
}

/// The number of a line's picture, if it is used.
fn row(
    record: &StringRecord,
    attributes: usize,
    line: usize,
    place_of: &BTreeMap<String, Option<usize>>,
    lines: &mut BTreeMap<String, usize>,
) -> std::result::Result<Option<usize>, Fault> {
    if record.len() != attributes + 1 {
        return Err(Fault::Other(format!("{} values, the first line has {}", record.len(), attributes + 1)));
    }
    let name = record[0].replace('\\', "/");
    let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
    let Some(&place) = place_of.get(&name) else {
        return Err(Fault::Unknown(name));
    };
    match lines.insert(name.clone(), line) {
        Some(first) => Err(Fault::Other(format!("`{name}` stands in line {first} already"))),
        None => Ok(place),
    }
}

fn value(text: &str) -> std::result::Result<Option<bool>, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Ok(Some(true)),
        "0" | "-1" | "false" | "no" => Ok(Some(false)),
        "" | "?" => Ok(None),
        _ => Err(format!("`{text}` is not 1, 0 or empty")),
    }
}
