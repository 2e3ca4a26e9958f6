"""Which of a peer's options mean what ours mean; where there is no counterpart, a sentence says so.

Every key of our options is accounted for: what is not mapped must have the value that switches it off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exchange import Unsupported

Options = dict[str, Any]

#: Options of ours that leave a method what the paper has; a peer has no counterpart of any other value.
NEUTRAL: Options = {"modes": (0, 1), "batch": (1,), "overlaps": ("mean", "sum")}

#: Options in which ``ad`` is Adam on object and probe with amplitudes alone, which is what the peers have.
PLAIN_ADAM: Options = {
    "loss": "gaussian", "warmup": 0.0, "optimiser": "adam", "position_rate": 0.0, "distance_rate": 0.0,
    "growing": False, "blur": 0.0, "probe_start": 0, "probe_wait": 0.0, "start": "given", "start_probe": "given",
    "object_modes": 1, "variation": 0.0, "energy": 0.0, "excess": 0.0, "shortness": 0.0, "recentre": False,
    "rescale": False, "phase_range_rad": 0.0,
}  # fmt: skip

#: Options in which the methods are compared where our default has no counterpart.
MATCHED: dict[str, Options] = {"dm": {"fourier_relax": 0.0}}


def ptychi_options(method: str, options: Options) -> Options:
    """Return Pty-Chi's options by dotted path, for ``PtychographyTaskOptions`` of the method.

    Raises:
        Unsupported: where Pty-Chi cannot do it.

    """
    if method not in PTYCHI:
        raise Unsupported(f"Pty-Chi is compared in {', '.join(PTYCHI)}, not in {method}")
    common: Options = {
        # what Pty-Chi does beside the algorithm, unless it is told not to
        "object_options.remove_object_probe_ambiguity.enabled": False,
        "probe_options.orthogonalize_incoherent_modes.enabled": False,
        "reconstructor_options.allow_nondeterministic_algorithms": False,
    }
    return common | PTYCHI[method](dict(options))


def ptylab_options(method: str, options: Options) -> tuple[str, Options]:
    """Return PtyLab's engine and its attributes.

    Raises:
        Unsupported: where PtyLab cannot do it.

    """
    if method not in PTYLAB:
        raise Unsupported(f"PtyLab has no engine for {method}: it has {', '.join(PTYLAB)}")
    return PTYLAB[method](dict(options))


def _nothing_left(peer: str, options: Options) -> None:
    """Refuse options of ours that were not mapped and are not neutral."""
    options.pop("subpixel", None)  # the positions are given so that it makes no difference, see compare.py
    for name, value in options.items():
        if value not in NEUTRAL.get(name, ()):
            raise Unsupported(f"{peer} has no counterpart of the option {name}={value!r}")


def _ptychi_pie(options: Options) -> Options:
    """ePIE and rPIE: α and β are called alpha in both groups; the optimizer is SGD with step 1."""
    mapped = {
        "object_options.alpha": options.pop("alpha"),
        "probe_options.alpha": options.pop("beta"),
        "probe_options.optimization_plan.start": options.pop("probe_start", 0),
        "object_options.step_size": 1.0,
        "probe_options.step_size": 1.0,
        "reconstructor_options.batch_size": 1,
    }
    _nothing_left("Pty-Chi", options)
    return mapped


def _ptychi_dm(options: Options) -> Options:
    """The difference map with full reflection, one round of averages an epoch, and no relaxation."""
    mapped = {
        "probe_options.optimization_plan.start": options.pop("probe_start"),
        "object_options.inertia": 0.0,
        "probe_options.inertia": 0.0,
        "reconstructor_options.exit_wave_update_relaxation": 1.0,
        "reconstructor_options.chunk_length": 32,  # speed alone
    }
    # Pty-Chi's averages have √(d² + (0.05 max d)²) for d in their denominators, which no option changes
    options.pop("object_inertia", None)
    options.pop("probe_inertia", None)
    for name, value in {"alpha": 1.0, "inner": 1, "average": 0, "fourier_relax": 0.0}.items():
        if options.pop(name, value) != value:
            raise Unsupported(f"Pty-Chi's difference map has {name} = {value} only: --set dm.{name}={value}")
    _nothing_left("Pty-Chi", options)
    return mapped


def _ptychi_lsqml(options: Options) -> Options:
    """No momentum, no first epoch spent on the probe's scale; with σ = ½ the Gaussian step is a projection."""
    mapped = {
        "reconstructor_options.batch_size": options.pop("batch"),
        "reconstructor_options.noise_model": options.pop("likelihood"),
        "reconstructor_options.gaussian_noise_std": 0.5,
        "reconstructor_options.preconditioning_damping_factor": options.pop("damping"),
        "reconstructor_options.momentum_acceleration_gain": 0.0,
        "reconstructor_options.rescale_probe_intensity_in_first_epoch": False,
        "object_options.optimal_step_size_scaler": options.pop("object_scale"),
        "probe_options.optimal_step_size_scaler": options.pop("probe_scale"),
        "probe_options.optimization_plan.start": options.pop("probe_start"),
    }
    _nothing_left("Pty-Chi", options)
    return mapped


