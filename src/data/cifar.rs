//! CIFAR-10 in its binary version: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
//!
//! Six files of records: a byte for the class, then 3,072 bytes, `(C, H, W)` = (3, 32, 32), red first.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::data::impostor::what_is;
use crate::data::{Dataset, Labels, Normalisation, Origin};
use crate::error::{Error, Result};

const SHAPE: (usize, usize, usize) = (3, 32, 32);
const RECORD: usize = 1 + 3 * 32 * 32;
/// A file of the original has 10,000 records.
const LIMIT_RECORDS: u64 = 100_000;
const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const FILES: [(&str, Origin); 6] = [
    ("data_batch_1.bin", Origin::Train),
    ("data_batch_2.bin", Origin::Train),
    ("data_batch_3.bin", Origin::Train),
    ("data_batch_4.bin", Origin::Train),
    ("data_batch_5.bin", Origin::Train),
    ("test_batch.bin", Origin::Test),
];

/// Reads the folder `cifar-10-batches-bin`, or the one above it. Pixels are normalised as open_lth
/// does: mean (0.4914, 0.4822, 0.4465), standard deviation (0.2023, 0.1994, 0.2010).
///
/// # Errors
/// Names the file that is missing, is no whole number of records, or has a class above 9.
pub fn read_cifar10(folder: &Path) -> Result<Dataset> {
    let below = folder.join("cifar-10-batches-bin");
    let folder = if below.is_dir() { below } else { folder.to_path_buf() };
    if !folder.join(FILES[0].0).exists() && folder.join("data_batch_1").exists() {
        let what = "holds the Python version of CIFAR-10; the binary version (cifar-10-binary.tar.gz) is read";
        return Err(Error::format(&folder, what));
    }
    let (mut pixels, mut labels, mut origins) = (Vec::new(), Vec::new(), Vec::new());
    for (name, origin) in FILES {
        let path = folder.join(name);
        let bytes = records(&path)?;
        for (place, record) in bytes.chunks_exact(RECORD).enumerate() {
            if usize::from(record[0]) >= CLASSES.len() {
                return Err(Error::format(&path, format!("class {} of image {place}: classes are 0 to 9", record[0])));
            }
            labels.push(u32::from(record[0]));
            pixels.extend_from_slice(&record[1..]);
        }
        origins.resize(labels.len(), origin);
    }
    let normalisation = Normalisation::new(&[0.4914, 0.4822, 0.4465], &[0.2023, 0.1994, 0.2010])?;
    let fine = Labels::new(labels, CLASSES.map(String::from).to_vec())?;
    Dataset::new("cifar10", SHAPE, pixels, normalisation, fine, origins)
}

fn records(path: &PathBuf) -> Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a file"));
    }
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let size = metadata.len();
    if size == 0 || size % RECORD as u64 != 0 || size / RECORD as u64 > LIMIT_RECORDS {
        let mut start = Vec::new();
        // For the message alone: what can be read will do.
        let _ = file.take(512).read_to_end(&mut start);
        let what = what_is(&start).map(|what| format!(" ({what})")).unwrap_or_default();
        let text = format!("has {size} bytes, no whole number of CIFAR-10's records of {RECORD} bytes{what}");
        return Err(Error::format(path, text));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(size).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(Error::format(path, format!("ends after {} of its {size} bytes", bytes.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each file with `count` records; pixel values tell file, record and plane apart.
    fn folder(count: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (file, (name, _)) in FILES.iter().enumerate() {
            let record = |place: usize| {
                let planes = (0..3).flat_map(move |plane| [(100 * plane + 10 * file + place) as u8; 1024]);
                std::iter::once(((file + place) % 10) as u8).chain(planes)
            };
            let bytes: Vec<u8> = (0..count).flat_map(record).collect();
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[test]
    fn records_are_a_class_and_three_planes() {
        let folder = folder(3);
        let data = read_cifar10(folder.path()).unwrap();
        assert_eq!((data.len(), data.shape()), (18, SHAPE));
        assert_eq!(data.fine().values()[..4], [0, 1, 2, 1]);
        assert_eq!((data.origins()[14], data.origins()[15]), (Origin::Train, Origin::Test));
        let bytes = data.bytes(16).unwrap();
        assert_eq!([bytes[0], bytes[1023], bytes[1024], bytes[2048]], [51, 51, 151, 251]);
        let above = tempfile::tempdir().unwrap();
        std::fs::rename(folder.path(), above.path().join("cifar-10-batches-bin")).unwrap();
        assert_eq!(read_cifar10(above.path()).unwrap().fingerprint(), data.fingerprint());
    }

    #[test]
    fn faults_are_named() {
        let folder = folder(2);
        let path = |name: &str| folder.path().join(name);
        let error = || read_cifar10(folder.path()).unwrap_err().to_string();
        let whole = std::fs::read(path("test_batch.bin")).unwrap();
        std::fs::write(path("test_batch.bin"), &whole[1..]).unwrap();
        assert!(error().contains("test_batch.bin: has 6145 bytes, no whole number"), "{}", error());
        std::fs::write(path("test_batch.bin"), [[10].as_slice(), &whole[1..]].concat()).unwrap();
        assert!(error().contains("test_batch.bin: class 10 of image 0"), "{}", error());
        std::fs::remove_file(path("data_batch_3.bin")).unwrap();
        assert!(error().contains("data_batch_3.bin: No such file"), "{}", error());
        std::fs::rename(path("data_batch_1.bin"), path("data_batch_1")).unwrap();
        assert!(error().contains("Python version"), "{}", error());
    }
}
