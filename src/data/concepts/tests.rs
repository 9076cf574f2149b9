use proptest::prelude::*;

use super::*;
use crate::data::{SplitSizes, Task, builtin_mnist, split};

fn digits() -> (Dataset, Splits) {
    let data = builtin_mnist().unwrap().with_task(&Task::EvenOdd).unwrap();
    let splits = split(&data, SplitSizes { train: Some(10_000), validation: Some(2_000), test: None }, 3).unwrap();
    (data, splits)
}

const PLAN: ConceptPlan =
    ConceptPlan { pool: Pool::Validation, random: RandomKind::SamePool, images_per_set: 40, random_sets: 30 };

#[test]
fn digit_concepts_and_random_sets_are_disjoint_and_held_out() {
    let (data, splits) = digits();
    let table = ConceptTable::from_classes(&data);
    let classes = class_images(&data, &splits, Pool::Test, 200, 3).unwrap();
    assert_eq!(classes.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200]);
    let explained = classes.concat();
    let sets = concept_sets(&data, &table, &splits, &PLAN, &explained, None, 3).unwrap();
    assert!(sets.random_disjoint);
    assert_eq!((sets.concepts.len(), sets.random.len()), (10, 30));
    let mut all = BTreeSet::new();
    for (digit, concept) in sets.concepts.iter().enumerate() {
        assert_eq!((concept.images.len(), concept.random.clone()), (40, 0..30));
        for &i in &concept.images {
            assert_eq!(data.fine().values()[i] as usize, digit);
            assert!(all.insert(i) && splits.validation.contains(&i));
        }
    }
    for set in &sets.random {
        let RandomSet::Images(images) = set else { panic!() };
        assert_eq!(images.len(), 40);
        assert!(images.iter().all(|i| all.insert(*i) && splits.validation.contains(i)));
    }
    assert!(explained.iter().all(|i| all.insert(*i)));
    // Seeded: the same again, another with another seed; and the order of the pool does not matter.
    let mut reversed = splits.clone();
    reversed.validation.reverse();
    assert_eq!(sets, concept_sets(&data, &table, &reversed, &PLAN, &explained, None, 3).unwrap());
    assert_ne!(sets, concept_sets(&data, &table, &splits, &PLAN, &explained, None, 4).unwrap());
}

#[test]
fn explained_images_are_left_out_of_their_own_pool() {
    let (data, splits) = digits();
    let table = ConceptTable::from_classes(&data);
    let explained = class_images(&data, &splits, Pool::Validation, 300, 3).unwrap().concat();
    let sets = concept_sets(&data, &table, &splits, &PLAN, &explained, None, 3).unwrap();
    assert!(!sets.random_disjoint, "1,400 images cannot make 10 × 40 + 30 × 40 without overlap");
    let explained: BTreeSet<_> = explained.into_iter().collect();
    let concepts: BTreeSet<usize> = sets.concepts.iter().flat_map(|c| c.images.clone()).collect();
    assert!(concepts.is_disjoint(&explained));
    for set in &sets.random {
        let RandomSet::Images(images) = set else { panic!() };
        let images: BTreeSet<_> = images.iter().copied().collect();
        assert!(images.len() == 40 && images.is_disjoint(&explained) && images.is_disjoint(&concepts));
    }
}

#[test]
fn other_classes_and_noise_are_choices() {
    let (data, splits) = digits();
    let table = ConceptTable::from_classes(&data).select(&["4".into(), "7".into()]).unwrap();
    let plan = ConceptPlan { random: RandomKind::OtherClasses, ..PLAN };
    let sets = concept_sets(&data, &table, &splits, &plan, &[], None, 3).unwrap();
    assert_eq!(sets.random.len(), 60);
    for (concept, digit) in sets.concepts.iter().zip([4, 7]) {
        for set in &sets.random[concept.random.clone()] {
            let RandomSet::Images(images) = set else { panic!() };
            assert!(images.iter().all(|&i| data.fine().values()[i] != digit));
        }
    }
    let plan = ConceptPlan { random: RandomKind::Noise, ..PLAN };
    let sets = concept_sets(&data, &table, &splits, &plan, &[], None, 3).unwrap();
    let noise =
        |i: usize| sets.random[i].batch(&data, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(noise(0), noise(0));
    assert_ne!(noise(0), noise(1));
    assert_eq!(noise(0).len(), 40 * 784);
}

#[test]
fn concepts_without_images_of_the_class_under_test() {
    let (data, splits) = digits();
    let all: Vec<usize> = (0..data.len()).collect();
    let table = ConceptTable::new(vec!["any".into()], vec![all], vec![vec![]]).unwrap();
    let sets = concept_sets(&data, &table, &splits, &PLAN, &[], Some(0), 3).unwrap();
    let random = sets.random.iter().flat_map(|set| match set {
        RandomSet::Images(images) => images.clone(),
        RandomSet::Noise { .. } => panic!(),
    });
    let mut drawn = sets.concepts[0].images.iter().copied().chain(random);
    assert!(drawn.all(|i| data.labels().values()[i] == 1));
    // A digit is even or odd as a whole: without its class, nothing is left of it.
    let error = concept_sets(&data, &ConceptTable::from_classes(&data), &splits, &PLAN, &[], Some(0), 3).unwrap_err();
    assert!(error.to_string().contains("concept `0` has 0 images"), "{error}");
}

#[test]
fn impossible_plans_are_named() {
    let (data, splits) = digits();
    let table = ConceptTable::from_classes(&data);
    let error = |plan| concept_sets(&data, &table, &splits, &plan, &[], None, 3).unwrap_err().to_string();
    assert!(error(ConceptPlan { images_per_set: 1, ..PLAN }).contains("images_per_set"));
    assert!(error(ConceptPlan { random_sets: 1, ..PLAN }).contains("random_sets"));
    assert!(error(ConceptPlan { images_per_set: 500, ..PLAN }).contains("concept `0`"));
    assert!(table.select(&["ten".into()]).unwrap_err().to_string().contains("no concept `ten`"));
    assert!(ConceptTable::new(vec!["a".into()], vec![vec![1]], vec![vec![1]]).is_err());
    assert!(ConceptTable::new(vec!["a".into(), "a".into()], vec![vec![]; 2], vec![vec![]; 2]).is_err());
}

proptest! {
    #[test]
    fn random_sets_have_their_size_and_no_repeats(count in 2usize..60, size in 2usize..10, sets in 2usize..10, seed: u64) {
        let plan = ConceptPlan { images_per_set: size, random_sets: sets, ..PLAN };
        match random_sets((100..100 + count).collect(), &plan, seed, "test") {
            Err(_) => prop_assert!(count < size),
            Ok((drawn, disjoint)) => {
                prop_assert_eq!(drawn.len(), sets);
                prop_assert_eq!(disjoint, count >= sets * size);
                for set in &drawn {
                    prop_assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), size);
                }
                if disjoint {
                    prop_assert_eq!(drawn.concat().iter().collect::<BTreeSet<_>>().len(), sets * size);
                }
            }
        }
    }
}
