"""Compares the program with PyTorch on checkpoints saved by either; called by pytorch-roundtrip.sh.
usage: pytorch-roundtrip.py TICKETLENS SCRATCH"""
import pathlib, subprocess, sys
import torch, torch.nn as nn
from safetensors.torch import load_file, save_file
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

program, scratch = sys.argv[1], pathlib.Path(sys.argv[2])
TOLERANCE = 1e-4


class AnyWidth(ResNet):
    """torchvision's ResNet with any width, either stem and any number of channels; its own names."""

    def __init__(self, block, counts, width, stem, channels, classes):
        nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = nn.BatchNorm2d, width, 1, 1, 64
        kernel, stride, padding = (7, 2, 3) if stem == 7 else (3, 1, 1)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == 7 else nn.Identity()
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU()
        for i, count in enumerate(counts):
            setattr(self, f"layer{i + 1}", self._make_layer(block, width << i, count, 1 if i == 0 else 2))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear((width << 3) * block.expansion, classes)


def of_state(state):
    """The module whose parameters have these names and shapes."""
    block = Bottleneck if "layer1.0.conv3.weight" in state else BasicBlock
    counts = [len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)]
    stem = state["conv1.weight"]
    return AnyWidth(block, counts, stem.shape[0], stem.shape[2], stem.shape[1], state["fc.weight"].shape[0])


def compare(label, net, checkpoint, side):
    """Logits of both on the same images."""
    images = torch.randn(6, net.conv1.in_channels, side, side)
    save_file({"images": images}, scratch / "images.safetensors")
    with torch.no_grad():
        theirs = net.eval()(images)
    command = [program, "predict", "--quiet", "--checkpoint", str(checkpoint), "--images", f"{scratch}/images.safetensors:images"]
    subprocess.run([*command, "--out", f"{scratch}/logits.safetensors"], check=True)
    ours = load_file(scratch / "logits.safetensors")["logits"]
    error = float((ours - theirs).abs().max() / theirs.abs().max())
    print(f"{label}: logits differ by {error:.1e} of the largest")
    if not error < TOLERANCE:
        sys.exit(f"{label}: {error:.1e} is more than {TOLERANCE}")


torch.manual_seed(11)
cases = {
    "ResNet-18, width 8, 3x3 stem": (AnyWidth(BasicBlock, [2, 2, 2, 2], 8, 3, 1, 2), 28),
    "ResNet-34, width 6, 7x7 stem": (AnyWidth(BasicBlock, [3, 4, 6, 3], 6, 7, 3, 5), 64),
    "ResNet-50, width 4, 7x7 stem": (AnyWidth(Bottleneck, [3, 4, 6, 3], 4, 7, 3, 11), 64),
}
for label, (net, side) in cases.items():
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, net.conv1.in_channels, side, side))
    torch.save(net.state_dict(), scratch / "theirs.pth")
    compare(f"theirs to ours, {label}, .pth", net, scratch / "theirs.pth", side)
    torch.save({"state_dict": net.state_dict()}, scratch / "nested.pt", _use_new_zipfile_serialization=False)
    compare(f"theirs to ours, {label}, nested stream", net, scratch / "nested.pt", side)
    save_file(net.state_dict(), scratch / "theirs.safetensors")
    compare(f"theirs to ours, {label}, .safetensors", net, scratch / "theirs.safetensors", side)
ours = sorted((scratch / "ours").glob("*.safetensors"))
if not ours:
    sys.exit("the library saved no checkpoint")
for checkpoint in ours:
    state = load_file(checkpoint)
    net = of_state(state)
    net.load_state_dict(state, strict=True)
    compare(f"ours to theirs, {checkpoint.stem}, strict", net, checkpoint, 28 if state["conv1.weight"].shape[2] == 3 else 64)
print("pytorch-roundtrip: all equal")
