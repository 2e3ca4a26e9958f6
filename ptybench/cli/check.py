"""``ptybench check``: the contract tests, for somebody else's solver."""

from __future__ import annotations

from dataclasses import asdict

from ptybench.cli.options import Json, Plugins, add_plugins
from ptybench.cli.output import Output, columns


def check(target: str, /, *, plugin: Plugins = None, json: Json = False) -> int:
    """Run the contract tests of the solver API on a method.

    Args:
        target: the name of a method, or FILE.py:METHOD.

    """
    out = Output(json)
    with out.reserved():
        from ptybench.contract import check_method

        add_plugins(plugin)
        results = check_method(target)
        kept = all(result.verdict != "failed" for result in results)
        out.text(columns([(r.check, r.verdict, r.message or r.promise) for r in results]))
        out.text(f"{target} keeps the contract" if kept else f"{target} breaks the contract")
        if json:
            out.document("check", {"target": target, "kept": kept, "checks": [asdict(r) for r in results]})
    return 0 if kept else 1
