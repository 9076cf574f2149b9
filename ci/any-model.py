"""Maps and concepts from arrays beside pytorch-grad-cam's and Captum's; called by any-model.sh. Weights are random, so nothing is downloaded.
usage: any-model.py TICKETLENS SCRATCH"""
import json, pathlib, re, subprocess, sys, warnings

warnings.filterwarnings("ignore")
import numpy as np, timm, torch, torch.nn as nn, torchvision
from captum.attr import LayerActivation, LayerGradientXActivation
from pytorch_grad_cam import GradCAM, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

program, scratch = sys.argv[1], pathlib.Path(sys.argv[2])
page = (pathlib.Path(__file__).parent.parent / "docs/any-model.md").read_text()
exec(re.search(r"```python\n(.*?)```", page, re.S)[1])  # defines record
CLASS, SIDE, RANDOM_SETS = 3, 64, 4
torch.manual_seed(0)


class Own(nn.Module):
    """A model of one's own: three convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 12, 3, 2, 1), nn.Tanh())
        self.second, self.head = nn.Conv2d(12, 10, 3, 1, 1), nn.Linear(10, 5)

    def forward(self, images):
        return self.head(torch.nn.functional.silu(self.second(self.first(images))).mean((2, 3)))


def ticketlens(*arguments):
    subprocess.run([program, *map(str, arguments), "--quiet"], check=True)


def scaled(maps):
    """Each map from 0 to 1. pytorch-grad-cam adds 1e-7 to the maximum, which the small maps of random weights show; this does not."""
    maps = maps - maps.min((1, 2), keepdims=True)
    return maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-30)


def compare(label, model, module, grid=None):
    sets = {"images": torch.randn(6, 3, SIDE, SIDE), "striped": torch.randn(10, 3, SIDE, SIDE) + 0.5}
    sets |= {f"random-{i}": torch.randn(10, 3, SIDE, SIDE) for i in range(RANDOM_SETS)}
    recorded = {name: record(model, module, images, CLASS) for name, images in sets.items()}
    file = scratch / f"{label}.safetensors"
    save_file({name: array for name, (array, _) in recorded.items()} | {"gradient": recorded["images"][1]}, file)
    tokens = [] if grid is None else ["--grid", *grid, "--skip-tokens", 1]
    reshape = grid and (lambda t: t[:, 1:].reshape(len(t), *grid, -1).permute(0, 3, 1, 2))
    images = sets["images"]
    for method, peer in [("grad-cam", GradCAM), ("hires-cam", HiResCAM), ("layer-cam", LayerCAM)]:
        out = scratch / "cam.safetensors"
        ticketlens("cam", "--activation", f"{file}:images", "--gradient", f"{file}:gradient", "--method", method, *tokens,
                   "--size", SIDE, SIDE, "--out", out)
        ours = load_file(out)["cam_upsampled"].numpy()
        with peer(model=model, target_layers=[module], reshape_transform=reshape) as cam:
            theirs = cam(input_tensor=images.clone(), targets=[ClassifierOutputTarget(CLASS)] * len(images))
        error = np.abs(scaled(ours) - scaled(theirs)).max()
        assert ours.max() > 0, f"{label} {method}: maps are zero"
        print(f"{label} {method}: largest difference of maps from 0 to 1 {error:.1e}")
        assert error < 1e-3, f"{label} {method}"

    random = [f"random-{i}" for i in range(RANDOM_SETS)]
    ticketlens("tcav", "--activations", f"striped={file}:striped", "--random-activations", *(f"{file}:{name}" for name in random),
               "--gradients", f"{file}:gradient", "--permutations", 199, "--resamples", 0, "--json", scratch / "tcav.json")
    runs = json.loads((scratch / "tcav.json").read_text())["concepts"]["striped"]["runs"]
    flat = lambda tensor: tensor.detach().flatten(1).double().numpy()
    activations = {name: flat(LayerActivation(model, module).attribute(sets[name].clone())) for name in ["striped", *random]}
    gradients = flat(LayerGradientXActivation(model, module, multiply_by_inputs=False).attribute(images.clone(), target=CLASS))
    worst = 0.0
    for run, name in zip(runs, random):
        samples = np.concatenate([activations["striped"], activations[name]])
        labels = [1] * len(activations["striped"]) + [0] * len(activations[name])
        vector = LogisticRegression(C=1.0, tol=1e-10, max_iter=100_000).fit(samples, labels).coef_[0]
        expected = gradients @ (vector / np.linalg.norm(vector))
        worst = max(worst, np.abs(np.array(run["sensitivity"]) - expected).max() / np.abs(expected).max())
    print(f"{label} tcav: largest relative difference of sensitivities {worst:.1e}")
    assert worst < 1e-2, f"{label} tcav"


compare("vgg16_bn", (vgg := torchvision.models.vgg16_bn(weights=None, num_classes=10).eval()), vgg.features[22])
vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=SIDE, num_classes=10).eval()
compare("vit_tiny", vit, vit.blocks[-1].norm1, grid=(4, 4))
compare("own", (own := Own().eval()), own.first)
print("any-model: all agree")
