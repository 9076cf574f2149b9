//! The activations of all concept and random images, whatever they take: their Gram matrix, and
//! their products with class gradients.

use std::ops::Range;

use crate::data::Spill;
use crate::error::Result;
use crate::nn::Compute;

use super::gram::{GramError, Rows, cross_on, gram_on};
use super::products::Products;

/// Images whose products are computed at once, on either side: 8 MiB of products.
const AT_ONCE: usize = 1024;

/// The Gram matrix of images whose activations come in blocks, and their products with class
/// gradients, in bounded memory.
///
/// Each block of activations or gradients is asked for once. Half of the memory holds activations,
/// a quarter their products with each other, a quarter those with a class's gradients; what does
/// not fit is kept in a file meanwhile. The numbers have the same bits for every partition into
/// blocks and every amount of memory. Products are of gradients with the pool alone, never of
/// gradients with each other.
pub struct Pool {
    compute: Compute,
    features: usize,
    bytes: usize,
    /// The first image of each block, and the number of all images.
    starts: Vec<usize>,
    /// Blocks that are in memory together.
    chunks: Vec<Range<usize>>,
    /// The chunk that is in memory, and its activations.
    held: (usize, Vec<f32>),
    /// All activations, where there is more than one chunk.
    kept: Option<Spill<f32>>,
}

impl Pool {
    /// Reads the activations, and computes their Gram matrix `(images, images)`. `load(i)` returns
    /// the activations of block `i`, `(images[i], features)`; blocks are numbered in the order of
    /// the images. At least one block is in memory, and one passes by.
    ///
    /// # Errors
    /// What `load` returns; a block with another number of images than announced; a value that is
    /// not finite; the device fails; what does not fit into `bytes` cannot be kept in a file.
    pub fn new(
        compute: &Compute,
        images: &[usize],
        features: usize,
        bytes: usize,
        mut load: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<(Self, Products)> {
        let mut starts = vec![0];
        let mut chunks: Vec<Range<usize>> = Vec::new();
        let mut filled = 0;
        for (block, &count) in images.iter().enumerate() {
            starts.push(starts[block] + count);
            let size = count * features * size_of::<f32>();
            filled += size;
            match chunks.last_mut() {
                Some(chunk) if filled <= bytes / 2 => chunk.end = block + 1,
                _ => {
                    chunks.push(block..block + 1);
                    filled = size;
                }
            }
        }
        let total = starts[images.len()];
        let mut gram = Products::zeros(total, total, bytes / 4)?;
        let kept = match chunks.len() {
            0 | 1 => None,
            _ => Some(Spill::new(total * features)?),
        };
        let compute = compute.clone();
        let held = Vec::with_capacity(if kept.is_none() { total * features } else { 0 });
        let mut pool = Self { compute, features, bytes, starts, chunks, held: (0, held), kept };
        for (block, &count) in images.iter().enumerate() {
            let values = load(block)?;
            check_block("activation", block, count, Rows::new(&values, features)?)?;
            match &pool.kept {
                None => pool.held.1.extend(values),
                Some(kept) => kept.write(pool.starts[block] * features, &values)?,
            }
        }
        for chunk in 0..pool.chunks.len() {
            pool.hold(chunk)?;
            pool.multiply_held(chunk, &mut gram)?;
        }
        Ok((pool, gram))
    }

    /// The products of the chunk in memory with itself and with all later activations.
    fn multiply_held(&self, chunk: usize, gram: &mut Products) -> Result<()> {
        let own = self.images_of(chunk);
        let parts: Vec<Range<usize>> =
            own.clone().step_by(AT_ONCE).map(|start| start..own.end.min(start + AT_ONCE)).collect();
        let features = self.features;
        let rows = |part: &Range<usize>| {
            let place = (part.start - own.start) * features..(part.end - own.start) * features;
            Rows::new(&self.held.1[place], features)
        };
        for (place, part) in parts.iter().enumerate() {
            let product =
                gram_on(&self.compute, rows(part)?).map_err(|error| shift(error, "activation", part.start))?;
            gram.put(part.start, part.start, &product)?;
            for other in &parts[place + 1..] {
                let product = cross_on(&self.compute, rows(part)?, rows(other)?);
                let product = product.map_err(|error| shift(error, "activation", other.start))?;
                gram.put(part.start, other.start, &product)?;
                gram.put(other.start, part.start, &product.transpose())?;
            }
        }
        for block in self.chunks[chunk].end..self.starts.len() - 1 {
            let later = self.read(self.starts[block]..self.starts[block + 1])?;
            let column = self.starts[block];
            for part in &parts {
                let product = cross_on(&self.compute, rows(part)?, Rows::new(&later, features)?);
                let product = product.map_err(|error| shift(error, "activation", column))?;
                gram.put(part.start, column, &product)?;
                gram.put(column, part.start, &product.transpose())?;
            }
        }
        Ok(())
    }

    /// The products `G Aᵀ` of class gradients with all activations, `(class images, images)`.
    /// `gradients(i)` returns the gradients of block `i` of the class, `(images[i], features)`; it
    /// is called once for each, in order.
    ///
    /// # Errors
    /// As [`Pool::new`], or what `gradients` returns.
    pub fn cross(
        &mut self,
        images: &[usize],
        mut gradients: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Products> {
        let mut cross = Products::zeros(images.iter().sum(), self.starts[self.starts.len() - 1], self.bytes / 4)?;
        let mut row = 0;
        for (block, &expected) in images.iter().enumerate() {
            let values = gradients(block)?;
            let gradients = Rows::new(&values, self.features)?;
            check_block("gradient", block, expected, gradients)?;
            // The chunk in memory first.
            let chunks: Vec<usize> = (0..self.chunks.len()).map(|i| (self.held.0 + i) % self.chunks.len()).collect();
            for chunk in chunks {
                self.hold(chunk)?;
                let column = self.images_of(chunk).start;
                let product = cross_on(&self.compute, gradients, Rows::new(&self.held.1, self.features)?);
                cross.put(row, column, &product.map_err(|error| shift(error, "gradient", row))?)?;
            }
            row += expected;
        }
        Ok(cross)
    }

    fn images_of(&self, chunk: usize) -> Range<usize> {
        self.starts[self.chunks[chunk].start]..self.starts[self.chunks[chunk].end]
    }

    /// Reads a chunk if it is not the one in memory.
    fn hold(&mut self, chunk: usize) -> Result<()> {
        if self.held.0 != chunk || self.held.1.is_empty() {
            // Freed before the next is read.
            self.held = (chunk, Vec::new());
            self.held.1 = self.read(self.images_of(chunk))?;
        }
        Ok(())
    }

    /// Activations of some images, from the file.
    fn read(&self, images: Range<usize>) -> Result<Vec<f32>> {
        let mut values = vec![0.0; images.len() * self.features];
        if let Some(kept) = &self.kept {
            kept.read(images.start * self.features, &mut values)?;
        }
        Ok(values)
    }
}

fn check_block(what: &'static str, block: usize, expected: usize, rows: Rows<'_>) -> Result<()> {
    match rows.images() {
        found if found == expected => Ok(()),
        found => Err(GramError::Block { what, block, expected, found }.into()),
    }
}

/// Counts the index of an offending row of that kind from the first image of all instead of the first of its block.
fn shift(error: GramError, of: &str, start: usize) -> GramError {
    match error {
        GramError::NotFinite { what, index } if what == of => GramError::NotFinite { what, index: index + start },
        other => other,
    }
}

#[cfg(test)]
mod tests;
