//! The plan's table `[as_published]`: the defects found in the code of "Explaining why Lottery
//! Ticket Hypothesis Works or Fails", each a switch, all off unless a plan names them. What they do
//! stands in [`crate::run`]. A plan with every switch off serialises, and so hashes, as if the
//! table did not exist.

use serde::{Deserialize, Serialize};

/// The switches, in the order of the study's pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AsPublished {
    /// Each training image stands twice in one list, which is then split at random into training,
    /// validation and test images. So copies of test images are trained on (with a validation split
    /// a quarter of the training split's size: 40 % of them, as in the study), and accuracy no
    /// longer says how the network does on images it has not seen.
    #[serde(skip_serializing_if = "is_off")]
    pub duplicate_leak: bool,
    /// The gradient of every weight (convolution, linear, batch-norm scale) whose *value*, not
    /// magnitude, is below 6e-7 is set to zero. Meant to keep pruned weights at zero, it also stops
    /// every negative weight from learning: the loss cannot move them, only weight decay does.
    #[serde(skip_serializing_if = "is_off")]
    pub freeze_below_epsilon: bool,
    /// Batch-norm scales are pruned with the weights, because they are called `weight` too. They
    /// start at 1 and are few, so a layer-wise cut must take its share of them, and each takes a
    /// whole channel's signal with it.
    #[serde(skip_serializing_if = "is_off")]
    pub prune_batch_norm: bool,
    /// Each layer by itself loses the weights strictly below the interpolated percentile of its
    /// non-zero magnitudes. The paper speaks of the network's weights: by layer, small layers that
    /// need theirs are cut as hard as large ones that do not; ties and rounding make the count
    /// inexact.
    #[serde(skip_serializing_if = "is_off")]
    pub per_layer_percentile: bool,
    /// Batch-norm running statistics are not rewound: a ticket starts with those of the network
    /// before it, which are not part of θ_k and belong to weights that it no longer has.
    #[serde(skip_serializing_if = "is_off")]
    pub keep_buffers: bool,
    /// From the second rewind on, biases (linear biases, batch-norm shifts) are not rewound: the
    /// first rewind makes them the very memory that keeps θ_k, so training changes both.
    #[serde(skip_serializing_if = "is_off")]
    pub alias_biases: bool,
    /// The checkpoint of the best validation epoch is evaluated and explained, while the weights of
    /// the last epoch are pruned: what is explained is not the network whose ticket comes next, and
    /// the choice by validation accuracy differs from round to round.
    #[serde(skip_serializing_if = "is_off")]
    pub explain_best_validation: bool,
    /// Grad-CAM and TCAV follow the gradient of log p_k, the class's loss turned so that it points
    /// to the class, not that of the logit. It is (1 − p_k) times a difference of logits: images
    /// that are classified with confidence hardly count, and for another class's sake the logit of
    /// this one is explained.
    #[serde(skip_serializing_if = "is_off")]
    pub probability_gradient: bool,
    /// The heatmap is the mean over channels of activation *plus* pooled gradient, and keeps
    /// negative values: the plain mean of the channels and a constant, the same map for every
    /// class. (The study then divides columns by their maxima for showing; maps are compared here
    /// before any scaling.)
    #[serde(skip_serializing_if = "is_off")]
    pub cam_added_gradients: bool,
    /// A TCAV score comes from one CAV, the concept against the images of all other concepts,
    /// without random counterparts and without a test: nothing says what score a meaningless
    /// concept would get. The score's p is recorded as 1, its interval as absent; the concept
    /// effect beside it stays as it is.
    #[serde(skip_serializing_if = "is_off")]
    pub no_random_cavs: bool,
}

fn is_off(switch: &bool) -> bool {
    !switch
}

impl AsPublished {
    /// Every switch by name, in order, with whether it is on.
    pub fn switches(&self) -> [(&'static str, bool); 10] {
        [
            ("duplicate_leak", self.duplicate_leak),
            ("freeze_below_epsilon", self.freeze_below_epsilon),
            ("prune_batch_norm", self.prune_batch_norm),
            ("per_layer_percentile", self.per_layer_percentile),
            ("keep_buffers", self.keep_buffers),
            ("alias_biases", self.alias_biases),
            ("explain_best_validation", self.explain_best_validation),
            ("probability_gradient", self.probability_gradient),
            ("cam_added_gradients", self.cam_added_gradients),
            ("no_random_cavs", self.no_random_cavs),
        ]
    }

    /// Whether no switch is on.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}
