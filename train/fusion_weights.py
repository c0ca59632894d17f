"""Finds how much the network and the evidence of local spectra are to weigh in `FusedEstimator`.

    python train/fusion_weights.py runs/map --weights runs/map/export --count 48

Both give their opinion on captures of the run's held-out photos, simulated with the settings of the run. Pairs
of weights are listed by the mean log-loss of the true radius, the best first, each with the quantile that has
the smallest absolute error among those that are not above the median.
"""

from collections.abc import Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command

NETWORK_WEIGHTS = (0.0, 0.5, 0.75, 1.0, 1.25)
EVIDENCE_WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
QUANTILES = (0.35, 0.38, 0.42, 0.46, 0.5)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and prints the table; returns the exit code."""
    parser = Parser(prog="train/fusion_weights.py", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run of train/defocus_map.py")
    parser.add_argument("--weights", required=True, metavar="DIR", help="folder that holds the network, defocus_map/")
    parser.add_argument("--count", type=int, default=48, metavar="N", help="captures (default: 48)")
    arguments = parser.parse_args(argv)
    if arguments.count < 1:
        parser.error(f"--count: expected at least 1, got {arguments.count}")
    try:
        for row in _compare(arguments.run, arguments.weights, arguments.count):
            print(
                "network {:.2f}  evidence {:.2f}  log-loss {:.4f}  quantile {:.2f}  error {:.4f} px  bias {:+.4f} px"
                .format(*row)
            )  # fmt: skip
    except (ValueError, OSError) as error:
        return report_error("train/fusion_weights.py", error, 1)
    return 0


def _compare(run: Path, weights: str, count: int) -> list[tuple[float, ...]]:
    """Rows of both weights, log-loss, quantile, error and bias, by rising log-loss."""
    from itertools import product

    import torch
    from torch.nn import functional as F

    from optics.defocus_map import FusedEstimator, LearnedEstimator
    from optics.defocus_map.network import CELL
    from optics.defocus_map.posterior import bin_edges, quantile_radius
    from samplers.config import load_config
    from samplers.weights import load_defocus_map
    from train.defocus_map_config import DefocusMapConfig
    from train.radius_likelihood import cell_weights, soft_labels
    from train.simulated_captures import open_captures

    config = load_config(DefocusMapConfig, run / "config.yaml")
    learned = LearnedEstimator(load_defocus_map(weights))
    folder = Path(config.simulation.folder or run / "captures")
    _, held_out = open_captures(config.data, config.simulation, config.run.seed, 1, folder, lambda line: None)
    radii = learned.radii
    edges = bin_edges(torch.tensor(radii))
    opinions = []
    for number in range(count):
        picture, map_ = (torch.from_numpy(values.astype("float32"))[None] for values in held_out.capture(number))
        y, radius_map = picture / 255, map_
        # The opinions of each alone are all that any fusion of them needs.
        alone = [FusedEstimator(learned, network_weight=a, evidence_weight=b).posterior(y) for a, b in ((1, 0), (0, 1))]
        radius = F.avg_pool2d(radius_map, CELL)
        opinions.append((*alone, radius, soft_labels(radius, radii), cell_weights(radius_map)))
    rows = []
    for a, b in product(NETWORK_WEIGHTS, EVIDENCE_WEIGHTS):
        losses, errors = [], []
        for network, evidence, radius, labels, weight in opinions:
            posterior = torch.log_softmax(a * network + b * evidence, 1)
            losses.append((-(labels * posterior).sum(1, keepdim=True) * weight).sum() / weight.sum())
            found = [quantile_radius(posterior.exp(), edges, quantile) - radius for quantile in QUANTILES]
            errors.append(torch.stack([torch.stack([error.abs().mean(), error.mean()]) for error in found]))
        mean = torch.stack(errors).mean(0)
        best = int(mean[:, 0].argmin())
        rows.append((a, b, float(torch.stack(losses).mean()), QUANTILES[best], *mean[best].tolist()))
    return sorted(rows, key=lambda row: row[2])


if __name__ == "__main__":
    run_command(main)
