"""The command line that the training scripts share."""

from collections.abc import Callable, Sequence

from samplers.command_line import Parser, report_error
from samplers.exit_codes import INTERRUPTED
from samplers.launch import Launch

__all__ = ["run_training"]


def run_training(
    argv: Sequence[str] | None, *, script: str, description: str, configs: str, schema: Callable[[], type],
    train: Callable[..., None],
) -> int:  # fmt: skip
    """Parses the command line and trains.

    Args:
        argv: Arguments, or None for those of the process.
        script: Name of the script, which its errors begin with.
        description: Shown by --help.
        configs: Folder of YAML files for it.
        schema: Imports and returns the dataclass of the settings: late, so that --help answers at once.
        train: Takes the settings, `dry_run` and `allow_changes`.

    Returns:
        The exit code: 2 for a setting that cannot be used, 1 for other errors.
    """
    parser = Parser(prog=script, description=description)
    parser.add_argument("config", nargs="?", help=f"YAML file of settings, as in {configs}")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that win over the file")
    parser.add_argument("--dry-run", action="store_true", help="print the settings and sizes, and stop")
    parser.add_argument(
        "--allow-changes", action="store_true", help="resume although settings differ from those of the run so far"
    )
    arguments = parser.parse_intermixed_args(argv)

    from safetensors import SafetensorError

    from samplers.config import ConfigError, file_and_overrides
    from train.checked_settings import load_settings
    from train.processes import ToldElsewhere, ends, lost_peer

    try:
        config = load_settings(schema(), *file_and_overrides([arguments.config, *arguments.overrides]))
        train(config, dry_run=arguments.dry_run, allow_changes=arguments.allow_changes)
    except (ValueError, OSError, SafetensorError, ToldElsewhere) as error:
        # SafetensorError where weights cannot be exported, the disk being full for example.
        failure = error
    except KeyboardInterrupt:
        again = "" if arguments.dry_run else "; the same command goes on from the newest checkpoint"
        return INTERRUPTED if Launch.of().rank else report_error(script, f"interrupted{again}", INTERRUPTED)
    except RuntimeError as error:
        if not lost_peer(error):
            raise
        failure = error
    else:
        return 0
    code = 2 if isinstance(failure, ConfigError) else 1
    words = ends(failure)
    return report_error(script, words, code) if words else code
