"""The dashboard at Weights & Biases, built from the same panels as the HTML page.

It is a saved view of the project's workspace, made with the package `wandb-workspaces` (extra `dashboard`);
W&B has no views without an account.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from train.dashboard_panels import PANELS, Chart, Pictures
from train.run_log import RunLog
from train.wandb_run import wandb_identity

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

__all__ = ["build_workspace", "save_workspace"]

_SMOOTHING_STEPS = 10


def save_workspace(project: str, entity: str | None, runs: Sequence[RunLog]) -> str:
    """Saves the dashboard and returns its address.

    Args:
        project: Name of the W&B project.
        entity: User or team; the account's own if None.
        runs: Training runs to show; their W&B groups are chosen.

    Raises:
        ValueError: If the package is missing, there is no account, or W&B cannot be reached or refuses.
    """
    try:
        import wandb
        import wandb_workspaces.workspaces  # noqa: F401 - so that its absence is told apart from W&B's errors
    except ImportError as error:
        raise ValueError(
            f"--wandb needs the package wandb-workspaces (pip install 'scorefocus[dashboard]'), got: {error}"
        ) from error
    workspace = build_workspace(project, entity or "", runs)
    try:
        # Workspaces know no default: the account's own name is asked for.
        workspace.entity = entity or wandb.Api().default_entity
        workspace.save()
    except Exception as error:
        # Of many classes: W&B's own, those of the network, of its server's language.
        _end_service()
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise ValueError(
            f"--wandb {project}: expected a W&B account (`wandb login`) and its server, got: {reason}; "
            "without --wandb the same dashboard is written as an HTML page"
        ) from error
    return workspace.url


def _end_service() -> None:
    """Ends W&B's own process: it may go on trying to reach its server, and Python would wait for it at its exit."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.name().startswith("wandb"):
                child.kill()


def build_workspace(project: str, entity: str, runs: Sequence[RunLog]) -> "Workspace":
    """The dashboard as an object of `wandb-workspaces`; nothing is sent.

    Raises:
        ValueError: If a run was never logged at W&B.
    """
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

    groups = []
    for run in runs:
        identity = wandb_identity(run.folder)
        if identity is None:
            raise ValueError(f"{run.folder}: expected a run with wandb.json, got one that was never logged at W&B")
        groups.append(identity["group"])
    charts = [
        reports.LinePlot(
            title=panel.title, x="step", y=[key for key, _ in panel.curves], title_x="step", title_y=panel.unit,
            log_y=panel.log_scale, smoothing_type="average" if panel.smooth else "none",
            smoothing_factor=_SMOOTHING_STEPS if panel.smooth else 0,
        )
        for panel in PANELS if isinstance(panel, Chart)
    ]  # fmt: skip
    pictures = [
        reports.MediaBrowser(title=panel.title, media_keys=[panel.name], num_columns=1)
        for panel in PANELS if isinstance(panel, Pictures)
    ]  # fmt: skip
    return workspaces.Workspace(
        entity=entity, project=project, name=f"Training of {', '.join(run.name for run in runs)}",
        sections=[
            workspaces.Section("Figures", panels=charts, is_open=True),
            workspaces.Section("Pictures", panels=pictures, is_open=True),
        ],
        settings=workspaces.WorkspaceSettings(x_axis="step"),
        # Segments of one training are one group.
        runset_settings=workspaces.RunsetSettings(
            filters=workspaces.And(workspaces.Metric("Group").isin(groups)), groupby=[workspaces.Metric("Group")]
        ),
    )  # fmt: skip
