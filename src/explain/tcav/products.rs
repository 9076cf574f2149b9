//! Tables of inner products, in memory where they are small enough, else in a file.

use std::borrow::Cow;

use nalgebra::DMatrix;

use crate::data::Spill;

use super::gram::GramError;

/// A table of products, `(rows, columns)`.
#[derive(Debug)]
pub enum Products {
    /// In memory.
    Whole(DMatrix<f64>),
    /// In a file.
    Kept(Kept),
}

/// A table in a file, row after row.
#[derive(Debug)]
pub struct Kept {
    rows: usize,
    columns: usize,
    values: Spill<f64>,
}

/// A view of a table.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// Of one in memory.
    Whole(&'a DMatrix<f64>),
    /// Of one in a file.
    Kept(&'a Kept),
}

impl Products {
    /// Zeros, in memory if they take no more than `bytes`.
    ///
    /// # Errors
    /// There is no room for the file.
    pub fn zeros(rows: usize, columns: usize, bytes: usize) -> Result<Self, GramError> {
        let count = rows.saturating_mul(columns);
        if count.saturating_mul(size_of::<f64>()) <= bytes {
            return Ok(Products::Whole(DMatrix::zeros(rows, columns)));
        }
        Ok(Products::Kept(Kept { rows, columns, values: Spill::new(count).map_err(kept)? }))
    }

    /// Puts a block at its place.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&mut self, row: usize, column: usize, block: &DMatrix<f64>) -> Result<(), GramError> {
        match self {
            Products::Whole(table) => table.view_mut((row, column), block.shape()).copy_from(block),
            Products::Kept(table) => {
                for (offset, values) in block.row_iter().enumerate() {
                    let values: Vec<f64> = values.iter().copied().collect();
                    table.values.write((row + offset) * table.columns + column, &values).map_err(kept)?;
                }
            }
        }
        Ok(())
    }

    /// The table itself, read where it is in a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn whole(&self) -> Result<Cow<'_, DMatrix<f64>>, GramError> {
        match self {
            Products::Whole(table) => Ok(Cow::Borrowed(table)),
            Products::Kept(table) => {
                let rows: Vec<usize> = (0..table.rows).collect();
                Ok(Cow::Owned(View::Kept(table).rows(&rows)?))
            }
        }
    }
}

impl<'a> From<&'a DMatrix<f64>> for View<'a> {
    fn from(table: &'a DMatrix<f64>) -> Self {
        View::Whole(table)
    }
}

impl<'a> From<&'a Products> for View<'a> {
    fn from(table: &'a Products) -> Self {
        match table {
            Products::Whole(table) => View::Whole(table),
            Products::Kept(table) => View::Kept(table),
        }
    }
}

impl View<'_> {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            View::Whole(table) => table.shape(),
            View::Kept(table) => (table.rows, table.columns),
        }
    }

    /// Some of the rows, with all columns.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn rows(&self, rows: &[usize]) -> Result<DMatrix<f64>, GramError> {
        match self {
            View::Whole(table) => Ok(table.select_rows(rows)),
            View::Kept(table) => {
                let mut found = DMatrix::zeros(rows.len(), table.columns);
                let mut values = vec![0.0; table.columns];
                for (at, row) in rows.iter().enumerate() {
                    table.values.read(row * table.columns, &mut values).map_err(kept)?;
                    found.row_mut(at).copy_from_slice(&values);
                }
                Ok(found)
            }
        }
    }

    /// The rows and columns of these images, of a table of images by images.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn square(&self, images: &[usize]) -> Result<DMatrix<f64>, GramError> {
        let side = images.len();
        match self {
            View::Whole(table) => Ok(DMatrix::from_fn(side, side, |row, column| table[(images[row], images[column])])),
            View::Kept(table) => {
                // Images that follow each other are read at once.
                let runs: Vec<&[usize]> = images.chunk_by(|a, b| a + 1 == *b).collect();
                let mut found = DMatrix::zeros(side, side);
                let mut values = vec![0.0; side];
                for (at, image) in images.iter().enumerate() {
                    let mut start = 0;
                    for run in &runs {
                        let place = image * table.columns + run[0];
                        table.values.read(place, &mut values[start..start + run.len()]).map_err(kept)?;
                        start += run.len();
                    }
                    // The table is symmetric, and a column's values lie together.
                    found.column_mut(at).copy_from_slice(&values);
                }
                Ok(found)
            }
        }
    }
}

