"""How far each method is from the posterior that it aims at, in the tables of docs/samplers.md.

    python tests/sampler_bias.py docs/samplers.md

rewrites the tables there. The world is one where the posterior is known: eight pixels in a row that hang together, seen
through a box blur of three and noise (`oracles.row_capture`), with the exact denoiser of the prior. Figures of a method
are the root mean square error of its mean, in posterior standard deviations, and its standard deviations divided by the
exact ones, on average over the pixels; 0 and 1 are perfect. A result without spread is a single picture.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from oracles import GaussianDenoiser, MatrixModel, row_capture, row_posterior

from diffusion import VESDE
from samplers.settings import SamplerSettings

COUNT, NOISE_STD = 2000, 0.1
BEGIN, END = "<!-- {} begins -->", "<!-- {} ends -->"
_SAMPLE = {
    "model_error": 0.0, "sigma_start": 3.0, "sigma_end": 0.003, "rho": 5.0, "output": "sample", "corrector": False,
}  # fmt: skip
_EXACT = {"strength": 1.0}
_LANGEVIN = {"corrector_below": 3.0, "corrector_ratio": 0.1, "corrector": True}

SOLVERS = {
    "ancestral": _SAMPLE,
    "ancestral, corrected": {**_SAMPLE, **_LANGEVIN},
    "reverse diffusion": {**_SAMPLE, "predictor": "reverse-diffusion"},
    "Euler-Maruyama": {**_SAMPLE, "predictor": "euler-maruyama"},
    "probability flow, Euler in time": {**_SAMPLE, "predictor": "probability-flow"},
    "DDIM": {**_SAMPLE, "solver": "dpm-solver", "order": 1},
    "Heun": {**_SAMPLE, "solver": "heun"},
    "Heun with churn 10": {**_SAMPLE, "solver": "heun", "churn": 10.0},
    "DPM-Solver++ 2M": {**_SAMPLE, "solver": "dpm-solver"},
    "DPM-Solver++ 3M": {**_SAMPLE, "solver": "dpm-solver", "order": 3},
    "SDE-DPM-Solver++ 2M": {**_SAMPLE, "solver": "dpm-solver", "eta": 1.0},
}
_ODE = {**_SAMPLE, "solver": "dpm-solver", "order": 3, "steps": 30}
GUIDES = {
    "moment matching": {**_ODE, "guidance": "moment-matching", "cg_iterations": 40},
    "PiGDM": {**_ODE, **_EXACT, "guidance": "pigdm"},
    "proximal": {**_ODE, **_EXACT, "guidance": "proximal"},
    "DPS": {**_ODE, **_EXACT, "guidance": "dps"},
    "range-null": {**_ODE, "guidance": "range-null"},
    "none": {**_ODE, "guidance": "none"},
    "DAPS": {**_SAMPLE, **_EXACT, "solver": "daps", "steps": 40},
    "DAPS, 5 ODE steps": {**_SAMPLE, **_EXACT, "solver": "daps", "steps": 40, "ode_steps": 5},
    "RED-diff": {**_SAMPLE, "solver": "red-diff", "steps": 100, "output": "mean", "temperature": 1.0},
    "default settings": {"model_error": 0.0},
}


def run(options: dict, exact: bool) -> tuple[int, float, float]:
    """Evaluations, error of the mean and ratio of the spread, of settings under the exact or a guided denoiser."""
    settings, sde = SamplerSettings(**options), VESDE(sigma_min=0.001)
    prior_mean, prior_covariance, blur, y = row_capture(noise_std=NOISE_STD)
    mean, covariance = row_posterior(NOISE_STD)
    if exact:
        denoiser = GaussianDenoiser(sde, mean, covariance)
    else:
        prior = GaussianDenoiser(sde, prior_mean, prior_covariance)
        denoiser = settings.guided(prior, MatrixModel(blur, prior_mean.shape), y, NOISE_STD)
    sampler, generator = settings.sampler(sde), torch.Generator().manual_seed(0)
    # From the marginal of the posterior, so that the method alone is measured; the default starts at the capture.
    spread = torch.linalg.cholesky(covariance + sampler.sigmas[0].double() ** 2 * torch.eye(8))
    z = torch.randn(COUNT, 8, generator=generator, dtype=torch.float64)
    x_t = mean + (z @ spread.mT).reshape(COUNT, *mean.shape)
    if "sigma_start" not in options:
        x_t = y + settings.noise_scale * float(sampler.sigmas[0]) * z.reshape(COUNT, *mean.shape)
    samples = sampler(denoiser, x_t, generator=generator).flatten(1)
    std = covariance.diagonal().sqrt()
    error = ((samples.mean(0) - mean.flatten()) / std).square().mean().sqrt()
    return sampler.evaluations, float(error), float((samples.std(0) / std).mean())


def solver_rows() -> Iterator[str]:
    """Each solver with the exact denoiser of the posterior, on 10 and 40 noise levels."""
    yield "| solver | evaluations | error of the mean | spread | evaluations | error of the mean | spread |"
    yield "|---|---|---|---|---|---|---|"
    for name, options in SOLVERS.items():
        cells = []
        for steps in (10, 40):
            evaluations, error, spread = run({**options, "steps": steps}, exact=True)
            cells += [str(evaluations), f"{error:.2f}", f"{spread:.2f}"]
        yield f"| {name} | {' | '.join(cells)} |"


def guide_rows() -> Iterator[str]:
    """Each way to meet the capture, with the exact denoiser of the prior."""
    yield "| method | evaluations | error of the mean | spread |"
    yield "|---|---|---|---|"
    for name, options in GUIDES.items():
        evaluations, error, spread = run(options, exact=False)
        yield f"| {name} | {evaluations} | {error:.2f} | {spread:.2f} |"


TABLES = {"solvers": solver_rows, "guides": guide_rows}


def table_in(text: str, name: str) -> list[str]:
    """The lines of a table in a document."""
    begin, end = BEGIN.format(name), END.format(name)
    return text.partition(begin)[2].partition(end)[0].strip().splitlines()


def main(file: Path) -> None:
    """Rewrites the tables of a document."""
    text = file.read_text("utf-8")
    for name, rows in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        head, _, rest = text.partition(begin)
        text = head + begin + "\n" + "\n".join(rows()) + "\n" + end + rest.partition(end)[2]
    file.write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
