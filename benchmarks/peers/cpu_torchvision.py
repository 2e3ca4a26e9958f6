"""Make the registry's torchvision importable beside a torch without CUDA; imported for that alone.

It is built for torch with CUDA, and elsewhere misses two operators of its own. Pty-Chi takes a Gaussian filter from it.
"""

import torch

if torch.version.cuda is None:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