fn kept(error: crate::error::Error) -> GramError {
    GramError::Kept(error.to_string())
}

/// The products of a class's gradients with all concept and random images: some rows of a table.
#[derive(Clone, Copy, Debug)]
pub struct ClassRows<'a> {
    table: View<'a>,
    rows: Option<&'a [usize]>,
}

impl<'a> ClassRows<'a> {
    /// Those rows alone.
    pub fn some(table: impl Into<View<'a>>, rows: &'a [usize]) -> Self {
        Self { table: table.into(), rows: Some(rows) }
    }

    /// Class images, and concept and random images.
    pub fn shape(&self) -> (usize, usize) {
        let (rows, columns) = self.table.shape();
        (self.rows.map_or(rows, <[usize]>::len), columns)
    }

    /// The rows, `at_once` at a time, in order.
    pub fn blocks(self, at_once: usize) -> impl Iterator<Item = Result<Cow<'a, DMatrix<f64>>, GramError>> {
        let (count, _) = self.shape();
        (0..count).step_by(at_once).map(move |start| {
            let range = start..count.min(start + at_once);
            match (self.table, self.rows) {
                (View::Whole(table), None) if range.len() == count => Ok(Cow::Borrowed(table)),
                (table, None) => table.rows(&range.collect::<Vec<_>>()).map(Cow::Owned),
                (table, Some(rows)) => table.rows(&rows[range]).map(Cow::Owned),
            }
        })
    }
}

impl<'a, T: Into<View<'a>>> From<T> for ClassRows<'a> {
    fn from(table: T) -> Self {
        Self { table: table.into(), rows: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_a_file_says_what_one_in_memory_says() {
        let full = DMatrix::from_fn(9, 9, |row, column| (row.min(column) * 100 + row.max(column)) as f64);
        let mut tables = [Products::zeros(9, 9, usize::MAX).unwrap(), Products::zeros(9, 9, 0).unwrap()];
        for table in &mut tables {
            for (row, column, height, width) in [(0, 0, 4, 9), (4, 0, 5, 2), (4, 2, 5, 7)] {
                table.put(row, column, &full.view((row, column), (height, width)).into_owned()).unwrap();
            }
        }
        let [whole, kept] = &tables;
        assert!(matches!((whole, kept), (Products::Whole(_), Products::Kept(_))));
        assert_eq!((*whole.whole().unwrap()).clone(), full);
        assert_eq!((*kept.whole().unwrap()).clone(), full);
        for images in [vec![0, 1, 2], vec![8], vec![3, 4, 7, 0, 1, 3]] {
            let square = |table: &Products| View::from(table).square(&images).unwrap();
            assert_eq!(square(whole), square(kept));
            assert_eq!(square(kept)[(0, images.len() - 1)], full[(images[0], images[images.len() - 1])]);
            let blocks = |table: &Products, at_once| -> Vec<DMatrix<f64>> {
                ClassRows::some(table, &images).blocks(at_once).map(|block| block.unwrap().into_owned()).collect()
            };
            for at_once in [1, 2, 100] {
                assert_eq!(blocks(whole, at_once), blocks(kept, at_once));
            }
            assert_eq!(blocks(kept, 100), [full.select_rows(&images)]);
        }
        let rows: ClassRows<'_> = kept.into();
        assert_eq!(rows.blocks(2).map(|block| block.unwrap().nrows()).collect::<Vec<_>>(), [2, 2, 2, 2, 1]);
    }
}
