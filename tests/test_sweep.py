"""Sweeps: the plan is that of single cells, what is done is not done again, and nothing that happens loses a record."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait

from ptybench import registry
from ptybench.cli import main, make_app
from ptybench.cli.grids import parse_grid
from ptybench.cli.options import parse_setting, setting_words
from ptybench.cli.output import Output
from ptybench.cli.plan import ranges
from ptybench.cli.planned import Methods, Problems, Which, rows
from ptybench.cli.points import parse_points
from ptybench.cli.run import OnData, _asked, _plans
from ptybench.cli.selection import Selection, axes, rulesets
from ptybench.errors import InvalidOption, UnknownName, UsageError
from ptybench.records import RECORD_FILE, Record, RecordWarning, Store
from ptybench.runner.cells import Conditions, Subject, plan
from ptybench.runner.crew import share_out
from ptybench.runner.pace import Pace
from ptybench.runner.planning import Plans, combine
from ptybench.runner.provenance import provenance
from ptybench.runner.run import run_cells
from ptybench.runner.survey import glance, survey
from ptybench.task import Task

FAULTY = Path(__file__).with_name("faulty_methods.py")
TINY = ["--set", "scan.field_of_view_px=[20, 20]", "--set", "budget.trace=[1]", "--epochs", "2", "--device", "cpu"]
CPU = Conditions(device="cpu")


def load(name: str, **overrides: Any) -> Task:
    return registry.load_task(name, "small", overrides)


# --- planning --------------------------------------------------------------------------------------------------------


def test_weights_of_one_method_are_not_those_of_its_neighbours() -> None:
    subject, plain = Subject(load("low_dose"), domain="dev"), registry.resolve_method("epie")
    methods = [plain, replace(plain, name="rpie", weights="ab" * 32), replace(plain, name="mpie", weights="cd" * 32)]
    found = combine([(subject, methods)], [0, 1], CPU)
    assert [cell.key for cell in found] == [cell.plan().cell.key for cell in found]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_cells_that_are_planned_together_are_those_that_are_planned_alone(data: st.DataObject) -> None:
    draw = data.draw
    tasks = {"low_overlap": ("overlap", st.floats(-0.4, 0.8)), "low_dose": ("photons", st.integers(10, 10**6))}
    methods = {
        "epie": {"alpha": st.floats(0.1, 2) | st.just(1), "subpixel": st.booleans()},
        "epie>rpie": {"2.alpha": st.floats(0.1, 1), "shares": st.just([1, 2])},
        "oracle": {},
    }
    asked: dict[str, Any] = {
        "device": "cpu",
        "epochs": draw(st.none() | st.integers(1, 9)),
        "seconds": draw(st.none() | st.integers(1, 9) | st.floats(0.5, 2)),
        "withheld": draw(st.none() | st.sampled_from([0, 0.25])),
        "split": draw(st.none() | st.booleans()),
    }
    domain = draw(st.sampled_from(["train", "dev", "release"]))
    seeds = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True))
    points = [(name, {key: draw(values)}) for name, (key, values) in tasks.items()]
    chosen = [(name, {key: draw(values) for key, values in own.items()}) for name, own in methods.items()]
    found = combine(
        [
            (Subject(load(name, **overrides), domain=domain), [registry.resolve_method(*one) for one in chosen])
            for name, overrides in points
        ],
        seeds,
        Conditions(**asked),
    )
    alone = [
        plan(task=name, task_overrides=overrides, method=method, options=options, seed=seed, domain=domain, **asked)
        for seed in seeds
        for name, overrides in points
        for method, options in chosen
    ]
    assert [cell.key for cell in found] == [one.cell.key for one in alone]
    assert [cell.folder for cell in found] == [str(one.cell.place) for one in alone]
    assert [one.cell.identity for one in Plans(found)] == [one.cell.identity for one in alone]


def test_a_cell_is_planned_once_however_it_is_asked_for() -> None:
    task, same = load("low_overlap"), load("low_overlap", overlap=0.375)
    plain, spelt_out = registry.resolve_method("epie"), registry.resolve_method("epie", {"alpha": 1.0})
    cells = combine([(Subject(one, domain="dev"), [plain, spelt_out]) for one in (task, same)], [3, 4], CPU)
    assert [cell.seed for cell in cells] == [3, 4]


def test_a_negative_seed_cannot_be_planned() -> None:
    with pytest.raises(InvalidOption, match="seed must be at least 0"):
        Plans(combine([(Subject(load("low_dose"), domain="dev"), [registry.resolve_method("epie")])], [-1], CPU))[0]


# --- what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "overlap", "photons"),
    [
        ([], [None], [None]),
        (["default"], [None], [None]),
        (["0.75,0.375"], [0.75, 0.375], [0.75, 0.375]),
        (["low_overlap=0.75, default,-0.5"], [0.75, None, -0.5], [None]),
        (["all", "low_overlap=0.25"], [0.25], [1e3, 1e4, 1e5, 1e6]),
        (["low_dose=1e3", "low_overlap=0.6,default,0.375"], [0.6, None], [1e3]),
    ],
)
def test_points(texts: list[str], overlap: list[float | None], photons: list[float | None]) -> None:
    found = parse_points(texts, {name: load(name) for name in ("low_overlap", "low_dose")})
    assert found == {"low_overlap": overlap, "low_dose": photons}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("low_overlpa=1", UnknownName, "did you mean 'low_overlap'"),
        ("0.75;0.5", InvalidOption, "comma list"),
        ("", InvalidOption, "comma list"),
    ],
)
def test_points_that_make_no_sense(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_points([text], {"low_overlap": load("low_overlap")})


def test_a_task_without_a_ladder_has_only_itself() -> None:
    flat = load("low_overlap").model_copy(update={"ladder": None})
    assert parse_points(["all"], {"flat": flat}) == {"flat": [None]}
    with pytest.raises(InvalidOption, match="no ladder"):
        parse_points(["0.5"], {"flat": flat})


def select(**fields: Any) -> list[tuple[str, float | None, str, dict[str, Any]]]:
    """Task, point, method and changed options of everything that is selected."""
    notes: list[str] = fields.pop("notes", [])
    usual = {method: registry.resolve_method(method).options for method in ("epie", "rpie", "oracle", "initial_guess")}
    return [
        (
            subject.name,
            None if subject.task is None else subject.task.point,
            choice.name,
            {key: value for key, value in choice.options.items() if usual[choice.name][key] != value},
        )
        for subject, choices in axes(Selection(**fields), notes.append)
        for choice in choices
    ]


def test_a_grid_reaches_the_methods_that_have_its_key_and_the_others_run_once() -> None:
    found = select(
        tasks=["low_overlap"],
        methods=["epie", "initial_guess"],
        grid=parse_grid(["alpha=0.5,0.75", "beta=0.1:0.3:3"]),
    )
    assert [options for _, _, method, options in found if method == "epie"] == [
        {"alpha": alpha, "beta": beta} for alpha in (0.5, 0.75) for beta in (0.1, 0.2, 0.3)
    ]
    assert [options for _, _, method, options in found if method == "initial_guess"] == [{}]


def test_keys_can_name_their_owner() -> None:
    found = select(
        tasks=["low_overlap", "low_dose"],
        methods=["epie", "rpie"],
        settings={"rpie.alpha": 0.7, "low_dose.photons": 2e4},
        grid={"task.overlap": [0.6]},
    )
    assert {(task, point) for task, point, _, _ in found} == {("low_overlap", 0.6), ("low_dose", 2e4)}
    assert {(method, tuple(options)) for _, _, method, options in found} == {("epie", ()), ("rpie", ("alpha",))}


def test_points_and_fields_of_the_task_make_subjects() -> None:
    found = select(
        tasks=["low_overlap", "low_dose"],
        points=["low_overlap=0.75,default"],
        methods=["epie"],
        grid={"start.modes": [1, 2]},
    )
    assert Counter(point for task, point, _, _ in found) == {0.75: 2, 0.375: 2, 1e4: 2}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"grid": {"alhpa": [1]}}, "did you mean 'alpha'"),
        ({"grid": {"modes": [1]}}, r"task\.modes or method\.modes"),
        ({"grid": {"alpha": [1]}, "settings": {"alpha": 1}}, "--set and --grid both give 'alpha'"),
        ({"points": ["0.5"], "settings": {"scan.overlap": 0.4}}, "--points and scan.overlap both give the point"),
        ({"points": ["0.5"], "grid": {"overlap": [0.4]}}, "--points and overlap both give the point"),
        ({"grid": {"alpha": [0.5, 20]}}, "alpha"),
        ({"points": ["7"]}, "overlap"),
        ({"tasks": ["low_overlap", "nothing"]}, "unknown task 'nothing'"),
        ({"methods": ["epie", "nothing"]}, "unknown method 'nothing'"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        select(**{"tasks": ["low_overlap"], "methods": ["epie"], **fields})
    assert "\n" not in str(caught.value)


def test_all_means_what_is_standard_on_each_task() -> None:
    found = axes(Selection(tasks=["all"], methods=["all"]), print)
    assert [subject.name for subject, _ in found] == registry.task_names()
    for subject, choices in found:
        assert subject.task is not None
        assert [choice.name for choice in choices] == registry.standard_methods(subject.task)


def test_rulesets(monkeypatch: pytest.MonkeyPatch) -> None:
    def preset(method: str, task: str, tier: str = "small", **more: Any) -> dict[str, Any] | None:
        return {"epie": {"alpha": 0.4, "beta": 1.0}, "rpie": {}}.get(method) if task == "low_overlap" else None

    monkeypatch.setattr("ptybench.presets.preset_options", preset)
    asked: dict[str, Any] = {"tasks": ["low_overlap", "low_dose"], "methods": ["epie", "rpie", "oracle"]}
    notes: list[str] = []
    tuned = select(**asked, rulesets=rulesets("tuned", data=False), notes=notes)
    assert [(task, method, options) for task, _, method, options in tuned] == [
        ("low_overlap", "epie", {"alpha": 0.4}),
        ("low_overlap", "rpie", {}),
        ("low_overlap", "oracle", {}),  # there is nothing in it to tune
        ("low_dose", "oracle", {}),
    ]
    assert notes == ["no preset for epie, rpie on low_dose: left out of the tuned ruleset"]
    both = axes(Selection(**asked, rulesets=rulesets("both", data=False)), print)
    assert Counter(cell.method.name for cell in combine(both, [0], CPU)) == {"epie": 3, "rpie": 2, "oracle": 2}
    (over,) = select(
        **asked | {"tasks": ["low_overlap"], "methods": ["epie"]}, rulesets=("tuned",), settings={"alpha": 2}
    )
    assert over[3] == {"alpha": 2.0}
    with pytest.raises(UsageError, match="no presets for a real measurement"):
        rulesets("tuned", data=True)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    lambda inner: st.lists(inner.filter(lambda one: one is not None), max_size=3)
    | st.dictionaries(st.text(min_size=1, max_size=3).filter(str.isalnum), inner.filter(lambda one: one is not None)),
    max_leaves=5,
)  # fmt: skip


@given(JSON_LIKE)
def test_what_is_set_is_read_back(value: Any) -> None:
    _, word = setting_words("key", value)
    assert parse_setting(word) == ("key", value)


def test_a_row_of_a_plan_has_the_command_that_runs_its_cell() -> None:
    methods = Methods(
        methods=["epie,epie>rpie,initial_guess"],
        grid=["epie.alpha=0.25,0.5"],
        set_=["subpixel=false", 'task.specimen={kind = "pictures", zoom = [0.25, 0.5]}'],
        seconds=3.5,
        withheld=0.1,
        split=True,
    )
    problems = Problems(tasks=["low_overlap,low_dose"], points=["low_overlap=0.75,default"], domain="release")
    which = Which(problems, OnData(), methods, "0,7", "cpu", Path("elsewhere"))
    cells = which.cells(Output(json=True))
    told = list(rows(cells, {}, which))
    assert len(told) == 3 * 5 * 2
    for row in told:
        assert row["command"][:2] == ["ptybench", "run"]
        _, bound, _ = make_app().parse_args(row["command"][1:], exit_on_error=False, print_error=False)
        given = bound.arguments
        asked, execution = _asked(given["on_tasks"], OnData(), given["reconstruction"]), given["execution"]
        (alone,) = _plans(asked, given["reconstruction"], execution.device, execution.numbers, Output(json=True))
        assert (alone.cell.key, str(alone.cell.place)) == (row["key"], row["folder"])
        assert (alone.cell.epochs, alone.cell.seconds, alone.cell.device) == (
            row["epochs"], row["seconds"], row["device"],
        )  # fmt: skip
        assert execution.results == Path("elsewhere")


def test_seeds_are_told_as_they_are_asked_for() -> None:
    assert [ranges(seeds) for seeds in ([3], [0, 1, 2], [0, 1, 5, 7, 8])] == ["3", "0-2", "0-1,5,7-8"]


# --- what is done, and how long the rest takes -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A results folder with one record."""
    folder = tmp_path_factory.mktemp("runs")
    overrides = {"scan.field_of_view_px": (20, 20), "budget.trace": [1]}
    settled = plan(task="low_overlap", task_overrides=overrides, method="initial_guess", device="cpu", epochs=1)
    (result,) = run_cells([settled], results=folder, report=False)
    return folder, result.record


