//! The MNIST family: IDX files, raw or gzip, as a folder of four or one at a time.
//!
//! Format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits": a big-endian magic
//! `0x0000_08_DD` (unsigned bytes, `DD` dimensions), one 32-bit size for each dimension, then the
//! bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::data::classes::classes_are;
use crate::data::impostor::what_is;
use crate::data::{Dataset, Labels, Normalisation, Origin};
use crate::error::{Error, Result};

mod family;

pub use family::Family;

/// No IDX file may claim more bytes than this: full MNIST has 47 million.
const LIMIT_BYTES: usize = 1 << 30;

/// Images of an IDX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxImages {
    /// How many images.
    pub count: usize,
    /// Height of each, in pixels.
    pub rows: usize,
    /// Width of each, in pixels.
    pub columns: usize,
    /// `(N, H, W)` bytes.
    pub pixels: Vec<u8>,
}

/// Reads an IDX file of images (three dimensions), raw or gzip.
///
/// # Errors
/// Names the file if it is missing, of another format, truncated, longer than it claims, or claims more than 1 GiB.
pub fn read_images(path: &Path) -> Result<IdxImages> {
    let (dimensions, pixels) = read(path, 3)?;
    images(dimensions, pixels, path)
}

/// Reads an IDX file of labels (one dimension), raw or gzip, each below `classes`.
///
/// # Errors
/// As [`read_images`], or if a label is out of range.
pub fn read_labels(path: &Path, classes: usize) -> Result<Vec<u8>> {
    let (_, labels) = read(path, 1)?;
    check_labels(labels, classes, path)
}

/// Reads the four files of an MNIST-like folder: training and test set, images and labels, raw or
/// gzip (`train-images-idx3-ubyte[.gz]` or `train-images.idx3-ubyte[.gz]`, `t10k-…`), or those of
/// EMNIST's digits (`emnist-digits-train-…`, `emnist-digits-test-…`; `mnist` for `digits` too). The
/// folder may also be one above, as torchvision lays it out: `MNIST/raw` or `raw`.
///
/// # Errors
/// Names the file that is missing or broken, or the pair whose counts or sizes differ.
pub fn read_folder(folder: &Path, family: Family) -> Result<Dataset> {
    let (folder, start) = place_of(folder, family)?;
    let classes = family.class_names();
    let test = if start.is_empty() { "t10k" } else { "test" };
    let parts = ["train", test].map(|prefix| read_part(&folder, &format!("{start}{prefix}"), classes.len()));
    let parts = parts.into_iter().collect::<Result<_>>()?;
    assemble(family.name(), &classes.map(String::from), |_| Ok(family.normalisation()), parts)
}

/// Reads the files of any IDX folder: `…train-images-idx3-ubyte`, `…train-labels-idx1-ubyte` and,
/// if it has them, those of a test set (`…t10k-…` or `…test-…`), raw or gzip. `classes` are the
/// names of labels 0, 1 and so on; without names, the classes are the labels that occur. Pixels are
/// normalised by mean and standard deviation of the training images.
///
/// # Errors
/// As [`read_folder`]; if a class has no training image, or fewer than two have.
pub fn read_any(folder: &Path, classes: &[String]) -> Result<Dataset> {
    let start = start_of(folder)?;
    let limit = if classes.is_empty() { 256 } else { classes.len() };
    let mut parts = vec![read_part(folder, &format!("{start}train"), limit)?];
    let tests = ["t10k", "test"].map(|test| format!("{start}{test}"));
    if let Some(test) = tests.iter().find(|test| find(folder, &format!("{test}-images"), "idx3-ubyte").is_ok()) {
        parts.push(read_part(folder, test, limit)?);
    }
    let occurs: BTreeSet<u8> = parts[0].labels.iter().copied().collect();
    let names = match classes.is_empty() {
        true => occurs.iter().map(u8::to_string).collect(),
        false => classes.to_vec(),
    };
    if let Some(none) = (0..classes.len()).find(|&class| !occurs.contains(&(class as u8))) {
        let what = format!("class `{}` has no images: no label is {none}", classes[none]);
        return Err(Error::format(&parts[0].labels_path, what));
    }
    if names.len() < 2 {
        return Err(Error::format(&parts[0].labels_path, "has labels of one class; at least 2 are needed"));
    }
    if classes.is_empty() {
        let number: BTreeMap<u8, u8> =
            occurs.iter().enumerate().map(|(number, &label)| (label, number as u8)).collect();
        for part in &mut parts {
            for label in &mut part.labels {
                let Some(&known) = number.get(label) else {
                    let what = format!("label {label} is of no training image");
                    return Err(Error::format(&part.labels_path, what));
                };
                *label = known;
            }
        }
    }
    assemble("idx", &names, of_training, parts)
}

