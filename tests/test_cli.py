"""The command line, as a user and as a script meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptybench.cli import EXAMPLES, NAMES, main
from ptybench.cli.explain import method_facts
from ptybench.cli.options import parse_duration, parse_seeds, parse_setting, parse_settings, split_names
from ptybench.cli.output import columns
from ptybench.cli.progress import clock
from ptybench.cli.settings import sort_settings
from ptybench.errors import InvalidOption, UnknownName
from ptybench.io.hdf5 import load_truth, save_reconstruction
from ptybench.registry import load_method, load_task
from ptybench.types import Estimate

FAULTY = str(Path(__file__).parent / "faulty_methods.py")
VERBS = [NAMES.get(command, command.__name__) for command in EXAMPLES]
TINY = ["--set", "scan.field_of_view_px=[20, 20]", "--set", "budget.trace=[1, 2]"]
HEAVY = ("torch", "scipy", "skimage", "pandas", "matplotlib", "seaborn", "xraydb", "numpy", "h5py")


def ptybench(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-P", "-m", "ptybench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A results folder, and the document of a run of a good and a bad method."""
    results = tmp_path_factory.mktemp("results")
    methods = ["--method", "epie,raises", "--plugin", FAULTY, "--epochs", "3"]
    done = ptybench("run", "--task", "low_overlap", *methods, *TINY, "--results", results, "--json")
    assert done.returncode == 1, done.stderr
    return results, json.loads(done.stdout)


# --- what options mean -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [3]), ("0-4,7", [0, 1, 2, 3, 4, 7]), (" 2 , 1-2 ", [2, 1]), ("5-5", [5])]
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "4-2", "1,,2", "1.5"])
def test_seeds_that_make_no_sense(text: str) -> None:
    with pytest.raises(InvalidOption, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (".5m", 30)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["0", "-1m", "soon", "10d", "1m30", ""])
def test_durations_that_make_no_sense(text: str) -> None:
    with pytest.raises(InvalidOption, match="--timeout"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=1", 1),
        ("k = 0.25", 0.25),
        ("k=1e6", 1e6),
        ("k=true", True),
        ("k=[1, 2]", [1, 2]),
        ('k="1"', "1"),
        ("k=fermat", "fermat"),
        ("k=a=b", "a=b"),
        ("k=", ""),
        ("k=none", None),
        ("k=1\nother = 2", "1\nother = 2"),
    ],
)
def test_settings_are_toml_values_or_plain_strings(text: str, value: object) -> None:
    key, found = parse_setting(text)
    assert key == "k"
    assert found == value
    assert type(found) is type(value)


def test_settings_need_a_key_and_come_once() -> None:
    for text in ("alpha", "=1"):
        with pytest.raises(InvalidOption, match="KEY=VALUE"):
            parse_setting(text)
    with pytest.raises(InvalidOption, match="twice"):
        parse_settings(["a=1", "a=2"])


def test_settings_find_their_owner() -> None:
    task = load_task("low_overlap")
    keys = {"overlap": 0.5, "task.dose.photons": 1e5, "alpha": 0.3, "method.beta": 0.4, "scan.randomness": 0.2}
    found = sort_settings(keys, task, "epie")
    assert found.task == {"overlap": 0.5, "dose.photons": 1e5, "scan.randomness": 0.2}
    assert found.method == {"alpha": 0.3, "beta": 0.4}
    chained = sort_settings({"epie.alpha": 0.3, "2.alpha": 0.2, "shares": [1, 2]}, task, "epie>rpie")
    assert chained.method == {"epie.alpha": 0.3, "2.alpha": 0.2, "shares": [1, 2]}


def test_settings_that_two_have_or_nobody() -> None:
    task = load_task("low_overlap")
    # both the start of a task and every method have probe modes
    with pytest.raises(InvalidOption, match=r"task\.modes or method\.modes"):
        sort_settings({"modes": 2}, task, "epie")
    with pytest.raises(UnknownName, match="'alpha'"):
        sort_settings({"alhpa": 2}, task, "epie")
    with pytest.raises(InvalidOption, match="no task"):
        sort_settings({"task.overlap": 0.5}, None, "epie")


