"""The card of a trained denoiser: what it is, how it was trained, and what it was measured to do."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptybench.io.files import atomic, sha256_file
from ptybench.networks.dncnn import DnCNN, ResidualChain, deployed
from ptybench.networks.files import write_chain
from ptybench.networks.lipschitz import largest_stretch, power_iteration
from ptybench.networks.norms import certified_norm
from ptybench.readable import number
from ptybench.training.evaluation import Figures, evaluate, held_out, photographs
from ptybench.training.recipe import config_names, read_recipe

SCHEMA = "ptybench.network/1"
PATCHES, PATCH = 8, 40
"""Number and side of the patches on which the Lipschitz constant is sought."""


def write_card(network: DnCNN, out: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Write a trained denoiser as it is used, measure it, and write its card as JSON and Markdown.

    Args:
        network: trained.
        out: the safetensors file; the card lies beside it.
        told: what the training says of itself.

    """
    chain = deployed(network)
    write_chain(out, chain, {"name": told["name"], "title": told["recipe"]["title"], "format": SCHEMA})
    sigma = told["recipe"]["noise"][1] / 255
    figures = {
        one["generator"].rpartition(":")[2]: evaluate(chain, held_out(one["generator"], one["size"]), sigma)
        for one in told["recipe"]["data"]
    }
    figures["photographs"] = evaluate(chain, photographs(), sigma)
    layers = layer_norms(chain)
    card = {
        "schema": SCHEMA,
        "title": told["recipe"]["title"],
        "summary": _summary(told["name"], figures),
        **told,
        "weights": {"name": out.name, "bytes": out.stat().st_size, "sha256": sha256_file(out)},
        "parameters": sum(value.numel() for value in chain.parameters()),
        "layers": layers,
        "lipschitz": stretches(chain, layers, held_out(told["recipe"]["data"][0]["generator"], PATCH, PATCHES)),
        "sigma": sigma,
        "psnr_db": {key: one.psnr_db for key, one in figures.items()},
        "tuned": {key: one.tuned for key, one in figures.items()},
        "clean_change": {key: one.clean_change for key, one in figures.items()},
    }
    with atomic(out.with_suffix(".card.md")) as temporary:
        temporary.write_text(markdown(card), encoding="utf-8")
    with atomic(out.with_suffix(".card.json")) as temporary:
        temporary.write_text(json.dumps(card, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def layer_norms(chain: ResidualChain) -> list[dict[str, float]]:
    """Of each convolution the proved bound of its operator norm, and what power iteration on an image finds."""
    kernels = [layer.weight for layer in chain.convolutions]
    return [
        {"bound": certified_norm(kernel.double().numpy()), "power_iteration_40": power_iteration(kernel, (40, 40))}
        for kernel in kernels
    ]


def stretches(chain: ResidualChain, layers: list[dict[str, float]], patches: list[Tensor]) -> dict[str, float]:
    """The largest stretch of ``R`` and of ``D`` that is found on patches, and the bound that the layers prove for R."""
    images = torch.stack(patches)
    return {
        "residual_bound": float(np.prod([layer["bound"] for layer in layers])),
        "residual_found": largest_stretch(chain.residual, images),
        "denoiser_found": largest_stretch(chain, images),
    }


def _summary(name: str, figures: dict[str, Figures]) -> str:
    return "\n".join(
        f"{name} on {key}: {one.psnr_db['network']:.2f} dB, non-local means {one.psnr_db['non_local_means']:.2f} dB, "
        f"noisy {one.psnr_db['noisy']:.2f} dB"
        for key, one in figures.items()
    )


def markdown(card: dict[str, Any]) -> str:
    """Return a card for people."""
    recipe, kinds = card["recipe"], list(card["psnr_db"])
    facts = [
        ("network", f"{recipe['depth']} convolutions, {recipe['width']} channels, `{recipe['variant']}`"),
        ("parameters", str(card["parameters"])),
        ("noise", " to ".join(f"{level:g}" for level in dict.fromkeys(recipe["noise"])) + " levels of 255"),
        (
            "training",
            f"{recipe['steps']} steps of {recipe['batch']} patches of {recipe['patch']}², seed {recipe['seed']}",
        ),
        *(
            (f"from step {step}", f"as a training of {steps} steps")
            for step, steps in card["aims"]
            if len(card["aims"]) > 1
        ),
        ("epochs", f"{epochs(recipe):.1f} (as many pixels as the images have)"),
        ("took", f"{card['seconds'] / 60:.0f} min on {card['threads']} thread(s) of {card['device']}, shared"),
        ("made with", ", ".join(f"{key} {value}" for key, value in card["made_with"].items())),
        ("weights", f"`{card['weights']['name']}`, SHA-256 `{card['weights']['sha256']}`"),
        ("Lip(R), proved", number(card["lipschitz"]["residual_bound"])),
        ("Lip(R), found", number(card["lipschitz"]["residual_found"])),
        ("Lip(D), found", number(card["lipschitz"]["denoiser_found"])),
    ]
    data = [
        (f"data `{one['generator']}`", f"{one['count']} of {one['size']}², `{one['sha256']}`") for one in card["data"]
    ]
    head = f"| PSNR in dB, noise {255 * card['sigma']:g}/255 | {' | '.join(kinds)} |\n|---|{'--:|' * len(kinds)}"
    methods = list(card["psnr_db"][kinds[0]])
    figures = {method.replace("_", " "): [card["psnr_db"][kind][method] for kind in kinds] for method in methods}
    figures["*change of a clean image*"] = [card["clean_change"][kind] for kind in kinds]
    rows = [f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |" for name, values in figures.items()]
    listed = "\n".join(f"| {key} | {value} |" for key, value in [*facts, *data])
    return f"""# {card["title"]}

| | |
|---|---|
{listed}

{head}
{chr(10).join(rows)}

Means over 16 held-out images of each kind of leaves and the middle 256² of six photographs of scikit-image. Non-local
means and total variation have the strength that is best on the very images of their column; the network has none. The
change of a clean image is the PSNR of the denoised clean image to the clean one.

```
{command(card)}
```
{_begun(card["aims"])}"""


def _begun(aims: list[list[int]]) -> str:
    """What the command does not tell of a training whose steps were set anew on the way."""
    if len(aims) < 2:
        return ""
    return f"""
It trains from the start. These weights began as a training of {aims[0][1]} steps, so it makes others.
"""


def command(card: dict[str, Any]) -> str:
    """Return the words that train a network of this card: a recipe by its name, and what was set otherwise."""
    config, recipe = card["name"].removeprefix("dncnn_"), card["recipe"]
    if config not in config_names():
        return f"ptybench train dncnn --config {config}.toml"
    usual = read_recipe("dncnn", config).model_dump(mode="json")
    changed = [("--set", f"{key}={json.dumps(value)}") for key, value in recipe.items() if value != usual.get(key)]
    return shlex.join(["ptybench", "train", "dncnn", "--config", config, *(word for pair in changed for word in pair)])


def epochs(recipe: dict[str, Any]) -> float:
    """How often each pixel of the images was seen on average."""
    there = sum(one["count"] * one["size"] ** 2 for one in recipe["data"])
    return float(recipe["steps"] * recipe["batch"] * recipe["patch"] ** 2 / there)
