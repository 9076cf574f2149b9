//! What protects the files of a run: each record ends with a [`Seal`], which says what run it is
//! of, hashes the files that it stands for and the records that it was made from, and holds a
//! digest of the record itself.
//!
//! The digest is the SHA-256 of the record's canonical text: its JSON without blanks, keys sorted,
//! without the digest and without the wall-clock seconds. Two runs of one plan have other seconds
//! and else the same records, so they have the same digests; the seconds have a digest of their
//! own.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::FORMAT;
use crate::digest::sha256;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// What run it is of: a digest of plan, data and pretrained weights. Empty where the run has no manifest.
    pub run: String,
    /// What computed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed: Option<Computed>,
    /// Files that it stands for, by their path in the run folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileSeal>,
    /// Digests of the records that it was made from, by their path in the run folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub from: BTreeMap<String, String>,
    /// Digest of the record.
    pub digest: String,
}

/// What can change the last bits of a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Computed {
    /// Version of this program.
    pub version: String,
    /// The vectors that the kernels used, as in [`Manifest::vectors`](super::Manifest::vectors).
    pub vectors: String,
    /// `cpu`, or the device with driver and libraries.
    pub device: String,
}

/// What a file must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSeal {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Length.
    pub bytes: u64,
}

impl FileSeal {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { sha256: sha256(bytes), bytes: bytes.len() as u64 }
    }
}

/// Bytes of a record that is parsed whatever it is.
const SHORT: usize = 1 << 20;

/// Why a record is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Of another format, and whole as far as can be seen.
    Format(u64),
    /// Not as it was written.
    Damaged(String),
}

#[derive(Serialize)]
struct Sealed<'a, T> {
    #[serde(flatten)]
    record: &'a T,
    seal: &'a Seal,
}

/// The text of a record with its seal, whose digest is filled in.
pub(super) fn sealed<T: Serialize>(record: &T, mut seal: Seal) -> serde_json::Result<Vec<u8>> {
    seal.digest.clear();
    let unsigned = serde_json::to_vec_pretty(&Sealed { record, seal: &seal })?;
    seal.digest = digest_of(serde_json::from_slice(&unsigned)?);
    serde_json::to_vec_pretty(&Sealed { record, seal: &seal })
}

fn digest_of(mut value: Value) -> String {
    if let Some(object) = value.as_object_mut() {
        object.remove("seconds");
        if let Some(seal) = object.get_mut("seal").and_then(Value::as_object_mut) {
            seal.remove("digest");
        }
    }
    sha256(value.to_string().as_bytes())
}

/// A record and its seal, whose digest fits.
pub(super) fn unsealed<T: DeserializeOwned>(text: &[u8]) -> Result<(T, Seal), Refused> {
    // The seal comes last. What has none is not worth the memory that a long text takes once it is parsed.
    let end = &text[text.len().saturating_sub(256)..];
    if text.len() > SHORT && !end.windows(8).any(|window| window == b"\"digest\"") {
        return Err(Refused::Damaged("has no seal at its end".into()));
    }
    let broken = |error: serde_json::Error| Refused::Damaged(format!("is not a record: {error}"));
    let mut value: Value = serde_json::from_slice(text).map_err(broken)?;
    let format = value.get("format").and_then(Value::as_u64);
    let Some(seal) = value.get("seal").cloned() else {
        return Err(match format {
            Some(format) if format != u64::from(FORMAT) => Refused::Format(format),
            _ => Refused::Damaged("has no seal".into()),
        });
    };
    let seal: Seal = serde_json::from_value(seal).map_err(broken)?;
    if digest_of(value.clone()) != seal.digest {
        return Err(Refused::Damaged("is not as it was written: its digest does not fit".into()));
    }
    match format {
        Some(format) if format != u64::from(FORMAT) => return Err(Refused::Format(format)),
        _ => {}
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("seal");
    }
    Ok((serde_json::from_value(value).map_err(broken)?, seal))
}

/// Whether `text` is, byte for byte, what [`sealed`] writes: a changed blank or a letter's case
/// changes no number, and no digest.
pub(super) fn is_verbatim<T: Serialize>(text: &[u8], record: &T, seal: &Seal) -> bool {
    serde_json::to_vec_pretty(&Sealed { record, seal }).is_ok_and(|written| written == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{DivergedRecord, Line};

    fn record() -> DivergedRecord {
        DivergedRecord { format: FORMAT, id: Line::Twin(1).id(3, 0), step: 7, learning_rate: 0.1 }
    }

    #[test]
    fn every_bit_of_a_record_counts() {
        let seal = Seal {
            run: "r".into(),
            files: [("a/b".into(), FileSeal::of(b"x"))].into(),
            from: [("c".into(), "d".into())].into(),
            ..Seal::default()
        };
        let text = sealed(&record(), seal).unwrap();
        let (read, seal) = unsealed::<DivergedRecord>(&text).unwrap();
        assert!(read == record() && is_verbatim(&text, &read, &seal));
        for bit in 0..8 * text.len() {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok((read, seal)) = unsealed::<DivergedRecord>(&flipped) {
                assert_eq!(read, record(), "bit {bit}");
                assert!(!is_verbatim(&flipped, &read, &seal), "bit {bit}");
            }
        }
    }

    #[test]
    fn another_format_is_no_damage() {
        let old = br#"{"format": 2, "arm": "lottery"}"#;
        assert_eq!(unsealed::<DivergedRecord>(old).unwrap_err(), Refused::Format(2));
        let later = sealed(&DivergedRecord { format: FORMAT + 1, ..record() }, Seal::default()).unwrap();
        assert_eq!(unsealed::<DivergedRecord>(&later).unwrap_err(), Refused::Format(u64::from(FORMAT) + 1));
    }
}
