use super::*;

fn values(length: usize, seed: u32) -> Vec<f32> {
    (0..length as u32)
        .map(|index| {
            ((index.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn close(left: f32, right: f64) {
    assert!((f64::from(left) - right).abs() < 2e-6, "{left} against {right}");
}

#[test]
fn sgd_equals_the_formula_in_f64_over_five_steps() {
    let length = 40_011;
    let mask: Vec<u8> = values(length, 9).iter().map(|&value| u8::from(value > 0.0)).collect();
    for mask in [None, Some(&mask[..])] {
        let (mut weight, mut buffer) = (values(length, 1), vec![f32::NAN; length]);
        let mut plain: Vec<(f64, f64)> = weight.iter().map(|&weight| (f64::from(weight), 0.0)).collect();
        for step in 0..5 {
            let grad = values(length, 2 + step);
            sgd_step(&mut weight, &grad, mask, &mut buffer, 0.1, 0.9, 1e-2, step == 0);
            for (index, (value, moved)) in plain.iter_mut().enumerate() {
                let gradient = f64::from(grad[index]) + 1e-2 * *value;
                *moved = if step == 0 { gradient } else { 0.9 * *moved + gradient };
                *value -= 0.1 * *moved;
                if mask.is_some_and(|mask| mask[index] == 0) {
                    (*value, *moved) = (0.0, 0.0);
                    assert!(weight[index].to_bits() == 0 && buffer[index].to_bits() == 0);
                }
                close(weight[index], *value);
                close(buffer[index], *moved);
            }
        }
    }
}

#[test]
fn adam_equals_the_formula_in_f64_over_five_steps() {
    let length = 9_001;
    let mask: Vec<u8> = values(length, 9).iter().map(|&value| u8::from(value > 0.0)).collect();
    for (mask, decoupled) in [None, Some(&mask[..])].into_iter().flat_map(|mask| [(mask, false), (mask, true)]) {
        let (mut weight, mut first, mut second) = (values(length, 1), vec![0.0; length], vec![0.0; length]);
        let mut plain: Vec<(f64, f64, f64)> = weight.iter().map(|&weight| (f64::from(weight), 0.0, 0.0)).collect();
        for step in 1..=5 {
            let grad = values(length, 2 + step);
            adam_step(
                &mut weight,
                &grad,
                mask,
                &mut first,
                &mut second,
                1e-2,
                0.9,
                0.999,
                1e-8,
                0.1,
                decoupled,
                u64::from(step),
            );
            for (index, (value, mean, square)) in plain.iter_mut().enumerate() {
                let mut gradient = f64::from(grad[index]);
                if decoupled {
                    *value *= 1.0 - 1e-2 * 0.1;
                } else {
                    gradient += 0.1 * *value;
                }
                *mean = 0.9 * *mean + 0.1 * gradient;
                *square = 0.999 * *square + 0.001 * gradient * gradient;
                let (mean_hat, square_hat) =
                    (*mean / (1.0 - 0.9f64.powi(step as i32)), *square / (1.0 - 0.999f64.powi(step as i32)));
                *value -= 1e-2 * mean_hat / (square_hat.sqrt() + 1e-8);
                if mask.is_some_and(|mask| mask[index] == 0) {
                    (*value, *mean, *square) = (0.0, 0.0, 0.0);
                    assert!([weight[index], first[index], second[index]].iter().all(|value| value.to_bits() == 0));
                }
                assert!((f64::from(weight[index]) - *value).abs() < 5e-5, "{} against {value}", weight[index]);
                close(first[index], *mean);
                close(second[index], *square);
            }
        }
    }
}
