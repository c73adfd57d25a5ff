"""A run's folder: its name, its lock, its settings, its log, and the link to the newest finished run.

`runs/<command>/<name>/` holds everything a colleague needs to understand or continue the run (design: "A run").
The lock is the operating system's, so it is gone the moment the process dies, however it dies.
"""

from __future__ import annotations

import datetime
import json
import platform
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import yaml

import xmodal_cli
from xmodal_cli import files
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.runs import processes

CONFIG, ENVIRONMENT, METRICS, LOG, CARD, LOCK = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "log.txt",
    "card.json",
    ".lock",
)
LATEST, CHECKPOINTS = "latest", "checkpoints"
# Kinds of runs that are not named as what makes them.
MADE_BY = {
    "segmentation": "finetune --task segmentation",
    "classification": "finetune --task classification",
    "rpn": "prepare proposals DATA --method rpn",
}
MADE_AT_ONCE = ("zero-shot",)  # commands whose runs cannot be continued: nothing is trained
NOT_YET_A_RUN = (LOCK, CHECKPOINTS, ENVIRONMENT)  # what a run has before its settings are written
REPORTED_PACKAGES = ("torch", "torchvision", "timm", "numpy", "opencv-python", "safetensors", "typer")


@dataclass
class RunFolder:
    """One run on disk.

    Args:
        path: the folder itself, `runs/<command>/<name>`.
        command: the command that made it, e.g. `distill`.
    """

    path: Path
    command: str
    _lock: IO[str] | None = field(default=None, repr=False)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: its card is written last."""
        return (self.path / CARD).is_file()

    def config(self) -> dict[str, Any]:
        """The settings that the run was started with, as saved.

        Raises:
            DataError: the file is missing or broken.
        """
        path = self.path / CONFIG
        try:
            config = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise DataError(f"The settings of the run cannot be read: {path}: {error}") from error
        if not isinstance(config, dict) or not {"command", "settings"} <= config.keys():
            raise DataError(f"{path} is not the settings file of a run.")
        return config

    def card(self) -> dict[str, Any]:
        """The card of a finished run: what the weights are and how to use them."""
        path = self.path / CARD
        if not path.is_file():
            raise DataError(
                f"The run {self.path} is not finished: it has no {CARD}.",
                "Make it again, with --overwrite."
                if self.command in MADE_AT_ONCE
                else f"Continue it with {self.resume()}",
            )
        card: dict[str, Any] = json.loads(path.read_text())
        return card

    def metrics(self) -> list[dict[str, Any]]:
        """What the run reported while it trained: records with `phase` and `step`, in the order of the file.

        A last line without an end, which a process that was killed may leave, does not count.

        Raises:
            DataError: the file is missing, or a line of it is no such record.
        """
        path = self.path / METRICS
        if not path.is_file():
            raise DataError(f"The run {self.path} has no readable {METRICS}: nothing has been trained there.")
        try:
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"The run {self.path} has no readable {METRICS}: {error}.") from None
        records = []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                records.append({**record, "phase": str(record["phase"]), "step": int(record["step"])})
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"Line {number} of {path} is damaged: {line[:60]!r} is no record with 'phase' and 'step'.",
                    "Remove that line, or leave this run out.",
                ) from None
        return records

    def recorded_data(self) -> Path:
        """The data set that a finished run learned from."""
        return Path(self.card()["data"]["path"])

    @property
    def made_by(self) -> str:
        """The command that made it, as it is typed after `xmodal`."""
        return MADE_BY.get(self.command, self.command)

    def resume(self) -> str:
        """The command line that continues this run."""
        words = self.made_by
        if "DATA" in words and (self.path / CONFIG).is_file():
            words = words.replace("DATA", str(self.config()["settings"]["data"]))
        return f"xmodal {words} --resume {self.path}"

    def write_start(self, config: Mapping[str, Any]) -> None:
        """Write what is known before the first step: settings and environment."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path / ENVIRONMENT, environment())
        files.write_yaml(self.path / CONFIG, dict(config))

    def log(self, line: str) -> None:
        """Add a line, with the time, to `log.txt`."""
        stamp = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with (self.path / LOG).open("a") as handle:
            handle.write(f"{stamp} {line}\n")

    def finish(self, card: Mapping[str, Any]) -> None:
        """Write the card and point `latest` here: from now on the run counts as finished."""
        files.write_json(self.path / CARD, dict(card))
        link = self.path.parent / LATEST
        temporary = link.with_name(f".{LATEST}.{secrets.token_hex(4)}")
        temporary.symlink_to(self.path.name, target_is_directory=True)
        temporary.replace(link)

    def __enter__(self) -> RunFolder:
        """Take the run for this process, unless it has it already; of several processes the first one takes it."""
        if self._lock is None and processes.is_first():
            self.lock()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}  # a lock belongs to the process that took it

    def __exit__(self, *_: object) -> None:
        self.unlock()

    def lock(self) -> RunFolder:
        """Take the run for this process until `unlock` or its death.

        Returns:
            The run itself.

        Raises:
            SettingsError: another process has it.
        """
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        handle = (self.path / LOCK).open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.close()
            raise SettingsError(
                f"Another process is working in {self.path}.", "Wait for it, or stop it first."
            ) from error
        self._lock = handle
        files.remove_parts(self.path, self.checkpoints)
        return self

    def unlock(self) -> None:
        """Give the run back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def create(root: Path, command: str, name: str | None, *, default_name: str, overwrite: bool = False) -> RunFolder:
    """A new run's folder, locked.

    Args:
        root: the folder of all runs.
        command: the command that makes it.
        name: its name as the user wishes, or None.
        default_name: the first part of the name otherwise, `<student>-<modality>`.
        overwrite: whether files of an earlier run of that name may go.

    Raises:
        SettingsError: the folder holds something already.
    """
    if name is not None and (name in {"", LATEST} or name.startswith(".") or Path(name).name != name):
        raise SettingsError(
            f"{name!r} cannot be the name of a run.", "Use letters, digits and dashes, without slashes."
        )
    if name is None:
        name = f"{default_name}-{datetime.date.today():%Y%m%d}-{secrets.token_hex(2)}"
    run = RunFolder(root / command / name, command)
    if run.path.exists() and any(entry.name not in NOT_YET_A_RUN for entry in run.path.iterdir()) and not overwrite:
        on = "Give it another --run-name" if command in MADE_AT_ONCE else f"Continue that run with `{run.resume()}`"
        raise SettingsError(f"The run folder {run.path} is not empty.", f"{on}, or replace it with --overwrite.")
    run.lock()
    if overwrite:
        _empty(run.path)
    return run


def open_run(path: Path, command: str | Sequence[str] | None = None) -> RunFolder:
    """An existing run's folder.

    Args:
        path: the folder, or a link to it such as `runs/distill/latest`.
        command: the command, or one of those, that it must have been made by, if that matters.

    Raises:
        SettingsError: there is no run there, or another command made it.
    """
    if not path.is_dir():
        raise SettingsError(f"There is no run at {path}.", _runs_nearby(path))
    if path.is_symlink():
        path = path.parent / path.readlink()  # the run's own name, as short as it was given
    if not (path / CONFIG).is_file():
        raise SettingsError(f"{path} is not a run: it has no {CONFIG}.", _runs_nearby(path))
    found = str(RunFolder(path, "").config()["command"])
    wanted = (command,) if isinstance(command, str) else tuple(command or ())
    if wanted and found not in wanted:
        made, *asked = (f"`xmodal {RunFolder(path, each).made_by}`" for each in (found, *wanted))
        raise SettingsError(f"{path} is a run of {made}, not of {' or '.join(asked)}.")
    return RunFolder(path, found)


def latest(root: Path, commands: tuple[str, ...]) -> RunFolder:
    """The newest finished run of some commands.

    Raises:
        SettingsError: none is finished yet.
    """
    links = [root / command / LATEST for command in commands if (root / command / LATEST / CARD).is_file()]
    if not links:
        raise SettingsError(
            f"No finished run under {root}.", "Train one with `xmodal distill`, or name a run's folder."
        )
    return open_run(max(links, key=lambda link: (link / CARD).stat().st_mtime))


def environment() -> dict[str, Any]:
    """Versions and machine, for `environment.json` and `xmodal doctor`."""
    versions = {}
    for package in REPORTED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "xmodal": xmodal_cli.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command_line": sys.argv,
        "packages": versions,
    }


def _empty(path: Path) -> None:
    """Remove what an earlier run left in a folder, except the lock."""
    for entry in _deepest_first(path):
        if entry.name == LOCK and entry.parent == path:
            continue
        if entry.is_dir() and not entry.is_symlink():
            entry.rmdir()
        else:
            entry.unlink()


def _deepest_first(path: Path) -> Iterator[Path]:
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield from _deepest_first(entry)
        yield entry


def _runs_nearby(path: Path) -> str:
    """A hint that names runs near a path that is none."""
    runs = sorted(found.parent for found in path.parent.glob(f"*/{CONFIG}"))[-3:]
    return f"Runs nearby: {', '.join(map(str, runs))}." if runs else "Train one with `xmodal distill`."
