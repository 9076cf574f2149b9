//! Pictures in one folder for each class: `ROOT/CLASS/*.png`, or `ROOT/train/CLASS/…` and `ROOT/test/CLASS/…` (or `val`).

use std::path::{Path, PathBuf};

use crate::data::listing::Listing;
use crate::data::{Dataset, Labels, Origin, Preprocess};
use crate::error::{Error, Result};

/// Reads a folder of class folders. Classes and pictures are in the order of their names. Without a `train` folder all
/// pictures count as official training images.
///
/// # Errors
/// If there are fewer than two classes, a class folder holds no picture or one of a format that is not read, the test part has a class that the training
/// part lacks; and as [`Dataset::from_pictures`].
pub fn read_class_folders(root: &Path, preprocess: &Preprocess, cache_bytes: usize) -> Result<Dataset> {
    let train = root.join("train");
    let test = ["test", "val"].map(|name| root.join(name)).into_iter().find(|path| path.is_dir());
    let (train, test) = if train.is_dir() { (train, test) } else { (root.to_path_buf(), None) };
    let classes: Vec<PathBuf> = entries(&train)?.into_iter().filter(|path| path.is_dir()).collect();
    let names: Vec<String> = classes.iter().map(|path| name(path)).collect();
    if names.len() < 2 {
        return Err(Error::format(&train, format!("holds {} class folders, at least 2 are needed", names.len())));
    }
    let (mut paths, mut labels, mut origins) = (Vec::new(), Vec::new(), Vec::new());
    for (part, origin) in [(Some(train), Origin::Train), (test, Origin::Test)] {
        let Some(part) = part else { continue };
        for folder in entries(&part)?.into_iter().filter(|path| path.is_dir()) {
            let Some(class) = names.iter().position(|known| *known == name(&folder)) else {
                return Err(Error::format(folder, "this class has no training pictures"));
            };
            let listing = Listing::new(&folder)?;
            listing.demand(&folder)?;
            let pictures = listing.pictures;
            labels.resize(labels.len() + pictures.len(), class as u32);
            paths.extend(pictures);
            origins.resize(labels.len(), origin);
        }
    }
    Dataset::from_pictures(&name(root), paths, preprocess.clone(), cache_bytes, Labels::new(labels, names)?, origins)
}

/// What a folder holds, by name, without hidden entries.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if !name(&path).starts_with('.') && name(&path) != "__MACOSX" {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;

    fn picture(root: &Path, name: &str, value: u8) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(9, 9, image::Luma([value])).save(path).unwrap();
    }

    fn read(root: &Path) -> Result<Dataset> {
        read_class_folders(root, &Preprocess::new(Some(8), Normalisation::mnist()), 0)
    }

    #[test]
    fn classes_and_parts_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for (i, name) in ["b/1.png", "a/2.png", "a/1.png", "c/1.jpg"].iter().enumerate() {
            picture(folder.path(), name, i as u8);
        }
        std::fs::create_dir(folder.path().join(".cache")).unwrap();
        let data = read(folder.path()).unwrap();
        assert_eq!(data.fine().names(), ["a", "b", "c"]);
        assert_eq!(data.fine().values(), [0, 0, 1, 2]);
        assert_eq!(data.bytes(0).unwrap()[0], 2);
        assert!(data.path(1).unwrap().ends_with("a/2.png"));
        let parts = tempfile::tempdir().unwrap();
        for name in ["train/a/1.png", "train/b/1.png", "val/b/2.png"] {
            picture(parts.path(), name, 7);
        }
        let data = read(parts.path()).unwrap();
        assert_eq!(data.fine().values(), [0, 1, 1]);
        assert_eq!(data.origins(), [Origin::Train, Origin::Train, Origin::Test]);
        picture(parts.path(), "val/z/1.png", 7);
        assert!(read(parts.path()).unwrap_err().to_string().contains("val/z: this class has no training pictures"));
    }

    #[test]
    fn faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        picture(folder.path(), "a/1.png", 7);
        assert!(read(folder.path()).unwrap_err().to_string().contains("holds 1 class folders"));
        std::fs::create_dir(folder.path().join("b")).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("b: holds no pictures"));
        assert!(read(&folder.path().join("nowhere")).unwrap_err().to_string().contains("nowhere: No such file"));
    }
}
