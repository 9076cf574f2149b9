//! Training, validation and test images that never overlap, and the labels a network learns.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Labels, Origin};
use crate::error::{Error, Result};
use crate::seed::stream;

/// How many images each split takes. Every split keeps the shares of the classes as given (stratified).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitSizes {
    /// Training images, from the official training set; `None` takes all that validation leaves.
    pub train: Option<usize>,
    /// Validation images, from the official training set.
    pub validation: usize,
    /// Test images, from the official test set (from the training set where there is none); `None` takes all, and is an
    /// error where there is no official test set.
    pub test: Option<usize>,
}

/// Indices into one [`Dataset`], in a seeded order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splits {
    /// Trained on.
    pub train: Vec<usize>,
    /// Held out from training: epochs are chosen and concepts drawn here.
    pub validation: Vec<usize>,
    /// Held out from every choice.
    pub test: Vec<usize>,
    /// Official training images left out because the same picture stands in the official test set, or again in the training set.
    pub duplicates: usize,
}

/// Draws the splits. No picture stands in two of them, neither by index nor by content: an official training image
/// whose bytes are also in the test set, or earlier in the training set, is left out and counted.
///
/// # Errors
/// If a split would be empty or is larger than what there is.
pub fn split(data: &Dataset, sizes: SplitSizes, seed: u64) -> Result<Splits> {
    let (test_pool, train_pool, duplicates) = official_pools(data);
    let mut train_pool = by_class(data, &train_pool, seed, "split/train");
    let test = if test_pool.is_empty() {
        let count =
            sizes.test.ok_or_else(|| Error::config("data.test", "no official test set: say how many images"))?;
        take(&mut train_pool, count, "data.test")?
    } else {
        let mut pool = by_class(data, &test_pool, seed, "split/test");
        let count = sizes.test.unwrap_or(test_pool.len());
        take(&mut pool, count, "data.test")?
    };
    let validation = take(&mut train_pool, sizes.validation, "data.validation")?;
    let left = train_pool.values().map(Vec::len).sum();
    let train = take(&mut train_pool, sizes.train.unwrap_or(left), "data.train")?;
    let shuffled = |mut indices: Vec<usize>, name: &str| {
        indices.shuffle(&mut stream(seed, name, 0));
        indices
    };
    Ok(Splits {
        train: shuffled(train, "split/order/train"),
        validation: shuffled(validation, "split/order/validation"),
        test: shuffled(test, "split/order/test"),
        duplicates,
    })
}

/// Official test images, the training images that are not copies of others, and the number of those that are.
fn official_pools(data: &Dataset) -> (Vec<usize>, Vec<usize>, usize) {
    let (test, train): (Vec<usize>, Vec<usize>) = (0..data.len()).partition(|&i| data.origins()[i] == Origin::Test);
    let mut seen: std::collections::BTreeSet<[u8; 32]> = test.iter().map(|&i| data.content(i)).collect();
    let total = train.len();
    let train: Vec<usize> = train.into_iter().filter(|&i| seen.insert(data.content(i))).collect();
    let duplicates = total - train.len();
    (test, train, duplicates)
}

/// The pool's images of each class, each class in a seeded order of its own.
fn by_class(data: &Dataset, pool: &[usize], seed: u64, name: &str) -> BTreeMap<u32, Vec<usize>> {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &index in pool {
        classes.entry(data.fine().values()[index]).or_default().push(index);
    }
    for (&class, members) in &mut classes {
        members.shuffle(&mut stream(seed, name, u64::from(class)));
    }
    classes
}

/// Takes `count` images from the ends of the classes' lists, each class its share (largest remainder, lower class first in a tie).
fn take(classes: &mut BTreeMap<u32, Vec<usize>>, count: usize, field: &str) -> Result<Vec<usize>> {
    let total: usize = classes.values().map(Vec::len).sum();
    if count == 0 || count > total {
        return Err(Error::config(field, format!("{count} images asked for, {total} at hand")));
    }
    let mut shares: Vec<(u32, usize, usize)> = classes
        .iter()
        .map(|(&class, members)| (class, members.len() * count / total, members.len() * count % total))
        .collect();
    let missing = count - shares.iter().map(|share| share.1).sum::<usize>();
    shares.sort_by_key(|&(class, _, remainder)| (std::cmp::Reverse(remainder), class));
    let mut taken = Vec::with_capacity(count);
    for (rank, (class, share, _)) in shares.into_iter().enumerate() {
        if let Some(members) = classes.get_mut(&class) {
            let keep = members.len() - share - usize::from(rank < missing);
            taken.extend(members.split_off(keep));
        }
    }
    Ok(taken)
}

/// What the network learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The classes as given.
    Classes,
    /// Two classes from digits: "even" is class 0, "odd" is class 1.
    EvenOdd,
}

