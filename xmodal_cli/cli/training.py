"""What the training commands share: options without defaults, so that presets and files decide, made into settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.markup import escape

from xmodal_cli.cli.options import DEFAULT_DATA, given_anew
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.runs.training_settings import TrainingSettings

    Settings = TypeVar("Settings", bound=TrainingSettings)


def setting(text: str, panel: str, *names: str) -> Any:
    """An option without a Typer default: None means not given."""
    return typer.Option(*names, help=escape(text), rich_help_panel=panel, show_default=False)


def given_settings(kind: type[TrainingSettings], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given and are settings, as settings hold them."""
    names = [field.name for field in dataclasses.fields(kind)]
    given = {name: options[name] for name in names if options.get(name) is not None}
    return {name: _plain(value) for name, value in given.items()}


def changed_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings given with `--resume`; the environment's data set is none."""
    named = "data" in given and given_anew(Path(given["data"])) is not None
    return {name: value for name, value in given.items() if name != "data" or named}


def merged_settings(
    kind: type[Settings],
    presets: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Any],
    preset: str | None,
    config: Path | None,
) -> Settings:
    """Defaults, under the preset, under the file, under the options given."""
    from xmodal_cli.runs.training_settings import from_file, preset_values

    values = {"data": DEFAULT_DATA, **preset_values(presets, preset)}
    if config is not None:
        values |= from_file(config)
    return kind.from_dict(values | dict(given))


def refuse_beginning(**options: Any) -> None:
    """Options that only make sense for a new run are not silently ignored where one is continued.

    Raises:
        SettingsError: one was given.
    """
    begins = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if begins:
        raise SettingsError(f"--resume continues a run; {', '.join(begins)} begins one.", "Leave one of them out.")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, list) else value
