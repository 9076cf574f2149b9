//! The sums of a batch norm's passes over maps.

use super::{Relu, let_through};
use crate::simd::{LANES, versions};

/// Values that a lane sums in `f32` before their sum goes into an `f64`.
const TERMS: usize = 32;

/// Two sums for each of some channels, lane by lane: in `f32` for a while, then in `f64`.
struct Sums {
    short: Vec<[[f32; LANES]; 2]>,
    /// Empty as long as no lane has summed more than [`TERMS`] values.
    long: Vec<[[f64; LANES]; 2]>,
    terms: usize,
}

impl Sums {
    fn new(channels: usize) -> Self {
        Self { short: vec![[[0.0; LANES]; 2]; channels], long: vec![], terms: 0 }
    }
    /// Makes room for `terms` more values in every lane.
    #[inline(always)]
    fn reserve(&mut self, terms: usize) {
        if self.terms + terms > TERMS && self.terms > 0 {
            self.long.resize(self.short.len(), [[0.0; LANES]; 2]);
            for (short, long) in self.short.iter_mut().flatten().zip(self.long.iter_mut().flatten()) {
                add_lanes(short, long);
                *short = [0.0; LANES];
            }
            self.terms = 0;
        }
        self.terms += terms;
    }
    #[inline(always)]
    fn finish(self) -> Vec<[f64; 2]> {
        let mut long = self.long.into_iter();
        let sums = self.short.iter().map(|short| {
            let mut sums = long.next().unwrap_or_default();
            for (short, long) in short.iter().zip(&mut sums) {
                add_lanes(short, long);
            }
            sums.map(across)
        });
        sums.collect()
    }
}

/// Adds each lane's sum so far to its longer one.
#[inline(always)]
fn add_lanes(short: &[f32; LANES], long: &mut [f64; LANES]) {
    for lane in 0..LANES {
        long[lane] += f64::from(short[lane]);
    }
}

/// The sum of all lanes, halves at a time: one by one each addition would wait for the one before.
#[inline(always)]
fn across(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The stretches of a piece's first channel, cut so that no lane sums too much in `f32`: start and
/// length. Those of the other channels follow `length` floats apart.
fn stretches(floats: usize, length: usize, channels: usize) -> impl Iterator<Item = (usize, usize)> {
    let most = if channels == 1 { TERMS * LANES } else { length };
    (0..floats).step_by(channels * length).flat_map(move |row| {
        (0..length).step_by(most.min(length)).map(move |part| (row + part, most.min(length - part)))
    })
}

// Not closures: those would be compiled for the plainest machine.

/// Adds z − centre and its square to the lanes of two sums.
#[inline(always)]
fn add_centred([sum, square]: &mut [[f32; LANES]; 2], z: &[f32], centre: f32) {
    let (whole, rest) = z.as_chunks::<LANES>();
    for z in whole {
        for lane in 0..LANES {
            let value = z[lane] - centre;
            sum[lane] += value;
            square[lane] += value * value;
        }
    }
    for (lane, z) in rest.iter().enumerate() {
        sum[lane] += z - centre;
        square[lane] += (z - centre) * (z - centre);
    }
}

/// Adds grad and grad·(z − centre) to the lanes of two sums; with `OWN` of what the norm's own ReLU lets through.
#[inline(always)]
fn add_products<const OWN: bool>([sum, product]: &mut [[f32; LANES]; 2], z: &[f32], terms: [f32; 3], grad: &[f32]) {
    let ((whole, rest), (grads, grads_rest)) = (z.as_chunks::<LANES>(), grad.as_chunks::<LANES>());
    for (z, grad) in whole.iter().zip(grads) {
        for lane in 0..LANES {
            let grad = if OWN { let_through(z[lane], terms, grad[lane]) } else { grad[lane] };
            sum[lane] += grad;
            product[lane] += grad * (z[lane] - terms[0]);
        }
    }
    for (lane, (z, grad)) in rest.iter().zip(grads_rest).enumerate() {
        let grad = if OWN { let_through(*z, terms, *grad) } else { *grad };
        sum[lane] += grad;
        product[lane] += grad * (z - terms[0]);
    }
}

versions! {
    /// Σ (z − centre) and Σ (z − centre)² for every channel of a piece.
    pub(super) fn centred_sums(z: &[f32], length: usize, centre: &[f32]) -> Vec<[f64; 2]> {
        let mut sums = Sums::new(centre.len());
        for (start, count) in stretches(z.len(), length, centre.len()) {
            sums.reserve(count.div_ceil(LANES));
            for (channel, (sums, &centre)) in sums.short.iter_mut().zip(centre).enumerate() {
                add_centred(sums, &z[start + channel * length..][..count], centre);
            }
        }
        sums.finish()
    }
}

versions! {
    /// Σ grad and Σ grad·(z − centre) for every channel of a piece, of what `relu` lets through; `own` are the norm's
    /// centre and scale. With [`Relu::Out`] `grad` is masked.
    pub(super) fn masked_sums(z: &[f32], length: usize, own: [&[f32]; 2], relu: Relu<'_>, grad: &mut [f32]) -> Vec<[f64; 2]> {
        let [centre, scale] = own;
        let mut sums = Sums::new(centre.len());
        for (start, count) in stretches(z.len(), length, centre.len()) {
            sums.reserve(count.div_ceil(LANES));
            for (channel, sums) in sums.short.iter_mut().enumerate() {
                let range = start + channel * length..start + channel * length + count;
                let (z, grad) = (&z[range.clone()], &mut grad[range.clone()]);
                let shift = if let Relu::Own(shift) = relu { shift[channel] } else { 0.0 };
                let terms = [centre[channel], scale[channel], shift];
                if let Relu::Out(out) = relu {
                    for (grad, out) in grad.iter_mut().zip(&out[range]) {
                        *grad = if *out <= 0.0 { 0.0 } else { *grad };
                    }
                }
                match relu {
                    Relu::Own(_) => add_products::<true>(sums, z, terms, grad),
                    _ => add_products::<false>(sums, z, terms, grad),
                }
            }
        }
        sums.finish()
    }
}

/// The sum of some values.
pub(super) fn sum(values: &[f32]) -> f64 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    whole.iter().for_each(|values| add_lanes(values, &mut lanes));
    across(lanes) + rest.iter().map(|&value| f64::from(value)).sum::<f64>()
}
