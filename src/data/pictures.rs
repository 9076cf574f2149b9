//! Picture files as the pixels of a data set: decoded in parallel when asked for, kept decoded up to a bound, augmented by (image, epoch).

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rand::Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::picture::{Picture, Preprocess};
use crate::error::{Error, Result};
use crate::seed::stream;

/// How training images are varied: a random part, stretched to the input's size, and a mirror image in half of the cases.
///
/// After torchvision's `RandomResizedCrop` (aspect ratio 3/4 to 4/3, ten tries, then the largest centred part) and
/// `RandomHorizontalFlip`. A draw is a function of (seed, image, epoch).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Smallest part of the picture's area, in (0, 1]; torchvision's default is 0.08.
    pub min_area: f64,
    /// Whether to mirror in half of the cases.
    pub flip: bool,
    /// The replicate's seed.
    pub seed: u64,
}

/// Files, what to do with them, and those that are decoded already.
#[derive(Debug)]
pub(crate) struct PictureStore {
    paths: Vec<PathBuf>,
    contents: Vec<[u8; 32]>,
    preprocess: Preprocess,
    cache: RwLock<Cache>,
    cache_limit: usize,
}

#[derive(Debug)]
struct Cache {
    pictures: Vec<Option<Arc<Picture>>>,
    bytes: usize,
}

impl PictureStore {
    /// Reads every file once, for its hash: a file that is missing or empty is found now.
    ///
    /// # Errors
    /// All such files, in one error.
    pub(crate) fn new(name: &str, paths: Vec<PathBuf>, preprocess: Preprocess, cache_limit: usize) -> Result<Self> {
        preprocess.check()?;
        if preprocess.crop.is_none() {
            return Err(Error::config("data.size", "pictures need a size"));
        }
        let hash = |path: &PathBuf| -> Result<[u8; 32]> {
            match std::fs::read(path) {
                Ok(bytes) if bytes.is_empty() => Err(Error::format(path, "is empty")),
                Ok(bytes) => Ok(Sha256::digest(bytes).into()),
                Err(e) => Err(Error::io(path, e)),
            }
        };
        let hashes: Vec<Result<[u8; 32]>> = paths.par_iter().map(hash).collect();
        let faults: Vec<String> = hashes.iter().filter_map(|h| h.as_ref().err()).map(Error::to_string).collect();
        if !faults.is_empty() {
            return Err(Error::Faults { subject: name.to_string(), faults });
        }
        let contents = hashes.into_iter().flatten().collect();
        let cache = RwLock::new(Cache { pictures: vec![None; paths.len()], bytes: 0 });
        Ok(Self { paths, contents, preprocess, cache, cache_limit })
    }

    pub(crate) fn path(&self, index: usize) -> &Path {
        &self.paths[index]
    }

    pub(crate) fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    pub(crate) fn content(&self, index: usize) -> [u8; 32] {
        self.contents[index]
    }

    /// The byte image `(C, S, S)` as evaluated.
    pub(crate) fn evaluated(&self, index: usize) -> Result<Vec<u8>> {
        let name = self.paths[index].display().to_string();
        Ok(self.preprocess.apply(&*self.picture(index)?, &name)?.0)
    }

