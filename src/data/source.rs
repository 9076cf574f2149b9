//! Images named on the command line: an array in a file, a folder of pictures, or an IDX file, read batch by batch.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::data::array_file::{ArrayFile, Element, split_key};
use crate::data::idx::{self, IdxImages};
use crate::data::listing::{Listing, named_picture};
use crate::data::picture::{self, Picture, Preprocess};
use crate::error::{Error, Result};

/// Images from outside, of one shape. Pixels are read when a batch is asked for, so memory is bounded by the batch
/// (an IDX file's bytes alone are held, one byte a pixel).
#[derive(Debug, Clone)]
pub struct ImageSource {
    name: String,
    count: usize,
    shape: (usize, usize, usize),
    kind: Kind,
    /// What stands beside the pictures of a folder, in one line.
    left_out: Option<String>,
}

#[derive(Debug, Clone)]
enum Kind {
    Array(ArrayFile),
    Pictures { paths: Vec<PathBuf>, preprocess: Preprocess },
    Idx { images: IdxImages, preprocess: Preprocess },
}

impl ImageSource {
    /// Opens an IMAGES argument:
    /// - `FILE.safetensors:KEY` or a NumPy file: an `(N, C, H, W)` array of f32 (or f64), used as it is;
    /// - a folder of pictures, in the order of their names, or one picture: prepared as `preprocess` says;
    /// - an IDX file of images, raw or gzip: normalised, and resized only if `preprocess` has a size.
    ///
    /// Which of them a file is, its content says.
    ///
    /// # Errors
    /// Names the file, key or picture that is missing, broken, of a format that is not read, of
    /// another shape than the rest, or too large.
    pub fn open(argument: &str, preprocess: &Preprocess) -> Result<Self> {
        let path = Path::new(argument);
        if path.is_dir() {
            let listing = Listing::new(path, path)?;
            listing.demand(path)?;
            let left_out = listing.left_out(path);
            return Ok(Self { left_out, ..Self::pictures(argument, listing.pictures, preprocess)? });
        }
        if !path.exists()
            && let Some((file, key)) = split_key(argument)
        {
            return Self::array(ArrayFile::safetensors(&file, key)?);
        }
        // Reading a pipe would wait for its writer, and a device has no end.
        if path.exists() && !path.is_file() {
            return Err(Error::format(path, "is not a file"));
        }
        let start = start_of(path)?;
        if start.starts_with(b"\x93NUMPY") || named(path, "npy") {
            return Self::array(ArrayFile::npy(path)?);
        }
        if ArrayFile::is_safetensors(&start) || named(path, "safetensors") {
            let keys = ArrayFile::keys(path)?;
            return Err(Error::input(format!("{argument}: say which tensor, as {argument}:KEY; it holds {keys}")));
        }
        if image::guess_format(&start).is_ok() || named_picture(path) {
            return Self::pictures(argument, vec![path.to_path_buf()], preprocess);
        }
        Self::idx(argument, idx::read_images(path)?, preprocess)
    }

    fn array(array: ArrayFile) -> Result<Self> {
        let &[count, c, h, w] = array.shape() else {
            return Err(array.fault(format!("images must be (N, C, H, W), its shape is {:?}", array.shape())));
        };
        if count * c * h * w == 0 {
            return Err(array.fault(format!("holds no images: its shape is {:?}", array.shape())));
        }
        if !matches!(array.element(), Element::F32 | Element::F64) {
            return Err(array.fault(format!("images must be f32, it holds {:?}", array.element())));
        }
        Ok(Self { name: array.name(), count, shape: (c, h, w), kind: Kind::Array(array), left_out: None })
    }

    fn pictures(argument: &str, paths: Vec<PathBuf>, preprocess: &Preprocess) -> Result<Self> {
        preprocess.check()?;
        let size = match preprocess.crop {
            Some(side) => (side, side),
            None => {
                // Every header is read: pictures that cannot make one batch are found now.
                let size_of = |path: &PathBuf| -> Result<(usize, usize)> {
                    let (width, height) = picture::dimensions(path)?;
                    Ok(preprocess.input(width, height, path)?.size)
                };
                let sizes =
                    paths.par_iter().map(size_of).collect::<Vec<_>>().into_iter().collect::<Result<Vec<_>>>()?;
                if let Some(other) = sizes.iter().position(|size| *size != sizes[0]) {
                    return Err(Error::format(
                        &paths[other],
                        format!(
                            "makes {:?} pixels, {} makes {:?}: give --size",
                            sizes[other],
                            paths[0].display(),
                            sizes[0]
                        ),
                    ));
                }
                sizes[0]
            }
        };
        let shape = (preprocess.normalisation.channels(), size.1, size.0);
        let count = paths.len();
        let kind = Kind::Pictures { paths, preprocess: preprocess.clone() };
        Ok(Self { name: argument.into(), count, shape, kind, left_out: None })
    }