/// Mean and standard deviation of pixels, from exact sums.
fn of_training(pixels: &[u8]) -> Result<Normalisation> {
    let sums = pixels.iter().map(|&pixel| (u64::from(pixel), u64::from(pixel).pow(2)));
    let (sum, squares) = sums.fold((0, 0), |(sum, squares), (pixel, square)| (sum + pixel, squares + square));
    let (count, mean) = (pixels.len() as f64, sum as f64 / pixels.len() as f64);
    let std = (squares as f64 / count - mean * mean).max(0.0).sqrt();
    // Images of one level have nothing to scale.
    let std = if std > 0.0 { std } else { 255.0 };
    Normalisation::new(&[(mean / 255.0) as f32], &[(std / 255.0) as f32])
}

fn read_part(folder: &Path, start: &str, classes: usize) -> Result<Part> {
    let images_path = find(folder, &format!("{start}-images"), "idx3-ubyte")?;
    let labels_path = find(folder, &format!("{start}-labels"), "idx1-ubyte")?;
    let (images, labels) = (read_images(&images_path)?, read_labels(&labels_path, classes)?);
    Ok(Part { images, labels, images_path, labels_path })
}

/// How the names of a folder's files begin, before `train-images`.
fn start_of(folder: &Path) -> Result<String> {
    let mut starts = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let name = entry.map_err(|e| Error::io(folder, e))?.file_name();
        if let Some((start, _)) = name.to_string_lossy().split_once("train-images") {
            starts.insert(start.to_owned());
        }
    }
    match (starts.pop_first(), starts.pop_first()) {
        (Some(start), None) => Ok(start),
        (None, _) => Err(Error::format(folder, "holds no file `train-images-idx3-ubyte`, neither raw nor .gz")),
        (Some(one), Some(other)) => {
            let what = format!("holds two data sets, `{one}train-images…` and `{other}train-images…`: leave one");
            Err(Error::format(folder, what))
        }
    }
}

/// The digits built into the program: 12,000 of MNIST's official training digits and 2,000 of its test digits
/// (origin and licence: `fixtures/README.md`).
///
/// # Errors
/// Never in a released build; the files are checked like any other.
pub fn builtin_mnist() -> Result<Dataset> {
    macro_rules! fixture {
        ($name:literal) => {
            (
                concat!("built-in mnist/", $name),
                &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mnist/", $name))[..],
            )
        };
    }
    let pairs = [
        (fixture!("train-images-idx3-ubyte.gz"), fixture!("train-labels-idx1-ubyte.gz")),
        (fixture!("t10k-images-idx3-ubyte.gz"), fixture!("t10k-labels-idx1-ubyte.gz")),
    ];
    let mut parts = Vec::new();
    for ((images_name, image_bytes), (labels_name, label_bytes)) in pairs {
        let (images_path, labels_path) = (PathBuf::from(images_name), PathBuf::from(labels_name));
        let (dimensions, pixels) = parse(MultiGzDecoder::new(image_bytes), None, 3, &images_path)?;
        let (_, labels) = parse(MultiGzDecoder::new(label_bytes), None, 1, &labels_path)?;
        parts.push(Part {
            images: images(dimensions, pixels, &images_path)?,
            labels: check_labels(labels, 10, &labels_path)?,
            images_path,
            labels_path,
        });
    }
    let family = Family::Mnist;
    let names = family.class_names().map(String::from);
    assemble("mnist (built-in subset)", &names, |_| Ok(family.normalisation()), parts)
}

