"""Peer: pytorch-grad-cam over many images of one checkpoint, timed. usage: gradcam_torch.py CHECKPOINT IMAGES.safetensors KEY STAGE CLASS [BATCH]
Prints the seconds of its call alone, and of the whole process since torch was imported."""
import pathlib, sys, time
start = time.time()
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import load_file

torch.set_num_threads(2)
checkpoint, images, key, stage, target = *sys.argv[1:5], int(sys.argv[5])
batch = int(sys.argv[6]) if len(sys.argv) > 6 else 32
source = pathlib.Path(__file__).parents[1] / "pytorch-roundtrip.py"
text = source.read_text()
namespace = {"nn": torch.nn}
exec("import torch, torch.nn as nn\nfrom torchvision.models.resnet import BasicBlock, Bottleneck, ResNet\n"
     + text[text.index("class AnyWidth"):text.index("def compare")], namespace)
state = load_file(checkpoint)
net = namespace["of_state"](state)
net.load_state_dict(state)
net.eval()
images = load_file(images)[key]
with GradCAM(model=net, target_layers=[getattr(net, stage)]) as cam:
    call = time.time()
    maps = [cam(part, [ClassifierOutputTarget(target)] * len(part)) for part in images.split(batch)]
    now = time.time()
print(f"pytorch-grad-cam: {sum(map(len, maps))} maps in {now - call:.3f} s, {now - start:.3f} s with start")
