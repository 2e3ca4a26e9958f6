"""Which options to try next, from what has been tried: a pure function, so that a search that was killed goes on alike.

The first trials fill the space evenly (a scrambled Sobol sequence: Owen, J. Complexity 14, 466, 1998,
10.1006/jcom.1998.0487), the others come from Optuna's multivariate tree-structured Parzen estimator (Bergstra et al.,
NeurIPS 24, 2011; Akiba et al., KDD 2019, 10.1145/3292500.3330701).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ptybench.seeds import named_seed
from ptybench.tuning.space import Dimension

EVEN_TRIALS = 8
"""Trials, the defaults among them, before the estimator has enough to go by."""

Tried = tuple[Mapping[str, Any], float | None]


def suggest(
    space: Mapping[str, Dimension], tried: Sequence[Tried], direction: Literal["higher", "lower"], seed: int
) -> dict[str, Any]:
    """Return the settings of the next trial.

    Args:
        space: option → where to look.
        tried: settings and value of every trial so far, ``None`` for a failure, which counts as the worst value; the
            first are the defaults.
        direction: which way is better.
        seed: of the whole search.

    """
    found = (
        _even(space, len(tried), seed) if 0 < len(tried) < EVEN_TRIALS else _estimated(space, tried, direction, seed)
    )
    return {key: dimension.rounded(found[key]) for key, dimension in space.items()}


def _even(space: Mapping[str, Dimension], number: int, seed: int) -> dict[str, Any]:
    from scipy.stats import qmc

    shares = qmc.Sobol(len(space), scramble=True, seed=np.random.default_rng(seed)).random(EVEN_TRIALS)[number - 1]
    return {key: dimension.at(float(share)) for (key, dimension), share in zip(space.items(), shares, strict=True)}


def _estimated(
    space: Mapping[str, Dimension], tried: Sequence[Tried], direction: Literal["higher", "lower"], seed: int
) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: dimension.distribution() for key, dimension in space.items()}
    # a seed for every trial, so that the next depends on what was tried and not on how often this was called
    own = named_seed(seed, len(tried)) % 2**32
    sampler = optuna.samplers.TPESampler(seed=own, multivariate=True, n_startup_trials=2)
    study = optuna.create_study(direction="maximize" if direction == "higher" else "minimize", sampler=sampler)
    worst = -math.inf if direction == "higher" else math.inf
    for settings, value in tried:
        if all(dimension.holds(settings[key]) for key, dimension in space.items()):  # defaults may lie outside
            study.add_trial(
                optuna.trial.create_trial(
                    params={key: settings[key] for key in space},
                    distributions=distributions,
                    value=worst if value is None else value,
                )
            )
    return study.ask(distributions).params