def test_small_helpers() -> None:
    assert split_names(["a,b", "b, c", ""]) == ["a", "b", "c"]
    assert [clock(seconds) for seconds in (None, 0.4, 59.6, 3661)] == ["-:--", "0:00", "1:00", "1:01:01"]
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == "a    bb  c\naaa  b"


# --- help and start-up -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"ptybench {verb}" in shown[shown.index("Example") :]
    assert "--json" in shown


def test_examples_fit_a_terminal_so_that_they_can_be_copied() -> None:
    assert max(len(line) for examples in EXAMPLES.values() for line in examples.splitlines()) <= 78


def test_the_general_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f" {verb} " in shown for verb in VERBS)


@pytest.mark.parametrize("words", [["--help"], ["list", "tasks"], ["list", "methods"], ["list", "metrics"]])
def test_help_and_lists_import_nothing_heavy(words: list[str]) -> None:
    code = f"import sys; from ptybench.cli import main; main({words}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    imported = set(done.stderr.split())
    assert "cyclopts" in imported
    assert imported.isdisjoint(HEAVY)


# --- wrong use -------------------------------------------------------------------------------------------------------

WRONG = {
    "unknown verb": (["rum"], "run"),
    "unknown option": (["run", "--taks", "low_dose"], "--task"),
    "no task": (["run", "--method", "epie"], "--task"),
    "no method": (["run", "--task", "low_dose"], "--method"),
    "an empty method": (["run", "--task", "low_dose", "--method", ","], "--method"),
    "an empty task": (["run", "--task", ",", "--method", "epie"], "--task"),
    "unknown task": (["run", "--task", "low_dosis", "--method", "epie"], "'low_dose'"),
    "unknown method": (["run", "--task", "low_dose", "--method", "epi"], "'epie'"),
    "unknown key": (["run", "--task", "low_dose", "--method", "epie", "--set", "alhpa=1"], "'alpha'"),
    "option of a method": (
        ["run", "--task", "low_dose", "--method", "epie", "--set", "method.alhpa=1"],
        "'method.alpha'",
    ),
    "out of range": (["run", "--task", "low_dose", "--method", "epie", "--set", "alpha=7"], "less than or equal to 2"),
    "field out of range": (["run", "--task", "low_dose", "--method", "epie", "--set", "photons=-1"], "greater than 0"),
    "wrong type": (["run", "--task", "low_dose", "--method", "epie", "--epochs", "many"], "--epochs"),
    "no epochs": (["run", "--task", "low_dose", "--method", "epie", "--epochs", "0"], "at least 1"),
    "two budgets": (["run", "--task", "low_dose", "--method", "epie", "--epochs", "1", "--seconds", "1"], "not both"),
    "two seeds": (["run", "--task", "low_dose", "--method", "epie", "--seed", "1", "--seeds", "1-2"], "not both"),
    "tier": (["run", "--task", "low_dose", "--method", "epie", "--tier", "smal"], "small"),
    "device": (["run", "--task", "low_dose", "--method", "epie", "--device", "gpu"], "cuda"),
    "data options": (["run", "--task", "low_dose", "--method", "epie", "--crop", "64"], "--data"),
    "no file": (["run", "--task", "nowhere.toml", "--method", "epie"], "nowhere.toml"),
    "no data file": (["run", "--data", "nowhere.cxi", "--method", "epie"], "nowhere.cxi"),
    "unknown dataset": (["run", "--data", "siemens_star_apz", "--method", "epie"], "'siemens_star_aps'"),
    "no plug-in": (["run", "--task", "low_dose", "--method", "x", "--plugin", "nowhere.py"], "nowhere.py"),
    "kind": (["list", "task"], "tasks"),
    "unknown name": (["info", "low_dosis"], "'low_dose'"),
    "too many words": (["list", "tasks", "methods"], "methods"),
    "no reconstruction": (["score", "nowhere.h5", "--task", "low_dose"], "nowhere.h5"),
    "no records": (["leaderboard", "--task", "low_dose", "--results", "nowhere"], "nowhere"),
    "unknown method to check": (["check", "epi"], "'epie'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_sentence_and_exit_code_2(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    words, hint = WRONG[case]
    assert main(words) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert hint in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("case", ["unknown verb", "unknown option", "unknown task", "no file"])
def test_wrong_use_is_json_where_json_was_asked_for(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    words, hint = WRONG[case]
    assert main([*words, "--json"]) == 2
    shown = capfd.readouterr()
    document = json.loads(shown.out)
    assert document["schema"] == "ptybench.error/1"
    assert hint in document["error"]["message"]
    assert document["error"]["message"] in shown.err


def test_the_unexpected_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.delenv("PTYBENCH_DEBUG", raising=False)
    monkeypatch.setattr("ptybench.registry.list_tasks", broken)
    assert main(["list", "tasks"]) == 1
    shown = capfd.readouterr().err
    assert "ZeroDivisionError: by zero" in shown
    assert "PTYBENCH_DEBUG=1" in shown
    assert "Traceback" not in shown
    monkeypatch.setenv("PTYBENCH_DEBUG", "1")
    assert main(["list", "tasks"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-P", "-m", "ptybench", "list", "metrics"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


# --- listings and explanations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("tasks", {"low_dose", "low_overlap", "position_jitter", "wrong_distance", "noisy_poisson"}),
        ("methods", {"epie", "rpie", "oracle", "initial_guess"}),
        ("datasets", {"siemens_star_aps", "siemens_star_petra_p25_nearfield"}),
        ("metrics", {"cpcc_abs", "frc_truth_area", "deviance_withheld"}),
    ],
)
def test_lists(kind: str, some: set[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    shown = capfd.readouterr().out
    assert main(["list", kind, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    names = [row["name"] for row in document[kind]]
    assert some <= set(names)
    assert [line.split()[0] for line in shown.splitlines()] == names
    assert all(row["title"] for row in document[kind])


def test_plugins_are_listed(tmp_path: Path) -> None:
    assert "Does nothing at all, and does it right." in ptybench("list", "methods", "--plugin", FAULTY).stdout
    original = Path(__file__).parents[1] / "tasks" / "low_dose.toml"
    task = tmp_path / "my_beamline.toml"
    task.write_text(original.read_text().replace('"low_dose"', '"my_beamline"').replace("Few photons", "At home"))
    assert "At home" in ptybench("list", "tasks", "--plugin", task).stdout


def test_what_is_said_of_a_task_is_what_can_be_set(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "picture.png"
    words = ["info", "low_dose", *TINY, "--set", "photons=2e4"]
    assert main([*words, "--picture", str(picture), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["primary_metric"] == "frc_truth_area"
    assert document["ladder"]["value"] == document["fields"]["dose.photons"] == 2e4
    assert picture.read_bytes().startswith(b"\x89PNG")
    settings = {path: value for path, value in document["fields"].items() if value is not None}
    assert sort_settings(settings, load_task("low_dose"), None).task == settings
    assert load_task("low_dose", "small", settings) == load_task(
        "low_dose",
        "small",
        sort_settings(parse_settings([*TINY[1::2], "photons=2e4"]), load_task("low_dose"), None).task,
    )
    assert main(words) == 0
    assert "20 k in the brightest pattern" in capfd.readouterr().out


def test_what_is_said_of_a_method_is_what_it_takes(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "epie", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    kind = load_method("epie")
    assert {option["name"]: option["default"] for option in document["options"]} == kind.Options().model_dump()
    alpha = next(option for option in document["options"] if option["name"] == "alpha")
    assert alpha["allowed"] == "above 0, at most 2"
    assert alpha["meaning"] == "object step"
    assert all(option["meaning"] for option in method_facts(kind)["options"])
    assert main(["info", "epie"]) == 0
    assert "10.1016/j.ultramic.2009.05.012" in capfd.readouterr().out


# --- data out, reconstructions in ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A CXI file, its truth, and what the command said."""
    folder = tmp_path_factory.mktemp("simulated")
    data, truth = folder / "data.cxi", folder / "truth.h5"
    done = ptybench("simulate", "--task", "low_overlap", *TINY, "--out", data, "--with-truth", truth, "--json")
    assert done.returncode == 0, done.stderr
    return data, truth, json.loads(done.stdout)


def test_simulated_data_agree_with_what_is_said_of_them(simulated: tuple[Path, Path, dict[str, Any]]) -> None:
    data, truth, said = simulated
    with h5py.File(data) as file:
        patterns = file["entry_1/data_1/data"][()]
    assert patterns.shape == (said["patterns"], *said["shape"])
    expected = load_truth(truth).expected
    # a Poisson sum has the standard deviation √Σ
    assert abs(patterns.sum() - expected.sum()) < 5 * np.sqrt(expected.sum())
    assert said["files"] == {"measurement": str(data), "truth": str(truth)}


def test_a_control_has_nothing_to_do_on_data_without_truth(
    simulated: tuple[Path, Path, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--data", str(simulated[0]), "--method", "oracle"]) == 2
    assert "truth" in capfd.readouterr().err


def test_the_truth_scores_perfect_and_a_flat_image_does_not(
    simulated: tuple[Path, Path, dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth = load_truth(simulated[1])
    flat = np.ones_like(truth.object)
    scores = {}
    for name, image in {"truth": truth.object * np.exp(0.3j), "flat": flat}.items():
        estimate = Estimate(image, truth.probe, truth.positions_px, truth.pixel_size_m, truth.distance_m)
        save_reconstruction(tmp_path / f"{name}.h5", estimate)
        assert main(["score", str(tmp_path / f"{name}.h5"), "--task", "low_overlap", *TINY, "--json"]) == 0
        scores[name] = json.loads(capfd.readouterr().out)["metrics"]
    assert scores["truth"]["cpcc_abs"] == pytest.approx(1, abs=1e-6)
    assert scores["truth"]["nrmse_complex"] == pytest.approx(0, abs=1e-3)
    assert scores["flat"]["cpcc_abs"] == 0
    assert scores["flat"]["frc_truth_area"] == 0


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_run_is_one_document_with_a_record_a_cell(finished: tuple[Path, dict[str, Any]]) -> None:
    results, document = finished
    assert document["schema"] == "ptybench.records/1"
    good, bad = document["records"]
    assert (good["method"], good["status"], good["stop_reason"], good["epochs"]) == ("epie", "ok", "budget", 3)
    assert (bad["method"], bad["status"]) == ("raises", "error")
    assert "cursed" in bad["error"]
    wanted = {
        *("task", "task_version", "domain", "seed", "tier", "method_version", "options", "device", "wall_seconds"),
        *("metrics", "directions", "trace", "cost", "artifacts", "path"),
    }
    assert wanted <= good.keys()
    assert good["directions"]["cpcc_abs"] == "higher"
    assert good["trace"][-1]["epoch"] == 3
    assert 0 < good["metrics"]["cpcc_abs"] <= 1
    for record in (good, bad):
        assert Path(record["path"]).is_relative_to(results)
        assert (Path(record["path"]) / "record.json").exists()
    assert all(Path(path).exists() for path in good["artifacts"].values())
    assert {"report", "reconstruction"} <= good["artifacts"].keys()


def test_a_recorded_reconstruction_scores_as_recorded(
    finished: tuple[Path, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    record = finished[1]["records"][0]
    assert main(["score", record["artifacts"]["reconstruction"], "--task", "low_overlap", *TINY, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["metrics"]
    compared = [name for name, value in found.items() if value is not None]
    assert "frc_truth_area" in compared
    for name in compared:
        assert found[name] == pytest.approx(record["metrics"][name], rel=1e-9, abs=1e-12), name


def test_the_same_cell_is_not_run_again(
    finished: tuple[Path, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    results, document = finished
    words = ["run", "--task", "low_overlap", "--method", "epie", "--epochs", "3", *TINY, "--results", str(results)]
    assert main(words) == 0
    shown = capfd.readouterr()
    assert "--force" in shown.err
    assert "epie" in shown.out
    assert main([*words, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["records"][0] == document["records"][0]


def test_a_leaderboard_of_the_run(finished: tuple[Path, dict[str, Any]], capfd: pytest.CaptureFixture[str]) -> None:
    results, document = finished
    words = ["leaderboard", "--task", "low_overlap", *TINY, "--results", str(results)]
    assert main([*words, "--json"]) == 0
    board = json.loads(capfd.readouterr().out)
    assert board["metric"] == "frc_truth_area"
    best = board["rows"][0]
    assert best["method"] == "epie"
    assert best["median"] == pytest.approx(document["records"][0]["metrics"]["frc_truth_area"])
    for format in ("md", "csv", "latex", "json"):
        assert main([*words, "--format", format]) == 0
        assert "epie" in capfd.readouterr().out


def test_nothing_that_a_plugin_prints_gets_into_the_document(tmp_path: Path) -> None:
    plugin = tmp_path / "chatty.py"
    plugin.write_text(
        "import os\nfrom ptybench.solver import Solver\n"
        "print('hello from the import')\nos.write(1, b'hello from below\\n')\n"
        "class Chatty(Solver):\n    '''Talks.'''\n    name = 'chatty'\n"
        "    def epoch(self):\n        print('hello from an epoch')\n        return 1.0\n"
    )
    method = ["--method", "chatty", "--plugin", plugin, "--epochs", "1"]
    done = ptybench("run", "--task", "low_overlap", *method, *TINY, "--results", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"][0]["status"] == "ok"
    assert "hello from the import" in done.stderr


def test_a_method_that_hangs_is_stopped(tmp_path: Path) -> None:
    method = ["--method", "hangs", "--plugin", FAULTY, "--timeout", "3s", "--epochs", "5"]
    done = ptybench("run", "--task", "low_overlap", *method, *TINY, "--results", tmp_path, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["records"][0]["status"] == "timeout"


def test_an_interrupt_is_a_sentence_and_leaves_a_record(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "ptybench",
        "run",
        "--task",
        "low_overlap",
        "--method",
        "hangs",
        "--plugin",
        FAULTY,
    ]
    command += [*TINY, "--results", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # tests started in a shell's background inherit that SIGINT is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    said = ""
    while "epoch 1" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest
    (record,) = tmp_path.rglob("record.json")
    assert json.loads(record.read_text())["status"] == "killed"


# --- health ----------------------------------------------------------------------------------------------------------


def test_doctor_finds_this_machine_healthy(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["healthy"] is True
    transforms = {row["name"]: float(row["value"]) for row in document["findings"] if row["topic"] == "transform"}
    assert transforms["FFT against scipy, cpu float64"] < 1e-12
    assert {row["topic"] for row in document["findings"]} == {"version", "machine", "disk", "transform", "data"}


def test_doctor_sees_a_transform_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    right = torch.fft.fft2
    monkeypatch.setattr(torch.fft, "fft2", lambda x, **how: right(x, **how) * 1.001)
    assert main(["doctor", "--json"]) == 1
    document = json.loads(capfd.readouterr().out)
    assert document["healthy"] is False
    assert {row["topic"] for row in document["findings"] if row["verdict"] == "failed"} == {"transform"}
