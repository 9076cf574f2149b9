//! Products by minimal filtering, forward and of the input's gradient, in one of two orders: tile
//! after tile with the points of all kernels at hand, or, where output channels are more than
//! tiles, some channels after others with the points of all tiles at hand. Both sum the same in the
//! same order.

use super::{PARTS, hold};
use crate::conv2d::geometry::{Direction, Problem};
use crate::conv2d::pack::{ask, weight_at};
use crate::conv2d::strips::{Map, Strips};
use crate::conv2d::tiles::Kernels;
use crate::conv2d::transforms::{Block, OUTPUTS, POINTS, Products, SIDE, STEP, Taps};
use crate::conv2d::units::{self, Unit, Units};
use crate::layout::Order;
use crate::scratch::{self, Shared};
use crate::simd::LANES;
use rayon::prelude::*;
use std::ops::Range;
use std::ptr;

/// Vectors of destination channels that a task takes at most where there are more of them than tiles.
const TOGETHER: usize = 4;

/// `destination (+)= weight ⋆ source`.
pub(in crate::conv2d) fn product(
    kernels: &Kernels,
    problem: &Problem,
    weight: &[f32],
    source: &[f32],
    destination: &mut [f32],
    accumulate: bool,
) {
    let product = Product::new(kernels, problem, accumulate);
    assert_eq!(source.len(), product.from.len(), "conv2d: source length");
    assert_eq!(destination.len(), product.to.len(), "conv2d: destination length");
    let target = Shared::new(destination);
    if product.few_tiles() {
        product.by_outputs(weight, source, target);
    } else {
        product.by_tiles(weight, source, target);
    }
}

/// A tile of a unit, and its place among those of all units.
struct Tile {
    place: usize,
    unit: Unit,
    column: usize,
}

/// A product's maps, and how they are cut.
struct Product<'a> {
    kernels: &'a Kernels,
    problem: &'a Problem,
    accumulate: bool,
    /// images, or strips of them, that a map has
    lanes: usize,
    in_place: bool,
    from: Map,
    to: Map,
    cut: Units,
    /// rows and columns by which a tile's piece of the source starts before its outputs
    lead: usize,
    column_lead: usize,
    /// tiles of all images
    all_tiles: usize,
}

impl<'a> Product<'a> {
    fn new(kernels: &'a Kernels, problem: &'a Problem, accumulate: bool) -> Self {
        let [lead, column_lead] = [problem.padding, problem.column_padding].map(|padding| match problem.direction {
            Direction::Forward => padding,
            Direction::Backward => 2 - padding,
        });
        let strips = Strips::new(problem.order, problem.batch, problem.destination_width, STEP);
        let (from, column_lead) = Map::source(strips, problem, column_lead);
        let to = Map::destination(strips, problem);
        let (rows, columns) = (problem.destination_height.div_ceil(STEP), to.width.div_ceil(STEP));
        let cut = Units::of_product(&strips, problem.source_channels + problem.destination_channels, (rows, columns));
        Self {
            kernels,
            problem,
            accumulate,
            lanes: strips.lanes,
            in_place: problem.order == Order::Positions,
            from,
            to,
            cut,
            lead,
            column_lead,
            all_tiles: rows * strips.tiles(),
        }
    }

    /// Whether there are fewer tiles than channels that they give, so that the weights' points are
    /// more than the source's.
    fn few_tiles(&self) -> bool {
        self.all_tiles < self.problem.destination_channels
    }

    /// Floats of the points of [`LANES`] destination channels' kernels.
    fn part(&self) -> usize {
        POINTS * self.problem.source_channels * LANES
    }

    /// Floats of a position of the source in a unit's rows, and of its points.
    fn position(&self) -> usize {
        self.cut.together * self.problem.source_channels + LANES
    }

    /// Floats between the sums of two points, of `outputs` channels.
    fn sums_stride(&self, outputs: usize) -> usize {
        self.cut.together * outputs + LANES
    }

    /// Floats of a tile's outputs of `outputs` channels on their way to maps by channel.
    fn room(&self, outputs: usize) -> usize {
        if self.in_place { 0 } else { OUTPUTS * self.cut.together * outputs }
    }

