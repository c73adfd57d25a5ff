"""Promises of README.md and docs/: the command lines that they show do what they say, on a small rig made of rooms.

Short ones are executed as they stand. Long ones are tried here with `--dry-run`, and executed whole by the campaign,
`python -m pytest tests/test_documents.py -m campaign -n0`; those that fetch published weights are part of it with
`XMODAL_NETWORK=1`, and `XMODAL_STEPS=3` cuts every training of it to so many steps that begin with random weights. The
lines of docs/results.md stand beside the figures that they gave, and take hours.
"""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import COMMANDS, DOCUMENTS, command_lines, command_of, only_named, words_of
from shared_folders import shared_folder
from workplace import CALM, WEIGHTS, filled_in, make_workplace

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.runs.folder import LOCK, LOG, METRICS

MEASURED = {"results.md", "CHANGELOG.md"}
TRAINS = {("distill",), ("finetune",), ("reproduce",)}
FETCHES = ("download",)  # gigabytes from hosts that may be gone: tried, and tested elsewhere against servers of our own
PREPARES = ("folder", "rooms", "proposals", "nyud2", "nyud2-raw", "video", "jhmdb", "ucf101", "coco")
LONG = {*TRAINS, FETCHES, ("demo",), *(("prepare", name) for name in PREPARES)}
LONGEST_NAME = 60  # characters; what is left out of a line is told apart by a number
GROWING = {LOCK, LOG, METRICS}
NETWORK, STEPS = bool(os.environ.get("XMODAL_NETWORK")), os.environ.get("XMODAL_STEPS", "")
STEPPED = ("distill", "finetune", "segmentation", "classification")


def shown() -> list[str]:
    """Every whole command line of the documents, once."""
    texts = [path.read_text() for path in DOCUMENTS if path.name not in MEASURED]
    lines = dict.fromkeys(line for text in texts for line in command_lines(text))
    return [line for line in lines if not only_named(words_of(line))]


def name_of(line: str) -> str:
    """A line's name as a test: its words without dashes and folders, as many as can be read at a glance."""
    words = [word.lstrip("-").rpartition("/")[2] for word in words_of(line)]
    return textwrap.shorten(" ".join(words), LONGEST_NAME, placeholder="")


def is_long(line: str) -> bool:
    """Whether it may take more than half a minute on real data; going on with a finished run does not."""
    return command_of(words_of(line)) in LONG and "--resume" not in line


def needs_gpus(line: str) -> bool:
    """Whether it names devices that few machines have."""
    return "--devices" in line or "cuda" in line


def fetches(line: str) -> bool:
    """Whether it reads published weights, of a teacher or of a network."""
    words = words_of(line)
    teaches = command_of(words) == ("distill",) and not {"--teacher-run", "--resume"} & set(words)
    return teaches or "imagenet" in words or command_of(words) == ("reproduce",)


def small(words: list[str]) -> list[str]:
    """The same words with smaller images, and random weights where published ones are read."""
    command = command_of(words)
    if command == ("reproduce",):
        tiny = ("distill.size=96", "distill.batch_size=1", "finetune.size=96", "finetune.regions=8")
        tiny = (*tiny, "classification.size=96", "classification.batch_size=1")
        weights = "--weights", WEIGHTS["squeezenet1_1"], "--second-weights", WEIGHTS["squeezenet1_0"]
        return [*words, *weights, *(word for setting in tiny for word in ("--set", setting))]
    asked = [*words, "--batch-size", "1", *CALM] if command in TRAINS else words
    if command == ("distill",):
        random = [] if "--teacher-run" in words else ["--teacher-weights", "random"]
        asked = [*asked, "--size", "64x80", *random]
    return with_weights(asked)


def trial(words: list[str]) -> list[str]:
    """The same words, for a try of a long command that trains nothing."""
    return [*small(words), *({"--dry-run"} - set(words))]


def cut(words: list[str], steps: str) -> list[str]:
    """The same words, for a run of a long command that ends after few steps."""
    command = command_of(words)
    if command == ("demo",):
        return [*words, *({"--quick"} - set(words))]
    if command == ("reproduce",):
        settings = [word for name in STEPPED for word in ("--set", f"{name}.iterations={steps}")]
        return [*small(without(words, "--set", "epochs=")), *settings]
    if command in TRAINS or "rpn" in words:
        return [*small(without(words, "--epochs")), "--iterations", steps]
    return words


def without(words: list[str], option: str, of: str = "") -> list[str]:
    """The words without an option and its value, wherever that contains a text."""
    at = [number for number, word in enumerate(words) if word == option and of in words[number + 1]]
    return [word for number, word in enumerate(words) if not {number, number - 1} & set(at)]


