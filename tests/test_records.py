"""The record and its store: what enters JSON, what a kill leaves, what is read back."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptybench.records import (
    FINAL,
    RECORD_FILE,
    Provenance,
    Record,
    RecordWarning,
    Store,
    canonical_json,
    documents,
    finite,
    folder_of,
    read_record,
    safe_name,
)

KEY = "0123456789abcdef" * 4
PLACE = folder_of("low_dose", "epie", "dev-small-seed0", KEY)
PROVENANCE = Provenance(package_version="0", code_hash="0" * 64)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def make(**fields: Any) -> Record:
    common: dict[str, Any] = {"key": KEY, "status": "ok", "seed": 0, "method": "epie", "method_version": "1"}
    common |= {"device": "cpu", "task": "low_dose", "provenance": PROVENANCE, "created": "2026-01-01T00:00:00+00:00"}
    return Record.model_validate(common | fields)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    trace = [{"epoch": 1, "seconds": 0.25, "ffts": 12, "data_error": 0.5, "metrics": {"cpcc_abs": 0.75}}]
    saved = store.save(PLACE, make(metrics={"cpcc_abs": 0.5, "ssim_phase": None}, trace=trace))
    assert store.load(PLACE, KEY) == saved
    assert saved.path == str((tmp_path / PLACE).resolve())
    assert saved.metrics == {"cpcc_abs": 0.5, "ssim_phase": None}
    assert saved.trace[0].metrics["cpcc_abs"] == 0.75
    assert json.loads((tmp_path / PLACE / RECORD_FILE).read_text())["schema"] == "ptybench.record/1"


def test_numbers_that_are_not_finite_become_null() -> None:
    trace = [{"epoch": 1, "seconds": math.inf, "data_error": math.nan, "metrics": {"cpcc_abs": -math.inf}}]
    record = make(metrics={"a": math.nan, "b": 1.0}, trace=trace, facts={"x": math.inf}, wall_seconds=math.nan)
    text = json.dumps(documents([record]), allow_nan=False)
    told = json.loads(text)["records"][0]
    assert told["metrics"] == {"a": None, "b": 1.0}
    assert told["trace"] == [
        {"epoch": 1, "seconds": None, "ffts": None, "data_error": None, "metrics": {"cpcc_abs": None}}
    ]
    assert told["facts"] == {"x": None}
    assert told["wall_seconds"] is None


@given(json_values)
def test_finite_leaves_only_what_json_allows(value: Any) -> None:
    json.dumps(finite(value), allow_nan=False)


@given(st.dictionaries(st.text(max_size=5), json_values.map(finite), min_size=2, max_size=5))
def test_canonical_json_knows_no_order(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def test_canonical_json_knows_no_negative_zero() -> None:
    assert canonical_json({"overlap": -0.0}) == canonical_json({"overlap": 0.0})
    assert canonical_json({"overlap": 0.25}) != canonical_json({"overlap": 0.0})


@given(st.text(max_size=80))
def test_safe_names_are_one_harmless_part_of_a_path(name: str) -> None:
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert len(PurePosixPath(safe).parts) == 1
    assert not set(safe) & set('<>:"/\\|?*+ \0')


def test_chains_and_additions_have_folders_of_their_own() -> None:
    names = ["epie", "epie>rpie", "rpie>epie", "epie+xcorr", "epie-xcorr", "epie:xcorr"]
    assert len({safe_name(name) for name in names}) == len(names)
    assert str(folder_of("low_dose", "epie>rpie", "seed0", KEY)) == "low_dose/epie-to-rpie/seed0-0123456789ab"


def test_another_key_in_the_same_folder_is_no_hit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(PLACE, make())
    assert store.load(PLACE, KEY[:12] + "f" * 52) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": "ptybench.record/99"}', '{"schema": "ptybench.record/1"}']
)
def test_a_broken_record_is_absent_with_a_warning(tmp_path: Path, content: str) -> None:
    store = Store(tmp_path)
    (tmp_path / PLACE).mkdir(parents=True)
    (tmp_path / PLACE / RECORD_FILE).write_text(content)
    with pytest.warns(RecordWarning, match="treated as absent"):
        assert store.load(PLACE, KEY) is None
    with pytest.warns(RecordWarning):
        assert list(store.records()) == []


def test_artefacts_are_moved_in_and_old_ones_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    staged = store.stage(PLACE)
    (staged / "a.h5").write_text("first")
    (staged / "b.png").write_text("first")
    first = store.save(PLACE, make(artifacts={"a": "a.h5", "b": "b.png"}), staged)
    assert Path(first.artifacts["a"]).read_text() == "first"
    staged = store.stage(PLACE)
    (staged / "a.h5").write_text("second")
    second = store.save(PLACE, make(status="error", artifacts={"a": "a.h5"}), staged)
    assert Path(second.artifacts["a"]).read_text() == "second"
    assert sorted(path.name for path in (tmp_path / PLACE).iterdir()) == ["a.h5", RECORD_FILE]


def test_a_results_folder_can_be_moved(tmp_path: Path) -> None:
    store = Store(tmp_path / "here")
    staged = store.stage(PLACE)
    (staged / "a.h5").write_text("x")
    store.save(PLACE, make(artifacts={"a": "a.h5"}), staged)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Store(tmp_path / "there").load(PLACE, KEY)
    assert moved is not None
    assert Path(moved.artifacts["a"]).read_text() == "x"


def test_filters(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for index, (method, seed) in enumerate([("epie", 0), ("epie", 1), ("rpie", 0)]):
        key = f"{index}" * 64
        store.save(folder_of("low_dose", method, f"seed{seed}", key), make(key=key, method=method, seed=seed))
    (tmp_path / "table.json").write_text('{"rows": []}')  # another tool's file is passed over
    assert [(r.method, r.seed) for r in store.records()] == [("epie", 0), ("epie", 1), ("rpie", 0)]
    assert [r.seed for r in store.records(method="epie")] == [0, 1]
    assert [r.method for r in store.records(seed=[0], problem="low_dose")] == ["epie", "rpie"]
    with pytest.raises(ValueError, match="no field 'metod'"):
        list(store.records(metod="epie"))


def test_published_records_are_read_by_the_same_class() -> None:
    assert all(record.final for record in Store.published().records())


def test_which_statuses_are_final() -> None:
    assert {"ok", "diverged", "error", "timeout"} == FINAL
    assert [make(status=s).final for s in ("ok", "oom", "killed", "skipped", "not_installed")] == [
        True, False, False, False, False,
    ]  # fmt: skip


_WRITER = """
import sys
from pathlib import Path
from ptybench.records import Provenance, Record, Store, folder_of
key = "0123456789abcdef" * 4
place = folder_of("low_dose", "epie", "dev-small-seed0", key)
store = Store(sys.argv[1])
for n in range(10**9):
    store.save(place, Record(key=key, status="ok", seed=n, method="epie", method_version="1", device="cpu",
               facts={f"fact{i}": float(n) for i in range(2000)}, created="now",
               provenance=Provenance(package_version="0", code_hash="0")))
    print(n, flush=True)
"""


def test_kill_9_while_writing_leaves_a_whole_record(tmp_path: Path) -> None:
    for trial in range(3):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # the first record is there
        time.sleep(random.Random(trial).uniform(0.01, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        record = read_record(tmp_path / PLACE / RECORD_FILE)
        assert record is not None
        assert set(record.facts.values()) == {float(record.seed)}
        assert [r.seed for r in Store(tmp_path).records()] == [record.seed]  # left-over temporary files are not read


def test_a_record_says_which_version_of_scoring_made_it() -> None:
    from ptybench.runner.provenance import provenance
    from ptybench.scoring.metrics import SCORING_VERSION

    assert provenance().model_dump()["scoring_version"] == SCORING_VERSION