impl Dataset {
    /// The same images with the task's labels.
    pub fn with_task(self, task: Task) -> Self {
        let labels = match task {
            Task::Classes => self.fine().clone(),
            Task::EvenOdd => {
                let values = self.fine().values().iter().map(|v| v % 2).collect();
                Labels::new(values, vec!["even".to_string(), "odd".to_string()]).expect("v % 2 is 0 or 1")
            }
        };
        self.with_labels(labels).expect("one label was made for each image")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::data::{Normalisation, builtin_mnist};

    /// One-byte-pair images: image i shows i, unless a copy of another is asked for.
    fn numbered(classes: &[u32], origins: &[Origin], copies: &[(usize, usize)]) -> Dataset {
        let mut pixels: Vec<u8> = (0..classes.len()).flat_map(|i| (i as u16).to_le_bytes()).collect();
        for &(to, from) in copies {
            pixels.copy_within(2 * from..2 * from + 2, 2 * to);
        }
        let names = (0..=classes.iter().copied().max().unwrap()).map(|c| c.to_string()).collect();
        let labels = Labels::new(classes.to_vec(), names).unwrap();
        Dataset::new("numbered", (1, 1, 2), pixels, Normalisation::mnist(), labels, origins.to_vec()).unwrap()
    }

    #[test]
    fn builtin_digits_split_without_overlap_and_stratified() {
        let data = builtin_mnist().unwrap().with_task(Task::EvenOdd);
        let sizes = SplitSizes { train: Some(10_000), validation: 2_000, test: None };
        let splits = split(&data, sizes, 1).unwrap();
        assert_eq!((splits.train.len(), splits.validation.len(), splits.test.len()), (10_000, 2_000, 2_000));
        assert_eq!(splits.duplicates, 0);
        let contents = |indices: &[usize]| indices.iter().map(|&i| data.content(i)).collect::<BTreeSet<_>>();
        let (train, validation, test) = (contents(&splits.train), contents(&splits.validation), contents(&splits.test));
        assert!(train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test));
        assert!(splits.test.iter().all(|&i| data.origins()[i] == Origin::Test));
        assert!(splits.train.iter().chain(&splits.validation).all(|&i| data.origins()[i] == Origin::Train));
        for digit in 0..10 {
            let count =
                |indices: &[usize]| indices.iter().filter(|&&i| data.fine().values()[i] == digit).count() as f64;
            assert!((count(&splits.train) / 5.0 - count(&splits.validation)).abs() <= 1.0);
        }
        assert_eq!(splits, split(&data, sizes, 1).unwrap());
        assert_ne!(splits.train, split(&data, sizes, 2).unwrap().train);
        assert_eq!(data.labels().names(), ["even", "odd"]);
        assert!(data.labels().values().iter().zip(data.fine().values()).all(|(l, digit)| *l == digit % 2));
    }

    #[test]
    fn copies_of_test_images_are_not_trained_on() {
        let origins = [[Origin::Train; 8].as_slice(), &[Origin::Test; 2]].concat();
        let data = numbered(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 1], &origins, &[(3, 8), (5, 4)]);
        let splits = split(&data, SplitSizes { train: None, validation: 2, test: None }, 0).unwrap();
        assert_eq!(splits.duplicates, 2);
        let mut used = [splits.train, splits.validation].concat();
        used.sort_unstable();
        assert_eq!(used, [0, 1, 2, 4, 6, 7]);
    }

    #[test]
    fn impossible_sizes_are_named() {
        let data = numbered(&[0, 1, 0, 1], &[Origin::Train; 4], &[]);
        let error =
            |train, validation, test| split(&data, SplitSizes { train, validation, test }, 0).unwrap_err().to_string();
        assert!(error(None, 1, None).contains("data.test"));
        assert!(error(None, 4, Some(1)).contains("`data.validation`: 4 images asked for, 3 at hand"));
        assert!(error(None, 3, Some(1)).contains("data.train"));
        assert!(error(Some(3), 1, Some(1)).contains("data.train"));
    }

    proptest! {
        #[test]
        fn splits_are_disjoint_and_of_the_size_asked_for(
            classes in prop::collection::vec(0u32..4, 12..80), train in 1usize..4, validation in 1usize..4, test in 1usize..4, seed: u64
        ) {
            let data = numbered(&classes, &vec![Origin::Train; classes.len()], &[]);
            let splits = split(&data, SplitSizes { train: Some(train), validation, test: Some(test) }, seed).unwrap();
            prop_assert_eq!((splits.train.len(), splits.validation.len(), splits.test.len()), (train, validation, test));
            let all: BTreeSet<_> = splits.train.iter().chain(&splits.validation).chain(&splits.test).collect();
            prop_assert_eq!(all.len(), train + validation + test);
        }
    }
}
