//! How long a round took, with a digest of its own (for `serde(with)`): the record's digest leaves seconds out.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::sha256;

/// How long parts of a round took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Training.
    pub train: f64,
    /// Evaluation and explanations.
    pub explain: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checked {
    train: f64,
    explain: f64,
    /// Absent where somebody has set the seconds, as for a comparison of two runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

fn digest(seconds: &Seconds) -> String {
    let bits = [seconds.train, seconds.explain].map(|value| value.to_bits().to_le_bytes());
    sha256(bits.as_flattened())[..16].to_owned()
}

pub(super) fn serialize<S: Serializer>(seconds: &Seconds, serializer: S) -> Result<S::Ok, S::Error> {
    let Seconds { train, explain } = *seconds;
    Checked { train, explain, digest: Some(digest(seconds)) }.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
    let Checked { train, explain, digest: found } = Checked::deserialize(deserializer)?;
    let seconds = Seconds { train, explain };
    match found {
        Some(found) if found != digest(&seconds) => Err(D::Error::custom("the seconds do not fit their digest")),
        _ => Ok(seconds),
    }
}
