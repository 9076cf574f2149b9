//! The third view of a study: how far representations moved, from activations to ρ.

use std::sync::Arc;

use ticketlens::data::Images;
use ticketlens::explain::Cut;
use ticketlens::model::Stage;
use ticketlens::progress::Silent;
use ticketlens::records::{RoundId, Store};
use ticketlens::run::Setup;
use ticketlens::study::{derive, run};

use crate::reseal::reseal;
use crate::run::tiny_plan;
use crate::support::values;

/// `HSIC₁` by its definition (Song et al. 2012, equation 5), without matrices; rows are images.
fn hsic(first: &[Vec<f64>], second: &[Vec<f64>]) -> f64 {
    let n = first.len();
    let product = |rows: &[Vec<f64>], i: usize, j: usize| match i == j {
        true => 0.0,
        false => rows[i].iter().zip(&rows[j]).map(|(x, y)| x * y).sum::<f64>(),
    };
    let table = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        (0..n).map(|i| (0..n).map(|j| product(rows, i, j)).collect()).collect()
    };
    let (k, l) = (table(first), table(second));
    let size = n as f64;
    let sum = |m: &[Vec<f64>]| m.iter().flatten().sum::<f64>();
    let trace: f64 = (0..n).map(|i| (0..n).map(|j| k[i][j] * l[j][i]).sum::<f64>()).sum();
    let between: f64 = (0..n).map(|m| k.iter().map(|row| row[m]).sum::<f64>() * l[m].iter().sum::<f64>()).sum();
    (trace + sum(&k) * sum(&l) / ((size - 1.0) * (size - 2.0)) - 2.0 * between / (size - 2.0)) / (size * (size - 3.0))
}

#[test]
fn rho_of_the_representation_is_that_of_the_networks_activations() {
    let plan =
        tiny_plan(&[("explain.stages", "[\"layer3\", \"layer2\"]"), ("prune.rounds", "1"), ("floor.twins", "2")]);
    let folder = tempfile::tempdir().unwrap();
    let study = run(&plan, folder.path(), &Silent).unwrap();
    let store = Store::existing(folder.path()).unwrap();
    let setup = Setup::new(&plan).unwrap();
    let images = setup.data.tensor(&setup.cam_images).unwrap();
    let rows = |arm: &str, replicate: usize, round: usize, stage: Stage| -> Vec<Vec<f64>> {
        let id = RoundId { arm: arm.into(), replicate, round };
        let weights = Arc::new(store.weights(&id, &setup.model).unwrap());
        let activation = Cut::new(&setup.model, weights, stage).unwrap().activation(&images).unwrap();
        let flat = values(&activation);
        flat.chunks_exact(flat.len() / 20).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect()
    };
    let drift = |a: &[Vec<f64>], b: &[Vec<f64>]| 1.0 - hsic(a, b) / (hsic(a, a) * hsic(b, b)).sqrt();
    for (arm, place) in [("lottery", 0), ("random_mask", 1)] {
        let record = study.densities.iter().find(|record| record.arm == arm && record.round == 1).unwrap();
        let stages: Vec<&str> = record.representations.iter().map(|of| of.stage.name()).collect();
        assert_eq!(stages, ["layer3", "layer2"], "{arm} {place}");
        for of in &record.representations {
            for replicate in 0..2 {
                let [ticket, parent, first, second] = [(arm, 1), ("lottery", 0), ("twin-1", 0), ("twin-2", 0)]
                    .map(|(arm, round)| rows(arm, replicate, round, of.stage));
                let expected = (drift(&first, &ticket) + drift(&second, &ticket))
                    / (drift(&first, &parent) + drift(&second, &parent));
                let found = of.ratio.replicates[replicate].unwrap();
                assert!((found / expected - 1.0).abs() < 1e-4, "{arm} {} {replicate}: {found} {expected}", of.stage);
                if of.stage.name() == "layer3" {
                    let id = RoundId { arm: arm.into(), replicate, round: 1 };
                    let summary = study.networks.iter().find(|summary| summary.id == id).unwrap();
                    assert!((summary.drift.representation.unwrap() - drift(&parent, &ticket)).abs() < 1e-5);
                }
            }
        }
    }
    assert!(study.floor.twins.representation.unwrap() > 0.0);
    // A round that was recorded before there were representations: the study says that there is no
    // ratio, and nothing else changes.
    let maps = folder.path().join("replicate-0/round-01/explain/maps.safetensors");
    let mut left = candle_core::safetensors::load(&maps, &candle_core::Device::Cpu).unwrap();
    left.retain(|key, _| !key.starts_with("representation/"));
    candle_core::safetensors::save(&left, &maps).unwrap();
    reseal(folder.path());
    let again = derive(&plan, &store).unwrap();
    let ratio = |record: &ticketlens::records::StudyRecord| {
        record.densities.iter().find(|of| of.arm == "lottery" && of.round == 1).unwrap().representations[0]
            .ratio
            .clone()
    };
    assert!(ratio(&again).rho.is_none() && ratio(&again).undefined.unwrap().contains("representation"));
    assert_eq!((&again.answer, &again.onsets), (&study.answer, &study.onsets));
}
