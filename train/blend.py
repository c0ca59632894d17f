"""Mixes the weights of two saved networks: one, and what it became when it was trained further.

    python train/blend.py weights/base runs/prior/export --part latent_prior --share 0.5 -o runs/blend

    theta = (1 - share) theta_1 + share theta_2

Between a network and its successor on other data lies one that has most of what either does well (Wortsman et
al., "Robust fine-tuning of zero-shot models", CVPR 2022, https://arxiv.org/abs/2109.01903). The result is a
copy of the first folder with the mixed network, in half precision.
"""

from collections.abc import Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command

PARTS = ("defocus_map", "latent_prior")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit code."""
    parser = Parser(prog="train/blend.py", description=__doc__)
    parser.add_argument("first", metavar="FIRST", help="saved pipeline, or export of a run, of the first network")
    parser.add_argument("second", metavar="SECOND", help="the same of the second")
    parser.add_argument("--part", required=True, choices=PARTS, help="which of their networks")
    parser.add_argument("--share", required=True, type=float, help="of the second network, from 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where; must not exist")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.share <= 1:
        parser.error(f"--share: expected a number from 0 to 1, got {arguments.share:g}")
    try:
        export_blend(arguments.first, arguments.second, arguments.part, arguments.share, arguments.output)
    except (ValueError, OSError) as error:
        return report_error("train/blend.py", error, 1)
    print(arguments.output)
    return 0


def export_blend(first: str, second: str, part: str, share: float, folder: Path) -> None:
    """Writes the mixture of two networks.

    Args:
        first: Folder of the first, as of `samplers.weights.weights_folder`; what else it holds is taken over.
        second: Folder of the second.
        part: One of `PARTS`.
        share: Of the second, in [0, 1].
        folder: Where to write; must not exist.

    Raises:
        ValueError: If a folder holds no whole network of that kind, or the two differ in more than their weights.
        FileExistsError: If the folder to write exists.
    """
    from samplers.weights import load_defocus_map, load_latent_prior, weights_folder
    from train.export import export_defocus_map, export_latent_prior
    from train.initial_networks import check_same_size

    if folder.exists():
        raise FileExistsError(f"{folder}: expected the name of a new folder, got one that exists")
    load, export = {
        "defocus_map": (load_defocus_map, export_defocus_map), "latent_prior": (load_latent_prior, export_latent_prior),
    }[part]  # fmt: skip
    network, other = load(first), load(second)
    check_same_size(other, network, f"cannot mix {second} with {first}")
    stages = [one.config.get("stage") for one in (network, other)]
    if stages[0] != stages[1]:
        raise ValueError(f"cannot mix {second} with {first}: expected stage {stages[0]}, got {stages[1]}")
    theirs = other.state_dict()
    network.load_state_dict({key: ours.lerp(theirs[key], share) for key, ours in network.state_dict().items()})
    whole = (weights_folder(first) / "model_index.json").is_file()
    export(network, folder, first if whole else None)


if __name__ == "__main__":
    run_command(main)
