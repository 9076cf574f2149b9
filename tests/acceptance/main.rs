//! The program as its users call it: arguments in, files, exit codes and one-line errors out.

mod arrays;
mod bad_input;
mod checkpoints;
mod cub;
mod drift;
mod folder;
mod gate;
mod images;
mod interface;
mod oracle;
mod outputs;
mod pictures;
mod record;
mod run;
mod sets;
mod support;
mod sweep;
mod sweep_size;
mod wrapped;

#[path = "../tiny_cub/mod.rs"]
mod tiny_cub;
