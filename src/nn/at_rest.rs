//! Convolutions at rest, whole or by rows.
//!
//! A map that nothing but a max pool reads, such as that of a ResNet's first layer, is never there
//! as a whole: a band of its rows is made, pooled while it is in the caches, and followed by the
//! next.

use std::ops::Range;

use crate::kernels::bias;
use crate::kernels::conv2d::{self, Conv2dShape, Weight};
use crate::kernels::layout::Order;
use crate::kernels::norm::AtRest;
use crate::kernels::pool::{PoolShape, max_pool_rows};

use super::layer::Layer;
use super::network::Network;
use super::shape::Shape3;
use super::workspace::Workspace;

/// Floats of a band, unless all threads need more of its rows.
const BAND: usize = 1 << 21;

/// A convolution that is not being trained, with all that follows it in its layer.
pub(super) struct Convolved<'a> {
    pub geometry: Conv2dShape,
    pub weight: Weight<'a>,
    pub input: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// adds the residual and closes the layer where there is one
    pub norm: Option<AtRest<'a>>,
    pub residual: Option<&'a [f32]>,
    pub relu: bool,
}

impl Convolved<'_> {
    /// All of it.
    pub(super) fn whole(&self, output: &mut [f32]) {
        self.rows(0..self.geometry.out_height(), self.residual, output);
    }

    /// Rows of it; `residual` is theirs.
    fn rows(&self, rows: Range<usize>, residual: Option<&[f32]>, output: &mut [f32]) {
        let Conv2dShape { batch, out_channels, .. } = self.geometry;
        // A bias comes between product and norm.
        let during = self.norm.as_ref().filter(|_| self.bias.is_none());
        conv2d::forward_rows(&self.geometry, self.weight, self.input, rows, during, output);
        match &self.norm {
            None => bias::finish(out_channels, batch, self.bias, residual, self.relu, output),
            Some(norm) if self.bias.is_some() => {
                bias::finish(out_channels, batch, self.bias, None, false, output);
                norm.apply(output, batch);
            }
            Some(_) => {}
        }
    }

    /// `pool` of it, `together` of its rows at a time.
    pub(super) fn pooled(&self, pool: &PoolShape, together: usize, output: &mut [f32], workspace: &mut Workspace) {
        let row = pool.in_width * pool.channels * pool.batch;
        let line = pool.out_width() * pool.channels * pool.batch;
        let mut band = workspace.take((together + pool.kernel) * row);
        // Rows that the band holds, and rows that are pooled.
        let (mut held, mut done) = (0..0, 0);
        while done < pool.out_height() {
            let first = (done * pool.stride).saturating_sub(pool.padding).min(held.end);
            band.copy_within((first - held.start) * row..(held.end - held.start) * row, 0);
            let end = pool.in_height.min(held.end + together);
            let made = &mut band[(held.end - first) * row..(end - first) * row];
            self.rows(held.end..end, None, made);
            held = first..end;
            let whole = (end + pool.padding).checked_sub(pool.kernel).map_or(0, |last| last / pool.stride + 1);
            let ready = if end == pool.in_height { pool.out_height() } else { whole.max(done) };
            let target = &mut output[done * line..ready * line];
            max_pool_rows(pool, done..ready, first, &band[..(end - first) * row], target);
            done = ready;
        }
        workspace.give(band);
    }
}

