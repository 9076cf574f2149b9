//! Sweeps: a plan with a table `[sweep]`, whose lists are the axes of a grid, and what its points are made of.
//!
//! A **point** is one plan of the grid, with all its replicates and arms. A **unit** is what one
//! job makes of it: the dense network and the twins of one replicate, or one arm of one replicate.
//! A unit is itself a plan ([`Plan::unit`]) without all that does not decide its networks, so that
//! points, and sweeps, that need the same networks have the same unit.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::read::set;
use super::{Arm, Plan, VerdictPlan};
use crate::error::{Error, Result};
use crate::prune::Scope;

/// Points of a grid.
const MOST_POINTS: usize = 100_000;
/// Units of a sweep.
const MOST_UNITS: usize = 1_000_000;
/// Fields of a plan that are paths.
const PATHS: [&str; 2] = ["data.path", "model.pretrained"];

/// Some networks of a plan: what one unit of a sweep makes ([`Plan::unit`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Of this replicate.
    pub replicate: usize,
    /// This arm, with what it is made from; where absent the dense network and its twins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arm>,
}

/// What a unit asks of a cluster, in the plan's table `[slurm]`; a flag of the program goes before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Account that is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Time limit of a unit, as Slurm writes it: minutes, `HH:MM:SS`, `D-HH:MM:SS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Memory of a unit: MiB, or a number with K, M, G or T.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// CPUs of a unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u16>,
    /// GPUs of a unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u16>,
}

impl Cluster {
    /// The requests as options of `sbatch`, each `NAME=VALUE`.
    ///
    /// # Errors
    /// Where a value is not of the letters that Slurm's own are of: it would stand in a script.
    pub fn options(&self) -> Result<Vec<String>> {
        let mut options = Vec::new();
        let texts = [
            ("partition", "partition", &self.partition),
            ("account", "account", &self.account),
            ("time", "time", &self.time),
            ("memory", "mem", &self.memory),
        ];
        for (field, option, value) in texts {
            let Some(value) = value else { continue };
            let fits = |c: char| match field {
                "time" => c.is_ascii_digit() || matches!(c, ':' | '-'),
                "memory" => c.is_ascii_digit() || matches!(c, 'K' | 'M' | 'G' | 'T'),
                _ => c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ','),
            };
            if value.is_empty() || value.len() > 200 || !value.chars().all(fits) {
                return Err(Error::config(format!("slurm.{field}"), format!("`{value}` is no {field} of Slurm's")));
            }
            options.push(format!("{option}={value}"));
        }
        options.extend(self.cpus.map(|cpus| format!("cpus-per-task={cpus}")));
        options.extend(self.gpus.map(|gpus| format!("gres=gpu:{gpus}")));
        Ok(options)
    }
}

/// One axis of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Dotted field of the plan.
    pub key: String,
    /// Its values.
    pub values: Vec<Value>,
}

/// A plan with its grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    origin: String,
    base: Table,
    /// The axes, by key; the last varies fastest. None: one point.
    pub axes: Vec<Axis>,
    /// What a unit asks of a cluster.
    pub cluster: Cluster,
}

impl Sweep {
    /// Parses plan text with a grid; `origin` is named in errors. Every point is parsed and checked.
    ///
    /// # Errors
    /// As [`Plan::parse`], for any point; an axis that is no list, is empty or repeats a value; too
    /// many points or units.
    pub fn parse(origin: &str, text: &str, overrides: &[(String, String)]) -> Result<Self> {
        let sweep = Self::read(origin, text, overrides)?;
        let mut units = 0;
        for point in 0..sweep.points() {
            let plan = sweep.plan(point)?;
            if plan.part.is_some() {
                return Err(Error::config("part", "is for units of a sweep, which `sweep` makes itself"));
            }
            units += plan.parts().len();
            if units > MOST_UNITS {
                return Err(Error::config("sweep", format!("has more than {MOST_UNITS} units")));
            }
        }
        Ok(sweep)
    }

