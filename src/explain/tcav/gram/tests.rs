use std::cell::RefCell;

use rand::Rng;

use super::*;

fn values(images: usize, features: usize, index: u64) -> Vec<f32> {
    let mut stream = crate::seed::stream(1, "gram test", index);
    (0..images * features).map(|_| stream.random::<f32>() * 2.0 - 0.5).collect()
}

/// The definition, summed exactly enough: one long f64 sum per pair.
fn reference(left: Rows<'_>, right: Rows<'_>) -> DMatrix<f64> {
    let d = left.features;
    DMatrix::from_fn(left.images(), right.images(), |i, j| {
        (0..d).map(|k| f64::from(left.values[i * d + k]) * f64::from(right.values[j * d + k])).sum()
    })
}

#[test]
fn products_match_the_definition_at_every_edge_of_tile_and_chunk() {
    for (n, m, d) in [(1, 1, 1), (2, 3, 5), (7, 9, 6), (64, 65, CHUNK), (70, 3, CHUNK + 1), (130, 66, 3 * CHUNK - 7)] {
        let (a, g) = (values(n, d, 0), values(m, d, 1));
        let (a, g) = (Rows::new(&a, d).unwrap(), Rows::new(&g, d).unwrap());
        let k = gram(a).unwrap();
        let close = |x: &DMatrix<f64>, y: &DMatrix<f64>| {
            let error = (x - y).amax() / y.amax().max(1.0);
            assert!(error < 1e-13, "{n} {m} {d}: {error}");
        };
        close(&k, &reference(a, a));
        assert_eq!(k, k.transpose());
        close(&cross(g, a).unwrap(), &reference(g, a));
    }
}

#[test]
fn bits_do_not_depend_on_threads_blocks_or_budget() {
    let (n, m, d) = (75, 10, CHUNK * 2 + 100);
    let (a, g) = (values(n, d, 2), values(m, d, 3));
    let (rows, gradients) = (Rows::new(&a, d).unwrap(), Rows::new(&g, d).unwrap());
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let expected = pool(1).install(|| (gram(rows).unwrap(), cross(gradients, rows).unwrap()));
    let four = pool(4).install(|| (gram(rows).unwrap(), cross(gradients, rows).unwrap()));
    assert_eq!(expected, four);
    for blocks in [vec![75], vec![30, 30, 15], vec![1, 2, 64, 3, 5], vec![1; 75]] {
        for budget in [0, 20 * d * 4, 40 * d * 4, usize::MAX] {
            let loads = RefCell::new(vec![0; blocks.len()]);
            let part = |values: &[f32], blocks: &[usize], i: usize| {
                let start: usize = blocks[..i].iter().sum();
                Ok(values[start * d..(start + blocks[i]) * d].to_vec())
            };
            let mut pool = Pool::new(&Compute::Cpu, &blocks, d, budget, |i| {
                loads.borrow_mut()[i] += 1;
                part(&a, &blocks, i)
            })
            .unwrap();
            assert_eq!(*pool.gram(), expected.0, "{blocks:?} {budget}");
            for classes in [vec![10], vec![4, 6], vec![1; 10]] {
                let mut calls = vec![0; classes.len()];
                let found = pool.cross(&classes, |i| {
                    calls[i] += 1;
                    part(&g, &classes, i)
                });
                assert_eq!(found, Ok::<_, GramError>(expected.1.clone()), "{blocks:?} {budget} {classes:?}");
                if budget == usize::MAX {
                    assert!(loads.borrow().iter().all(|&count| count == 1));
                    assert!(calls.iter().all(|&count| count == 1));
                }
            }
        }
    }
}

#[test]
fn wrong_shapes_and_values_are_named() {
    assert!(Rows::new(&[0.0; 5], 2).is_err());
    assert!(Rows::new(&[], 0).is_err());
    let (mut a, g) = (values(20, 9, 4), values(2, 9, 5));
    let three = values(3, 8, 6);
    assert_eq!(
        cross(Rows::new(&g, 9).unwrap(), Rows::new(&three, 8).unwrap()),
        Err(GramError::Features { left: 9, right: 8 })
    );
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        a[12 * 9 + 4] = bad;
        let expected = GramError::NotFinite { what: "activation", index: 12 };
        let (rows, gradients) = (Rows::new(&a, 9).unwrap(), Rows::new(&g, 9).unwrap());
        assert_eq!(gram(rows), Err(expected.clone()));
        assert_eq!(cross(gradients, rows), Err(expected.clone()));
        let streamed =
            Pool::new(&Compute::Cpu, &[8, 12], 9, 0, |i| Ok(if i == 0 { a[..72].to_vec() } else { a[72..].to_vec() }));
        assert_eq!(streamed.map(|pool| pool.gram().clone()), Err(expected));
        let mut pool = Pool::new(&Compute::Cpu, &[8], 9, 0, |_| Ok(a[..72].to_vec())).unwrap();
        let gradients = |i| Ok(if i == 0 { vec![1.0; 27] } else { a[11 * 9..13 * 9].to_vec() });
        let expected = GramError::NotFinite { what: "gradient", index: 4 };
        assert_eq!(pool.cross(&[3, 2], gradients), Err(expected));
    }
    let block = |what| GramError::Block { what, block: 0, expected: 3, found: 2 };
    let short = Pool::new(&Compute::Cpu, &[3], 9, 0, |_| Ok(vec![0.0; 18]));
    assert_eq!(short.map(|pool| pool.gram().clone()), Err(block("activation")));
    let mut pool = Pool::new(&Compute::Cpu, &[2], 9, 0, |_| Ok(vec![0.0; 18])).unwrap();
    assert_eq!(pool.cross(&[3], |_| Ok(vec![0.0; 18])), Err(block("gradient")));
    assert_eq!(gram(Rows::new(&[f32::MAX; 18], 9).unwrap()).unwrap()[(0, 1)], 9.0 * f64::from(f32::MAX).powi(2));
}
