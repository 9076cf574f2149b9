use rand::Rng;

use super::*;
use crate::explain::tcav::gram::{cross, gram};

fn values(images: usize, features: usize, index: u64) -> Vec<f32> {
    let mut stream = crate::seed::stream(1, "activations test", index);
    (0..images * features).map(|_| stream.random::<f32>() * 2.0 - 0.5).collect()
}

/// The block `i` of `values`, whose blocks have so many images of `features` values.
fn block(values: &[f32], blocks: &[usize], features: usize, i: usize) -> Vec<f32> {
    let start: usize = blocks[..i].iter().sum();
    values[start * features..(start + blocks[i]) * features].to_vec()
}

#[test]
fn bits_do_not_depend_on_blocks_or_memory_and_everything_is_asked_for_once() {
    let (n, m, d) = (75, 10, 2148);
    let (a, g) = (values(n, d, 2), values(m, d, 3));
    let (rows, gradients) = (Rows::new(&a, d).unwrap(), Rows::new(&g, d).unwrap());
    let expected = (gram(rows).unwrap(), cross(gradients, rows).unwrap());
    for blocks in [vec![75], vec![30, 30, 15], vec![1, 2, 64, 3, 5], vec![1; 75]] {
        for bytes in [0, 40 * d * 4, 80 * d * 4, usize::MAX] {
            let mut loads = vec![0; blocks.len()];
            let (mut pool, found) = Pool::new(&Compute::Cpu, &blocks, d, bytes, |i| {
                loads[i] += 1;
                Ok(block(&a, &blocks, d, i))
            })
            .unwrap();
            assert_eq!(*found.whole().unwrap(), expected.0, "{blocks:?} {bytes}");
            assert!(loads.iter().all(|&count| count == 1), "{blocks:?} {bytes}");
            assert_eq!(pool.kept.is_some(), bytes < usize::MAX && blocks.len() > 1, "{blocks:?} {bytes}");
            for classes in [vec![10], vec![4, 6], vec![1; 10]] {
                let mut calls = Vec::new();
                let found = pool.cross(&classes, |i| {
                    calls.push(i);
                    Ok(block(&g, &classes, d, i))
                });
                assert_eq!(*found.unwrap().whole().unwrap(), expected.1, "{blocks:?} {bytes} {classes:?}");
                assert_eq!(calls, (0..classes.len()).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn more_images_than_are_multiplied_at_once() {
    let (n, d) = (2 * AT_ONCE + 3, 3);
    let a = values(n, d, 4);
    let expected = gram(Rows::new(&a, d).unwrap()).unwrap();
    let blocks = [AT_ONCE + 1, AT_ONCE + 2];
    for bytes in [0, usize::MAX] {
        let (_, found) = Pool::new(&Compute::Cpu, &blocks, d, bytes, |i| Ok(block(&a, &blocks, d, i))).unwrap();
        assert_eq!(*found.whole().unwrap(), expected, "{bytes}");
    }
}

#[test]
fn wrong_shapes_and_values_are_named() {
    let expected = |error: GramError| crate::error::Error::from(error).to_string();
    let d = 9;
    let mut a = values(20, d, 5);
    for bad in [f32::NAN, f32::INFINITY] {
        a[12 * d + 4] = bad;
        for bytes in [0, usize::MAX] {
            let found = Pool::new(&Compute::Cpu, &[8, 12], d, bytes, |i| Ok(block(&a, &[8, 12], d, i)));
            let activation = GramError::NotFinite { what: "activation", index: 12 };
            assert_eq!(found.err().unwrap().to_string(), expected(activation));
        }
        let (mut pool, _) = Pool::new(&Compute::Cpu, &[8], d, 0, |_| Ok(a[..8 * d].to_vec())).unwrap();
        let gradients = |i| Ok(if i == 0 { vec![1.0; 3 * d] } else { a[11 * d..13 * d].to_vec() });
        let gradient = GramError::NotFinite { what: "gradient", index: 4 };
        assert_eq!(pool.cross(&[3, 2], gradients).err().unwrap().to_string(), expected(gradient));
    }
    let wrong = |what| expected(GramError::Block { what, block: 0, expected: 3, found: 2 });
    let short = Pool::new(&Compute::Cpu, &[3], d, 0, |_| Ok(vec![0.0; 2 * d]));
    assert_eq!(short.err().unwrap().to_string(), wrong("activation"));
    let (mut pool, _) = Pool::new(&Compute::Cpu, &[2], d, 0, |_| Ok(vec![0.0; 2 * d])).unwrap();
    assert_eq!(pool.cross(&[3], |_| Ok(vec![0.0; 2 * d])).err().unwrap().to_string(), wrong("gradient"));
}