    fn idx(argument: &str, images: IdxImages, preprocess: &Preprocess) -> Result<Self> {
        preprocess.check()?;
        let place = preprocess.input(images.columns, images.rows, argument)?;
        let shape = (preprocess.normalisation.channels(), place.size.1, place.size.0);
        Ok(Self {
            name: argument.into(),
            count: images.count,
            shape,
            kind: Kind::Idx { images, preprocess: preprocess.clone() },
            left_out: None,
        })
    }

    /// The argument it was opened by (for arrays, `FILE:KEY`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a folder holds beside its pictures and is left out, in one line for the user.
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    /// How many images there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a source without images cannot be opened")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// `(C, H, W)` of every image.
    pub fn shape(&self) -> (usize, usize, usize) {
        self.shape
    }

    /// Whether it is an array, whose values are used as they are.
    pub fn is_array(&self) -> bool {
        matches!(self.kind, Kind::Array(_))
    }

    /// The name of one image: its file, or its number in the array.
    pub fn image_name(&self, index: usize) -> String {
        match &self.kind {
            Kind::Pictures { paths, .. } => paths[index].display().to_string(),
            _ => format!("{}[{index}]", self.name),
        }
    }

    /// Images `range` as a tensor `(N, C, H, W)` of f32. Pictures are decoded in parallel; the
    /// values do not depend on it.
    ///
    /// # Errors
    /// If the range is out of bounds, a picture is broken (the first by name is reported), or a
    /// value is NaN or infinite.
    pub fn batch(&self, range: Range<usize>, device: &Device) -> Result<Tensor> {
        let (c, h, w) = self.shape;
        let count = range.len();
        Ok(Tensor::from_vec(self.values(range)?, (count, c, h, w), device)?)
    }

    /// The values of images `range`, as [`ImageSource::batch`].
    ///
    /// # Errors
    /// As [`ImageSource::batch`].
    pub fn values(&self, range: Range<usize>) -> Result<Vec<f32>> {
        if range.start >= range.end || range.end > self.count {
            return Err(Error::input(format!("{}: images {range:?} asked for, there are {}", self.name, self.count)));
        }
        let (c, h, w) = self.shape;
        let size = c * h * w;
        match &self.kind {
            Kind::Array(array) => array.images(range, size),
            Kind::Pictures { paths, preprocess } => prepared(range, size, preprocess, |index| {
                let path = &paths[index];
                let picture = Picture::read(path, c)?;
                Ok(preprocess.apply(&picture, &path.display().to_string())?.0)
            }),
            Kind::Idx { images, preprocess } => prepared(range, size, preprocess, |index| {
                let plane = images.rows * images.columns;
                let bytes = &images.pixels[index * plane..(index + 1) * plane];
                let picture = Picture::from_grey(images.columns, images.rows, bytes, c)
                    .ok_or_else(|| Error::format(&self.name, "images are too large"))?;
                Ok(preprocess.apply(&picture, &self.name)?.0)
            }),
        }
    }

    /// Consecutive ranges of at most `batch` images that cover the source.
    pub fn ranges(&self, batch: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, step) = (self.count, batch.max(1));
        (0..count).step_by(step).map(move |start| start..(start + step).min(count))
    }
}

/// The file or folder that an IMAGES or labels argument reads from.
pub fn argument_path(argument: &str) -> PathBuf {
    match split_key(argument) {
        Some((file, _)) if !Path::new(argument).exists() => file,
        _ => PathBuf::from(argument),
    }
}

/// How a file begins: enough to tell what it is.
fn start_of(path: &Path) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    // What is no plain file can be read only once, by whoever reads it.
    if path.is_file() {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        file.take(64).read_to_end(&mut start).map_err(|e| Error::io(path, e))?;
    }
    Ok(start)
}

fn named(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|own| own.to_string_lossy().eq_ignore_ascii_case(extension))
}

/// Byte images made in parallel, normalised, in order; the error is that of the first image that has one.
fn prepared(
    range: Range<usize>,
    size: usize,
    preprocess: &Preprocess,
    image: impl Fn(usize) -> Result<Vec<u8>> + Sync + Send,
) -> Result<Vec<f32>> {
    // Decoded before the values take memory: the headers may have promised more than the files hold.
    let images: Vec<Result<Vec<u8>>> = range.into_par_iter().map(image).collect();
    let images = images.into_iter().collect::<Result<Vec<_>>>()?;
    let plane = size / preprocess.normalisation.channels();
    let mut values = vec![0.0f32; images.len() * size];
    values.par_chunks_exact_mut(size).zip(&images).for_each(|(out, bytes)| {
        for (i, (value, byte)) in out.iter_mut().zip(bytes).enumerate() {
            *value = preprocess.normalisation.apply(i / plane, *byte);
        }
    });
    Ok(values)
}

#[cfg(test)]
mod tests;
