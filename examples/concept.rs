//! A concept, tested: does a class depend on it, with p-values that hold their level?
//!
//! `cargo run --release --example concept`

use ticketlens::data::{ImageSource, Preprocess};
use ticketlens::explain::tcav::checkpoint::{Question, Settings, test_concepts};
use ticketlens::model::load_checkpoint;

fn main() -> anyhow::Result<()> {
    // Arrays (N, C, H, W) in one file; a folder of pictures would do as well.
    let open = |key: &str| {
        let file = format!("fixtures/oracle/resnet18_mnist/inputs.safetensors:{key}");
        ImageSource::open(&file, &Preprocess::mnist())
    };
    let checkpoint = load_checkpoint("fixtures/oracle/resnet18_mnist/checkpoint.safetensors".as_ref())?;
    let images = open("images")?;
    let concepts = [("striped".to_owned(), open("concept_striped")?), ("null".to_owned(), open("concept_null")?)];
    // A p-value of the score cannot fall below 1 / (sets + 1): 19 sets reach 0.05.
    let random = (0..10).map(|set| open(&format!("random_{set:02}"))).collect::<Result<Vec<_>, _>>()?;

    let question = Question {
        checkpoint: &checkpoint,
        stage: "layer3".parse()?,
        images: &images,
        classes: &[0, 1],
        concepts: &concepts,
        random: &random,
    };
    let tests = test_concepts(&question, &Settings::default(), &|_| ())?;
    for (class, of_class) in question.classes.iter().zip(&tests.classes) {
        for ((name, _), test) in concepts.iter().zip(&of_class.concepts) {
            let (effect, score) = (test.effect(), test.score());
            println!(
                "class {class}, {name}: effect {:+.3} logits (p = {:.4}), TCAV score {:.2} (p = {:.3}){}",
                effect.value,
                effect.p_value,
                score.value,
                score.p_value,
                if test.decodable { "" } else { "; cannot be told from random images: not to be interpreted" }
            );
        }
    }
    Ok(())
}
