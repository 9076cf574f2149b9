//! Images that stand in the sets of a concept test more than once, under whatever name: found by what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::error::Result;

/// Pairs of sets that are warned of one by one; of more, only how many there are.
const LISTED: usize = 8;

/// Which images of a pool are copies of each other.
#[derive(Default)]
pub(super) struct Copies {
    first: BTreeMap<[u8; 32], usize>,
    /// For each image of the pool, the first that holds the same.
    original: Vec<usize>,
    /// Of each source, in the order of the pool: its name, and its images.
    sources: Vec<(String, Range<usize>)>,
}

impl Copies {
    /// Adds a source, whose images are read in `batches`, each of a shape.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub(super) fn add(
        &mut self,
        name: &str,
        shape: &[usize],
        batches: impl Iterator<Item = Result<Vec<f32>>>,
    ) -> Result<()> {
        let start = self.original.len();
        for values in batches {
            for values in values?.chunks_exact(shape.iter().product()) {
                let mut hash = Sha256::new();
                // Two images of other sizes may hold the same numbers.
                hash.update(format!("{shape:?}"));
                values.iter().for_each(|value| hash.update(value.to_le_bytes()));
                let place = self.original.len();
                self.original.push(*self.first.entry(hash.finalize().into()).or_insert(place));
            }
        }
        self.sources.push((name.to_owned(), start..self.original.len()));
        Ok(())
    }

    /// For each image of the pool, the first that holds the same.
    pub(super) fn originals(&self) -> &[usize] {
        &self.original
    }

    /// What is to be said of them; the first sources are the named `concepts`.
    pub(super) fn warnings(&self, concepts: &[&str]) -> Vec<String> {
        let name = |set: usize| match concepts.get(set) {
            Some(name) => format!("concept `{name}`"),
            None => self.sources[set].0.clone(),
        };
        let held: Vec<BTreeSet<usize>> =
            self.sources.iter().map(|(_, images)| self.original[images.clone()].iter().copied().collect()).collect();
        let mut said = Vec::new();
        for (set, (_, images)) in self.sources.iter().enumerate() {
            if held[set].len() < images.len() {
                said.push(format!(
                    "{} holds {} images, but only {} different ones: copies stay in one fold and count once when decodability is \
                     tested, and as evidence of their own in the other numbers",
                    name(set),
                    images.len(),
                    held[set].len()
                ));
            }
        }
        let mut shared = Vec::new();
        for (a, own) in held.iter().enumerate() {
            for (b, other) in held.iter().enumerate().skip(a + 1) {
                let common = own.intersection(other).count();
                // Two concepts may well share an image, and so may random sets that were drawn from
                // one pool; most of them is no chance.
                let alike = (a < concepts.len()) == (b < concepts.len());
                let most = 2 * common >= own.len().min(other.len());
                // The same random argument twice is told where arguments are.
                let told = a >= concepts.len() && self.sources[a].0 == self.sources[b].0;
                if common > 0 && (!alike || most) && !told {
                    shared.push(format!(
                        "{} and {} hold {common} identical images: the tests take them as different sets",
                        name(a),
                        name(b)
                    ));
                }
            }
        }
        if shared.len() > LISTED {
            let more = shared.len() - LISTED;
            shared.truncate(LISTED);
            shared.push(format!("{more} more pairs of sets hold identical images"));
        }
        said.extend(shared);
        said
    }
}
