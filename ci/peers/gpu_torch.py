"""Peer of benches/gpu/timings.rs: the same operations, steps and explanations in PyTorch on a GPU. usage: gpu_torch.py REPEATS OUT
A JSON line for each timing. Convolutions of f32 and tf32 are planar (N, C, H, W) and channels-last as ours are; bf16 is autocast for steps."""
import json, sys, time
import torch, torch.nn as nn, torch.nn.functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

repeats, out = int(sys.argv[1]), open(sys.argv[2], "w")
dev, BATCH = "cuda", 64
CONVOLUTIONS = [("stem 7x7/2 at 224", (3, 64, 7, 2, 3), 224), ("3x3 64 at 56", (64, 64, 3, 1, 1), 56), ("3x3/2 64-128 at 56", (64, 128, 3, 2, 1), 56),
                ("3x3 128 at 28", (128, 128, 3, 1, 1), 28), ("3x3 256 at 14", (256, 256, 3, 1, 1), 14), ("3x3 512 at 7", (512, 512, 3, 1, 1), 7),
                ("1x1 64-256 at 56", (64, 256, 1, 1, 0), 56), ("1x1 1024-256 at 28", (1024, 256, 1, 1, 0), 28)]
torch.backends.cudnn.deterministic = True
torch.backends.cudnn.benchmark = False


def clock(work, host=False):
    """Median seconds: on the device's clock, which is kept busy while the host asks for the work, or with `host` on the wall."""
    seconds = []
    for _ in range(repeats + 3):
        if host:
            torch.cuda.synchronize(); start = time.perf_counter(); work(); torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        else:
            a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(4_000_000)
            a.record(); work(); b.record(); torch.cuda.synchronize()
            seconds.append(a.elapsed_time(b) / 1e3)
    return sorted(seconds[3:])[repeats // 2]


def row(op, size, precision, seconds):
    line = json.dumps({"who": "pytorch", "op": op, "size": size, "precision": precision, "seconds": seconds})
    print(line, flush=True); print(line, file=out, flush=True)


class AnyWidth(ResNet):
    def __init__(s, block, blocks, width, stem, channels, classes):
        nn.Module.__init__(s)
        s._norm_layer, s.inplanes, s.dilation, s.groups, s.base_width = nn.BatchNorm2d, width, 1, 1, 64
        s.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False) if stem == "3x3" else nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        s.maxpool = nn.Identity() if stem == "3x3" else nn.MaxPool2d(3, 2, 1)
        s.bn1, s.relu = nn.BatchNorm2d(width), nn.ReLU(True)
        for i, n in enumerate(blocks): setattr(s, f"layer{i + 1}", s._make_layer(block, width << i, n, 1 if i == 0 else 2))
        s.avgpool, s.fc = nn.AdaptiveAvgPool2d(1), nn.Linear((width << 3) * block.expansion, classes)


STUDIES = [("ResNet-18 width 16, 28 px", lambda: AnyWidth(BasicBlock, [2] * 4, 16, "3x3", 1, 2), 128, 1, 28, 2),
           ("ResNet-18, 224 px", lambda: AnyWidth(BasicBlock, [2] * 4, 64, "7x7", 1, 2), 128, 1, 224, 2),
           ("ResNet-50, 448 px", lambda: AnyWidth(Bottleneck, [3, 4, 6, 3], 64, "7x7", 3, 200), 32, 3, 448, 200)]

for precision in ["f32", "tf32", "bf16"]:
    tf32 = precision != "f32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    layout = torch.channels_last if tf32 else torch.contiguous_format
    fill = lambda *shape: torch.randn(*shape, device=dev, dtype=dtype).to(memory_format=layout)
    for name, (i, o, k, s, p), side in CONVOLUTIONS:
        x, w = fill(BATCH, i, side, side), fill(o, i, k, k)
        y = F.conv2d(x, w, stride=s, padding=p); g = torch.ones_like(y); size = f"{name}, {BATCH} images"
        back = lambda mask: torch.ops.aten.convolution_backward(g, x, w, None, [s, s], [p, p], [1, 1], False, [0, 0], 1, mask)
        row("conv forward", size, precision, clock(lambda: F.conv2d(x, w, stride=s, padding=p)))
        row("conv grad input", size, precision, clock(lambda: back([True, False, False])))
        row("conv grad weight", size, precision, clock(lambda: back([False, True, False])))
    for c, side in [(64, 112), (64, 56), (256, 56), (512, 7)]:
        x, bn = fill(BATCH, c, side, side).requires_grad_(), nn.BatchNorm2d(c).to(dev)
        size = f"{c} at {side}, {BATCH} images"
        row("batch norm + ReLU", size, precision, clock(lambda: F.relu(bn(x), inplace=True)))
        y = F.relu(bn(x)); g = torch.ones_like(y)
        row("batch norm + ReLU grad", size, precision, clock(lambda: torch.autograd.grad(y, [x, bn.weight, bn.bias], g, retain_graph=True)))
    x = fill(BATCH, 64, 112, 112).requires_grad_(); size = f"3x3/2, 64 at 112, {BATCH} images"
    row("max pool", size, precision, clock(lambda: F.max_pool2d(x, 3, 2, 1)))
    y = F.max_pool2d(x, 3, 2, 1); g = torch.ones_like(y)
    row("max pool grad", size, precision, clock(lambda: torch.autograd.grad(y, x, g, retain_graph=True)))
    del x, y, g
    for name, make, batch, channels, side, classes in STUDIES:
        net = make().to(dev).to(memory_format=layout)
        cast = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")
        host, labels = torch.rand(batch, channels, side, side) * 2 - 1, torch.arange(batch) % classes
        optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
        masks = [(v, torch.ones_like(v)) for v in net.parameters() if v.dim() > 1]

        def step():
            x, y = host.to(dev).to(memory_format=layout), labels.to(dev)
            with cast: loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            with torch.no_grad():
                for v, m in masks: v.mul_(m)
            loss.item()

        size = f"{name}, {batch} images"
        row("training step", size, precision, clock(step, host=True))
        if precision == "bf16": continue
        net.eval(); x = host.to(dev).to(memory_format=layout)
        with torch.no_grad():
            row("inference", size, precision, clock(lambda: net(x), host=True))
            A = net.layer3(net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))))
        A.requires_grad_(True)
        def explain():
            logit = net.fc(torch.flatten(net.avgpool(net.layer4(A)), 1))[:, 1].sum()
            torch.autograd.grad(logit, A)
        for v in net.parameters(): v.requires_grad_(False)
        row("gradient at layer3", size, precision, clock(explain, host=True))
        del net, x, A
        torch.cuda.empty_cache()
a = torch.rand(1000, 50176)
torch.backends.cuda.matmul.allow_tf32 = False
row("Gram matrix", "1000 rows of 50176", "f32", clock(lambda: (lambda d: (d @ d.T).cpu())(a.to(dev).double()), host=True))