/// One official part, training or test.
struct Part {
    images: IdxImages,
    labels: Vec<u8>,
    images_path: PathBuf,
    labels_path: PathBuf,
}

/// Joins training part and test part, in this order.
fn assemble(
    name: &str,
    classes: &[String],
    normalisation: impl Fn(&[u8]) -> Result<Normalisation>,
    parts: Vec<Part>,
) -> Result<Dataset> {
    let (rows, columns) = (parts[0].images.rows, parts[0].images.columns);
    let (mut pixels, mut labels, mut origins) = (Vec::new(), Vec::new(), Vec::new());
    for (part, origin) in parts.into_iter().zip([Origin::Train, Origin::Test]) {
        if part.labels.len() != part.images.count {
            return Err(Error::format(
                &part.labels_path,
                format!(
                    "holds {} labels, but {} holds {} images",
                    part.labels.len(),
                    part.images_path.display(),
                    part.images.count
                ),
            ));
        }
        if (part.images.rows, part.images.columns) != (rows, columns) {
            return Err(Error::format(
                &part.images_path,
                format!("images are {}×{}, training images {rows}×{columns}", part.images.rows, part.images.columns),
            ));
        }
        pixels.extend_from_slice(&part.images.pixels);
        labels.extend(part.labels.iter().map(|&l| u32::from(l)));
        origins.resize(labels.len(), origin);
    }
    let training = origins.iter().filter(|&&origin| origin == Origin::Train).count() * rows * columns;
    let normalisation = normalisation(&pixels[..training])?;
    let fine = Labels::new(labels, classes.to_vec())?;
    Dataset::new(name, (1, rows, columns), pixels, normalisation, fine, origins)
}

/// Where the files lie, in the folder or below it as torchvision has them, and how their names begin.
fn place_of(folder: &Path, family: Family) -> Result<(PathBuf, &'static str)> {
    let own = match family {
        Family::Mnist => "MNIST/raw",
        Family::Fashion => "FashionMNIST/raw",
    };
    let places = ["", "raw", own].map(|below| folder.join(below));
    for place in &places {
        for start in ["", "emnist-digits-", "emnist-mnist-"] {
            if find(place, &format!("{start}train-images"), "idx3-ubyte").is_ok() {
                return Ok((place.clone(), start));
            }
        }
        for other in ["balanced", "byclass", "bymerge", "letters"] {
            if find(place, &format!("emnist-{other}-train-images"), "idx3-ubyte").is_ok() {
                let what =
                    format!("holds EMNIST's `{other}`, whose classes are letters; `digits` and `mnist` are read");
                return Err(Error::format(place, what));
            }
        }
    }
    Ok((folder.to_path_buf(), ""))
}

/// The file `STEM-EXTENSION` or `STEM.EXTENSION`, raw or gzip.
fn find(folder: &Path, stem: &str, extension: &str) -> Result<PathBuf> {
    let first = folder.join(format!("{stem}-{extension}"));
    let spellings =
        ["-", "."].iter().flat_map(|join| ["", ".gz"].map(|gz| folder.join(format!("{stem}{join}{extension}{gz}"))));
    match spellings.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Err(Error::format(first, "not found, neither raw nor .gz")),
    }
}

fn images(dimensions: Vec<usize>, pixels: Vec<u8>, path: &Path) -> Result<IdxImages> {
    match dimensions[..] {
        [count, rows, columns] if count > 0 && rows > 0 && columns > 0 => {
            Ok(IdxImages { count, rows, columns, pixels })
        }
        _ => Err(Error::format(path, format!("holds no images: its dimensions are {dimensions:?}"))),
    }
}