    /// [`Sweep::parse`] of what was checked before: each point is when it is asked for.
    ///
    /// # Errors
    /// As [`Sweep::parse`], but for the points.
    pub fn read(origin: &str, text: &str, overrides: &[(String, String)]) -> Result<Self> {
        let bad = |what: String| Error::input(format!("{origin}: {what}"));
        let mut base: Table = match toml::from_str(text) {
            Ok(table) => table,
            // Says the same, with the line.
            Err(_) => return Plan::parse(origin, text, &[]).and(Err(bad("is not TOML".into()))),
        };
        for (key, value) in overrides {
            set(&mut base, key, value)?;
        }
        let mut axes = Vec::new();
        match base.remove("sweep") {
            None => {}
            Some(Value::Table(grid)) => axes_of("", grid, &mut axes)?,
            Some(_) => return Err(Error::config("sweep", "is not a table")),
        }
        axes.sort_by(|a, b| a.key.cmp(&b.key));
        let cluster: Cluster = match base.remove("slurm") {
            None => Cluster::default(),
            Some(table) => table
                .try_into()
                .map_err(|error: toml::de::Error| Error::config("slurm", error.message().replace('\n', " ")))?,
        };
        cluster.options()?;
        let sweep = Self { origin: origin.to_owned(), base, axes, cluster };
        let count = sweep.axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()));
        if count.is_none_or(|count| count > MOST_POINTS) {
            return Err(Error::config("sweep", format!("has more than {MOST_POINTS} points")));
        }
        Ok(sweep)
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.axes.iter().map(|axis| axis.values.len()).product()
    }

    /// The fields of a point, with their values as TOML.
    pub fn settings(&self, point: usize) -> Vec<(String, String)> {
        let mut left = point;
        let mut settings = Vec::new();
        for axis in self.axes.iter().rev() {
            settings.push((axis.key.clone(), axis.values[left % axis.values.len()].to_string()));
            left /= axis.values.len();
        }
        settings.reverse();
        settings
    }

    /// The plan of a point.
    ///
    /// # Errors
    /// As [`Plan::parse`].
    pub fn plan(&self, point: usize) -> Result<Plan> {
        let settings = self.settings(point);
        let text = toml::to_string(&self.base).map_err(|error| Error::input(format!("{}: {error}", self.origin)))?;
        Plan::parse(&self.origin, &text, &settings).map_err(|error| match settings.is_empty() {
            true => error,
            false => Error::input(format!("{error} (sweep: {})", shown(&settings))),
        })
    }

    /// Turns every path of the plan, of the grid's values too, into what `place` says.
    pub fn place(&mut self, place: impl Fn(&str, &Path) -> PathBuf) {
        let placed = |key: &str, value: &mut Value| {
            if let (true, Value::String(text)) = (PATHS.contains(&key), value) {
                *text = place(key, Path::new(text)).to_string_lossy().into_owned();
            }
        };
        for key in PATHS {
            let inner = key.split_once('.').and_then(|(table, field)| self.base.get_mut(table)?.get_mut(field));
            inner.into_iter().for_each(|value| placed(key, value));
        }
        for axis in &mut self.axes {
            axis.values.iter_mut().for_each(|value| placed(&axis.key, value));
        }
    }

    /// The sweep as TOML: parsing it gives an equal sweep.
    ///
    /// # Errors
    /// Only when serialisation fails.
    pub fn to_toml(&self) -> Result<String> {
        let mut whole = self.base.clone();
        let mut grid = Table::new();
        for axis in &self.axes {
            grid.insert(axis.key.clone(), Value::Array(axis.values.clone()));
        }
        if !grid.is_empty() {
            whole.insert("sweep".into(), Value::Table(grid));
        }
        let bad = |error: toml::ser::Error| Error::input(format!("{}: {error}", self.origin));
        if self.cluster != Cluster::default() {
            whole.insert("slurm".into(), Value::try_from(&self.cluster).map_err(bad)?);
        }
        toml::to_string(&whole).map_err(bad)
    }
}

/// `key = value` of each, for people.
fn shown(settings: &[(String, String)]) -> String {
    settings.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ")
}

/// The lists of a table, by dotted key.
fn axes_of(above: &str, grid: Table, axes: &mut Vec<Axis>) -> Result<()> {
    for (key, value) in grid {
        let key = if above.is_empty() { key } else { format!("{above}.{key}") };
        let bad = |what: &str| Err(Error::config(format!("sweep.{key}"), what));
        match value {
            Value::Table(inner) => axes_of(&key, inner, axes)?,
            Value::Array(values) if values.is_empty() => return bad("has no values"),
            Value::Array(values) => {
                let distinct: BTreeSet<String> = values.iter().map(ToString::to_string).collect();
                if distinct.len() < values.len() {
                    return bad("names a value twice");
                }
                if axes.iter().any(|axis| axis.key == key) {
                    return bad("is given twice");
                }
                axes.push(Axis { key, values });
            }
            _ => return bad("is not a list of values, such as [0.2, 0.5]"),
        }
    }
    Ok(())
}

impl Plan {
    /// The replicates whose networks are made.
    pub fn own_replicates(&self) -> Range<usize> {
        match self.part {
            None => 0..self.replicates,
            Some(Part { replicate, .. }) => replicate..replicate + 1,
        }
    }

    /// The parts of the plan that are units: of each replicate the dense network with its twins,
    /// then each arm, `lottery` first.
    pub fn parts(&self) -> Vec<Part> {
        let mut arms = self.arms.clone();
        arms.sort();
        arms.dedup();
        let of = |replicate| {
            let arms = arms.clone().into_iter().map(Some);
            std::iter::once(None).chain(arms).map(move |arm| Part { replicate, arm })
        };
        (0..self.replicates).flat_map(of).collect()
    }

    /// The plan of a unit. What does not decide its networks has one value in every unit: the
    /// number of replicates, other arms, the margins; for an arm the twins; for the dense network
    /// and its twins how others are pruned.
    #[must_use]
    pub fn unit(&self, part: Part) -> Self {
        let mut plan = self.clone();
        plan.part = Some(part);
        plan.replicates = part.replicate + 1;
        plan.arms = vec![Arm::Lottery];
        plan.arms.extend(part.arm.filter(|&arm| arm != Arm::Lottery));
        let VerdictPlan { confidence, .. } = plan.verdict;
        plan.verdict = VerdictPlan { accuracy_margin: 0.0, drift_margin: 0.0, confidence, least_images: 0.0 };
        match part.arm {
            Some(_) => plan.floor.twins = 0,
            None => {
                plan.prune.rounds = 1;
                plan.prune.fraction = 0.5;
                plan.prune.scope = Scope::Global;
                plan.prune.layers.clear();
            }
        }
        plan
    }
}