    /// The tiles of some units, in their order.
    fn tiles(&self, units: Range<usize>) -> impl Iterator<Item = Tile> {
        units.flat_map(|nth| {
            let unit = self.cut.nth(nth);
            let place = nth * self.cut.across;
            let columns = unit.columns.clone().enumerate();
            columns.map(move |(at, column)| Tile { place: place + at, unit: unit.clone(), column })
        })
    }

    /// Writes the points of the source, `(point, source channel, lane)`, at each tile of some units
    /// to where `panel` says, and calls `visit`.
    fn sources(
        &self,
        units: Range<usize>,
        source: &[f32],
        panel: impl Fn(&Tile) -> *mut f32,
        mut visit: impl FnMut(&Tile),
    ) {
        let (from, position) = (&self.from, self.position());
        let row_len = self.cut.width(from.width, SIDE - STEP) * position;
        scratch::with(SIDE * row_len + position, |room| {
            let (near, zeros) = room.split_at_mut(SIDE * row_len);
            zeros.fill(0.0);
            let mut held = [None; SIDE];
            for tile in self.tiles(units) {
                let Tile { unit, column, .. } = &tile;
                let length = unit.lanes.1;
                let met = unit.met(from.width, self.column_lead, SIDE - STEP - self.column_lead);
                let top = (STEP * unit.row) as isize - self.lead as isize;
                hold(from, top, unit, &mut held, |y| {
                    let to = &mut near[y % SIDE * row_len..][..row_len];
                    if !self.in_place {
                        return from.gather(source, unit.lanes, y, position, to);
                    }
                    let to = to.chunks_exact_mut(position);
                    from.visit_row(source, unit.lanes, (y, met.clone()), &mut [], to, |from, block, to| {
                        let (to, Block { rows, stride, .. }) = (to.as_mut_ptr(), block);
                        // SAFETY: `visit_row` gives a block, and room for it.
                        unsafe { (self.kernels.copy)(from, stride, to, length, length, length, rows) };
                    });
                });
                let corner = (top, (STEP * column) as isize - self.column_lead as isize);
                let pieces = from.pointers::<POINTS>(corner, zeros.as_ptr(), |y, x| {
                    near[y % SIDE * row_len + (x - met.start) * position..].as_ptr()
                });
                let line = Block { rows: 1, length: length * self.problem.source_channels, stride: 0 };
                // SAFETY: pieces are positions in `near`, or zeros; a panel has room for POINTS
                // positions. Lanes and channels are whole vectors.
                unsafe { (self.kernels.source)(&pieces, line, panel(&tile), position) };
                visit(&tile);
            }
        });
    }

    /// A tile's sums at some points, for the kernels in `packed`.
    fn products(&self, points: Range<usize>, tile: &Tile, panel: *const f32, packed: &[f32], sums: &mut [f32]) {
        let (channels, part, position) = (self.problem.source_channels, self.part(), self.position());
        let outputs = packed.len() / part * LANES;
        let sums_stride = self.sums_stride(outputs);
        assert!(points.end <= POINTS && sums.len() == POINTS * sums_stride, "conv2d: a tile's sums");
        // SAFETY: `packed` and `sums` have the lengths that are named, `panel` has POINTS positions.
        unsafe {
            (self.kernels.products)(&Products {
                points: points.len(),
                depth: channels,
                rows: outputs,
                vectors: tile.unit.lanes.1 / LANES,
                weight: packed[points.start * channels * LANES..].as_ptr(),
                weight_strides: [channels * LANES, part, LANES],
                panel: panel.wrapping_add(points.start * position),
                panel_stride: position,
                sums: sums[points.start * sums_stride..].as_mut_ptr(),
                sums_stride,
                accumulate: false,
            });
        }
    }

