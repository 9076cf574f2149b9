//! Pictures in one folder for each class: `ROOT/CLASS/*.png`, or `ROOT/train/CLASS/…`, `ROOT/val/CLASS/…` and
//! `ROOT/test/CLASS/…`; or one folder deeper, `CLASS/SUBFOLDER/*.png`.

use std::path::{Path, PathBuf};

use crate::data::listing::{Listing, check_within};
use crate::data::{Dataset, Labels, Origin, Preprocess};
use crate::error::{Error, Result};

/// Names of the folders of the validation set.
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];

/// The pictures of a folder of class folders, not yet read.
#[derive(Debug, Clone)]
pub struct ClassFolders {
    /// Names of the classes, in their order.
    pub classes: Vec<String>,
    /// The pictures, by official set, class and name.
    pub pictures: Vec<ClassPicture>,
    root: PathBuf,
}

/// A picture of a class folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassPicture {
    /// Its file.
    pub path: PathBuf,
    /// Its class, an index into [`ClassFolders::classes`].
    pub class: u32,
    /// The folder it lies in below its class, if it lies in one.
    pub subfolder: Option<String>,
    /// Its official set.
    pub origin: Origin,
}

impl ClassFolders {
    /// Lists a folder. Without a `train` folder all pictures are official training images; of
    /// `test` and `val` alone, either is the official test set. A class folder without pictures of
    /// its own may hold folders of them.
    ///
    /// # Errors
    /// If there are fewer than two classes, a class folder holds no picture or one of a format that
    /// is not read, another set has a class that the training set lacks, or a link leads out of the
    /// folder.
    pub fn list(root: &Path) -> Result<Self> {
        let part = |names: &[&str]| names.iter().map(|name| root.join(name)).find(|path| path.is_dir());
        let mut parts = vec![(root.join("train"), Origin::Train)];
        if parts[0].0.is_dir() {
            let held_out = match (part(&VALIDATION), part(&["test"])) {
                (Some(validation), Some(test)) => vec![(validation, Origin::Validation), (test, Origin::Test)],
                (either, or) => either.or(or).map(|test| (test, Origin::Test)).into_iter().collect(),
            };
            parts.extend(held_out);
        } else {
            parts[0].0 = root.to_path_buf();
        }
        parts.iter().try_for_each(|(part, _)| check_within(root, part))?;
        let train = parts[0].0.clone();
        let classes: Vec<String> =
            entries(&train)?.into_iter().filter(|path| path.is_dir()).map(|path| name(&path)).collect();
        if classes.len() < 2 {
            let what = format!("holds {} class folders, at least 2 are needed", classes.len());
            return Err(Error::format(&train, what));
        }
        let mut listed = Self { classes, pictures: Vec::new(), root: root.to_path_buf() };
        for (part, origin) in parts {
            for folder in entries(&part)?.into_iter().filter(|path| path.is_dir()) {
                listed.add(&folder, origin)?;
            }
        }
        Ok(listed)
    }

    fn add(&mut self, folder: &Path, origin: Origin) -> Result<()> {
        let Some(class) = self.classes.iter().position(|known| *known == name(folder)) else {
            return Err(Error::format(folder, "this class has no training pictures"));
        };
        check_within(&self.root, folder)?;
        let listing = Listing::new(folder, &self.root)?;
        let mut add = |pictures: Vec<PathBuf>, subfolder: Option<&String>| {
            let class = class as u32;
            let picture = |path| ClassPicture { path, class, subfolder: subfolder.cloned(), origin };
            self.pictures.extend(pictures.into_iter().map(picture));
        };
        if listing.pictures.is_empty() && !listing.folders.is_empty() {
            for below in &listing.folders {
                let folder = folder.join(below);
                check_within(&self.root, &folder)?;
                let listing = Listing::new(&folder, &self.root)?;
                listing.demand(&folder)?;
                add(listing.pictures, Some(below));
            }
            return Ok(());
        }
        listing.demand(folder)?;
        add(listing.pictures, None);
        Ok(())
    }

    /// The pictures as a data set, in their order.
    ///
    /// # Errors
    /// As [`Dataset::from_pictures`].
    pub fn dataset(&self, preprocess: &Preprocess, cache_bytes: usize) -> Result<Dataset> {
        let paths = self.pictures.iter().map(|picture| picture.path.clone()).collect();
        let labels = Labels::new(self.pictures.iter().map(|picture| picture.class).collect(), self.classes.clone())?;
        let origins = self.pictures.iter().map(|picture| picture.origin).collect();
        Dataset::from_pictures(&name(&self.root), paths, preprocess.clone(), cache_bytes, labels, origins)
    }
}

/// Reads a folder of class folders. Classes and pictures are in the order of their names.
///
/// # Errors
/// As [`ClassFolders::list`] and [`Dataset::from_pictures`].
pub fn read_class_folders(root: &Path, preprocess: &Preprocess, cache_bytes: usize) -> Result<Dataset> {
    ClassFolders::list(root)?.dataset(preprocess, cache_bytes)
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
        picture(parts.path(), "test/a/x/2.png", 7);
        let listed = ClassFolders::list(parts.path()).unwrap();
        let of = |place: usize| (listed.pictures[place].origin, listed.pictures[place].subfolder.as_deref());
        assert_eq!(
            [of(1), of(2), of(3)],
            [(Origin::Train, None), (Origin::Validation, None), (Origin::Test, Some("x"))]
        );
        picture(parts.path(), "val/z/1.png", 7);
        assert!(read(parts.path()).unwrap_err().to_string().contains("val/z: this class has no training pictures"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_within_the_folder_alone() {
        use std::os::unix::fs::symlink;

        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        picture(outside.path(), "a/1.png", 7);
        for name in ["a/1.png", "b/1.png"] {
            picture(folder.path(), name, 7);
        }
        symlink(folder.path().join("a/1.png"), folder.path().join("b/2.png")).unwrap();
        let root = outside.path().join("root");
        symlink(folder.path(), &root).unwrap();
        assert_eq!(read(&root).unwrap().fine().values(), [0, 1, 1]);
        for (target, link) in [("a/1.png", "b/3.png"), ("a", "c"), ("", "d/x")] {
            let link = folder.path().join(link);
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(outside.path().join(target), &link).unwrap();
            let error = read(&root).unwrap_err().to_string();
            let name = link.strip_prefix(folder.path()).unwrap().display().to_string();
            assert!(error.contains(&name) && error.contains("leads out of the data folder"), "{error}");
            std::fs::remove_file(&link).unwrap();
        }
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
