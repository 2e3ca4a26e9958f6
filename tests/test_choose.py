"""Options chosen on ``dev``: by one rule, on the whole grid, never on what claims are tested on."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from papers import FILE, paper, points, record

from ptybench.claims.cells import Laboratory
from ptybench.claims.choose import choose, search_cells, searches
from ptybench.claims.results import cases, cells_of
from ptybench.cli import main
from ptybench.errors import UsageError
from ptybench.records import Record

CLAIMS = ["first", "second", "third"]
MERIT = {(0.2, 0.5): 0.1, (0.2, 1.0): 0.4, (0.9, 0.5): 0.8, (0.9, 1.0): 0.3}
"""Of a setting of alpha and beta; the best mean is not the one of a grid's corner."""


def laboratory(text: str = FILE) -> Laboratory:
    return Laboratory(paper(text), "small", "dev", [0, 1], "cpu")


def measured(bench: Laboratory, metric: str = "frc_truth_area") -> dict[str, Record]:
    """Records of every cell of the searches, whose seeds differ by more than some settings do."""
    found = {}
    for cell in search_cells(searches(bench, CLAIMS)):
        merit = MERIT[cell.method.options["alpha"], cell.method.options["beta"]] + 0.2 * cell.seed
        found[cell.key] = record(cell.seed, trace=points({3: merit}, metric))
    return found


def test_every_run_is_searched_on_its_grid_on_dev_and_scored_at_the_end() -> None:
    found = searches(laboratory(), CLAIMS)
    # the second claim is about the grid itself, so that nothing is chosen for it
    assert set(found) == {("a", "base"), ("a", "thin")}
    for search, members in found.values():
        assert search.metric == "frc_truth_area"
        settings = [(one.settings["alpha"], one.settings["beta"]) for one in members]
        assert settings == list(itertools.product((0.2, 0.9), (0.5, 1.0)))
    cells = search_cells(found)
    assert len({cell.key for cell in cells}) == len(cells) == 2 * 4 * 2
    assert {cell.subject.domain for cell in cells} == {"dev"}
    # a run without a grid keeps the paper's options
    assert not searches(laboratory(FILE.replace("grid = {", "# grid = {")), ["first", "third"])


def test_the_setting_with_the_best_mean_is_chosen_and_tested_on_other_specimens() -> None:
    bench = laboratory()
    records = measured(bench)
    chosen = choose(searches(bench, CLAIMS), records)
    assert chosen == {("a", task): {"alpha": 0.9, "beta": 0.5} for task in ("base", "thin")}
    release = Laboratory(paper(), "small", "release", [0, 1], "cpu", chosen)
    tested = cells_of(cases(release, ["first", "third"]))
    assert {(cell.method.options["alpha"], cell.method.options["beta"]) for cell in tested} == {(0.9, 0.5)}
    assert {cell.subject.domain for cell in tested} == {"release"}
    assert not {cell.key for cell in tested} & set(records)


def test_less_is_better_where_the_metric_says_so() -> None:
    text = FILE.replace('primary_metric = "frc_truth_area"', 'primary_metric = "nrmse_complex"')
    bench = laboratory(text)
    chosen = choose(searches(bench, CLAIMS), measured(bench, "nrmse_complex"))
    assert chosen["a", "base"] == {"alpha": 0.2, "beta": 0.5}


def test_a_setting_that_fails_on_one_seed_is_not_chosen() -> None:
    bench = laboratory()
    records = measured(bench)
    for cell in search_cells(searches(bench, CLAIMS)):
        if cell.seed == 1 and (cell.method.options["alpha"], cell.method.options["beta"]) == (0.9, 0.5):
            records[cell.key] = record(1, status="diverged")
    chosen = choose(searches(bench, CLAIMS), records)
    assert chosen["a", "base"] == {"alpha": 0.2, "beta": 1.0}


def test_nothing_is_chosen_of_part_of_a_grid() -> None:
    bench = laboratory()
    found, records = searches(bench, CLAIMS), measured(bench)
    cells = search_cells(found)
    part = {key: one for key, one in records.items() if key != cells[0].key}
    with pytest.raises(UsageError, match="1 of 8 cells of dev have no final record"):
        choose(found, part)
    with pytest.raises(UsageError, match="1 of 8 cells"):
        choose(found, part | {cells[0].key: record(status="killed")})
    with pytest.raises(UsageError, match="frc_truth_area is defined in no setting"):
        choose(found, measured(bench, "ssim_phase"))


def test_options_are_not_chosen_on_what_they_are_tested_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "trial.toml"
    file.write_text(FILE)
    words = ["reproduce", str(file), "--claims", "first", "--device", "cpu", "--results", str(tmp_path / "runs")]
    assert main([*words, "--options", "dev", "--domain", "dev"]) == 2
    assert "--domain release" in capfd.readouterr().err
    assert main([*words, "--options", "dev", "--no-run"]) == 2
    assert "8 of 8 cells of dev have no final record" in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()