    /// Writes `outputs` destination channels from `first` on at a tile, from its sums. `room` holds
    /// [`Self::room`] floats.
    fn finish(
        &self,
        tile: &Tile,
        (first, outputs): (usize, usize),
        sums: &[f32],
        room: &mut [f32],
        target: Shared<f32>,
    ) {
        let (row, (start, length)) = (tile.unit.row, tile.unit.lanes);
        let (sums_stride, all) = (self.sums_stride(outputs), self.problem.destination_channels);
        assert!(sums.len() == POINTS * sums_stride && room.len() >= self.room(outputs), "conv2d: a tile's outputs");
        assert!(first + outputs <= all, "conv2d: a tile's channels");
        let stride = if self.in_place { self.lanes } else { length };
        let room_at = room.as_mut_ptr().cast_const();
        let corner = ((STEP * row) as isize, (STEP * tile.column) as isize);
        let places = self.to.pointers::<OUTPUTS>(corner, ptr::null(), |y, x| {
            if !self.in_place {
                return room_at.wrapping_add((STEP * (y % STEP) + x % STEP) * outputs * length);
            }
            let position = (y * self.to.width + x) * all + first;
            target.pointer().wrapping_add(position * self.lanes + start).cast_const()
        });
        let block = Block { rows: outputs, length, stride };
        // SAFETY: places are positions inside the map, whose blocks of `length ≤ lanes − start`
        // images repeat for each channel, `lanes` apart, or in `room`, one block after the other; a
        // tile's outputs of these channels belong to this task alone. Lanes and channels are whole
        // vectors.
        unsafe {
            let places = places.map(<*const f32>::cast_mut);
            (self.kernels.output)(sums.as_ptr(), sums_stride, &places, block, self.in_place && self.accumulate);
            if !self.in_place {
                let (corner, channels) = ((STEP * row, STEP * tile.column), (first, outputs));
                self.to.put(room, (STEP, STEP), tile.unit.lanes, corner, channels, self.accumulate, target);
            }
        }
    }

    /// Tile after tile, with the points of all kernels at hand.
    fn by_tiles(&self, weight: &[f32], source: &[f32], target: Shared<f32>) {
        let (outputs, part) = (self.problem.destination_channels, self.part());
        let units = self.cut.count();
        let parts = units.min(PARTS.max(units::wanted()));
        scratch::with(outputs / LANES * part, |packed| {
            let each = packed.par_chunks_mut(part).enumerate();
            each.for_each(|(nth, packed)| pack_weights(self.kernels, self.problem, weight, nth, packed));
            let packed = &*packed;
            (0..parts).into_par_iter().with_max_len(1).for_each(|nth| {
                let lengths = [POINTS * self.position(), POINTS * self.sums_stride(outputs), self.room(outputs)];
                scratch::with(lengths.iter().sum(), |room| {
                    let (panel, room) = room.split_at_mut(lengths[0]);
                    let (sums, room) = room.split_at_mut(lengths[1]);
                    let panel = panel.as_mut_ptr();
                    let range = units * nth / parts..units * (nth + 1) / parts;
                    self.sources(
                        range,
                        source,
                        |_| panel,
                        |tile| {
                            self.products(0..POINTS, tile, panel, packed, sums);
                            self.finish(tile, (0, outputs), sums, room, target);
                        },
                    );
                });
            });
        });
    }

