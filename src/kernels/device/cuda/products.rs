//! Inner products of rows.

use super::{Argument, Engine, arguments};
use crate::error::{Error, Result};

impl Engine {
    /// Inner products of the rows of `left` `(m, features)` with those of `right` `(n, features)`,
    /// or with its own: `(m, n)`, row by row. Products of f32 are exact and sums are f64, in one
    /// order; both whatever the engine's [`super::Precision`].
    ///
    /// # Errors
    /// When the rows do not fit, or the device has no room.
    pub fn row_products(&self, left: &[f32], right: Option<&[f32]>, features: usize) -> Result<Vec<f64>> {
        let whole = |values: &[f32]| features > 0 && !values.is_empty() && values.len().is_multiple_of(features);
        if !whole(left) || !right.is_none_or(whole) {
            return Err(Error::input(format!("values do not fill rows of {features} features")));
        }
        let (m, n) = (left.len() / features, right.unwrap_or(left).len() / features);
        if m.max(n) > 1 << 20 || m * n >= 1 << 31 {
            return Err(Error::input(format!("{m} by {n} inner products are too many for one pass")));
        }
        let left = self.0.pool.upload(left)?;
        let right = right.map(|right| self.0.pool.upload(right)).transpose()?;
        let out = self.0.pool.take(m * n * 8)?;
        let grid = (n.div_ceil(64) as u32, m.div_ceil(64) as u32);
        let arguments = arguments![&left, right.as_ref().unwrap_or(&left), &out, m, n, Argument::Long(features as u64)];
        self.launch("row_products", grid, (16, 16), arguments)?;
        let mut products = vec![0.0; m * n];
        self.0.pool.read(out.pointer(), &mut products)?;
        Ok(products)
    }
}
