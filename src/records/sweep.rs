//! The folder of sweeps: `units/ID` and `points/ID`, run folders that all sweeps in it share, and
//! for each sweep a folder of its own with `sweep.toml` (the plan with its grid), `units.json`
//! (what its jobs are told by number), `failed/ID.txt`, `logs/`, and, in the end, `sweep.json`,
//! what was found.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::input;
use crate::plan::{Arm, LONGEST_PLAN, Part, Plan, Sweep};

use super::files::{read, write_atomically};
use super::{FORMAT, Verdict};

/// Digits of a digest that name a folder.
const DIGITS: usize = 32;
/// Bytes of a file of a sweep.
const LONGEST: u64 = 1 << 30;

/// What the units of a sweep are (`units.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepUnits {
    /// [`FORMAT`].
    pub format: u32,
    /// The plan's name.
    pub name: String,
    /// Where units compute: `cpu`, `cuda`.
    pub device: String,
    /// Whether units that another version or kind of machine has computed may stand in one point.
    pub allow_mixed: bool,
    /// The units, each after those that it needs.
    pub units: Vec<Unit>,
}

/// One unit: a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Name of its folder: from the digest of its plan.
    pub id: String,
    /// The first point that has it.
    pub point: usize,
    /// Which networks of the point's plan.
    pub part: Part,
    /// The unit whose networks it starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<usize>,
}

/// What a sweep found (`sweep.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// The plan's name.
    pub name: String,
    /// Fields that vary over the grid.
    pub axes: Vec<String>,
    /// The points, in the order of the grid.
    pub points: Vec<PointRecord>,
}

/// One point of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointRecord {
    /// Name of its run folder.
    pub id: String,
    /// Its values of the axes, as TOML, in the axes' order.
    pub values: Vec<String>,
    /// What came out; absent where a unit is missing.
    pub found: Option<PointFound>,
    /// What is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What came out at a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointFound {
    /// Replicates.
    pub replicates: usize,
    /// Hypothesis A.
    pub a: Verdict,
    /// Hypothesis B.
    pub b: Verdict,
    /// The least density of the lottery arm.
    pub least_density: f64,
    /// Mean test accuracy of the dense networks.
    pub dense_accuracy: f64,
    /// Mean test accuracy of the lottery arm at its least density.
    pub least_accuracy: f64,
    /// The study's answer in one sentence.
    pub answer: String,
    /// The study's warnings.
    pub warnings: Vec<String>,
}

/// The folder of one sweep, in the folder of sweeps.
#[derive(Clone, Debug)]
pub struct SweepStore {
    sweeps: PathBuf,
    own: PathBuf,
}

/// The name of a plan's folder: of all that decides its networks. Data and pretrained weights are
/// known by their paths, which the plan's own digest leaves out: a grid may go over them, and what
/// is finished is not opened again to see what it was made from.
fn id_of(plan: &Plan) -> Result<String> {
    let paths = [&plan.data.path, &plan.model.pretrained].map(|path| path.as_deref().map(Path::to_string_lossy));
    let known = serde_json::to_vec(&(plan.digest()?, paths)).map_err(|error| Error::input(error.to_string()))?;
    Ok(sha256(&known)[..DIGITS].to_owned())
}

impl Unit {
    /// The unit of a point's plan.
    ///
    /// # Errors
    /// Only when the plan cannot be hashed.
    pub fn id(plan: &Plan, part: Part) -> Result<String> {
        id_of(&plan.unit(part))
    }

    /// What it needs of the same replicate: an arm the dense network, a control the lottery arm, with that network.
    pub fn source(part: Part) -> Option<Part> {
        let arm = match part.arm? {
            Arm::Lottery => None,
            _ => Some(Arm::Lottery),
        };
        Some(Part { arm, ..part })
    }
}

impl SweepStore {
    /// Where a sweep lies in the folder `sweeps`; nothing is read or written.
    ///
    /// # Errors
    /// Only when the sweep cannot be hashed.
    pub fn of(sweeps: &Path, sweep: &Sweep, units: &SweepUnits) -> Result<Self> {
        let mixed = if units.allow_mixed { "mixed" } else { "" };
        let same = [sweep.to_toml()?.as_str(), &units.device, mixed].join("\n");
        let own = sweeps.join(format!("{}-{}", units.name, &sha256(same.as_bytes())[..8]));
        Ok(Self { sweeps: sweeps.to_owned(), own })
    }

