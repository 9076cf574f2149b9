//! Activations, gradients and maps that another program wrote: an array in a file, read batch by batch.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::data::array_file::ArrayFile;
use crate::error::{Error, Result};

/// Arrays of images, of one shape. Values are read when a batch is asked for.
#[derive(Debug, Clone)]
pub struct ActivationSource {
    array: ArrayFile,
    name: String,
    count: usize,
    shape: Vec<usize>,
    tokens: Option<Tokens>,
}

/// How the tokens `(N, T, D)` of a transformer lie in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// Rows of the grid.
    pub height: usize,
    /// Columns of the grid.
    pub width: usize,
    /// Tokens before those of the grid, such as the class token.
    pub skip: usize,
}

impl ActivationSource {
    /// Opens `FILE.safetensors:KEY` or a NumPy file of floating-point numbers, 16, 32 or 64 bits
    /// (these are rounded to 32), whose first dimension is the images: `(N, D)`, `(N, C, H, W)` and
    /// so on. With `tokens` the array is `(N, T, D)`, and becomes `(N, D, H, W)`.
    ///
    /// # Errors
    /// Names the file and key that is missing, broken, of whole numbers, without values, or whose
    /// tokens are not those of the grid.
    pub fn open(argument: &str, tokens: Option<Tokens>) -> Result<Self> {
        let array = ArrayFile::open(argument)?;
        if !array.is_float() {
            return Err(array.fault("holds whole numbers; activations and gradients are floating-point"));
        }
        let (count, inner) = match array.shape() {
            [count, inner @ ..] if !inner.is_empty() => (*count, inner.to_vec()),
            shape => {
                let what =
                    format!("its shape is {shape:?}; the first dimension is the images, the rest one activation");
                return Err(array.fault(what));
            }
        };
        if count == 0 || inner.contains(&0) {
            return Err(array.fault(format!("holds no values: its shape is {:?}", array.shape())));
        }
        let shape = match tokens {
            None => inner,
            Some(Tokens { height, width, skip }) => match inner[..] {
                [tokens, features] if height.checked_mul(width).and_then(|n| n.checked_add(skip)) == Some(tokens) => {
                    vec![features, height, width]
                }
                [tokens, _] => {
                    let what = format!(
                        "has {tokens} tokens, a grid of {height} × {width} after {skip} others needs {}",
                        height.saturating_mul(width).saturating_add(skip)
                    );
                    return Err(array.fault(what));
                }
                _ => {
                    return Err(array.fault(format!("tokens are (N, T, D), its shape is {:?}", array.shape())));
                }
            },
        };
        Ok(Self { name: array.name(), array, count, shape, tokens })
    }

    /// `FILE:KEY`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many images there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a source without images cannot be opened")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// The shape of one image's array.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Ranges of at most `size` images that cover all.
    pub fn ranges(&self, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, size) = (self.count, size.max(1));
        (0..count).step_by(size).map(move |start| start..count.min(start + size))
    }

    /// The values of images `range`, row-major.
    ///
    /// # Errors
    /// If the range is out of bounds, the file cannot be read, or a value is NaN or infinite.
    pub fn values(&self, range: Range<usize>) -> Result<Vec<f32>> {
        if range.start >= range.end || range.end > self.count {
            return Err(Error::input(format!("{}: images {range:?} asked for, there are {}", self.name, self.count)));
        }
        let size: usize = self.array.shape()[1..].iter().product();
        let values = self.array.images(range, size)?;
        let Some(Tokens { skip, .. }) = self.tokens else { return Ok(values) };
        let features = self.shape[0];
        let mut planes = Vec::with_capacity(values.len());
        for image in values.chunks_exact(size) {
            let grid = &image[skip * features..];
            (0..features).for_each(|feature| planes.extend(grid.iter().skip(feature).step_by(features)));
        }
        Ok(planes)
    }

    /// The same as a tensor `(n, …)`.
    ///
    /// # Errors
    /// As [`ActivationSource::values`].
    pub fn tensor(&self, range: Range<usize>) -> Result<Tensor> {
        let shape: Vec<usize> = std::iter::once(range.len()).chain(self.shape.iter().copied()).collect();
        Ok(Tensor::from_vec(self.values(range)?, shape, &Device::Cpu)?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::DType;

    use super::*;

    fn saved(folder: &Path, dtype: DType) -> String {
        let values: Vec<f32> = (0..2 * 5 * 3).map(|value| value as f32 / 4.0).collect();
        let tensor = Tensor::from_vec(values, (2, 5, 3), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let path = folder.join("a.safetensors");
        candle_core::safetensors::save(&[("x".to_owned(), tensor)].into_iter().collect(), &path).unwrap();
        format!("{}:x", path.display())
    }

    #[test]
    fn every_float_is_read_and_ranges_cover_all() {
        let folder = tempfile::tempdir().unwrap();
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let source = ActivationSource::open(&saved(folder.path(), dtype), None).unwrap();
            assert_eq!((source.len(), source.shape()), (2, &[5, 3][..]));
            assert_eq!(source.values(1..2).unwrap()[..3], [3.75, 4.0, 4.25]);
            assert_eq!(source.ranges(1).collect::<Vec<_>>(), [0..1, 1..2]);
        }
        let error = ActivationSource::open(&saved(folder.path(), DType::U8), None).unwrap_err().to_string();
        assert!(error.contains("a.safetensors:x: holds whole numbers"), "{error}");
        let file = folder.path().join("a.safetensors").display().to_string();
        assert!(ActivationSource::open(&file, None).unwrap_err().to_string().contains("say which tensor"));
        let error = ActivationSource::open(&format!("{file}:y"), None).unwrap_err().to_string();
        assert!(error.contains("no tensor `y`; it holds x"), "{error}");
    }

    #[test]
    fn tokens_become_planes_without_those_before_the_grid() {
        let folder = tempfile::tempdir().unwrap();
        let argument = saved(folder.path(), DType::F32);
        let tokens = |height, width, skip| ActivationSource::open(&argument, Some(Tokens { height, width, skip }));
        let source = tokens(2, 2, 1).unwrap();
        assert_eq!(source.shape(), [3, 2, 2]);
        let first = source.tensor(0..1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let of_feature = |feature: usize| (1..5).map(move |token| (3 * token + feature) as f32 / 4.0);
        assert_eq!(first, (0..3).flat_map(of_feature).collect::<Vec<_>>());
        let error = tokens(2, 2, 0).unwrap_err().to_string();
        assert!(error.contains("has 5 tokens, a grid of 2 × 2 after 0 others needs 4"), "{error}");
        assert!(tokens(usize::MAX, 2, 1).is_err());
    }
}
