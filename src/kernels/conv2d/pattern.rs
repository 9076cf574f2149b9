//! The compressed index of a masked weight.

/// The positions of a weight `(O, I, k, k)` that a mask keeps, as a compressed index.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub(super) out_channels: usize,
    pub(super) in_channels: usize,
    pub(super) kernel: usize,
    /// by output channel, then tap, then input channel
    pub(super) by_output: Index,
    /// by input channel, then tap, then output channel
    pub(super) by_input: Index,
}

/// Kept positions grouped by (row channel, tap).
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// start of each (row channel, tap) in the arrays below; one more at the end
    pub starts: Vec<u32>,
    /// the other channel
    pub channel: Vec<u32>,
    /// by output channel the flat position in the dense weight; by input channel the place in the
    /// index by output channel, which is the order of kept weights and their gradients
    pub position: Vec<u32>,
}

impl Index {
    /// Sorts kept weights by (row channel, tap), as `of` gives them with the other channel. They
    /// come by output channel, then input channel, so that the other channel ascends in each.
    /// Returns each weight's place too.
    fn new(
        rows: usize,
        taps: usize,
        kept: &[Place],
        of: impl Fn(&Place) -> (u32, u32),
        position_of: impl Fn(usize) -> u32,
    ) -> (Self, Vec<u32>) {
        let cell = |place: &Place| of(place).0 as usize * taps + place.tap as usize;
        let mut starts = vec![0; rows * taps + 1];
        for place in kept {
            starts[cell(place) + 1] += 1;
        }
        for cell in 0..rows * taps {
            starts[cell + 1] += starts[cell];
        }
        let mut next = starts.clone();
        let (mut channel, mut position) = (vec![0; kept.len()], vec![0; kept.len()]);
        let mut places = Vec::with_capacity(kept.len());
        for (nth, place) in kept.iter().enumerate() {
            let next = &mut next[cell(place)];
            (channel[*next as usize], position[*next as usize]) = (of(place).1, position_of(nth));
            places.push(*next);
            *next += 1;
        }
        (Self { starts, channel, position }, places)
    }

    /// Where among the entries `start..end` of one row channel and tap those of the channel `first`
    /// and later ones begin. Looked for around where it would stand if the kept weights were spread
    /// evenly over `channels`: a bisection of a long row reads a line of memory a step.
    pub(super) fn begin(&self, (start, end): (usize, usize), first: usize, channels: usize) -> usize {
        let row = &self.channel[start..end];
        let before = |at: usize| (row[at] as usize) < first;
        let guess = row.len() * first / channels.max(1);
        let (mut low, mut high) = (guess.min(row.len()), guess.min(row.len()));
        let mut step = 8;
        while low > 0 && !before(low - 1) {
            low = low.saturating_sub(step);
            step *= 2;
        }
        step = 8;
        while high < row.len() && before(high) {
            high = (high + step).min(row.len());
            step *= 2;
        }
        start + low + row[low..high].partition_point(|&channel| (channel as usize) < first)
    }
}

/// A kept weight.
struct Place {
    position: u32,
    output: u32,
    input: u32,
    tap: u32,
}

/// Where `mask` is not zero, in its order.
fn kept_places(mask: &[u8], in_channels: usize, taps: usize) -> Vec<Place> {
    /// Bytes that are looked at together: of a mask that keeps little, most such pieces are zeros.
    const TOGETHER: usize = 8;
    let (in_channels, taps) = (in_channels as u32, taps as u32);
    let mut kept = Vec::new();
    let mut look = |first: usize, bytes: &[u8]| {
        for (position, _) in (first as u32..).zip(bytes).filter(|(_, byte)| **byte != 0) {
            let (pair, tap) = (position / taps, position % taps);
            kept.push(Place { position, output: pair / in_channels, input: pair % in_channels, tap });
        }
    };
    let (whole, rest) = mask.as_chunks::<TOGETHER>();
    for (nth, bytes) in whole.iter().enumerate() {
        if u64::from_ne_bytes(*bytes) != 0 {
            look(nth * TOGETHER, bytes);
        }
    }
    look(whole.len() * TOGETHER, rest);
    kept
}

impl Pattern {
    /// Indexes the non-zero bytes of `mask`, `(O, I, k, k)`.
    #[must_use]
    pub fn new(mask: &[u8], out_channels: usize, in_channels: usize, kernel: usize) -> Self {
        assert_eq!(mask.len(), out_channels * in_channels * kernel * kernel, "pattern: mask length");
        assert!(mask.len() <= u32::MAX as usize, "pattern: more weights than the index can number");
        let taps = kernel * kernel;
        let kept = kept_places(mask, in_channels, taps);
        let position = |nth: usize| kept[nth].position;
        let (by_output, places) = Index::new(out_channels, taps, &kept, |place| (place.output, place.input), position);
        let place = |nth: usize| places[nth];
        let (by_input, _) = Index::new(in_channels, taps, &kept, |place| (place.input, place.output), place);
        Self { out_channels, in_channels, kernel, by_output, by_input }
    }

    /// Share of the positions kept; 0 for a weight without positions.
    #[must_use]
    pub fn density(&self) -> f64 {
        if self.all() == 0 { 0.0 } else { self.kept() as f64 / self.all() as f64 }
    }

    /// What is kept of one value for each weight `(O, I, k, k)`, in the pattern's own order.
    ///
    /// # Panics
    /// When there are more or fewer values than weights.
    #[must_use]
    pub fn gather<T: Copy>(&self, dense: &[T]) -> Vec<T> {
        self.check(dense);
        self.positions().map(|position| dense[position]).collect()
    }

    /// Puts kept values, in the pattern's own order, to their places among one value for each
    /// weight `(O, I, k, k)`. The others stay.
    ///
    /// # Panics
    /// When there are more or fewer values than the pattern tells.
    pub fn scatter<T: Copy>(&self, kept: &[T], dense: &mut [T]) {
        self.check(dense);
        assert_eq!(kept.len(), self.kept(), "pattern: kept values");
        for (position, &value) in self.positions().zip(kept) {
            dense[position] = value;
        }
    }

    fn check<T>(&self, dense: &[T]) {
        assert_eq!(dense.len(), self.all(), "pattern: weight length");
    }

    /// Number of weights, kept or not.
    pub(super) fn all(&self) -> usize {
        self.out_channels * self.in_channels * self.kernel * self.kernel
    }

    /// Where each kept weight lies in `(O, I, k, k)`, in the pattern's own order.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.by_output.position.iter().map(|&position| position as usize)
    }

    /// Kept values in the pattern's own order, cut by output channel.
    pub(super) fn by_outputs<'a>(&self, mut kept: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let heads = self.by_output.starts.iter().step_by(self.kernel * self.kernel);
        heads
            .clone()
            .zip(heads.skip(1))
            .map(|(from, to)| kept.split_off_mut(..(to - from) as usize).expect("as many as kept"))
            .collect()
    }

    /// Number of positions kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.by_output.position.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Index;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_channel_begins_where_bisection_says(
            kept in prop::collection::btree_set(0u32..900, 0..300),
            first in 0usize..1000,
            before in 0usize..4,
        ) {
            let channel: Vec<u32> = std::iter::repeat_n(7, before).chain(kept).collect();
            let index = Index { starts: Vec::new(), position: Vec::new(), channel };
            let end = index.channel.len();
            let expected = before + index.channel[before..].partition_point(|&channel| (channel as usize) < first);
            prop_assert_eq!(index.begin((before, end), first, 900), expected);
        }
    }
}