    /// Starts it, or finds it started.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(&self, sweep: &Sweep, units: &SweepUnits) -> Result<()> {
        write_atomically(&self.own.join("sweep.toml"), sweep.to_toml()?.as_bytes())?;
        self.write("units.json", units)
    }

    /// The folder of a sweep that was started.
    ///
    /// # Errors
    /// When it is none.
    pub fn existing(own: &Path) -> Result<Self> {
        let own = fs::canonicalize(own).map_err(|source| Error::io(own, source))?;
        match own.parent() {
            Some(sweeps) if own.join("units.json").is_file() => Ok(Self { sweeps: sweeps.to_owned(), own }),
            _ => Err(Error::format(&own, "is not the folder of a sweep: it holds no units.json")),
        }
    }

    /// The folder of this sweep.
    pub fn root(&self) -> &Path {
        &self.own
    }

    /// The run folder of a unit.
    pub fn unit_path(&self, id: &str) -> PathBuf {
        self.sweeps.join("units").join(id)
    }

    /// The run folder of a point, and its name.
    ///
    /// # Errors
    /// Only when the plan cannot be hashed.
    pub fn point(&self, plan: &Plan) -> Result<(PathBuf, String)> {
        let id = id_of(plan)?;
        Ok((self.sweeps.join("points").join(&id), id))
    }

    /// The plan with its grid.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sweep(&self) -> Result<Sweep> {
        let path = self.own.join("sweep.toml");
        let text = input::read_text(&path, LONGEST_PLAN)?;
        Sweep::read(&path.display().to_string(), &text, &[])
    }

    /// The units.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn units(&self) -> Result<SweepUnits> {
        let units: SweepUnits = self.read("units.json")?.ok_or_else(|| self.lacks("units.json"))?;
        let fault = |unit: &Unit| Error::format(self.own.join("units.json"), format!("names `{}` as a unit", unit.id));
        for (index, unit) in units.units.iter().enumerate() {
            let named = unit.id.len() == DIGITS && unit.id.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !named || unit.needs.is_some_and(|needs| needs >= index) {
                return Err(fault(unit));
            }
        }
        Ok(units)
    }

    fn lacks(&self, name: &str) -> Error {
        Error::io(self.own.join(name), std::io::ErrorKind::NotFound.into())
    }

    /// Whether a unit is finished.
    pub fn is_done(&self, id: &str) -> bool {
        self.unit_path(id).join("unit.json").is_file()
    }

    /// Marks a unit as finished: written last. Its failure, if it had failed, is forgotten.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&self, unit: &Unit) -> Result<()> {
        self.forget_failure(&unit.id)?;
        let text = serde_json::to_vec(unit).map_err(|error| Error::input(error.to_string()))?;
        write_atomically(&self.unit_path(&unit.id).join("unit.json"), &text)
    }

    /// Takes that mark away, where networks are found to be missing or damaged.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn unfinish(&self, id: &str) -> Result<()> {
        remove(&self.unit_path(id).join("unit.json"))
    }

    fn failure_path(&self, id: &str) -> PathBuf {
        self.own.join("failed").join(format!("{id}.txt"))
    }

    /// Says why a unit failed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn fail(&self, id: &str, why: &str) -> Result<()> {
        write_atomically(&self.failure_path(id), why.as_bytes())
    }

    /// Why a unit failed, if it did.
    pub fn failure(&self, id: &str) -> Option<String> {
        fs::read_to_string(self.failure_path(id)).ok()
    }

    /// Forgets that.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn forget_failure(&self, id: &str) -> Result<()> {
        remove(&self.failure_path(id))
    }

    /// A file of the sweep's folder; none where there is none.
    ///
    /// # Errors
    /// When it is not what it should be.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.own.join(name);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LONGEST) {
            return Err(Error::format(path, format!("is longer than {LONGEST} bytes, which no file of a sweep is")));
        }
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| Error::format(&path, error.to_string()))?;
        if let Some(format) =
            value.get("format").and_then(serde_json::Value::as_u64).filter(|&it| it != u64::from(FORMAT))
        {
            return Err(Error::format(path, format!("has record format {format}; this program reads {FORMAT}")));
        }
        serde_json::from_value(value).map(Some).map_err(|error| Error::format(path, error.to_string()))
    }

    /// Writes one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let path = self.own.join(name);
        let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::format(&path, error.to_string()))?;
        bytes.push(b'\n');
        write_atomically(&path, &bytes)
    }

    /// What the sweep found, if it was put together.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn record(&self) -> Result<SweepRecord> {
        self.read("sweep.json")?.ok_or_else(|| self.lacks("sweep.json"))
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, source)),
        _ => Ok(()),
    }
}
