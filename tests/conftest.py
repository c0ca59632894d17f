import pytest
import torch


@pytest.fixture(scope="session")
def saved_pipeline(tmp_path_factory):
    """The folder of a small pipeline whose network does something, though nothing useful; not to be changed."""
    from diffusion import VESDE, ScoreNetwork
    from samplers import DefocusDeblurPipeline

    network = ScoreNetwork(channels=(8, 8), blocks=1, embedding=16)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    DefocusDeblurPipeline(score_network=network, sde=VESDE()).save_pretrained(folder)
    return folder
