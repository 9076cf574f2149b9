//! Every path against the plain loops, over random geometries.

use super::*;
use proptest::prelude::*;

/// Deterministic values in (−1, 1).
fn values(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn mask(length: usize, density: f64, seed: u64) -> Vec<u8> {
    values(length, seed).iter().map(|&value| u8::from(f64::from(value) < 2.0 * density - 1.0)).collect()
}

/// Error relative to what rounding may do to a sum of `terms` values of size one.
fn assert_close(left: &[f32], right: &[f32], terms: usize, what: &str) {
    assert_eq!(left.len(), right.len());
    let bound = 1e-5 * (terms as f32).sqrt().max(1.0);
    for (index, (left, right)) in left.iter().zip(right).enumerate() {
        assert!((left - right).abs() <= bound, "{what}[{index}]: {left} against {right}");
    }
}

/// Product of whole maps.
fn product(
    path: Path,
    shape: &Conv2dShape,
    direction: Direction,
    weight: Weight<'_>,
    source: &[f32],
    destination: &mut [f32],
    accumulate: bool,
) {
    correlate(path, shape, &Problem::new(shape, direction), weight, source, destination, accumulate);
}

fn check(shape: &Conv2dShape, density: f64, seed: u64) {
    let input = values(shape.input_len(), seed);
    let weight = values(shape.weight_len(), seed + 1);
    let gradient = values(shape.output_len(), seed + 2);
    let before = values(shape.input_len(), seed + 3);
    let mask = mask(shape.weight_len(), density, seed + 4);
    let pattern = Pattern::new(&mask, shape.out_channels, shape.in_channels, shape.kernel);
    let taps = shape.kernel * shape.kernel;
    let positions = shape.out_height() * shape.out_width() * shape.batch;
    for kept in [None, Some(&mask[..])] {
        let mut output = vec![0.0; shape.output_len()];
        reference::forward(shape, &weight, kept, &input, &mut output);
        let mut grad_input = vec![0.0; shape.input_len()];
        reference::grad_input(shape, &weight, kept, &gradient, &mut grad_input, false);
        let mut grad_weight = vec![0.0; shape.weight_len()];
        reference::grad_weight(shape, kept, &input, &gradient, &mut grad_weight);
        let pattern = kept.map(|_| &pattern);
        let kept_weight = pattern.map(|pattern| pattern.gather(&weight));
        let given = Weight::of(kept_weight.as_deref().unwrap_or(&weight), pattern);
        for path in Path::available() {
            let name = format!("{path:?} {} {shape:?}", if kept.is_some() { "sparse" } else { "dense" });
            let mut got = vec![f32::NAN; shape.output_len()];
            product(path, shape, Direction::Forward, given, &input, &mut got, false);
            assert_close(&got, &output, shape.in_channels * taps, &format!("forward {name}"));
            for residual in [None, Some(&gradient[..])] {
                let [scale, shift, mean] = [6, 7, 8].map(|nth| values(shape.out_channels, seed + nth));
                let variance: Vec<f32> = mean.iter().map(|mean| mean * mean).collect();
                let norm = AtRest::new(&scale, &shift, &mean, &variance, 1e-5, residual, residual.is_some());
                let mut after = got.clone();
                norm.apply(&mut after, shape.batch);
                let mut during = vec![f32::NAN; after.len()];
                forward_rows_on(path, shape, given, &input, 0..shape.out_height(), Some(&norm), &mut during);
                assert_eq!(during, after, "with a norm, {name}");
                if Order::of(shape.batch) == Order::Positions {
                    let row = after.len() / shape.out_height();
                    let mut by_rows = vec![f32::NAN; after.len()];
                    for (nth, by_rows) in by_rows.chunks_mut(ROWS * row).enumerate() {
                        let rows = ROWS * nth..ROWS * nth + by_rows.len() / row;
                        let residual = residual.map(|residual| &residual[rows.start * row..rows.end * row]);
                        let norm = AtRest { scale: norm.scale.clone(), residual, ..norm };
                        forward_rows_on(path, shape, given, &input, rows, Some(&norm), by_rows);
                    }
                    assert_eq!(by_rows, after, "by rows, {name}");
                }
            }
            let mut got = vec![f32::NAN; shape.input_len()];
            product(path, shape, Direction::Backward, given, &gradient, &mut got, false);
            assert_close(&got, &grad_input, shape.out_channels * taps, &format!("grad_input {name}"));
            let mut got = before.clone();
            product(path, shape, Direction::Backward, given, &gradient, &mut got, true);
            let sum: Vec<f32> = grad_input.iter().zip(&before).map(|(gradient, before)| gradient + before).collect();
            assert_close(&got, &sum, shape.out_channels * taps, &format!("grad_input accumulated {name}"));
            let mut got = vec![f32::NAN; given.values().len()];
            weight_gradient(path, shape, pattern, &input, &gradient, &mut got);
            if let Some(pattern) = pattern {
                let mut all = vec![0.0; shape.weight_len()];
                pattern.scatter(&got, &mut all);
                got = all;
            }
            assert_close(&got, &grad_weight, positions, &format!("grad_weight {name}"));
        }
    }
}

/// Batch, input and output channels, rows and columns, kernel, stride, and padding, of which no
/// more than half a kernel is taken.
type Sizes = (usize, usize, usize, usize, usize, usize, usize, usize);

fn sized((batch, in_channels, out_channels, in_height, in_width, kernel, stride, padding): Sizes) -> Conv2dShape {
    let padding = padding.min(kernel / 2);
    Conv2dShape { batch, in_channels, out_channels, in_height, in_width, kernel, stride, padding }
}

/// Shapes of these sizes whose kernel lies inside the padded input: of others no output has a size.
fn fitting(sizes: impl Strategy<Value = Sizes>) -> impl Strategy<Value = Conv2dShape> {
    sizes
        .prop_map(sized)
        .prop_filter("the kernel fits", |shape| shape.in_height.min(shape.in_width) + 2 * shape.padding >= shape.kernel)
}

fn shapes() -> impl Strategy<Value = Conv2dShape> {
    fitting((
        // Whole vectors take other ways through the kernels than odd batches.
        prop_oneof![1usize..=70, prop::sample::select(vec![16usize, 32, 48, 64, 80, 128, 144])],
        1usize..=21,
        1usize..=21,
        1usize..=30,
        1usize..=30,
        prop::sample::select(vec![1usize, 3, 7]),
        1usize..=2,
        0usize..=3,
    ))
    .prop_filter("in a moment", |shape| shape.multiply_adds() < 8_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]
    #[test]
    fn every_path_equals_the_plain_loops(
        shape in shapes(),
        density in prop::sample::select(vec![0.0, 0.03, 0.1, 0.5, 1.0]),
        seed in 0u64..1 << 30,
    ) {
        check(&shape, density, seed);
    }
}

/// Maps of a few long rows, which do not fit into the second-level cache together: sparse products
/// go by strips of them.
fn long_shapes() -> impl Strategy<Value = Conv2dShape> {
    let (batch, kernel) = (prop::sample::select(vec![32usize, 128]), prop::sample::select(vec![3usize, 5]));
    fitting((batch, 20usize..=40, 1usize..=6, 1usize..=5, 20usize..=60, kernel, 1usize..=2, 0usize..=2)).prop_filter(
        "in strips",
        |shape| {
            shape.input_len() / shape.in_height * shape.kernel > correlate::rows_budget(tiles::kernels(Path::detect()))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn maps_of_long_rows_equal_the_plain_loops(shape in long_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.1, seed);
    }
}

/// Maps of a few positions, whose weight gradient is a sum of outer products.
fn pointed_shapes() -> impl Strategy<Value = Conv2dShape> {
    let side = || 1usize..=4;
    let kernel = prop::sample::select(vec![1usize, 3]);
    let batch = prop::sample::select(vec![32usize, 64]);
    fitting((batch, 64usize..=90, 190usize..=256, side(), side(), kernel, 1usize..=2, 0usize..=1))
        .prop_filter("taken", outer::pays)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn maps_of_a_few_positions_equal_the_plain_loops(shape in pointed_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.5, seed);
    }
}

/// Maps by channel, whose dense products go by gathered panels: of several depths, several groups
/// of tiles, strided gradients.
fn gathered_shapes() -> impl Strategy<Value = Conv2dShape> {
    let batch = prop::sample::select(vec![1usize, 3, 8, 10, 24, 50, 100]);
    let (inputs, outputs) = (16usize..=40, prop_oneof![3 => 16usize..=40, 1 => 145usize..=160]);
    let side = || 1usize..=20;
    fitting((batch, inputs, outputs, side(), side(), 1usize..=4, 1usize..=3, 0usize..=2)).prop_filter(
        "taken, in a moment",
        |shape| {
            let taken = |direction| im2col::pays(&Problem::new(shape, direction));
            let taken = taken(Direction::Forward) && taken(Direction::Backward);
            taken && !winograd::pays(shape) && shape.multiply_adds() < 20_000_000
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn gathered_panels_equal_the_plain_loops(shape in gathered_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.5, seed);
    }
}

/// 1×1 convolutions of maps by channel, whose sums are made in their places where vectors are whole.
fn pointwise_shapes() -> impl Strategy<Value = Conv2dShape> {
    let batch = prop::sample::select(vec![1usize, 3, 8, 24]);
    let inputs = prop_oneof![16usize..=40, 260usize..=300];
    let outputs = prop_oneof![2 => prop::sample::select(vec![16usize, 24, 48]), 1 => 16usize..=40];
    let side = || 1usize..=20;
    fitting((batch, inputs, outputs, side(), side(), Just(1), 1usize..=2, Just(0)))
        .prop_filter("taken, in a moment", |shape| {
            im2col::pays(&Problem::new(shape, Direction::Forward)) && shape.multiply_adds() < 20_000_000
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pointwise_products_equal_the_plain_loops(shape in pointwise_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.5, seed);
    }
}

/// Batches whose weight gradient is a product of turned maps: by channel, of whole vectors of input
/// channels and of others, and by position.
fn turned_shapes() -> impl Strategy<Value = Conv2dShape> {
    let batch = prop::sample::select(vec![1usize, 3, 8, 10, 24, 32, 50, 80, 100, 300]);
    let inputs = prop_oneof![(1usize..=3).prop_map(|n| 16 * n), 1usize..=40];
    let outputs = prop::sample::select(vec![16usize, 48, 144, 272]);
    let side = || 1usize..=17;
    fitting((batch, inputs, outputs, side(), side(), 1usize..=4, 1usize..=3, 0usize..=2)).prop_filter(
        "taken, in a moment",
        |shape| {
            let before = winograd::pays(shape) || outer::pays(shape);
            !before && turned::pays(shape) && shape.multiply_adds() < 20_000_000
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn turned_maps_equal_the_plain_loops(shape in turned_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.5, seed);
    }
}

/// Linear layers, whose weight gradient is an outer product.
fn linear_shapes() -> impl Strategy<Value = Conv2dShape> {
    (prop_oneof![1usize..=70, Just(64usize), Just(128)], 64usize..=400, 41usize..=260)
        .prop_map(|(batch, in_channels, out_channels)| sized((batch, in_channels, out_channels, 1, 1, 1, 1, 0)))
        .prop_filter("taken, in a moment", |shape| outer::pays(shape) && shape.multiply_adds() < 8_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn linear_layers_equal_the_plain_loops(shape in linear_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.5, seed);
    }
}

/// Small maps of many channels, whose weights are packed for each tile as it is needed.
fn deep_shapes() -> impl Strategy<Value = Conv2dShape> {
    let batch = prop::sample::select(vec![64usize, 80, 128]);
    let side = || 1usize..=2;
    let kernel = prop::sample::select(vec![1usize, 3]);
    fitting((batch, 50usize..=80, 50usize..=80, side(), side(), kernel, 1usize..=2, Just(1)))
        .prop_filter("in a moment", |shape| shape.multiply_adds() < 20_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn small_maps_of_many_channels_equal_the_plain_loops(shape in deep_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.5, seed);
    }
}

/// Shapes that minimal filtering takes.
fn filtered_shapes() -> impl Strategy<Value = Conv2dShape> {
    let channels = || prop::sample::select(vec![16usize, 32, 48]);
    // By position, and by channel in strips.
    let batch = prop_oneof![prop::sample::select(vec![32usize, 48, 64, 80, 144]), 8usize..=50];
    (batch, channels(), channels(), 3usize..=14, 3usize..=14, 0usize..=2)
        .prop_map(|(batch, in_channels, out_channels, in_height, in_width, padding)| Conv2dShape {
            batch,
            in_channels,
            out_channels,
            in_height,
            in_width,
            kernel: 3,
            stride: 1,
            padding,
        })
        .prop_filter("taken, in a moment", |shape| winograd::pays(shape) && shape.multiply_adds() < 30_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn minimal_filtering_equals_the_plain_loops(shape in filtered_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.5, seed);
    }
}

/// So many channels that those of all images lie in strips where tiles wait for loads.
fn wide_filtered_shapes() -> impl Strategy<Value = Conv2dShape> {
    let channels = || prop::sample::select(vec![32usize, 128, 144]);
    let batch = prop::sample::select(vec![12usize, 32, 48, 64]);
    fitting((batch, channels(), channels(), 1usize..=6, 1usize..=6, Just(3), Just(1), Just(1))).prop_filter(
        "taken, in a moment",
        |shape| {
            let wide = shape.in_channels.max(shape.out_channels) >= 128;
            wide && winograd::pays(shape) && shape.multiply_adds() < 100_000_000
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn minimal_filtering_of_many_channels_equals_the_plain_loops(shape in wide_filtered_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.5, seed);
    }
}

/// Strided convolutions and short rows of small batches, whose direct products go by strips, some
/// in several bands of rows.
fn stripped_shapes() -> impl Strategy<Value = Conv2dShape> {
    let kernel = || prop::sample::select(vec![1usize, 3, 5]);
    let small = (2usize..=31, 1usize..=20, 1usize..=20, 3usize..=20, 3usize..=20, kernel(), 1usize..=3, 0usize..=2);
    let large = (20usize..=31, 30usize..=40, 60usize..=70, 40usize..=60, 30usize..=40, Just(1), 2usize..=3, Just(0));
    fitting(prop_oneof![4 => small, 1 => large]).prop_filter("taken, in a moment", |shape| {
        let taken = |direction| strips::pays(&Problem::new(shape, direction), false);
        shape.multiply_adds() < 60_000_000 && (taken(Direction::Forward) || taken(Direction::Backward))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn products_by_strips_equal_the_plain_loops(shape in stripped_shapes(), seed in 0u64..1 << 30) {
        check(&shape, 0.3, seed);
    }
}

/// The largest error of all three passes, beside `f64`, is within 1e-5 of the deviation of what they compute.
#[test]
fn minimal_filtering_rounds_to_less_than_1e_5() {
    let by_position = [shape(32, 16, 16, 12, 3, 1), shape(48, 16, 32, 9, 3, 1), shape(64, 64, 64, 4, 3, 1)];
    for shape in by_position.into_iter().chain([shape(8, 32, 16, 14, 3, 1), shape(25, 16, 16, 7, 3, 1)]) {
        assert!(winograd::pays(&shape));
        let (input, weight) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
        let gradient = values(shape.output_len(), 3);
        let mut exact = [vec![0.0; shape.output_len()], vec![0.0; shape.input_len()], vec![0.0; shape.weight_len()]];
        let [outputs, inputs, weights] = &mut exact;
        let (side, order) = (shape.in_width, Order::of(shape.batch));
        let at = |position: usize, channels: usize, channel: usize| {
            position * order.position_stride(channels, shape.batch)
                + channel * order.channel_stride(side * side, shape.batch)
        };
        for (nth, weights) in weights.iter_mut().enumerate() {
            let (output, channel) = (nth / 9 / shape.in_channels, nth / 9 % shape.in_channels);
            for position in 0..side * side {
                let (y, x) = (position / side + nth % 9 / 3, position % side + nth % 3);
                if !(1..=side).contains(&y) || !(1..=side).contains(&x) {
                    continue;
                }
                let to = at(position, shape.out_channels, output);
                let from = at((y - 1) * side + x - 1, shape.in_channels, channel);
                for image in 0..shape.batch {
                    outputs[to + image] += f64::from(weight[nth]) * f64::from(input[from + image]);
                    inputs[from + image] += f64::from(weight[nth]) * f64::from(gradient[to + image]);
                    *weights += f64::from(input[from + image]) * f64::from(gradient[to + image]);
                }
            }
        }
        for path in Path::available() {
            let mut got = exact.each_ref().map(|exact| vec![0.0; exact.len()]);
            product(path, &shape, Direction::Forward, Weight::Dense(&weight), &input, &mut got[0], false);
            product(path, &shape, Direction::Backward, Weight::Dense(&weight), &gradient, &mut got[1], false);
            weight_gradient(path, &shape, None, &input, &gradient, &mut got[2]);
            for (pass, (got, exact)) in got.iter().zip(&exact).enumerate() {
                let deviation = (exact.iter().map(|value| value * value).sum::<f64>() / exact.len() as f64).sqrt();
                let worst =
                    got.iter().zip(exact).map(|(got, exact)| (f64::from(*got) - exact).abs()).fold(0.0, f64::max);
                println!("{path:?} pass {pass} of {} channels: {:.1e}", shape.in_channels, worst / deviation);
                assert!(worst < 1e-5 * deviation, "{path:?} pass {pass} {shape:?}: {worst} of {deviation}");
            }
        }
    }
}

fn shape(
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    size: usize,
    kernel: usize,
    stride: usize,
) -> Conv2dShape {
    Conv2dShape {
        batch,
        in_channels,
        out_channels,
        in_height: size,
        in_width: size,
        kernel,
        stride,
        padding: kernel / 2,
    }
}

#[test]
fn networks_geometries_equal_the_plain_loops() {
    for (shape, density) in [
        (shape(128, 1, 16, 28, 3, 1), 0.3),
        (shape(64, 1, 24, 28, 7, 2), 0.3),
        (shape(128, 16, 16, 9, 3, 1), 0.1),
        (shape(80, 16, 32, 7, 3, 1), 0.4),
        // More tiles in a row than a weight's gradient takes up at a time.
        (shape(64, 16, 64, 14, 3, 1), 0.4),
        (shape(64, 48, 16, 4, 3, 1), 0.4),
        (shape(16, 16, 33, 28, 3, 2), 0.1),
        (shape(32, 17, 32, 14, 1, 2), 0.1),
        (shape(128, 150, 140, 1, 3, 1), 0.05),
        (shape(128, 40, 140, 2, 3, 1), 0.05),
        (shape(128, 140, 40, 2, 3, 2), 0.05),
        (shape(48, 64, 64, 4, 3, 1), 0.03),
        // Sums so large that each pair of rows of points is a task, and more kept weights than have
        // their sums together.
        (shape(128, 128, 128, 3, 3, 1), 0.03),
        (shape(8, 3, 8, 45, 7, 2), 0.5),
        (shape(8, 24, 16, 17, 3, 2), 0.2),
        (shape(37, 300, 10, 1, 1, 1), 0.2),
        (shape(8, 270, 20, 5, 3, 1), 0.2),
        (shape(33, 20, 390, 3, 3, 2), 0.2),
    ] {
        check(&shape, density, 5);
    }
}

/// Maps by position that are so large that sparse products write them past the caches have the bits
/// of their rows, which are not; wherever the maps begin, since only what begins a line can be
/// written so.
#[test]
fn maps_written_past_the_caches_have_the_bits_of_their_rows() {
    let shape = shape(32, 1, 64, 33, 3, 1);
    let (row, length) = (shape.output_len() / 33, shape.output_len());
    assert!(length > correlate::PAST_CACHES && ROWS * row < correlate::PAST_CACHES);
    let (input, all) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
    let pattern = Pattern::new(&mask(all.len(), 0.4, 3), shape.out_channels, shape.in_channels, shape.kernel);
    let kept = pattern.gather(&all);
    let weight = Weight::of(&kept, Some(&pattern));
    for path in Path::available() {
        let mut by_rows = vec![f32::NAN; length];
        for (nth, by_rows) in by_rows.chunks_mut(ROWS * row).enumerate() {
            let rows = ROWS * nth..ROWS * nth + by_rows.len() / row;
            forward_rows_on(path, &shape, weight, &input, rows, None, by_rows);
        }
        for first in [0, 1, 8] {
            let mut room = vec![f32::NAN; length + 32];
            let begin = room.as_ptr().align_offset(64) + first;
            let whole = &mut room[begin..][..length];
            forward_rows_on(path, &shape, weight, &input, 0..33, None, whole);
            assert!(whole == by_rows, "{path:?}, {first} floats into a line");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool");
    for shape in [
        shape(128, 16, 16, 14, 3, 1),
        shape(80, 16, 48, 7, 3, 1),
        shape(70, 5, 37, 9, 3, 2),
        shape(128, 130, 64, 2, 3, 1),
        shape(8, 1, 8, 30, 7, 2),
        shape(8, 32, 16, 15, 3, 1),
        shape(8, 16, 144, 7, 3, 1),
        shape(9, 24, 20, 14, 3, 2),
    ] {
        let (input, weight) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
        let gradient = values(shape.output_len(), 3);
        let pattern =
            Pattern::new(&mask(shape.weight_len(), 0.2, 4), shape.out_channels, shape.in_channels, shape.kernel);
        for path in Path::available() {
            for pattern in [None, Some(&pattern)] {
                let all = |threads| {
                    pool(threads).install(|| {
                        let kept = pattern.map(|pattern| pattern.gather(&weight));
                        let weight = Weight::of(kept.as_deref().unwrap_or(&weight), pattern);
                        let mut output = vec![0.0; shape.output_len()];
                        product(path, &shape, Direction::Forward, weight, &input, &mut output, false);
                        let mut grad_input = vec![0.0; shape.input_len()];
                        product(path, &shape, Direction::Backward, weight, &gradient, &mut grad_input, false);
                        let mut grad_weight = vec![0.0; weight.values().len()];
                        weight_gradient(path, &shape, pattern, &input, &gradient, &mut grad_weight);
                        [output, grad_input, grad_weight]
                            .concat()
                            .iter()
                            .map(|value| value.to_bits())
                            .collect::<Vec<_>>()
                    })
                };
                let one = all(1);
                assert!(one == all(2) && one == all(5) && one == all(16), "{path:?} {shape:?}");
            }
        }
    }
}

/// Σ output·gradient as a function of one input or weight has a constant slope: its finite
/// difference is exact in `f64`.
#[test]
fn gradients_equal_finite_differences() {
    let shape = Conv2dShape {
        batch: 3,
        in_channels: 2,
        out_channels: 3,
        in_height: 6,
        in_width: 5,
        kernel: 3,
        stride: 2,
        padding: 1,
    };
    let (mut input, mut weight) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
    let gradient = values(shape.output_len(), 3);
    let loss = |input: &[f32], weight: &[f32]| {
        let mut output = vec![0.0; shape.output_len()];
        forward(&shape, Weight::Dense(weight), input, &mut output);
        output.iter().zip(&gradient).map(|(output, gradient)| f64::from(*output) * f64::from(*gradient)).sum::<f64>()
    };
    let mut by_input = vec![0.0; shape.input_len()];
    grad_input(&shape, Weight::Dense(&weight), &gradient, &mut by_input, false);
    let mut by_weight = vec![0.0; shape.weight_len()];
    grad_weight(&shape, None, &input, &gradient, &mut by_weight);
    for (index, expected) in by_input.iter().enumerate() {
        let old = input[index];
        input[index] = old + 0.5;
        let up = loss(&input, &weight);
        input[index] = old - 0.5;
        let down = loss(&input, &weight);
        input[index] = old;
        assert!((up - down - f64::from(*expected)).abs() < 2e-5, "input {index}");
    }
    for (index, expected) in by_weight.iter().enumerate() {
        let old = weight[index];
        weight[index] = old + 0.5;
        let up = loss(&input, &weight);
        weight[index] = old - 0.5;
        let down = loss(&input, &weight);
        weight[index] = old;
        assert!((up - down - f64::from(*expected)).abs() < 2e-5, "weight {index}");
    }
}
