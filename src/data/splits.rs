//! Training, validation and test images that never overlap.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom;

use crate::data::{Dataset, Origin};
use crate::error::{Error, Result};
use crate::seed::stream;

/// How many images each split takes. Every split keeps the shares of the classes as given (stratified).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitSizes {
    /// Training images, from the official training set; `None` takes all that is left.
    pub train: Option<usize>,
    /// Validation images, from the official validation set (from the training set where there is
    /// none); `None` takes all, or a fifth of the training set.
    pub validation: Option<usize>,
    /// Test images, from the official test set (from the training set where there is none); `None`
    /// takes all, or a fifth of the training set.
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
    /// Official training images left out because the same picture stands in another official set,
    /// or again in the training set.
    pub duplicates: usize,
}

/// Draws the splits. No picture stands in two of them, neither by index nor by content: an official training image
/// whose bytes are also in the test or validation set, or earlier in the training set, is left out and counted.
///
/// # Errors
/// If a split would be empty or is larger than what there is.
pub fn split(data: &Dataset, sizes: SplitSizes, seed: u64) -> Result<Splits> {
    let Pools { train, validation, test, duplicates } = official_pools(data);
    let a_fifth = (train.len() / 5).max(1);
    let mut train_pool = by_class(data, &train, seed, "split/train");
    let mut held_out = |official: &[usize], count: Option<usize>, name: &str, field: &str| match official.len() {
        0 => take(&mut train_pool, count.unwrap_or(a_fifth), field),
        all => take(&mut by_class(data, official, seed, name), count.unwrap_or(all), field),
    };
    let test = held_out(&test, sizes.test, "split/test", "data.test")?;
    let validation = held_out(&validation, sizes.validation, "split/validation", "data.validation")?;
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

/// Images of the official sets, ascending; of copies, training has none that another set has, and the first of its own.
struct Pools {
    train: Vec<usize>,
    validation: Vec<usize>,
    test: Vec<usize>,
    duplicates: usize,
}

fn official_pools(data: &Dataset) -> Pools {
    let of = |origin| (0..data.len()).filter(|&i| data.origins()[i] == origin).collect::<Vec<usize>>();
    let [mut train, validation, test] = [Origin::Train, Origin::Validation, Origin::Test].map(of);
    let mut seen: BTreeSet<[u8; 32]> = test.iter().chain(&validation).map(|&i| data.content(i)).collect();
    let total = train.len();
    train.retain(|&i| seen.insert(data.content(i)));
    Pools { duplicates: total - train.len(), train, validation, test }
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

/// Takes `count` images from the ends of the classes' lists, each class its share (largest
/// remainder, lower class first in a tie).
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::{Labels, Normalisation, Task, builtin_mnist};

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
        let data = builtin_mnist().unwrap().with_task(&Task::EvenOdd).unwrap();
        let sizes = SplitSizes { train: Some(10_000), validation: Some(2_000), test: None };
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
        let splits = split(&data, SplitSizes { train: None, validation: Some(2), test: None }, 0).unwrap();
        assert_eq!(splits.duplicates, 2);
        let mut used = [splits.train, splits.validation].concat();
        used.sort_unstable();
        assert_eq!(used, [0, 1, 2, 4, 6, 7]);
    }

    #[test]
    fn a_fifth_is_held_out_where_there_is_no_official_set() {
        let none = SplitSizes { train: None, validation: None, test: None };
        let classes: Vec<u32> = (0..50).map(|i| i % 2).collect();
        let splits = split(&numbered(&classes, &[Origin::Train; 50], &[]), none, 0).unwrap();
        assert_eq!((splits.train.len(), splits.validation.len(), splits.test.len()), (30, 10, 10));
        let origins = [[Origin::Train; 44].as_slice(), &[Origin::Validation; 4], &[Origin::Test; 2]].concat();
        // Image 45 is a validation image that image 7 copies.
        let splits = split(&numbered(&classes, &origins, &[(7, 45)]), none, 0).unwrap();
        assert_eq!((splits.train.len(), splits.duplicates), (43, 1));
        let sorted = |mut images: Vec<usize>| {
            images.sort_unstable();
            images
        };
        assert_eq!(sorted(splits.validation), [44, 45, 46, 47]);
        assert_eq!(sorted(splits.test), [48, 49]);
    }

    #[test]
    fn impossible_sizes_are_named() {
        let data = numbered(&[0, 1, 0, 1], &[Origin::Train; 4], &[]);
        let error = |train, validation, test| {
            let sizes = SplitSizes { train, validation: Some(validation), test };
            split(&data, sizes, 0).unwrap_err().to_string()
        };
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
            let splits = split(&data, SplitSizes { train: Some(train), validation: Some(validation), test: Some(test) }, seed).unwrap();
            prop_assert_eq!((splits.train.len(), splits.validation.len(), splits.test.len()), (train, validation, test));
            let all: BTreeSet<_> = splits.train.iter().chain(&splits.validation).chain(&splits.test).collect();
            prop_assert_eq!(all.len(), train + validation + test);
        }
    }
}
