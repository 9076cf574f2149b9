//! What can be said of computing on a GPU without one. The rest is `benches/gpu`, on a pretend GPU
//! (ci/gpu-pretend.sh) and on real ones.

use ticketlens::kernels::device::{Operation, Precision};
use ticketlens::model::{Stage, Stem, resnet};
use ticketlens::nn::{Compute, Shape3};
use ticketlens::plan::Plan;

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_why() {
    let error = |name| Compute::open(name, Precision::F32).unwrap_err().to_string();
    assert!(error("gpu").contains("cpu, cuda or cuda:N"));
    assert!(error("cuda:first").contains("`first` is no device number"));
    assert!(Compute::open("cpu", Precision::Bf16).unwrap().device().is_none());
    if cfg!(feature = "cuda") {
        println!("skipped: whether this machine has a GPU is not this test's business");
    } else {
        assert!(error("cuda").contains("built without CUDA"));
        assert_eq!(error("cuda:7"), error("cuda"));
    }
}

#[test]
fn a_program_holds_the_layers_with_places_and_shapes() {
    let model = resnet(18, 4, Stem::Large, 3, 5).unwrap();
    let network = &model.network;
    let program = network.program(network.whole(), Shape3 { channels: 3, height: 40, width: 33 }, 2).unwrap();
    assert_eq!((program.operations.len(), program.slots.len()), (network.layers.len(), network.layers.len() + 1));
    assert_eq!((program.slots[0], program.slots[1]), ([3, 40, 33], [4, 20, 17]));
    assert_eq!(*program.slots.last().unwrap(), [5, 1, 1]);
    let mut covered = vec![0u8; network.layout.parameter_count()];
    for operation in &program.operations {
        let places = match operation {
            Operation::Convolution { weight, norm: Some(norm), .. } => vec![weight, &norm.scale, &norm.shift],
            Operation::Linear { weight, bias, .. } => vec![weight, bias],
            _ => Vec::new(),
        };
        places.into_iter().cloned().flatten().for_each(|place| covered[place] += 1);
    }
    assert!(covered.iter().all(|&times| times == 1), "each parameter stands in one place of one layer");
    // A head starts anew: its slots count from its own input.
    let after = model.halves(Stage::new("layer3")).unwrap().layers;
    let head = network.program(after..network.layers.len(), Shape3 { channels: 16, height: 3, width: 3 }, 1).unwrap();
    assert_eq!((head.slots[0], head.operations[0].source(), head.parameters), ([16, 3, 3], 0, program.parameters));
}

#[test]
fn a_program_that_would_read_or_write_out_of_place_is_refused() {
    let network = resnet(18, 4, Stem::Small, 1, 2).unwrap().network;
    let image = Shape3 { channels: 1, height: 8, width: 8 };
    let program = network.program(network.whole(), image, 3).unwrap();
    assert!(program.check().is_ok());
    assert!(network.program(network.whole(), image, 0).is_err(), "no images");
    assert!(network.program(network.whole(), image, 1 << 26).unwrap_err().to_string().contains("2^31"));
    let broken = |change: &dyn Fn(&mut ticketlens::kernels::device::Program)| {
        let mut program = program.clone();
        change(&mut program);
        program.check().unwrap_err().to_string()
    };
    assert!(broken(&|program| program.parameters -= 1).contains("layer"));
    assert!(broken(&|program| program.buffers = 8).contains("layer"));
    assert!(broken(&|program| program.slots[2] = [4, 9, 8]).contains("layer 1"));
    assert!(broken(&|program| program.batch = 2).contains("layer 0"));
    assert!(
        broken(&|program| match &mut program.operations[1] {
            Operation::Convolution { source, .. } => *source = 9,
            _ => unreachable!("the first block begins with a convolution"),
        })
        .contains("layer 1")
    );
}

#[test]
fn precision_is_of_the_plan_only_where_it_is_said() {
    let plan = |settings: &[(String, String)]| Plan::preset("quick", settings).unwrap();
    let said = plan(&[("device.precision".into(), "bf16".into())]);
    assert_eq!(said.device.precision, Precision::Bf16);
    assert_ne!(said.digest().unwrap(), plan(&[]).digest().unwrap());
    let default = plan(&[("device.precision".into(), "f32".into())]);
    assert_eq!(default.digest().unwrap(), plan(&[]).digest().unwrap(), "what plans said before is what they say");
}
