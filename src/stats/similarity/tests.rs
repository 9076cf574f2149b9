use super::*;
use proptest::prelude::*;

fn value(s: Result<Similarity>) -> f64 {
    s.unwrap().value().unwrap()
}

/// Maps as ReLU leaves them: small whole numbers, many zeros, many ties.
fn map(pixels: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![3 => Just(0.0), 2 => (0u32..5).prop_map(f64::from)], pixels)
}

#[test]
fn known_values() {
    let mut a = vec![0.0; 49];
    let mut b = a.clone();
    (a[0], b[48]) = (3.0, 2.0);
    assert_eq!(value(top_overlap(&a, &b, 0.1)), 0.0);
    assert_eq!(value(jensen_shannon(&a, &b)), 1.0);
    assert_eq!(value(top_overlap(&a, &a, 0.1)), 1.0);
    // Two of four pixels tie for the one place: half a place each. Against the first alone: ½ / 1½.
    assert_eq!(value(top_overlap(&[2.0, 2.0, 1.0, 1.0], &[2.0, 1.0, 1.0, 1.0], 0.25)), 1.0 / 3.0);
    // (1, 0) against (⅔, ⅓), from the definition.
    assert!((value(jensen_shannon(&[1.0, 0.0], &[1.0, 0.5])) - 0.190_874_5).abs() < 1e-6);
    let ramp: Vec<f32> = (0..49).map(|i| i as f32).collect();
    let fall: Vec<f32> = ramp.iter().map(|v| 48.0 - v).collect();
    assert_eq!(value(spearman(&ramp, &fall)), -1.0);
    assert!(value(ssim(&ramp, &fall, 7, 7)) < 0.3);
}

#[test]
fn maps_without_a_pattern_are_named() {
    let (zero, flat, some) = ([0.0; 4], [1.0; 4], [0.0, 1.0, 2.0, 0.0]);
    for measure in Measure::ALL {
        let run = |a: &[f64], b: &[f64]| measure.drift(a, b, 2, 2).unwrap();
        assert_eq!(run(&zero, &some), Similarity::Degenerate(Degenerate::First));
        assert_eq!(run(&some, &flat), Similarity::Degenerate(Degenerate::Second));
        assert_eq!(run(&zero, &zero), Similarity::Degenerate(Degenerate::Both));
        assert!(measure.compare(&some, &some, 2, 3).is_err());
        assert!(measure.compare(&some, &[0.0, f64::NAN, 1.0, 2.0], 2, 2).is_err());
        assert!(measure.compare(&some, &some[..3], 2, 2).is_err());
    }
}

#[test]
fn every_measure_falls_as_noise_grows() {
    use rand::Rng;
    let truth: Vec<f64> =
        (0..196).map(|i| (-f64::from((i % 14 - 5i32).pow(2) + (i / 14 - 8).pow(2)) / 12.0).exp()).collect();
    for measure in Measure::ALL {
        let drifts: Vec<f64> = [0.0, 0.1, 0.5, 3.0]
            .map(|noise| {
                let mut draws = crate::seed::stream(5, "noise", 0);
                let noisy: Vec<f64> =
                    truth.iter().map(|v| (v + noise * draws.random_range(-0.5..0.5f64)).max(0.0)).collect();
                value(measure.drift(&truth, &noisy, 14, 14))
            })
            .to_vec();
        assert!(drifts[0].abs() < 1e-12, "{measure:?} {drifts:?}");
        assert!(drifts.is_sorted(), "{measure:?} {drifts:?}");
    }
}

proptest! {
    #[test]
    fn symmetric_bounded_and_blind_to_scale(a in map(30), b in map(30), scale in 0.01..100.0f64) {
        for measure in Measure::ALL {
            let forward = measure.compare(&a, &b, 5, 6).unwrap();
            let backward = measure.compare(&b, &a, 5, 6).unwrap();
            let larger: Vec<f64> = a.iter().map(|v| v * scale).collect();
            let rescaled = measure.compare(&larger, &b, 5, 6).unwrap();
            match (forward.value(), backward.value(), rescaled.value()) {
                (Some(f), Some(g), Some(r)) => {
                    let low = if matches!(measure, Measure::Spearman | Measure::Pearson | Measure::Ssim) { -1.0 } else { 0.0 };
                    prop_assert!((low..=1.0).contains(&f));
                    prop_assert!((f - g).abs() < 1e-12 && (f - r).abs() < 1e-9);
                    prop_assert!(measure.drift(&a, &a, 5, 6).unwrap().value().unwrap().abs() < 1e-12);
                }
                values => prop_assert_eq!(values, (None, None, None)),
            }
        }
    }

    #[test]
    fn top_regions_have_the_size_asked_for(a in map(49), fraction in 0.01..0.9f64) {
        let total: f64 = membership(&a, fraction).iter().sum();
        let positive = a.iter().filter(|v| **v > 0.0).count() as f64;
        prop_assert!((total - positive.min(fraction * 49.0)).abs() < 1e-9);
    }

    #[test]
    fn a_common_reordering_of_pixels_changes_no_pixelwise_measure(a in map(20), b in map(20), shift in 0usize..20) {
        let turn = |m: &[f64]| { let mut m = m.to_vec(); m.rotate_left(shift); m };
        for measure in [Measure::Spearman, Measure::Pearson, Measure::Iou10, Measure::Iou20, Measure::JensenShannon] {
            let (x, y) = (measure.compare(&a, &b, 4, 5).unwrap(), measure.compare(&turn(&a), &turn(&b), 4, 5).unwrap());
            match (x.value(), y.value()) {
                (Some(x), Some(y)) => prop_assert!((x - y).abs() < 1e-12),
                (x, y) => prop_assert_eq!(x, y),
            }
        }
    }
}
