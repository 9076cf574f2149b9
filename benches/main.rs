//! The benches: one criterion target, one module per topic. Sizes and density are in the ids.
mod kernels;

criterion::criterion_main!(kernels::kernels);
