//! Seals a run folder anew after a test has edited it, as docs/reliability.md says, in code of its own.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every file below a folder, sorted.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn digest(record: &Value) -> String {
    let mut record = record.clone();
    if let Some(object) = record.as_object_mut() {
        object.remove("seconds");
    }
    if let Some(seal) = record.get_mut("seal").and_then(Value::as_object_mut) {
        seal.remove("digest");
    }
    sha256(record.to_string().as_bytes())
}

/// Makes hashes and digests fit what is there now. Records that cannot be read stay as they are.
pub(crate) fn reseal(root: &Path) {
    let paths: Vec<PathBuf> =
        files_below(root).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
    // A record's digest goes into those made from it: as often as the longest chain.
    for _ in 0..paths.len() {
        let mut changed = false;
        for path in &paths {
            let Ok(mut record) = serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()) else { continue };
            let before = record.clone();
            let Some(seal) = record.get_mut("seal").and_then(Value::as_object_mut) else { continue };
            if let Some(files) = seal.get_mut("files").and_then(Value::as_object_mut) {
                for (name, file) in files {
                    if let Ok(bytes) = std::fs::read(root.join(name)) {
                        *file = serde_json::json!({"sha256": sha256(&bytes), "bytes": bytes.len()});
                    }
                }
            }
            if let Some(from) = seal.get_mut("from").and_then(Value::as_object_mut) {
                for (name, digest) in from {
                    let source = std::fs::read(root.join(name)).unwrap_or_default();
                    if let Ok(source) = serde_json::from_slice::<Value>(&source) {
                        *digest = source["seal"]["digest"].clone();
                    }
                }
            }
            if let Some(seconds) = record.get_mut("seconds").and_then(Value::as_object_mut) {
                seconds.remove("digest");
            }
            let digest = digest(&record);
            record["seal"]["digest"] = digest.into();
            if record != before {
                changed = true;
                std::fs::write(path, serde_json::to_vec_pretty(&record).unwrap()).unwrap();
            }
        }
        if !changed {
            break;
        }
    }
}
