//! Maps named on the command line, one for each image, of any model.

use std::path::Path;

use super::array_file::{ArrayFile, Element, split_key};
use crate::error::Result;

/// Height and width, and one map for each image.
pub type Maps = ([usize; 2], Vec<Vec<f32>>);

/// Reads a maps argument: an `(N, H, W)` or `(N, 1, H, W)` array of f32 or f64, as `FILE.safetensors:KEY` or a NumPy file.
///
/// # Errors
/// The file is named: it holds no such array, or a value that is not finite.
pub fn read_maps(argument: &str) -> Result<Maps> {
    let path = Path::new(argument);
    let array = match split_key(argument) {
        Some((file, key)) if !path.exists() => ArrayFile::safetensors(&file, key)?,
        _ => ArrayFile::npy(path)?,
    };
    let (count, height, width) = match *array.shape() {
        [count, height, width] | [count, 1, height, width] if count * height * width > 0 => (count, height, width),
        _ => return Err(array.fault(format!("maps must be (N, H, W), its shape is {:?}", array.shape()))),
    };
    if !matches!(array.element(), Element::F32 | Element::F64) {
        return Err(array.fault(format!("maps must be f32 or f64, it holds {:?}", array.element())));
    }
    let values = array.floats(0..count * height * width)?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(array.fault(format!("map {} holds {}", at / (height * width), values[at]))),
        None => Ok(([height, width], values.chunks_exact(height * width).map(<[f32]>::to_vec).collect())),
    }
}