def _ptychi_ad(options: Options) -> Options:
    """Adam on amplitudes. Rates are ours, but do not fall; Pty-Chi's probe has a scale of its own: images differ."""
    mapped = {
        "reconstructor_options.batch_size": options.pop("batch"),
        "object_options.step_size": options.pop("object_rate"),
        "probe_options.step_size": options.pop("probe_rate"),
        "probe_options.optimization_plan.start": options.pop("probe_start"),
    }
    _plain_adam("Pty-Chi", "ad", options)
    return mapped


def _plain_adam(peer: str, method: str, options: Options) -> None:
    """Refuse what is not Adam on amplitudes; its schedule, moments and caution are everybody's own."""
    if method != "ad":
        raise Unsupported(f"{peer} is compared in ad, not in {method}")
    for name, value in PLAIN_ADAM.items():
        if options.get(name, value) != value:
            raise Unsupported(f"{peer} has no counterpart of the option {name}={options[name]!r}")


def cdtools_options(method: str, options: Options) -> dict[str, float]:
    """Return cdtools' one rate of object and probe: ours of the object; its probe is in units of its largest amplitude.

    Raises:
        Unsupported: where it is not Adam on amplitudes that is asked for.

    """
    _plain_adam("cdtools", method, options)
    return {"lr": options["object_rate"]}


def ptyrad_options(method: str, options: Options) -> dict[str, float]:
    """Return PtyRAD's rates: ours for amplitude and phase of the object, and for the probe.

    Raises:
        Unsupported: where it is not Adam on amplitudes that is asked for.

    """
    _plain_adam("PtyRAD", method, options)
    return {"obja": options["object_rate"], "objp": options["object_rate"], "probe": options["probe_rate"]}


def _ptylab_epie(options: Options) -> tuple[str, Options]:
    mapped = {"betaObject": options.pop("alpha"), "betaProbe": options.pop("beta")}
    _at_once(options)
    return "ePIE", mapped


def _ptylab_rpie(options: Options) -> tuple[str, Options]:
    """rPIE is mPIE with unit steps and without feedback of the momentum."""
    mapped = {"alphaObject": options.pop("alpha"), "alphaProbe": options.pop("beta")}
    _at_once(options)
    return "mPIE", mapped | {"betaObject": 1.0, "betaProbe": 1.0, "feedbackM": 0.0}


def _at_once(options: Options) -> None:
    if options.pop("probe_start", 0):
        raise Unsupported("PtyLab's engines update the probe from the first epoch on: probe_start has to be 0")
    _nothing_left("PtyLab", options)


PTYCHI: dict[str, Callable[[Options], Options]] = {
    "epie": _ptychi_pie,
    "rpie": _ptychi_pie,
    "dm": _ptychi_dm,
    "lsqml": _ptychi_lsqml,
    "ad": _ptychi_ad,
}
PTYLAB: dict[str, Callable[[Options], tuple[str, Options]]] = {"epie": _ptylab_epie, "rpie": _ptylab_rpie}
