"""What may differ between a run and its continuation.

A setting is either part of what is trained, and then a run that is resumed must keep it, or says how the
run is done: how often it writes, how it shares out the work. The dataclasses of the settings mark the
latter where they are defined.
"""

from dataclasses import MISSING, field, fields, is_dataclass
from pathlib import Path

from omegaconf import OmegaConf

__all__ = ["changeable", "changed_settings", "recorded_settings"]


def changeable(default: object):  # noqa: ANN201 - what dataclasses take for a field
    """A field of settings that may change when a run is resumed."""
    return field(default=default, metadata={"changeable": True})


def changed_settings(file: Path, config: object) -> list[str]:
    """Compares the settings of a run with those that it is to go on with.

    Args:
        file: `config.yaml` of the run. Settings that it does not know had their defaults, or what was done before there
            was a choice, which is the metadata `before` of a field.
        config: The settings object of today.

    Returns:
        What differs, as `optim.steps was 20000 and is now 30000`, but for what may.

    Raises:
        ValueError: If the file cannot be read.
    """
    now = OmegaConf.to_container(OmegaConf.structured(config))
    try:
        return list(_differences(config, now, recorded_settings(file)))
    except (TypeError, AttributeError):
        raise ValueError(f"{file}: expected the settings of the run, got a value in place of a group of them") from None


def recorded_settings(file: Path) -> dict:
    """The settings that a run has left in its `config.yaml`, which may be those of an older version.

    Raises:
        ValueError: If the file cannot be read.
    """
    # YAML errors come in many classes of a package that is not ours to import.
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: expected the settings of the run in YAML, got {reason}") from None
    if not content or not isinstance(content, dict):
        raise ValueError(f"{file}: expected the settings of the run in YAML, got none")
    return content


def _differences(config: object, now: dict, before: dict, prefix: str = ""):  # noqa: ANN202 - an iterator of str
    known = {one.name: one for one in fields(config)}
    for name, one in known.items():
        key, value = prefix + name, getattr(config, name)
        if is_dataclass(value):
            yield from _differences(value, now[name], before.get(name) or {}, f"{key}.")
        elif not one.metadata.get("changeable"):
            was = before[name] if name in before else _default(one)
            if was != now[name]:
                yield f"{key} was {was} and is now {now[name]}"
    for name in before.keys() - known.keys():
        yield f"{prefix}{name} was {before[name]} and is unknown now"


def _default(one) -> object:  # noqa: ANN001 - dataclasses.Field is generic
    if "before" in one.metadata:
        return one.metadata["before"]
    return one.default if one.default_factory is MISSING else one.default_factory()