def with_weights(words: list[str]) -> list[str]:
    """The same words, with a file in place of the published weights of a network that begins with them."""
    return [*words, "--weights", WEIGHTS["squeezenet1_1"]] if "imagenet" in words else words


SHORT_LINES = [line for line in shown() if not is_long(line)]
LONG_LINES = [line for line in [*shown(), "xmodal demo"] if is_long(line) and not needs_gpus(line)]
CAN_BE_TRIED = [line for line in LONG_LINES if command_of(words_of(line)) != ("demo",)]  # has tests of its own


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command lines find what they name; nobody may change it."""
    return shared_folder(tmp_path_factory, "workplace", make_workplace)


def link_or_copy(source: str, destination: str) -> None:
    """What programs add to is copied; everything else is only ever replaced whole, and linked."""
    if Path(source).name in GROWING:
        shutil.copy2(source, destination)
    else:
        os.link(source, destination)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Time of the last change and size of every file."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path.relative_to(folder).as_posix(): (stat.st_mtime_ns, stat.st_size) for path, stat in found.items()}


@pytest.fixture(scope="session")
def as_made(workplace: Path) -> dict[str, tuple[int, int]]:
    """The stamps of the workplace as this process found it."""
    return stamps(workplace)


@pytest.fixture(scope="session")
def untouched() -> list[Path]:
    """A copy of the workplace in which a command line has left everything as it was, if there is one."""
    return []


@pytest.fixture
def at_work(
    workplace: Path,
    as_made: dict[str, tuple[int, int]],
    untouched: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A copy of the workplace, the current folder, for one command line."""
    if untouched:
        copy = untouched.pop()
    else:
        copy = tmp_path_factory.mktemp("at-work") / "work"
        shutil.copytree(workplace, copy, symlinks=True, copy_function=link_or_copy)
    before = stamps(copy)
    with monkeypatch.context() as there:
        there.chdir(copy)
        yield copy
    if stamps(copy) == before:
        untouched.append(copy)
    else:
        assert stamps(workplace) == as_made, "a file was changed where it lies"
        shutil.rmtree(copy.parent)


def make_room_for(words: list[str]) -> None:
    """Take away what a command is to make: its reader has none yet."""
    if "--out" in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    if command_of(words) == ("prepare", "proposals"):
        shutil.rmtree(Path(words[2], "proposals"), ignore_errors=True)
    if "--run-name" in words:
        kind = words[words.index("--task") + 1] if "--task" in words else words[0]
        shutil.rmtree(Path("runs", kind, words[words.index("--run-name") + 1]), ignore_errors=True)


@pytest.mark.parametrize("line", SHORT_LINES, ids=name_of)
def test_a_short_command_line_of_the_documents_works(line: str, at_work: Path) -> None:
    words = filled_in(line)
    if "onnx" in words:
        pytest.importorskip("onnxscript", reason="writes ONNX")
    if command_of(words_of(line)) == ("prepare", "merge"):
        make_room_for(words)
    assert xmodal(with_weights(words)) == 0


@pytest.mark.parametrize("line", CAN_BE_TRIED, ids=name_of)
def test_a_long_command_line_of_the_documents_can_be_tried(line: str, at_work: Path) -> None:
    words = filled_in(line)
    make_room_for(words)
    assert xmodal(trial(words)) == 0


@pytest.mark.campaign
@pytest.mark.parametrize("line", [line for line in LONG_LINES if command_of(words_of(line)) != FETCHES], ids=name_of)
def test_a_long_command_line_of_the_documents_works(line: str, at_work: Path) -> None:
    if fetches(line) and not (NETWORK or STEPS):
        pytest.skip("reads published weights (set XMODAL_NETWORK=1 to fetch them)")
    words = cut(filled_in(line), STEPS) if STEPS else filled_in(line)
    make_room_for(words)
    assert xmodal(words) == 0


def test_every_command_is_executed_from_the_documents() -> None:
    executed = {command_of(words_of(line)) for line in [*SHORT_LINES, *LONG_LINES]}
    assert COMMANDS.keys() - executed == {("doctor",), ("cache", "list")}  # shown by their names alone


def test_every_line_is_a_test_that_can_be_chosen_by_its_words(request: pytest.FixtureRequest) -> None:
    names = [item.name for item in request.session.items if item.path == request.path]
    assert not [name for name in names if re.search(r"\[line\d+\]", name)]
    assert all(len(name.partition("[")[2]) <= LONGEST_NAME + 4 for name in names)
