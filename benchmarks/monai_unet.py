"""MONAI's side of unet_step.py, run by an interpreter that has MONAI and PyTorch instead of synthmed.

    python benchmarks/monai_unet.py '{"size": 64, "channels": 1, "batch": 32, ...}'

Reads one line of JSON a measurement from its input, {"name": "training", "repeats": 4}, and answers with seconds.

The network is `DynUNet`, MONAI's nnU-Net, with synthmed's widths: two 3 x 3 convolutions a level, instance
normalisation, leaky ReLU, heads on the same levels. The loss is MONAI's `DiceCELoss` at each level's own resolution:
`DynUNet` itself would enlarge the lower ones first, which costs it time. AdamW is the fused one.
"""

import json
import os
import sys
import time

import monai
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WARM_UP = 3


def main() -> None:
    """Build both calls, then answer until the input ends."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    network = make_network(task)
    calls = {"training": training(task, network), "inference": inference(task, network)}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    parameters = sum(weight.numel() for weight in network.parameters())
    say({"version": monai.__version__, "torch": torch.__version__, "parameters": parameters})
    for line in sys.stdin:
        asked = json.loads(line)
        start = time.perf_counter()
        for _ in range(asked["repeats"]):
            calls[asked["name"]]()
        say({"seconds": (time.perf_counter() - start) / asked["repeats"]})


def make_network(task: dict) -> DynUNet:
    """Return the network with synthmed's widths, its images with the channels last, which is faster on processors."""
    levels = max(task["levels"], 3)
    strides = [1] + [2] * (levels - 1)
    heads = levels - 3 if task["deep"] else 0
    network = DynUNet(
        spatial_dims=2,
        in_channels=task["channels"],
        out_channels=task["classes"],
        kernel_size=[3] * levels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(task["width"] * 2**level, 256) for level in range(levels)],
        deep_supervision=heads > 0,
        deep_supr_num=max(heads, 1),
    )
    return network.to(memory_format=torch.channels_last)


def training(task: dict, network: DynUNet):
    """Return a function that does one step, as synthmed's engine does."""
    shape = (task["batch"], task["channels"], task["size"], task["size"])
    image = (torch.rand(shape) * 2 - 1).to(memory_format=torch.channels_last)
    label = torch.randint(0, task["classes"], (task["batch"], 1, task["size"], task["size"]))
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2, fused=True)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99))

    def step() -> None:
        network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=task["precision"] == "bfloat16"):
            logits = [network.output_block(network.skip_layers(image))]
            if network.deep_supervision:
                logits += network.heads
        shares = [0.5**level for level in range(len(logits))]
        loss = sum(
            share / sum(shares) * loss_of(part.float(), label[:, :, :: 2**level, :: 2**level])
            for level, (share, part) in enumerate(zip(shares, logits, strict=True))
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        loss.item()

    return step


def inference(task: dict, network: DynUNet):
    """Return a function that predicts one volume in batches of slices."""
    shape = (task["volume"], task["channels"], task["size"], task["size"])
    volume = (torch.rand(shape) * 2 - 1).to(memory_format=torch.channels_last)

    def predict() -> None:
        network.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=task["precision"] == "bfloat16"):
            for part in volume.split(task["batch"]):
                torch.softmax(network(part).float(), dim=1).numpy()

    return predict


def say(record: dict) -> None:
    """Print one line of JSON."""
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
