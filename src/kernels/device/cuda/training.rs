//! Training on the device: weights, gradient and optimiser state stay there; images are copied
//! ahead through pinned memory.

use std::collections::VecDeque;

use cudarc::driver::{CudaEvent, CudaSlice, DevicePtr, PinnedHostSlice};
use rayon::prelude::*;

use super::memory::Memory;
use super::tape::{DeviceWeights, Slot};
use super::{Engine, Pass, Program, Rule, arguments, failed};
use crate::device::program::Operation;
use crate::error::{Error, Result};

/// Batches that are on their way at a time: one is computed with while the next is copied.
const STAGES: usize = 2;
/// Values that a thread copies to pinned memory at a time.
const COPY: usize = 1 << 18;

/// A training run on a device.
pub struct Trainer {
    engine: Engine,
    program: Program,
    weights: DeviceWeights,
    mask: Option<Memory>,
    gradient: Memory,
    first: Memory,
    second: Option<Memory>,
    rule: Rule,
    weight_decay: f32,
    steps: u64,
    stages: Vec<Stage>,
    next: usize,
    /// Stages whose losses were not asked for, the oldest first.
    pending: VecDeque<usize>,
}

/// Where a batch waits: pinned on the host, then on the device; and where its losses arrive.
struct Stage {
    images: PinnedHostSlice<f32>,
    labels: PinnedHostSlice<u32>,
    losses: PinnedHostSlice<f64>,
    device_images: CudaSlice<f32>,
    device_labels: CudaSlice<u32>,
    device_losses: CudaSlice<f64>,
    /// Pinned images and labels were copied to the device.
    copied: CudaEvent,
    /// The device has read its images and labels.
    read: CudaEvent,
    /// The losses are in pinned memory.
    arrived: CudaEvent,
}

impl Engine {
    /// Starts a training run with a fresh optimiser: `program` is the whole network for the batch
    /// size. `mask` holds a byte for each parameter, 0 for one that is and stays 0.
    ///
    /// # Errors
    /// When the parts do not fit, or the device has no room.
    pub fn trainer(
        &self,
        program: Program,
        parameters: &[f32],
        buffers: &[f32],
        mask: Option<&[u8]>,
        rule: Rule,
        weight_decay: f32,
    ) -> Result<Trainer> {
        program.check()?;
        if !matches!(program.operations.last(), Some(Operation::Linear { .. })) {
            return Err(Error::input("a network that is trained ends in a linear layer"));
        }
        let count = parameters.len();
        if (count, buffers.len()) != (program.parameters, program.buffers)
            || mask.is_some_and(|mask| mask.len() != count)
        {
            return Err(Error::input("weights, mask and network do not fit each other"));
        }
        let zeros = || {
            let memory = self.take_floats(count)?;
            self.0.pool.clear(memory.pointer(), 4 * count)?;
            Ok::<_, Error>(memory)
        };
        let stages = (0..STAGES).map(|_| Stage::new(self, &program)).collect::<Result<_>>()?;
        Ok(Trainer {
            weights: self.load(parameters, buffers)?,
            mask: mask.map(|mask| self.0.pool.upload(mask)).transpose()?,
            gradient: zeros()?,
            first: zeros()?,
            second: matches!(rule, Rule::Adam { .. }).then(zeros).transpose()?,
            engine: self.clone(),
            program,
            rule,
            weight_decay,
            steps: 0,
            stages,
            next: 0,
            pending: VecDeque::new(),
        })
    }
}

impl Stage {
    fn new(engine: &Engine, program: &Program) -> Result<Self> {
        let (context, copies) = (engine.0.copies.context(), &engine.0.copies);
        let (values, batch) = (program.len(0), program.batch);
        let what = "memory for a batch";
        // SAFETY: all of it is written before it is read.
        unsafe {
            Ok(Self {
                images: context.alloc_pinned(values).map_err(failed(what))?,
                labels: context.alloc_pinned(batch).map_err(failed(what))?,
                // Read by the host: not write-combined.
                losses: context.alloc_pinned_with_flags(batch, 0).map_err(failed(what))?,
                device_images: copies.alloc(values).map_err(failed(what))?,
                device_labels: copies.alloc(batch).map_err(failed(what))?,
                device_losses: copies.alloc(batch).map_err(failed(what))?,
                copied: copies.record_event(None).map_err(failed("an event"))?,
                read: engine.0.pool.stream().record_event(None).map_err(failed("an event"))?,
                arrived: engine.0.pool.stream().record_event(None).map_err(failed("an event"))?,
            })
        }
    }
}