impl Network {
    /// The max pool behind a convolution whose large map nothing else reads, with the rows of a band.
    pub(super) fn pool_behind(
        &self,
        section: &Range<usize>,
        index: usize,
        shapes: &[Shape3],
        batch: usize,
    ) -> Option<(PoolShape, usize)> {
        let from = shapes[index + 1 - section.start];
        let &Layer::MaxPool { kernel, stride, padding, source } = self.layers[..section.end].get(index + 1)? else {
            return None;
        };
        let plain = matches!(self.layers[index], Layer::Convolution { residual: None, .. });
        let alone = source == index + 1 && !self.is_read(section, shapes, index + 1, index + 2);
        let row = from.width * from.channels * batch;
        let most = BAND / row.max(1) / conv2d::ROWS;
        let rows = most.max(rayon::current_num_threads()) * conv2d::ROWS;
        let pays = Order::of(batch) == Order::Positions && 2 * rows <= from.height;
        (plain && alone && pays).then(|| (from.max_pool(batch, kernel, stride, padding), rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pool::max_pool;
    use crate::model::{Stem, resnet};
    use crate::nn::Mode;
    use rand::Rng;

    fn noise(name: &str, count: usize) -> Vec<f32> {
        let mut stream = crate::seed::stream(7, name, 0);
        (0..count).map(|_| stream.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn bands_pool_to_the_bits_of_the_whole_map() {
        // Some are filtered minimally; pools meet rows of two bands, none between two windows' rows, or leave some out.
        for (in_channels, out_channels, kernel, stride, padding) in
            [(3, 5, 7, 2, 3), (16, 16, 3, 1, 1), (4, 3, 1, 1, 0), (2, 3, 3, 2, 0)]
        {
            let (batch, in_height, in_width) = (32, 39, 17);
            let geometry =
                Conv2dShape { batch, in_channels, out_channels, in_height, in_width, kernel, stride, padding };
            let (input, weight) = (noise("input", geometry.input_len()), noise("weight", geometry.weight_len()));
            let terms: Vec<_> = ["gamma", "beta", "mean", "bias"].map(|name| noise(name, out_channels)).into();
            let variance: Vec<f32> = terms[0].iter().map(|value| value * value).collect();
            for (norm, bias) in [(true, false), (false, true), (true, true)] {
                let norm = norm.then(|| AtRest::new(&terms[0], &terms[1], &terms[2], &variance, 1e-5, None, true));
                let (weight, bias) = (Weight::Dense(&weight), bias.then_some(&terms[3][..]));
                let convolved = Convolved { geometry, weight, input: &input, bias, norm, residual: None, relu: true };
                let mut map = vec![f32::NAN; geometry.output_len()];
                convolved.whole(&mut map);
                let from =
                    Shape3 { channels: out_channels, height: geometry.out_height(), width: geometry.out_width() };
                for (kernel, stride, padding) in [(3, 2, 1), (2, 2, 0), (3, 2, 0), (2, 3, 0), (5, 1, 2)] {
                    let pool = from.max_pool(batch, kernel, stride, padding);
                    let len = pool.out_height() * pool.out_width() * out_channels * batch;
                    let (mut expected, mut winners) = (vec![f32::NAN; len], vec![0; len]);
                    max_pool(&pool, &map, &mut expected, &mut winners);
                    for together in [4, 8, 64] {
                        let (mut found, mut workspace) = (vec![f32::NAN; len], Workspace::default());
                        workspace.give(vec![f32::NAN; 1 << 20].into());
                        convolved.pooled(&pool, together, &mut found, &mut workspace);
                        assert_eq!(found, expected, "{geometry:?} {pool:?} by {together}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_large_maps_that_a_pool_alone_reads_go_by_bands() {
        let network = resnet(18, 16, Stem::Large, 3, 2).unwrap().network;
        let layers = [&network.layers[..2], &[Layer::GlobalAveragePool { source: 1 }]].concat();
        let read_twice = Network { layers, ..(*network).clone() };
        let bands_of = |network: &Network, section: Range<usize>, side: usize, batch: usize| {
            let shape = Shape3 { channels: 3, height: side, width: side };
            let shapes = network.shapes(section.clone(), shape).unwrap();
            network.pool_behind(&section, 0, &shapes, batch).map(|(pool, _)| pool.in_height)
        };
        let bands = |section, side, batch| bands_of(&network, section, side, batch);
        let threads = |count| rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        let two = threads(2);
        assert_eq!(two.install(|| bands(0..2, 224, 32)), Some(112));
        let others = || [bands(0..2, 32, 32), bands(0..2, 224, 1), bands(0..1, 224, 32)];
        assert_eq!(two.install(others), [None; 3]);
        assert_eq!(two.install(|| bands_of(&read_twice, 0..3, 224, 32)), None);
        // All of many threads need so many rows that a band would be most of the map.
        assert_eq!(threads(15).install(|| bands(0..2, 224, 32)), None);
        let shape = Shape3 { channels: 3, height: 224, width: 224 };
        let weights = network.initialise(3);
        let input = noise("images", 32 * shape.len());
        let run = |mode| {
            let (input, mut workspace) = (input.clone().into(), Workspace::default());
            network.forward(0..2, mode, &weights, None, input, shape, 32, &mut workspace).unwrap().output().to_vec()
        };
        assert!(two.install(|| run(Mode::Eval) == run(Mode::EvalTape)));
    }
}