def test_a_glance_sees_what_a_reading_does(done: tuple[Path, Record], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, record = done
    path, now = Path(record.path) / RECORD_FILE, provenance()
    with monkeypatch.context() as patch:
        patch.setattr("ptybench.runner.survey.read_record", None)  # it is not read as a whole
        seen = glance(path, record.key, now)
        assert seen is not None
        assert (seen.status, seen.seconds, seen.final, seen.stale) == ("ok", record.wall_seconds, True, False)
        other = glance(path, record.key, now.model_copy(update={"code_hash": "another"}))
        assert other is not None
        assert other.stale
        assert glance(path, "0" * 64, now) is None
        assert glance(folder / "nowhere", record.key, now) is None
    cell = combine([(Subject(load("low_overlap"), domain="dev"), [registry.resolve_method("epie")])], [0], CPU)
    assert survey(Store(folder), cell, now) == {}


def test_a_record_that_looks_otherwise_is_read_as_a_whole(done: tuple[Path, Record], tmp_path: Path) -> None:
    _, record = done
    now = provenance()
    compact = tmp_path / RECORD_FILE
    compact.write_text(json.dumps(record.relative().document()))
    assert glance(compact, record.key, now) == glance(Path(record.path) / RECORD_FILE, record.key, now)
    compact.write_bytes((Path(record.path) / RECORD_FILE).read_bytes()[:-200])
    with pytest.warns(RecordWarning):
        assert glance(compact, record.key, now) is None


def test_pace_learns_from_what_is_most_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    epie, easy, rpie, other = ("a", 1.0, "epie"), ("a", 2.0, "epie"), ("a", 1.0, "rpie"), ("b", None, "dm")
    pace = Pace([epie, epie, easy, rpie, other], jobs=2)
    assert pace.remaining() is None
    pace.begin("1", epie)
    pace.end("1", epie, 10.0)
    assert [pace.expected(kind) for kind in (epie, easy, rpie, other)] == [10.0] * 4
    assert pace.remaining() == 4 * 10.0 / 2
    pace.learn(rpie, 2.0)
    pace.learn(epie, 20.0)
    assert [pace.expected(kind) for kind in (epie, easy, rpie, other)] == [15.0, 15.0, 2.0, pytest.approx(32 / 3)]
    pace.begin("2", epie)
    now = 105.0
    assert pace.remaining() == pytest.approx((10 + 15 + 2 + 32 / 3) / 2)
    now = 200.0  # longer than expected: what is left of it is not negative
    assert pace.remaining() == pytest.approx((15 + 2 + 32 / 3) / 2)
    for kind in (easy, rpie, other):
        pace.end("x", kind, None)
    pace.end("2", epie, 100.0)
    assert pace.remaining() == 0


# --- the crew --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_piece_is_done_and_those_put_off_come_last(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptybench.runner.crew._LATER_SECONDS", 0.01)
    did: list[int] = []
    asked: Counter[int] = Counter()
    lock = threading.Lock()

    def work(index: int) -> bool:
        with lock:
            asked[index] += 1
            if index == 2 and asked[index] < 4:
                return False
            did.append(index)
            return True

    share_out(20, jobs, work, threading.Event())
    assert sorted(did) == list(range(20))
    assert asked == Counter({index: 4 if index == 2 else 1 for index in range(20)})
    assert did[-1] == 2
    assert jobs > 1 or did[:-1] == [0, 1, *range(3, 20)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_crew_says_what_went_wrong(jobs: int) -> None:
    stop, did = threading.Event(), []

    def work(index: int) -> bool:
        did.append(index)
        if index == 5:
            raise ZeroDivisionError("five")
        if stop.wait(0.05):
            raise KeyboardInterrupt
        return True

    with pytest.raises(ZeroDivisionError, match="five"):
        share_out(1000, jobs, work, stop)
    assert len(did) < 20


# --- as a user meets it ----------------------------------------------------------------------------------------------

COUNTING = """
import os, time
from ptybench.solver import Solver

class Counting(Solver):
    '''Notes each of its runs in a file.'''

    name = "counting"

    def epoch(self):
        if self.epochs_done == 0:
            with open(os.environ["COUNTED"], "a") as file:
                file.write("run\\n")
        time.sleep(0.1)
        return 1.0
"""


def sweep(*words: str | Path, verb: str = "sweep", **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "ptybench", verb, "--tasks", "low_overlap", *TINY, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def test_failing_cells_stop_nothing_and_the_next_sweep_runs_only_what_is_new(tmp_path: Path) -> None:
    words = ["--plugin", FAULTY, "--results", tmp_path, "--jobs", "2", "--json"]
    first = sweep("--methods", "raises,still,kills_itself,quits", *words)
    out, err = first.communicate(timeout=300)
    assert first.returncode == 1, err
    document = json.loads(out)
    assert document["statuses"] == {"ok": 1, "error": 2, "killed": 1}
    assert {cell["method"]: cell["status"] for cell in document["cells"]} == {
        "raises": "error", "still": "ok", "kills_itself": "killed", "quits": "error",
    }  # fmt: skip
    records = {record.method: record for record in Store(tmp_path).records()}
    assert {name: record.status for name, record in records.items()} == {
        cell["method"]: cell["status"] for cell in document["cells"]
    }
    for record in records.values():
        assert "report" not in record.artifacts
        assert record.provenance.exclusive
        assert record.provenance.threads == 1
    assert not list(tmp_path.rglob(".*"))
    second = sweep("--methods", "raises,still,kills_itself,quits,initial_guess", *words[:-1])
    out, err = second.communicate(timeout=300)
    assert second.returncode == 1, err
    assert "5 cells: 3 done before" in err
    assert "2 to run" in err
    assert "(2 run now" in out
    assert "error: raises" in out
    assert "cursed" in out
    after = {record.method: record for record in Store(tmp_path).records()}
    assert {name for name in records if after[name].created == records[name].created} >= {"raises", "still", "quits"}
    assert after["initial_guess"].status == "ok"
    shown = sweep("--methods", "still,initial_guess", *words[:-3], verb="plan")
    out, err = shown.communicate(timeout=300)
    assert shown.returncode == 0, err
    assert "2 cells: 2 done before" in out


@pytest.mark.slow
def test_kill_9_and_the_same_command_again_give_every_record_once(tmp_path: Path) -> None:
    plugin, counted = tmp_path / "counting.py", tmp_path / "counted"
    plugin.write_text(COUNTING)
    environment = os.environ | {"COUNTED": str(counted)}
    words = ["--methods", "counting", "--plugin", plugin, "--seeds", "0-5", "--results", tmp_path / "runs"]
    killed = sweep(*words, env=environment)
    store = Store(tmp_path / "runs")
    wait(lambda: killed.poll() is not None or len(list(store.root.rglob(RECORD_FILE))) >= 2, 200)
    assert killed.poll() is None
    killed.kill()
    killed.communicate()
    before = {record.key: record.created for record in store.records()}
    assert 2 <= len(before) < 6
    resumed = sweep(*words, env=environment)
    _, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err
    assert f"6 cells: {len(before)} done before" in err
    after = {record.key: record for record in store.records()}
    assert sorted(record.seed for record in after.values()) == list(range(6))
    assert all(after[key].created == created for key, created in before.items())
    assert len(counted.read_text().splitlines()) <= 7  # the one under way when it was killed twice
    # alone, without a kill, the same cells give the same numbers
    alone = sweep(
        "--methods", "counting", "--plugin", plugin, "--seeds", "3", "--results", tmp_path / "a", env=environment
    )
    assert alone.wait(timeout=300) == 0
    alone.communicate()
    (again,) = Store(tmp_path / "a").records()
    assert again.metrics == after[again.key].metrics


@pytest.mark.slow
def test_two_sweeps_over_one_folder_share_the_cells(tmp_path: Path) -> None:
    plugin, counted = tmp_path / "counting.py", tmp_path / "counted"
    plugin.write_text(COUNTING)
    environment = os.environ | {"COUNTED": str(counted), "PTYBENCH_LEASES": "off"}
    words = ["--methods", "counting", "--plugin", plugin, "--seeds", "0-7", "--results", tmp_path / "runs"]
    both = [sweep(*words, env=environment) for _ in range(2)]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert counted.read_text().splitlines() == ["run"] * 8
    assert all("8 ok" in out for out, _ in ended)
    assert len(list(Store(tmp_path / "runs").records())) == 8
    assert not list((tmp_path / "runs").rglob(".*"))


def test_ctrl_c_leaves_a_killed_record_and_the_rest_to_be_run(tmp_path: Path) -> None:
    hanging, words = tmp_path / "hanging", ["--methods", "still,hangs", "--plugin", FAULTY, "--results", tmp_path]
    running = sweep(*words, start_new_session=True, env=os.environ | {"HANGING": str(hanging)})
    wait(hanging.exists, 200)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "run again to go on" in err
    assert {record.method: record.status for record in Store(tmp_path).records()} == {"still": "ok", "hangs": "killed"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--methods", "epie"], "--tasks"),
        (["--tasks", "low_dose"], "--methods"),
        (["--tasks", "low_dose", "--data", "x", "--methods", "epie"], "either --tasks"),
        (["--tasks", "low_dose", "--methods", "epie", "--crop", "3"], "--crop is for --data"),
        (["--data", "x", "--methods", "epie", "--points", "1"], "--points is for --tasks"),
        (["--tasks", "low_dose", "--methods", "epie", "--seeds", "x"], "--seeds"),
        (["--tasks", "low_dose", "--methods", "epie", "--epochs", "2", "--seconds", "2"], "not both"),
        (["--tasks", "low_dose", "--methods", "epie", "--grid", "alpha"], "--grid"),
        (["--tasks", "low_dose", "--methods", "epei"], "did you mean 'epie'"),
    ],
)
@pytest.mark.parametrize("verb", ["sweep", "plan"])
def test_wrong_use(verb: str, words: list[str], sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([verb, *words]) == 2
    shown = capfd.readouterr()
    assert sentence in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_points_may_be_negative(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = "plan --tasks low_overlap --methods epie --points -0.5,default --results"
    assert main([*shlex.split(words), str(tmp_path)]) == 0
    assert [line.split()[1] for line in capfd.readouterr().out.splitlines()[:2]] == ["-0.5", "0.375"]


def test_a_plan_can_be_read_by_a_queue(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = "plan --tasks low_dose --methods epie,rpie --points 1e3,1e4 --seeds 0-1 --json --results"
    assert main([*shlex.split(words), str(tmp_path)]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["schema"], document["count"], document["to_run"]) == ("ptybench.plan/1", 8, 8)
    assert len({cell["key"] for cell in document["cells"]}) == 8
    assert {(cell["point"], cell["method"], cell["seed"]) for cell in document["cells"]} == {
        (point, method, seed) for point in (1e3, 1e4) for method in ("epie", "rpie") for seed in (0, 1)
    }
    assert not list(tmp_path.iterdir())
