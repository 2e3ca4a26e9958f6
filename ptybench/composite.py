"""A method with additions: ``epie+xcorr`` is ePIE whose positions are refined by cross-correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ptybench.errors import InvalidOption, UnknownName
from ptybench.registry import ResolvedMethod, load_addition, option_owners, resolve_method, weights_of
from ptybench.solver import Solver, parse_options
from ptybench.types import Measurement, Truth

if TYPE_CHECKING:
    import torch


def resolve_composite(name: str, options: dict[str, Any]) -> ResolvedMethod:
    """Settle a composite ``a+b+c``; see :func:`ptybench.registry.resolve_method`.

    ``b.option`` reaches the addition ``b``; a bare option reaches the method, and the additions only where they alone
    have it.
    """
    base, *additions = (part.strip() for part in name.split("+"))
    if not base or not all(additions):
        raise InvalidOption(f"{name!r} has an empty part: write method+addition")
    if len(set(additions)) < len(additions):
        raise InvalidOption(f"{name!r} has an addition twice")
    owners = option_owners(name)
    given: dict[str, dict[str, Any]] = {prefix: {} for prefix in owners}
    for key, value in options.items():
        prefix, option = _owner(key, owners, name)
        given[prefix][option] = value
    method = resolve_method(base, given.pop(""))
    if method.needs_truth:
        raise InvalidOption(f"{base} is a control: nothing can be added to it")
    kinds = [load_addition(part) for part in additions]
    settled = [
        parse_options(kind.Options, part, given[f"{part}."]) for kind, part in zip(kinds, additions, strict=True)
    ]

    def create(measurement: Measurement, device: str | torch.device, seed: int, truth: Truth | None = None) -> Solver:
        solver = method.create(measurement, device, seed, None)
        if solver.team.world > 1:
            raise InvalidOption(f"additions look at all patterns: run {name} without --distributed, or {base} with it")
        solver.additions = [kind(solver, own) for kind, own in zip(kinds, settled, strict=True)]
        return solver

    resolved = dict(method.options)
    for part, own in zip(additions, settled, strict=True):
        resolved |= {f"{part}.{key}": value for key, value in own.model_dump(mode="json").items()}
    version = "+".join([method.version, *(str(kind.version) for kind in kinds)])
    weights = weights_of(method, *settled)
    return ResolvedMethod(f"{base}+{'+'.join(additions)}", version, resolved, False, create, weights)


def _owner(key: str, owners: dict[str, Any], name: str) -> tuple[str, str]:
    """Whose option a key is: the owner's prefix, and the option."""
    if key in owners[""].model_fields:
        return "", key
    prefix, _, option = key.rpartition(".")
    if prefix and option in getattr(owners.get(f"{prefix}."), "model_fields", ()):
        return f"{prefix}.", option
    takers = [owner for owner, model in owners.items() if key in model.model_fields]
    if len(takers) == 1:
        return takers[0], key
    known = {f"{owner}{option}" for owner, model in owners.items() for option in model.model_fields}
    if takers:
        raise InvalidOption(f"option {key!r} of {name}: {' and '.join(takers)} have it, write {takers[0]}{key}")
    raise UnknownName(f"option of {name}", key, known)
