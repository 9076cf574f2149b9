//! Maps named on the command line, one for each image, of any model.

use super::ActivationSource;
use crate::error::{Error, Result};

/// Height and width, and one map for each image.
pub type Maps = ([usize; 2], Vec<Vec<f32>>);

/// Reads a maps argument: an `(N, H, W)` or `(N, 1, H, W)` array of floating-point numbers, as
/// [`ActivationSource`] reads them.
///
/// # Errors
/// The file is named: it holds no such array, or a value that is not finite.
pub fn read_maps(argument: &str) -> Result<Maps> {
    let source = ActivationSource::open(argument, None)?;
    let (&[height, width] | &[1, height, width]) = source.shape() else {
        let what = format!("maps are (N, H, W), one of these is {:?}", source.shape());
        return Err(Error::input(format!("{}: {what}", source.name())));
    };
    let values = source.values(0..source.len())?;
    Ok(([height, width], values.chunks_exact(height * width).map(<[f32]>::to_vec).collect()))
}