impl Trainer {
    /// Forward and backward pass on a batch `(N, C, H, W)` with its labels; running statistics take
    /// the batch's over. It returns when the work is asked for, not when it is done, so that the
    /// next batch can be made ready meanwhile.
    ///
    /// # Errors
    /// When the batch does not fit, losses of [`STAGES`] batches were not asked for, or the device fails.
    pub fn gradient_of(&mut self, images: &[f32], labels: &[u32]) -> Result<()> {
        let (engine, program) = (&self.engine, &self.program);
        let classes = program.output_len() / program.batch;
        if images.len() != program.len(0) || labels.len() != program.batch {
            return Err(Error::input(format!("a batch that is not of {} images", program.batch)));
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
            return Err(Error::input(format!("label {label}: the network has {classes} classes")));
        }
        if self.pending.len() == STAGES {
            return Err(Error::input("the losses of earlier steps were not asked for"));
        }
        let (compute, copies) = (engine.0.pool.stream(), &engine.0.copies);
        let stage = &mut self.stages[self.next];
        // The copy of two batches ago is long done. (cudarc's own event of pinned memory is not
        // recorded without event tracking.)
        stage.copied.synchronize().map_err(failed("waiting for a copy"))?;
        let pinned = stage.images.as_mut_slice().map_err(failed("pinned memory"))?;
        pinned.par_chunks_mut(COPY).zip(images.par_chunks(COPY)).for_each(|(to, from)| to.copy_from_slice(from));
        stage.labels.as_mut_slice().map_err(failed("pinned memory"))?.copy_from_slice(labels);
        copies.wait(&stage.read).map_err(failed("an event"))?;
        copies.memcpy_htod(&stage.images, &mut stage.device_images).map_err(failed("copying images"))?;
        copies.memcpy_htod(&stage.labels, &mut stage.device_labels).map_err(failed("copying labels"))?;
        stage.copied.record(copies).map_err(failed("an event"))?;
        compute.wait(&stage.copied).map_err(failed("an event"))?;
        let (floats, _) = stage.device_images.device_ptr(compute);
        let (label_values, _) = stage.device_labels.device_ptr(compute);
        let (losses, _) = stage.device_losses.device_ptr(compute);

        let tape = engine.forward_from(program, Pass::Train { update: true }, &self.weights, floats)?;
        let grad = engine.take_floats(program.output_len())?;
        let arguments = arguments![tape.last()?, label_values, losses, &grad, classes, program.batch];
        engine.each("cross_entropy", program.batch, arguments)?;
        stage.read.record(compute).map_err(failed("an event"))?;
        compute.memcpy_dtoh(&stage.device_losses, &mut stage.losses).map_err(failed("copying losses"))?;
        stage.arrived.record(compute).map_err(failed("an event"))?;
        let gradient = Some(self.gradient.pointer());
        engine.backward_from(program, tape, &self.weights, Slot::Floats(grad), gradient, false)?;
        self.pending.push_back(self.next);
        self.next = (self.next + 1) % STAGES;
        Ok(())
    }

    /// The optimiser's step along the gradient of the last batch.
    ///
    /// # Errors
    /// When the device fails.
    pub fn update(&mut self, learning_rate: f32) -> Result<()> {
        self.steps += 1;
        let total = self.program.parameters;
        let mask = self.mask.as_ref().map_or(0, Memory::pointer);
        let (weights, gradient, first) = (&self.weights.parameters, &self.gradient, &self.first);
        match (self.rule, &self.second) {
            (Rule::Adam { beta1, beta2, epsilon, decoupled }, Some(second)) => {
                let correction1 = 1.0 - f64::from(beta1).powf(self.steps as f64);
                let correction2 = 1.0 - f64::from(beta2).powf(self.steps as f64);
                let step_size = (f64::from(learning_rate) / correction1) as f32;
                let root_correction = correction2.sqrt() as f32;
                let (keep, decay) = match decoupled {
                    true => (1.0 - learning_rate * self.weight_decay, 0.0),
                    false => (1.0, self.weight_decay),
                };
                let arguments = arguments![
                    weights,
                    gradient,
                    mask,
                    first,
                    second,
                    step_size,
                    beta1,
                    beta2,
                    epsilon,
                    root_correction,
                    keep,
                    decay,
                    total
                ];
                self.engine.each("adam_step", total, arguments)
            }
            (Rule::Sgd { momentum }, _) => {
                let decay = self.weight_decay;
                let arguments =
                    arguments![weights, gradient, mask, first, learning_rate, momentum, decay, self.steps == 1, total];
                self.engine.each("sgd_step", total, arguments)
            }
            (Rule::Adam { .. }, None) => Err(Error::input("Adam without its second moment")),
        }
    }

    /// The mean loss, in nats, of the oldest batch whose loss was not asked for; waits for it. `None`: of none.
    ///
    /// # Errors
    /// When the device fails.
    pub fn loss(&mut self) -> Result<Option<f64>> {
        let Some(stage) = self.pending.pop_front() else { return Ok(None) };
        let Stage { losses, arrived, .. } = &self.stages[stage];
        arrived.synchronize().map_err(failed("waiting for a loss"))?;
        let losses = losses.as_slice().map_err(failed("waiting for a loss"))?;
        Ok(Some(losses.iter().sum::<f64>() / losses.len() as f64))
    }

    /// The flat gradient of the last batch.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gradient(&self) -> Result<Vec<f32>> {
        let mut host = vec![0.0; self.program.parameters];
        self.engine.0.pool.read(self.gradient.pointer(), &mut host)?;
        Ok(host)
    }

    /// Replaces the gradient of the last batch.
    ///
    /// # Errors
    /// When its size does not fit, or the device fails.
    pub fn set_gradient(&mut self, gradient: &[f32]) -> Result<()> {
        if gradient.len() != self.program.parameters {
            return Err(Error::input("a gradient of another network"));
        }
        self.engine.0.pool.write(self.gradient.pointer(), gradient)
    }

    /// Copies parameters and buffers to the host.
    ///
    /// # Errors
    /// When their sizes do not fit, or the device fails.
    pub fn read(&self, parameters: &mut [f32], buffers: &mut [f32]) -> Result<()> {
        if (parameters.len(), buffers.len()) != self.weights.counts {
            return Err(Error::input("weights of another network"));
        }
        let (from_parameters, from_buffers) = self.weights.addresses();
        self.engine.0.pool.read(from_parameters, parameters)?;
        self.engine.0.pool.read(from_buffers, buffers)
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // Its maps are large and of sizes that nothing else asks for. A failure shows at the next use of the device.
        let _ = self.engine.0.pool.synchronize();
        let _ = self.engine.0.pool.release();
    }
}
