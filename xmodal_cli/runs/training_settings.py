"""What every training command can be told, and how it is told: by options, files, presets, or a run that goes on.

A command's settings are one frozen dataclass that adds its own fields to `TrainingSettings`. Plain values go in and
out, so that `config.yaml`, `--config FILE` and the options are the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

import yaml

from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.runs import processes
from xmodal_cli.runs.device import available_cpus, resolve_device, resolve_precision, resolve_threads
from xmodal_cli.runs.settings import FitSettings

HARMLESS = ("workers", "checkpoint_every", "evaluate_every")  # may change when a run is resumed
WARMUP_SHARE = 0.05
EVALUATIONS = 12  # per run
MOST_WORKERS = 8
NO_FILE = ("imagenet", "random")  # words that stand where a file of weights can
FROM_TEACHER = "teacher"  # and one that only a transfer knows: the student starts as a copy of its teacher


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The part of a command's settings that the training loop reads; None and `auto` are resolved before it starts.

    The fields are those of `FitSettings`, which says what each is.
    """

    PATHS: ClassVar[tuple[str, ...]] = ()  # settings that may name a file; kept absolute

    iterations: int | None = None
    batch_size: int = 8
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: str = "cosine"
    lr_step: int = 30_000
    lr_gamma: float = 0.1
    warmup: int | None = None
    clip_norm: float = 0.0
    bias_lr: float = 1.0
    precision: str = "auto"
    channels_last: bool = True
    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    seed: int = 0
    checkpoint_every: int = 200
    evaluate_every: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.yaml` holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Settings from plain values.

        Raises:
            SettingsError: a key is unknown (the closest one is named), or a value is of the wrong kind.

        Example:
            >>> TrainingSettings.from_dict({"lr": "1e-4"}).lr
            0.0001
        """
        known = {field.name: field.default for field in fields(cls)}
        unknown = [key for key in values if key not in known]
        if unknown:
            near = " ".join(closest(key, known) for key in unknown).strip()
            raise SettingsError(
                f"Unknown setting{'s' * (len(unknown) > 1)}: {', '.join(unknown)}.",
                near or f"There are: {', '.join(known)}.",
            )
        hints = get_type_hints(cls)
        kept = {name: _of_kind(value, hints[name]) for name, value in values.items()}
        wrong = [f"{name} is {values[name]!r}, expected {_kind(hints[name])}" for name in kept if kept[name] is _WRONG]
        if wrong:
            raise SettingsError(f"{'; '.join(wrong)}.", "Write lines like `lr: 0.001`.")
        return cls(**kept)

    def asked(self) -> dict[str, Any]:
        """The settings that are not the defaults, as plain values with absolute paths: what was asked for.

        Example:
            >>> TrainingSettings(lr=0.01).asked()
            {'lr': 0.01}
        """
        defaults = {field.name: field.default for field in fields(self)}
        values = {name: value for name, value in self.to_dict().items() if getattr(self, name) != defaults[name]}
        return {name: absolute(value) if name in self.PATHS else value for name, value in values.items()}

    def problems(self) -> list[str]:
        """What is wrong with the part that the training loop reads, before anything is resolved; a sentence each."""
        names = [field.name for field in fields(FitSettings) if getattr(self, field.name, None) is not None]
        return FitSettings(**{"iterations": 1, **{name: getattr(self, name) for name in names}}).problems()

    def fit_settings(self) -> FitSettings:
        """The part that the training loop reads, once everything is resolved."""
        shared = {field.name: getattr(self, field.name) for field in fields(FitSettings) if hasattr(self, field.name)}
        return FitSettings(**shared)


_WRONG = object()  # stands for a value that is not of its setting's kind

Settings = TypeVar("Settings", bound=TrainingSettings)


def _of_kind(value: Any, kind: Any) -> Any:
    """A plain value as the type that a setting has, or `_WRONG`; YAML reads 1e-3, without a point, as text."""
    kinds = get_args(kind) or (kind,)
    if get_origin(kind) is tuple:
        items = [value] if isinstance(value, str) else [] if value is None else value
        fits = isinstance(items, list | tuple) and all(isinstance(item, kinds[0]) for item in items)
        return tuple(items) if fits else _WRONG
    if value is None or isinstance(value, bool):
        return value if type(value) in kinds else _WRONG
    if float in kinds:
        try:
            return float(value)
        except (TypeError, ValueError):
            return _WRONG
    return value if isinstance(value, kinds) else _WRONG


def _kind(kind: Any) -> str:
    """A type in words."""
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
    kinds = get_args(kind) or (kind,)
    if get_origin(kind) is tuple:
        return "a list of whole numbers" if kinds[0] is int else "a list of texts"
    return next(names[each] for each in kinds if each in names)


def preset_values(presets: Mapping[str, Mapping[str, Any]], name: str | None) -> dict[str, Any]:
    """The settings of a preset; none of them without a name.

    Raises:
        SettingsError: there is no such preset.
    """
    if name is None:
        return {}
    if name not in presets:
        near = closest(name, presets)
        raise SettingsError(f"Unknown preset {name!r}.", near or f"Use one of {', '.join(presets)}.")
    return dict(presets[name])


def from_file(path: Path) -> dict[str, Any]:
    """Settings from a YAML file: a mapping of names to values, or a run's `config.yaml`.

    Raises:
        SettingsError: the file is missing or is no such mapping; unknown keys are found by `from_dict`.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("settings"), dict):
        content = content["settings"]
    if not isinstance(content, dict):
        raise SettingsError(f"{path} is no mapping of settings to values.", "Write lines like `lr: 0.001`.")
    return content


def from_text(kind: type[TrainingSettings], name: str, text: str) -> Any:
    """The value of a setting that was typed as text; of unknown settings too, which `from_dict` finds.

    Example:
        >>> from_text(TrainingSettings, "iterations", "2000"), from_text(TrainingSettings, "device", "0")
        (2000, '0')
    """
    hint = get_type_hints(kind).get(name)
    return text if str in (hint, *get_args(hint)) and get_origin(hint) is not tuple else yaml.safe_load(text)


def with_changes(saved: Settings, given: Mapping[str, Any], begin_anew: str) -> Settings:
    """A run's settings with those given anew, which may differ only where the result cannot notice.

    Args:
        saved: the run's settings.
        given: settings by name.
        begin_anew: the options that begin a new run from this one's weights, for the hint.

    Raises:
        SettingsError: a setting that matters is another one; the difference is shown.
    """
    before = saved.to_dict()
    after = saved.from_dict({**before, **given}).to_dict()
    for name in saved.PATHS:
        after[name] = after[name] and absolute(after[name])
    changed = {name: value for name, value in after.items() if value != before[name]}
    refused = [f"{name} was {before[name]!r}, now {changed[name]!r}" for name in changed if name not in HARMLESS]
    if refused:
        raise SettingsError(
            f"A resumed run keeps its own settings, but {'; '.join(refused)}.",
            f"Leave these options out, or begin a new run from its weights: {begin_anew}.",
        )
    return saved.from_dict({**before, **changed})


def resolved_training(
    settings: Settings, iterations: int, *, in_memory: bool, evaluations: int = EVALUATIONS
) -> Settings:
    """Settings whose shared part has no None and no `auto` left.

    Args:
        settings: what the user asked for.
        iterations: steps in all.
        in_memory: whether the decoded samples are kept, so that a CPU run needs no workers.
        evaluations: how often held-out samples are looked at, unless the user says.

    Raises:
        SettingsError: something is wrong; all problems are named at once.
    """
    device = resolve_device(settings.device)
    workers = settings.workers
    if workers is None:
        workers = 0 if in_memory and device.type == "cpu" else min(MOST_WORKERS, max(1, available_cpus() - 1))
    resolved = replace(
        settings,
        device=device.type if device.index is None else str(device),
        precision=resolve_precision(settings.precision, device),
        threads=resolve_threads(settings.threads),
        workers=workers,
        iterations=iterations,
        warmup=round(WARMUP_SHARE * iterations) if settings.warmup is None else settings.warmup,
        evaluate_every=settings.evaluate_every or max(1, math.ceil(iterations / evaluations)),
    )
    problems = resolved.fit_settings().problems()
    if settings.batch_size % processes.count():
        problems.append(f"--batch-size {settings.batch_size} cannot be shared evenly by {processes.count()} processes.")
    if problems:
        raise SettingsError("\n       ".join(problems))
    return resolved


def absolute(text: str) -> str:
    """A path as it is found from any folder; `imagenet`, `random` and `teacher` as they are.

    Example:
        >>> absolute("random")
        'random'
    """
    return text if text in (*NO_FILE, FROM_TEACHER) else str(Path(text).expanduser().resolve())
