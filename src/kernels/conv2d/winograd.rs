//! Dense 3×3 convolutions of stride 1 by minimal filtering, F(4×4, 3×3) (Winograd 1980; Lavin and
//! Gray, CVPR 2016): a tile of 4×4 outputs takes 36 multiplications for each pair of channels in
//! place of 144.
//!
//! Transforms work on whole vectors: of images where maps lie by position, else of their
//! [strips](super::strips), which are gathered before and whose outputs are put to their places
//! after. Positions and points are a line more than their length apart, since powers of two would
//! meet in the same few sets of the cache. A tile's 36 points are then 36 products of matrices.
//! What is summed in which order depends on the shape alone.

mod gradient;
mod product;
mod rows;

use super::Conv2dShape;
use super::strips::{Map, Strips};
use super::transforms::{POINTS, SIDE, STEP};
use super::units::Unit;
use crate::layout::Order;
use crate::simd::LANES;
pub(super) use gradient::weight_gradient;
pub(super) use product::product;

/// Channels from which on what a tile reads of one image after the other lies so far apart that it
/// meets in few sets of the cache.
const APART: usize = 128;
/// Parts into which a call is cut at most, unless a product's threads want more.
const PARTS: usize = 12;

/// Whether this algorithm takes the shape and saves multiplications: tiles at a map's end reach
/// beyond it, while direct products skip what lies outside.
pub(super) fn pays(shape: &Conv2dShape) -> bool {
    // Fewer images and channels leave the cutting of maps into strips too much of the time.
    let small = shape.batch < 2 || shape.batch * shape.in_channels.min(shape.out_channels) < 128;
    takes(shape) && !(Order::of(shape.batch) == Order::Channels && small) && filtered(shape) < direct(shape)
}

fn takes(shape: &Conv2dShape) -> bool {
    let whole = |channels: usize| channels > 0 && channels.is_multiple_of(LANES);
    (shape.kernel, shape.stride) == (3, 1)
        && shape.padding <= 2
        && whole(shape.in_channels)
        && whole(shape.out_channels)
}

/// Multiplications for each pair of channels, and a quarter more for the transforms.
fn filtered(shape: &Conv2dShape) -> usize {
    let strips = Strips::new(Order::of(shape.batch), shape.batch, shape.out_width(), STEP);
    shape.out_height().div_ceil(STEP) * strips.tiles() * POINTS * 5 / 4
}

/// Multiplications of direct products for each pair of channels.
fn direct(shape: &Conv2dShape) -> usize {
    let products = |out: usize, length: usize| {
        let inside = |at: &usize| (shape.padding..shape.padding + length).contains(at);
        (0..out).map(|first| (first..first + 3).filter(inside).count()).sum::<usize>()
    };
    products(shape.out_height(), shape.in_height) * products(shape.out_width(), shape.in_width) * shape.batch
}

/// Which section's rows of the source are held, and which ones: row y in the slot y mod [`SIDE`].
type Held = [Option<(usize, usize)>; SIDE];

/// Calls `load` for each of the source's rows from `first` on that a unit reads and that is not held
/// yet, and holds it.
fn hold(map: &Map, first: isize, unit: &Unit, held: &mut Held, mut load: impl FnMut(usize)) {
    for y in 0..SIDE {
        let Some((y, _)) = map.at((first, 0), y, 0) else { continue };
        let row = Some((unit.section, y));
        if held[y % SIDE] != row {
            load(y);
            held[y % SIDE] = row;
        }
    }
}