fn check_labels(labels: Vec<u8>, classes: usize, path: &Path) -> Result<Vec<u8>> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        Some(i) => Err(Error::format(
            path,
            format!("label {} of image {i} is out of range: {}", labels[i], classes_are(classes)),
        )),
        None => Ok(labels),
    }
}

/// Opens a raw or gzip file, told apart by its first bytes, and parses it.
fn read(path: &Path, dimensions: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a file"));
    }
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut start = Vec::new();
    (&mut file).take(512).read_to_end(&mut start).map_err(|e| Error::io(path, e))?;
    file.seek(SeekFrom::Start(0)).map_err(|e| Error::io(path, e))?;
    let reader = BufReader::new(file);
    let gzip = start.starts_with(&[0x1f, 0x8b]);
    // An IDX file of another kind is told by the parser.
    if !gzip
        && !start.starts_with(&[0, 0, 8])
        && let Some(what) = what_is(&start)
    {
        return Err(Error::format(path, format!("{what}, not an IDX file")));
    }
    if gzip {
        // Deflate makes at most 1,032 bytes of one.
        let most = metadata.len().saturating_mul(1032);
        let claim = claim_of(MultiGzDecoder::new(File::open(path).map_err(|e| Error::io(path, e))?), dimensions);
        if let Some(claim) = claim.filter(|&claim| claim > most) {
            return Err(Error::format(
                path,
                format!("claims {claim} bytes, more than its {} can hold", metadata.len()),
            ));
        }
        parse(MultiGzDecoder::new(reader), None, dimensions, path)
    } else {
        parse(reader, Some(metadata.len()), dimensions, path)
    }
}

/// The bytes that the sizes at the front of a stream claim, if they can be read.
fn claim_of(reader: impl Read, dimensions: usize) -> Option<u64> {
    let mut header = Vec::new();
    reader.take(4 + 4 * dimensions as u64).read_to_end(&mut header).ok()?;
    let sizes = header.get(4..)?.as_chunks::<4>().0.iter();
    sizes.map(|size| u64::from(u32::from_be_bytes(*size))).try_fold(1u64, u64::checked_mul)
}

/// Parses one IDX stream. `length` is the number of bytes there are, where that is known
/// beforehand; where it is not (gzip), the buffer grows with the bytes that really come, up to the
/// claim.
fn parse(mut reader: impl Read, length: Option<u64>, dimensions: usize, path: &Path) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut header = vec![0u8; 4 + 4 * dimensions];
    reader.read_exact(&mut header).map_err(|e| Error::format(path, format!("truncated IDX header ({e})")))?;
    let magic = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let expected = 0x800 | dimensions as u32;
    if magic != expected {
        return Err(Error::format(
            path,
            format!(
                "bad magic {magic:#010x}, expected {expected:#010x} (IDX, unsigned bytes){}",
                match (magic, dimensions) {
                    (0x801, 3) => ": it holds labels, not images",
                    (0x803, 1) => ": it holds images, not labels",
                    _ => "",
                }
            ),
        ));
    }
    let sizes: Vec<usize> =
        header[4..].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let claim = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).filter(|&c| c <= LIMIT_BYTES);
    let Some(claim) = claim else {
        return Err(Error::format(path, format!("claims dimensions {sizes:?}, more than {LIMIT_BYTES} bytes")));
    };
    if let Some(length) = length.filter(|&l| l != (header.len() + claim) as u64) {
        return Err(Error::format(
            path,
            format!("claims dimensions {sizes:?}, which need {} bytes, but has {length}", header.len() + claim),
        ));
    }
    let mut bytes = Vec::with_capacity(if length.is_some() { claim } else { 0 });
    let read = reader.take(claim as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::format(path, format!("broken after {} bytes ({e})", header.len() + bytes.len())))?;
    match bytes.len() {
        n if n < claim => Err(Error::format(path, format!("truncated: claims {claim} bytes, holds {n}"))),
        n if n > claim => Err(Error::format(path, format!("holds more than the {claim} bytes it claims"))),
        _ => Ok((sizes, bytes)),
    }
}

#[cfg(test)]
mod tests;
