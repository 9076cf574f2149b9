//! Names of modules at whose output a network can be cut.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// A module's output, by the module's PyTorch name: `layer3`, `layer3.1`, `features.21`,
/// `blocks.5`. Which of them a network has, and can be cut at, [`super::Model::stages`] says. Names
/// order as people count: `features.9` before `features.21`.
///
/// Each name is kept once for the life of the program, so that a stage is as cheap to hand around as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(&'static str);

/// Longest name that is read; each is kept for good.
const LONGEST: usize = 96;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl Stage {
    /// A stage whose name is part of the program.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The module's name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The stage of a name made up from parts that are known to be fine.
    pub(super) fn interned(name: &str) -> Self {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return Self(known);
        }
        let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
        names.insert(name);
        Self(name)
    }

    /// The parts of the name, numbers as numbers.
    fn parts(self) -> impl Iterator<Item = Part<'static>> {
        self.0.split('.').map(|part| part.parse().map_or(Part::Text(part), Part::Number))
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(u32),
    Text(&'a str),
}

impl Ord for Stage {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(other.parts()).then_with(|| self.0.cmp(other.0))
    }
}

impl PartialOrd for Stage {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl FromStr for Stage {
    type Err = Error;

    /// Any module name; whether a network has it is asked of the network.
    fn from_str(name: &str) -> Result<Self> {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if name.is_empty() || name.len() > LONGEST || !name.chars().all(fine) {
            let shown: String = name.chars().take(LONGEST).collect();
            return Err(Error::input(format!("stage `{shown}` is no module's name, such as layer3 or features.21")));
        }
        Ok(Self::interned(name))
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Stage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_names_in_the_order_in_which_people_count() {
        let of = |name: &str| name.parse::<Stage>().unwrap();
        assert_eq!(of("layer3"), Stage::new("layer3"));
        let mut names = ["features.21", "layer3.1", "features.9", "layer3", "layer10.0"].map(of);
        names.sort();
        assert_eq!(names.map(Stage::name), ["features.9", "features.21", "layer10.0", "layer3", "layer3.1"]);
        for bad in ["", "layer 3", "a/b", "../x", &"x".repeat(97)] {
            assert!(bad.parse::<Stage>().is_err(), "{bad}");
        }
    }
}
