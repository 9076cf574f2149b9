"""Peer of benches/peers.rs: the same steps, inference and Grad-CAM in PyTorch. Prints one JSON line: seconds of each repetition and peak memory.
usage: kernels_torch.py step|inference|grad-cam [--family vgg16_bn] [--depth 18 --width 16 --stem 3x3 --channels 1 --side 28 --batch 128 --density 1 --repeats 10 --threads 2]"""
import argparse, json, resource, time
import torch, torchvision, torch.nn as nn, torch.nn.functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

p = argparse.ArgumentParser(); p.add_argument("what")
for k, v in dict(family="", depth=18, width=16, stem="3x3", channels=1, side=28, batch=128, density=1.0, repeats=10, threads=2).items():
    p.add_argument("--" + k, type=type(v), default=v)
a = p.parse_args(); torch.manual_seed(0); torch.set_num_threads(a.threads)


class AnyWidth(ResNet):
    def __init__(s, block, blocks, classes):
        nn.Module.__init__(s)
        w, small = a.width, a.stem == "3x3"
        s._norm_layer, s.inplanes, s.dilation, s.groups, s.base_width = nn.BatchNorm2d, w, 1, 1, 64
        s.conv1 = nn.Conv2d(a.channels, w, 3, 1, 1, bias=False) if small else nn.Conv2d(a.channels, w, 7, 2, 3, bias=False)
        s.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        s.bn1, s.relu = nn.BatchNorm2d(w), nn.ReLU(True)
        for i, n in enumerate(blocks): setattr(s, f"layer{i + 1}", s._make_layer(block, w << i, n, 1 if i == 0 else 2))
        s.avgpool, s.fc = nn.AdaptiveAvgPool2d(1), nn.Linear((w << 3) * block.expansion, classes)


net = getattr(torchvision.models, a.family)(num_classes=10) if a.family else {18: lambda: AnyWidth(BasicBlock, [2, 2, 2, 2], 2), 50: lambda: AnyWidth(Bottleneck, [3, 4, 6, 3], 1000)}[a.depth]()
count = a.batch if a.what == "step" else 1000
x, y = torch.rand(count, a.channels, a.side, a.side) * 2 - 1, torch.arange(count) % 2
params = {n: m.weight for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
masks = {n: (torch.rand_like(v) < a.density).float() for n, v in params.items()} if a.density < 1 else {}
optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)


def apply():
    with torch.no_grad():
        for n, m in masks.items(): params[n].mul_(m)


def step():
    j = torch.randperm(count)
    optimizer.zero_grad(); F.cross_entropy(net(x[j]), y[j]).backward(); optimizer.step(); apply()


def inference():
    with torch.no_grad():
        for part in x.split(a.batch): net(part)


def grad_cam():
    """By hand, without hooks: stem to layer3, then the rest with the activation as the variable."""
    for part in x.split(a.batch):
        with torch.no_grad():
            h = net.maxpool(net.relu(net.bn1(net.conv1(part))))
            A = net.layer3(net.layer2(net.layer1(h)))
        A.requires_grad_(True)
        logit = net.fc(torch.flatten(net.avgpool(net.layer4(A)), 1))[:, 1].sum()
        g, = torch.autograd.grad(logit, A)
        F.relu((g.mean((2, 3), keepdim=True) * A.detach()).sum(1))


apply()
net.train() if a.what == "step" else net.eval()
body = dict([("step", step), ("inference", inference), ("grad-cam", grad_cam)])[a.what]
for v in net.parameters(): v.requires_grad_(a.what == "step")
seconds = []
for i in range(a.repeats + 2):
    t = time.time(); body(); seconds.append(time.time() - t)
print(json.dumps({"seconds": seconds[2:], "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
