//! Batches read ahead of their use, so that decoding and computing overlap.

use std::sync::mpsc::sync_channel;

use crate::data::Images;
use crate::error::Result;

/// Batches that lie ready while one is in use.
const AHEAD: usize = 2;

/// Calls `step` with the values `(N, C, H, W)` of each batch, in order, while a second thread reads
/// the next ones. The values are those of [`Images::read`]; only the time differs. Stops at the
/// first error, of reading or of a step.
///
/// # Errors
/// As [`Images::read`], and as `step`.
pub fn for_each_batch(
    images: &dyn Images,
    batches: &[&[usize]],
    epoch: Option<u64>,
    mut step: impl FnMut(&[usize], &[f32]) -> Result<()>,
) -> Result<()> {
    let (channels, height, width) = images.shape();
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Result<Vec<f32>>>(AHEAD);
        scope.spawn(move || {
            for batch in batches {
                let mut values = vec![0.0; batch.len() * channels * height * width];
                let read = images.read(batch, epoch, &mut values).map(|()| values);
                let failed = read.is_err();
                // A closed channel means that the user of the batches has stopped.
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        // The receiver is moved in, so that an early return closes the channel before the scope waits for the reader.
        let batches = batches.iter().zip(receiver);
        for (batch, values) in batches {
            step(batch, &values?)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{PlantedPlan, planted};
    use crate::error::Error;

    #[test]
    fn batches_come_in_order_and_as_read() {
        let data = planted(&PlantedPlan { train: 40, test: 0, ..Default::default() }, 1).unwrap().data;
        let order: Vec<usize> = (0..40).rev().collect();
        let batches: Vec<&[usize]> = order.chunks(7).collect();
        let mut seen = Vec::new();
        for_each_batch(&data, &batches, None, |batch, values| {
            seen.extend_from_slice(values);
            assert_eq!(values.len(), batch.len() * 3 * 1024);
            Ok(())
        })
        .unwrap();
        let mut expected = vec![0.0; 40 * 3 * 1024];
        data.write_nchw(&order, &mut expected).unwrap();
        assert_eq!(seen, expected);
    }

    #[test]
    fn errors_of_either_side_stop_both() {
        let data = planted(&PlantedPlan { train: 40, test: 0, ..Default::default() }, 1).unwrap().data;
        let good: Vec<Vec<usize>> = (0..40).map(|i| vec![i]).collect();
        let good: Vec<&[usize]> = good.iter().map(Vec::as_slice).collect();
        let mut steps = 0;
        let stopped = for_each_batch(&data, &good, None, |_, _| {
            steps += 1;
            if steps == 3 { Err(Error::Interrupted) } else { Ok(()) }
        });
        assert!(matches!(stopped, Err(Error::Interrupted)) && steps == 3);
        let mut steps = 0;
        let read = for_each_batch(&data, &[&[0], &[99], &[1]], None, |_, _| {
            steps += 1;
            Ok(())
        });
        assert!(read.unwrap_err().to_string().contains("image 99 is out of range") && steps == 1);
    }
}
