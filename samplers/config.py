"""Typed settings from a dataclass, a YAML file of differences and `key=value` overrides."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from photos.files import replacing

__all__ = ["ConfigError", "file_and_overrides", "load_config", "write_config"]

Schema = TypeVar("Schema")


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type, out of range or missing; the message is for the user."""


def load_config(schema: type[Schema], file: str | Path | None = None, overrides: Sequence[str] = ()) -> Schema:
    """Builds a plain settings object; later sources win: defaults of the dataclass, file, overrides.

    Args:
        schema: A dataclass type, possibly of nested dataclasses, whose `__post_init__` checks values.
        file: YAML file holding the differences from the defaults.
        overrides: Assignments such as `"optim.lr=1e-4"`.

    Raises:
        ConfigError: If anything in the file or the overrides does not fit the schema.
    """
    config = OmegaConf.structured(schema)
    try:
        if file is not None:
            config = OmegaConf.merge(config, _read_yaml(Path(file)))
        for assignment in overrides:
            if "=" not in assignment or assignment.startswith("-"):
                raise ConfigError(f"expected an assignment key=value, got {assignment!r}")
            config = _assign(config, assignment)
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ConfigError(f"no value for {', '.join(missing)}: give it as {missing[0]}=...")
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error, schema, file)) from None
    except ConfigError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(str(error)) from None


def file_and_overrides(words: Sequence[str | None]) -> tuple[str | None, list[str]]:
    """Tells a file of settings from assignments key=value, in any order.

    Args:
        words: Of a command line; None for one that was not given.

    Returns:
        The file, None if there is none, and the assignments.

    Raises:
        ConfigError: If there are several files.
    """
    given = [word for word in words if word is not None]
    files = [word for word in given if "=" not in word]
    if len(files) > 1:
        raise ConfigError(f"expected one file of settings, all else as key=value, got {' and '.join(files)}")
    return next(iter(files), None), [word for word in given if "=" in word]


def write_config(config: object, file: Path) -> None:
    """Writes every value of a settings object as YAML.

    Raises:
        PhotoError: If the file cannot be written.
    """
    with replacing(file) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary)


def _assign(config: DictConfig, assignment: str) -> DictConfig:
    key, _, value = assignment.partition("=")
    try:
        difference = OmegaConf.from_dotlist([assignment])
    except OmegaConfBaseException:
        raise
    except Exception:
        # As below: YAML errors are of a package that is not ours to import.
        raise ConfigError(f"config key {key!r}: expected a value in YAML notation, got {value!r}") from None
    if OmegaConf.missing_keys(difference):
        raise ConfigError(f"config key {key!r}: expected a value, got {value}")
    try:
        return OmegaConf.merge(config, difference)
    except OmegaConfBaseException as error:
        if "is not a ListConfig" in str(error):
            raise ConfigError(f"config key {key!r}: expected a list, as [A,B], got {value}") from None
        if error.full_key or error.key:
            raise
        raise ConfigError(f"config key {key!r}: {str(error).splitlines()[0]}") from None
    except TypeError as error:
        # A table where there is to be a list, which OmegaConf finds no error of its own for.
        raise ConfigError(f"config key {key!r}: {error}") from None


def _read_yaml(file: Path) -> DictConfig:
    # YAML errors come in many classes of a package that is not ours to import.
    try:
        content = OmegaConf.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the config {file}: {error.strerror}") from None
    except OmegaConfBaseException:
        raise
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{file} is not a YAML file: {first}") from None
    if not isinstance(content, DictConfig):
        raise ConfigError(f"expected key: value pairs in {file}, got a list")
    if missing := sorted(OmegaConf.missing_keys(content)):
        raise ConfigError(f"config key {missing[0]!r} (in {file}): expected a value, got ???")
    return content


def _explain(error: OmegaConfBaseException, schema: type, file: str | Path | None) -> str:
    # Of an element of a list the list's key.
    key = re.sub(r"(\[\d+\])+$", "", str(error.full_key or error.key or "")) or None
    known = _keys(schema)
    where = f" (in {file} or on the command line)" if file else ""
    if key is not None and key not in known:
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
        return f"unknown config key {key!r}{where}; {hint}"
    reason = "expected a list, as [A,B]" if "is not a ListConfig" in str(error) else str(error).partition("\n")[0]
    return f"config key {key!r}{where}: {reason}"


def _keys(schema: type, prefix: str = "") -> list[str]:
    keys = []
    for field in dataclasses.fields(schema):
        keys.append(prefix + field.name)
        if dataclasses.is_dataclass(field.type):
            keys.extend(_keys(field.type, f"{prefix}{field.name}."))
    return keys