    /// Some destination channels after others, with the points of the source at all tiles at hand:
    /// the kernels, which are more, are read once, and each point of theirs meets all tiles at once.
    fn by_outputs(&self, weight: &[f32], source: &[f32], target: Shared<f32>) {
        let (units, part, panel_len) = (self.cut.count(), self.part(), POINTS * self.position());
        let strips = self.problem.destination_channels / LANES;
        let together = (strips / units::wanted()).clamp(1, TOGETHER);
        scratch::with(units * self.cut.across * panel_len, |panels| {
            let panels = Shared::new(panels);
            let panel = |tile: &Tile| panels.pointer().wrapping_add(tile.place * panel_len);
            // Each unit's tiles are written by its own task.
            (0..units)
                .into_par_iter()
                .with_max_len(1)
                .for_each(|nth| self.sources(nth..nth + 1, source, panel, |_| {}));
            let tiles: Vec<Tile> = self.tiles(0..units).collect();
            (0..strips.div_ceil(together)).into_par_iter().with_max_len(1).for_each(|nth| {
                let strips = nth * together..strips.min((nth + 1) * together);
                let (first, outputs) = (strips.start * LANES, strips.len() * LANES);
                let sums_len = POINTS * self.sums_stride(outputs);
                let lengths = [strips.len() * part, tiles.len() * sums_len, self.room(outputs)];
                scratch::with(lengths.iter().sum(), |room| {
                    let (packed, room) = room.split_at_mut(lengths[0]);
                    let (sums, room) = room.split_at_mut(lengths[1]);
                    for (packed, strip) in packed.chunks_exact_mut(part).zip(strips) {
                        pack_weights(self.kernels, self.problem, weight, strip, packed);
                    }
                    for point in 0..POINTS {
                        for (tile, sums) in tiles.iter().zip(sums.chunks_exact_mut(sums_len)) {
                            self.products(point..point + 1, tile, panel(tile), packed, sums);
                        }
                    }
                    for (tile, sums) in tiles.iter().zip(sums.chunks_exact(sums_len)) {
                        self.finish(tile, (first, outputs), sums, room, target);
                    }
                });
            });
        });
    }
}

/// The points of the nth [`LANES`] destination channels' kernels, `(point, source channel, destination channel)`.
fn pack_weights(kernels: &Kernels, problem: &Problem, weight: &[f32], nth: usize, packed: &mut [f32]) {
    let channels = problem.source_channels;
    assert_eq!(packed.len(), POINTS * channels * LANES, "conv2d: packed weights");
    let mut taps: Taps = [[0.0; LANES]; 9];
    for channel in 0..channels {
        ask(problem, weight, (nth * LANES, LANES), channel);
        for (tap, values) in taps.iter_mut().enumerate() {
            // The gradient of the input meets the kernel turned by half a turn.
            let tap = if problem.direction == Direction::Forward { tap } else { 8 - tap };
            for (lane, value) in values.iter_mut().enumerate() {
                *value = weight[weight_at(problem, nth * LANES + lane, channel) + tap];
            }
        }
        // SAFETY: point p of the channel lies at (p·channels + channel)·LANES.
        unsafe {
            let to = packed.as_mut_ptr().add(channel * LANES);
            (kernels.kernel_points)(&taps, to, channels * LANES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv2d::Conv2dShape;
    use crate::conv2d::tiles::kernels;
    use crate::simd::Path;

    /// Both orders, in maps by channel and by position, with whole and with unfilled vectors.
    #[test]
    fn the_order_of_outputs_gives_the_bits_of_the_order_of_tiles() {
        let values = |length: usize, step: usize| (0..length).map(|at| (at * step % 37) as f32 / 7.0 - 2.5).collect();
        for (batch, in_channels, out_channels, side) in [(8, 32, 144, 7), (12, 48, 80, 5), (32, 16, 144, 6)] {
            let (in_height, in_width) = (side, side + 1);
            let shape =
                Conv2dShape { batch, in_channels, out_channels, in_height, in_width, kernel: 3, stride: 1, padding: 1 };
            let weight: Vec<f32> = values(shape.weight_len(), 11);
            for direction in [Direction::Forward, Direction::Backward] {
                let problem = Problem::new(&shape, direction);
                let [source, before]: [Vec<f32>; 2] = match direction {
                    Direction::Forward => [values(shape.input_len(), 5), values(shape.output_len(), 3)],
                    Direction::Backward => [values(shape.output_len(), 5), values(shape.input_len(), 3)],
                };
                for (path, accumulate) in Path::available().into_iter().flat_map(|path| [(path, false), (path, true)]) {
                    let product = Product::new(kernels(path), &problem, accumulate);
                    assert!(product.few_tiles() || direction == Direction::Backward, "{shape:?}");
                    let [mut by_tiles, mut by_outputs] = [before.clone(), before.clone()];
                    product.by_tiles(&weight, &source, Shared::new(&mut by_tiles));
                    product.by_outputs(&weight, &source, Shared::new(&mut by_outputs));
                    assert_eq!(by_outputs, by_tiles, "{path:?} {direction:?} accumulate {accumulate} {shape:?}");
                }
            }
        }
    }
}
