//! Digits and clothes in MNIST's files; the digits' classes are their concepts.

use crate::data::{Family, builtin_mnist, idx};
use crate::error::Result;

use super::{DataPlan, Loaded, Source};

/// The MNIST digits inside the program.
pub const BUILTIN_MNIST: Source = Source {
    name: "builtin-mnist",
    path: None,
    check: |_, _| Ok(()),
    load: |plan, _| Ok(Loaded::of_classes(builtin_mnist()?, plan.task)),
};

/// A folder of MNIST IDX files.
pub const MNIST: Source = of_folder("mnist", |plan, _| read(plan, Family::Mnist));

/// A folder of Fashion-MNIST IDX files.
pub const FASHION: Source = of_folder("fashion", |plan, _| read(plan, Family::Fashion));

const fn of_folder(name: &'static str, load: fn(&DataPlan, u64) -> Result<Loaded>) -> Source {
    Source { name, path: Some("the folder with the IDX files"), check: |_, _| Ok(()), load }
}

fn read(plan: &DataPlan, family: Family) -> Result<Loaded> {
    Ok(Loaded::of_classes(idx::read_folder(plan.path()?, family)?, plan.task))
}
