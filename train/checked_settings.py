"""Settings of a training whose numbers are all finite: others would spoil the run, or be limits that limit nothing.

What else settings must be, they check themselves.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TypeVar

from samplers.config import ConfigError, load_config

__all__ = ["load_settings"]

Settings = TypeVar("Settings")


def load_settings(schema: type[Settings], file: str | Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """As `samplers.config.load_config`, for settings all of whose numbers are finite.

    Raises:
        ConfigError: If anything does not fit the schema, or a number is infinite or none.
    """
    config = load_config(schema, file, overrides)
    for key, number in _numbers(config):
        if not math.isfinite(number):
            raise ConfigError(f"{key} must be a finite number, got {number}")
    return config


def _numbers(value: object, key: str = "") -> Iterator[tuple[str, float]]:
    """All floating-point numbers of settings by their keys."""
    if is_dataclass(value):
        for one in fields(value):
            yield from _numbers(getattr(value, one.name), f"{key}.{one.name}" if key else one.name)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, key)
    elif isinstance(value, float):
        yield key, value
