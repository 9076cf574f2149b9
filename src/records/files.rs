//! Reading and writing the files of a run folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, Result};
use crate::output::{self, Inputs};

/// Held by the process that runs in a folder.
pub(super) const LOCK: &str = ".lock";

/// The bytes of a file; none where there is no file. What is no file, a pipe or a device, is damage.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let whole = fs::metadata(path).and_then(|metadata| match metadata.is_file() {
        true => fs::read(path).map(Some),
        false => Ok(None),
    });
    match whole {
        Ok(None) => Err(Error::damaged(path, "is not a file")),
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io(path, source)),
    }
}

/// Writes a file of the run folder, whole or not at all, with the folders that it lies in.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let made: Vec<&Path> = path.ancestors().skip(1).take_while(missing).collect();
    if let Some(folder) = made.first() {
        fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    }
    output::write(path, bytes, &Inputs::none())?;
    // A new folder stands in the one above it.
    for above in made.iter().filter_map(|folder| folder.parent()) {
        output::sync_folder(above).map_err(|source| Error::io(above, source))?;
    }
    Ok(())
}

/// Renames a file or folder to `NAME.damaged`, or `NAME.damaged-2` and so on, beside itself; returns where it is now.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut number = 1;
    loop {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let aside = path.with_file_name(format!("{name}.damaged{suffix}"));
        if aside.symlink_metadata().is_err() {
            fs::rename(path, &aside).map_err(|source| Error::io(path, source))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            output::sync_folder(folder).map_err(|source| Error::io(folder, source))?;
            return Ok(aside);
        }
        number += 1;
    }
}

/// Whether a folder holds anything but what a killed run left before its plan was written.
pub(super) fn holds_something(root: &Path) -> Result<bool> {
    if !root.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(root).map_err(|source| Error::io(root, source))? {
        let name = entry.map_err(|source| Error::io(root, source))?.file_name();
        let name = name.to_string_lossy();
        let unfinished = name.starts_with(".plan.toml.") && name.ends_with(".part");
        if name != LOCK && !unfinished {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn view<'a>(dtype: Dtype, shape: &[usize], bytes: &'a [u8]) -> Result<TensorView<'a>> {
    TensorView::new(dtype, shape.to_vec(), bytes)
        .map_err(|error| Error::input(format!("a tensor cannot be stored: {error}")))
}

pub(super) fn serialise<S, V>(tensors: impl IntoIterator<Item = (S, V)>) -> Result<Vec<u8>>
where
    S: AsRef<str> + Ord + std::fmt::Display,
    V: safetensors::View,
{
    safetensors::serialize(tensors, None).map_err(|error| Error::input(format!("tensors cannot be stored: {error}")))
}

/// The tensors that the bytes of the file at `path` hold.
pub(super) fn tensors(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
        .map_err(|error| Error::format(path, format!("is not a safetensors file: {error}")))?;
    Ok(tensors.into_iter().collect())
}