    /// The byte image `(C, S, S)` as trained on in `epoch`.
    pub(crate) fn augmented(&self, index: usize, epoch: u64, augmentation: &Augmentation) -> Result<Vec<u8>> {
        let picture = self.picture(index)?;
        let mut random = stream(augmentation.seed, &format!("augment/{epoch}"), index as u64);
        let (corner, size) = random_part(picture.size(), augmentation.min_area, &mut random);
        let side = self.preprocess.crop.expect("PictureStore::new demands it");
        let mut bytes = picture.cropped(corner, size).resized_part((side, side), (0, 0), (side, side));
        if augmentation.flip && random.random_bool(0.5) {
            bytes.chunks_exact_mut(side).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }

    /// The decoded picture, from the cache or the file. The cache takes what fits its bound and never evicts: training reads
    /// all images in turn, where evicting the oldest would miss every time.
    fn picture(&self, index: usize) -> Result<Arc<Picture>> {
        if let Ok(cache) = self.cache.read()
            && let Some(picture) = &cache.pictures[index]
        {
            return Ok(picture.clone());
        }
        let picture = Arc::new(Picture::read(&self.paths[index], self.preprocess.normalisation.channels())?);
        if let Ok(mut cache) = self.cache.write()
            && cache.pictures[index].is_none()
            && cache.bytes + picture.bytes() <= self.cache_limit
        {
            cache.bytes += picture.bytes();
            cache.pictures[index] = Some(picture.clone());
        }
        Ok(picture)
    }
}

/// Corner and size of a part of a `(width, height)` picture.
fn random_part(
    (width, height): (usize, usize),
    min_area: f64,
    random: &mut impl Rng,
) -> ((usize, usize), (usize, usize)) {
    let (w, h) = (width as f64, height as f64);
    let widest = (4.0f64 / 3.0).ln();
    for _ in 0..10 {
        let area = w * h * random.random_range(min_area..=1.0);
        let ratio = random.random_range(-widest..=widest).exp();
        let (part_w, part_h) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
        if (1..=width).contains(&part_w) && (1..=height).contains(&part_h) {
            let left = random.random_range(0..=width - part_w);
            let top = random.random_range(0..=height - part_h);
            return ((left, top), (part_w, part_h));
        }
    }
    let (part_w, part_h) = match w / h {
        ratio if ratio < 3.0 / 4.0 => (width, (w / 0.75).round() as usize),
        ratio if ratio > 4.0 / 3.0 => ((h * 4.0 / 3.0).round() as usize, height),
        _ => (width, height),
    };
    (((width - part_w) / 2, (height - part_h) / 2), (part_w, part_h))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::{Dataset, Images, Labels, Normalisation, Origin};

    /// A folder of `count` pictures of different sizes, and its data set.
    fn pictures(count: u32, cache: usize) -> (tempfile::TempDir, Dataset) {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for i in 0..count {
            let path = folder.path().join(format!("{i}.png"));
            let picture =
                image::RgbImage::from_fn(40 + i, 30, |x, y| image::Rgb([(x * 5) as u8, (y * 7) as u8, i as u8]));
            picture.save(&path).unwrap();
            paths.push(path);
        }
        let labels = Labels::new(vec![0; count as usize], vec!["all".into()]).unwrap();
        let origins = vec![Origin::Train; count as usize];
        let preprocess = Preprocess::new(Some(16), Normalisation::imagenet());
        let data = Dataset::from_pictures("pictures", paths, preprocess, cache, labels, origins).unwrap();
        (folder, data)
    }

    #[test]
    fn cache_and_threads_change_nothing() {
        let (_folder, cached) = pictures(6, 1 << 20);
        let (_other, uncached) = pictures(6, 0);
        let read = |data: &Dataset, epoch, threads: usize| {
            let mut out = vec![0.0; 6 * 3 * 256];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Images::read(data, &[5, 0, 3, 1, 2, 4], epoch, &mut out).unwrap());
            out
        };
        let augmentation = Augmentation { min_area: 0.2, flip: true, seed: 4 };
        let cached = cached.with_augmentation(augmentation).unwrap();
        let uncached = uncached.with_augmentation(augmentation).unwrap();
        for epoch in [None, Some(0), Some(1)] {
            let first = read(&cached, epoch, 1);
            assert_eq!(first, read(&cached, epoch, 3));
            assert_eq!(first, read(&uncached, epoch, 2));
        }
        assert_ne!(read(&cached, Some(0), 1), read(&cached, Some(1), 1));
        assert_ne!(read(&cached, Some(0), 1), read(&cached, None, 1));
        let other_seed = cached.clone().with_augmentation(Augmentation { seed: 5, ..augmentation }).unwrap();
        assert_ne!(read(&cached, Some(0), 1), read(&other_seed, Some(0), 1));
        assert_eq!(cached.fingerprint(), uncached.fingerprint());
    }

    #[test]
    fn the_whole_picture_without_a_flip_is_the_evaluated_one_for_squares() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([(x * 8) as u8, (y * 8) as u8, 9])).save(&path).unwrap();
        let preprocess = Preprocess::new(Some(16), Normalisation::imagenet());
        let store = PictureStore::new("a", vec![path], preprocess, 0).unwrap();
        // An area of exactly 1 fits only with ratio 1; else the fallback takes all of a square.
        let augmentation = Augmentation { min_area: 1.0, flip: false, seed: 0 };
        assert_eq!(store.augmented(0, 0, &augmentation).unwrap(), store.evaluated(0).unwrap());
        // Mirrored in about half of the epochs, and then exactly.
        let flipping = Augmentation { flip: true, ..augmentation };
        let plain = store.evaluated(0).unwrap();
        let mut mirror = plain.clone();
        mirror.chunks_exact_mut(16).for_each(<[u8]>::reverse);
        let epochs: Vec<_> = (0..100).map(|epoch| store.augmented(0, epoch, &flipping).unwrap()).collect();
        assert!(epochs.iter().all(|e| *e == plain || *e == mirror));
        assert!((30..=70).contains(&epochs.iter().filter(|e| **e == mirror).count()));
    }

    #[test]
    fn missing_and_empty_pictures_are_all_named() {
        let (folder, _) = pictures(2, 0);
        std::fs::write(folder.path().join("0.png"), b"").unwrap();
        let paths = ["0.png", "1.png", "2.png"].map(|name| folder.path().join(name)).to_vec();
        let preprocess = Preprocess::new(Some(16), Normalisation::imagenet());
        let error = PictureStore::new("some", paths, preprocess, 0).unwrap_err().to_string();
        assert!(error.starts_with("2 faults in some:") && error.contains("0.png: is empty"), "{error}");
        assert!(error.contains("2.png: No such file"), "{error}");
    }

    proptest! {
        #[test]
        fn random_parts_lie_inside(width in 1usize..300, height in 1usize..300, min_area in 0.01f64..=1.0, seed: u64) {
            let ((left, top), (w, h)) = random_part((width, height), min_area, &mut stream(seed, "test", 0));
            prop_assert!(w > 0 && h > 0 && left + w <= width && top + h <= height);
        }
    }
}
