//! Faults of an input, collected so that one pass tells all of them, but no more than a few of each table.

use std::path::Path;

use crate::error::{Error, Result, printable};

/// Faults that are told of one table; the rest is counted.
const LIMIT_FAULTS: usize = 20;

/// The faults of one folder, in the order they were found.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<String>);

/// The faults of one table, under the table's name.
pub(super) struct TableFaults<'a> {
    all: &'a mut Faults,
    pub(super) name: String,
    count: usize,
}

impl Faults {
    /// The error of all of them, if there are any.
    ///
    /// # Errors
    /// One [`Error::Faults`], or, of a single fault, one line.
    pub(super) fn check(mut self, subject: &Path) -> Result<()> {
        match (self.0.pop(), self.0.is_empty()) {
            (None, _) => Ok(()),
            (Some(only), true) => Err(Error::input(only)),
            (Some(last), false) => {
                self.0.push(last);
                Err(Error::Faults { subject: subject.display().to_string(), faults: self.0 })
            }
        }
    }

    pub(super) fn table(&mut self, name: &str) -> TableFaults<'_> {
        TableFaults { all: self, name: name.to_string(), count: 0 }
    }
}

impl TableFaults<'_> {
    /// Whether further faults are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.count >= LIMIT_FAULTS
    }

    pub(super) fn add(&mut self, line: Option<usize>, what: impl std::fmt::Display) {
        self.count += 1;
        if self.count <= LIMIT_FAULTS {
            let place = line.map(|l| format!("{}:{l}", self.name)).unwrap_or_else(|| self.name.clone());
            self.all.0.push(format!("{place}: {}", printable(&what.to_string())));
        }
    }
}

impl Drop for TableFaults<'_> {
    fn drop(&mut self) {
        if self.count > LIMIT_FAULTS {
            self.all.0.push(format!("{}: {} more faults", self.name, self.count - LIMIT_FAULTS));
        }
    }
}
