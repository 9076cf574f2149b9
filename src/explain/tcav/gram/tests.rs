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
fn bits_do_not_depend_on_threads() {
    let (n, m, d) = (75, 10, CHUNK * 2 + 100);
    let (a, g) = (values(n, d, 2), values(m, d, 3));
    let (rows, gradients) = (Rows::new(&a, d).unwrap(), Rows::new(&g, d).unwrap());
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let expected = pool(1).install(|| (gram(rows).unwrap(), cross(gradients, rows).unwrap()));
    let four = pool(4).install(|| (gram(rows).unwrap(), cross(gradients, rows).unwrap()));
    assert_eq!(expected, four);
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
    }
    assert_eq!(gram(Rows::new(&[f32::MAX; 18], 9).unwrap()).unwrap()[(0, 1)], 9.0 * f64::from(f32::MAX).powi(2));
}
