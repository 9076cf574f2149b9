//! Picture files as the pixels of a data set: decoded in parallel when asked for, kept decoded up
//! to a bound, augmented by (image, epoch).

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rand::Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::picture::{LIMIT_FILE, Picture, Preprocess};
use crate::error::{Error, Result};
use crate::input;
use crate::seed::stream;

/// How training images are varied. A draw is a function of (seed, image, epoch).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Which part is seen.
    pub crop: Crop,
    /// Whether to mirror in half of the cases, after torchvision's `RandomHorizontalFlip`.
    pub flip: bool,
    /// The replicate's seed.
    pub seed: u64,
}

/// Which part of a training image is seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crop {
    /// A random part of a picture, stretched to the input's size, after torchvision's
    /// `RandomResizedCrop` (aspect ratio 3/4 to 4/3, ten tries, then the largest centred part).
    Part {
        /// Its smallest area as a share of the picture's, in (0, 1]; torchvision's default is 0.08.
        min_area: f64,
    },
    /// The input moved by up to so many pixels each way, black where nothing is, after
    /// torchvision's `RandomCrop` with padding.
    Shift {
        /// The most, in pixels.
        padding: usize,
    },
}

impl Augmentation {
    fn stream(&self, epoch: u64, index: usize) -> impl Rng + use<> {
        stream(self.seed, &format!("augment/{epoch}"), index as u64)
    }
}

/// An image `(C, H, W)` moved and mirrored by the draw of its place and epoch; without a shift it is mirrored at most.
pub(crate) fn shifted(
    bytes: &[u8],
    (_, height, width): (usize, usize, usize),
    how: &Augmentation,
    epoch: u64,
    index: usize,
) -> Vec<u8> {
    let mut random = how.stream(epoch, index);
    let padding = if let Crop::Shift { padding } = how.crop { padding } else { 0 };
    // The corner of what is seen, within the padded image.
    let [left, top] = [(); 2].map(|()| random.random_range(0..=2 * padding));
    let flip = how.flip && random.random_bool(0.5);
    let seen = |place: usize, corner: usize, size: usize| (place + corner).checked_sub(padding).filter(|&at| at < size);
    let mut moved = Vec::with_capacity(bytes.len());
    for plane in bytes.chunks_exact(height * width) {
        for y in 0..height {
            let row = seen(y, top, height).map(|y| &plane[y * width..(y + 1) * width]);
            moved.extend((0..width).map(|x| {
                let x = if flip { width - 1 - x } else { x };
                row.zip(seen(x, left, width)).map_or(0, |(row, x)| row[x])
            }));
        }
    }
    moved
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
            let bytes = input::read(path, LIMIT_FILE)?;
            if bytes.is_empty() { Err(Error::format(path, "is empty")) } else { Ok(Sha256::digest(bytes).into()) }
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

    /// Some of the pictures, in the order asked for.
    pub(crate) fn select(&self, indices: &[usize]) -> Self {
        let cache = RwLock::new(Cache { pictures: vec![None; indices.len()], bytes: 0 });
        Self {
            paths: indices.iter().map(|&i| self.paths[i].clone()).collect(),
            contents: indices.iter().map(|&i| self.contents[i]).collect(),
            preprocess: self.preprocess.clone(),
            cache,
            cache_limit: self.cache_limit,
        }
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
        let side = self.preprocess.crop.expect("PictureStore::new demands it");
        let Crop::Part { min_area } = augmentation.crop else {
            let shape = (self.preprocess.normalisation.channels(), side, side);
            return Ok(shifted(&self.evaluated(index)?, shape, augmentation, epoch, index));
        };
        let picture = self.picture(index)?;
        let mut random = augmentation.stream(epoch, index);
        let (corner, size) = random_part(picture.size(), min_area, &mut random);
        let mut bytes = picture.cropped(corner, size).resized_part((side, side), (0, 0), (side, side));
        if augmentation.flip && random.random_bool(0.5) {
            bytes.chunks_exact_mut(side).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }

    /// The decoded picture, from the cache or the file. The cache takes what fits its bound and
    /// never evicts: training reads all images in turn, where evicting the oldest would miss every
    /// time.
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
        let augmentation = Augmentation { crop: Crop::Part { min_area: 0.2 }, flip: true, seed: 4 };
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
        let augmentation = Augmentation { crop: Crop::Part { min_area: 1.0 }, flip: false, seed: 0 };
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
    fn shifts_move_by_at_most_the_padding_and_are_black_beyond() {
        let (height, width) = (5, 6);
        let image: Vec<u8> = (1..=2 * 30).collect();
        let at = |bytes: &[u8], c: usize, y: i64, x: i64| match (0..5).contains(&y) && (0..6).contains(&x) {
            true => bytes[c * 30 + y as usize * 6 + x as usize],
            false => 0,
        };
        let how = Augmentation { crop: Crop::Shift { padding: 2 }, flip: true, seed: 1 };
        let mut seen = std::collections::BTreeSet::new();
        for epoch in 0..400 {
            let moved = shifted(&image, (2, height, width), &how, epoch, 3);
            assert_eq!(moved, shifted(&image, (2, height, width), &how, epoch, 3));
            let mut all = (0..2).flat_map(|flip| (-2..=2).flat_map(move |dy| (-2..=2).map(move |dx| (flip, dy, dx))));
            let found = all.find(|&(flip, dy, dx)| {
                (0..60).all(|place| {
                    let (c, y, x) = (place / 30, (place / 6 % 5) as i64, (place % 6) as i64);
                    let x = if flip == 1 { 5 - x } else { x };
                    moved[place] == at(&image, c, y + dy, x + dx)
                })
            });
            seen.insert(found.expect("a shift by at most 2, mirrored or not"));
        }
        assert_eq!(seen.len(), 50, "every shift is drawn");
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
