"""EfficientNet-Lite0 in numbers, by name, and in Paddle and PyTorch where they are installed."""

import lite0_stages
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("kernel", "stride", "expected"),
    [(1, 1, (0, 0)), (3, 1, (1, 1)), (5, 1, (2, 2)), (3, 2, (0, 1)), (5, 2, (1, 2))],
)
def test_padding_is_that_of_even_sizes(kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert lite0_stages.padding(kernel, stride) == expected


def test_both_networks_see_less_far_than_the_jobs_halo() -> None:
    assert lite0_stages.reach(lite0_stages.LANDCOVER) == 210
    assert lite0_stages.reach(lite0_stages.MAGNETIC_TILE) == 213


def test_blocks_are_numbered_by_stage() -> None:
    assert lite0_stages.BLOCKS[:4] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert lite0_stages.BLOCKS[-1] == (6, 0)
    assert len(lite0_stages.BLOCKS) == 16


def test_published_names_are_ours() -> None:
    pytest.importorskip("torch")
    from lite0_torch import our_name

    assert our_name("_conv_stem.weight") == "encoder.stem.conv.weight"
    assert our_name("_blocks.2._bn0.running_var") == "encoder.stages.1.1.expand.norm.running_var"
    assert our_name("_blocks.0._project_conv.weight") == "encoder.stages.0.0.project.conv.weight"
    assert our_name("_fc.bias") == "classify.bias"
    for name in ("_blocks.16._bn0.weight", "_blocks.1._se.weight", "_dropout.weight"):
        with pytest.raises(ValueError, match="no layer of EfficientNet-Lite0"):
            our_name(name)


def test_a_logit_depends_on_the_pixels_within_reach_alone() -> None:
    torch = pytest.importorskip("torch")
    import lite0_torch

    torch.manual_seed(1)
    net = lite0_torch.Segmenter(3, (8, 8, 8)).eval()
    reach = lite0_stages.reach((8, 8, 8))
    image = torch.randn(1, 3, 16, 960)
    changed = image.clone()
    changed[..., : 480 - reach] += 3
    with torch.no_grad():
        before, after = (net(value)[0][0, :, :, 480:] for value in (image, changed))
    assert torch.equal(before, after)


def test_paddle_answers_as_pytorch_does() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("paddleseg")
    import lite0
    import lite0_torch
    import paddle

    torch.manual_seed(2)
    ours = lite0_torch.Segmenter(4, (16, 8, 8)).eval()
    weights = {name: value.numpy() for name, value in ours.state_dict().items()}
    net = lite0.Segmenter(4, (16, 8, 8))
    lite0.load(net, weights | {"temperature": np.array([2.0], np.float32)})
    net.eval()
    image = np.random.default_rng(3).uniform(-1, 1, (1, 3, 64, 96)).astype(np.float32)
    with torch.no_grad():
        expected = ours(torch.from_numpy(image))[0].numpy() / 2
    np.testing.assert_allclose(net(paddle.to_tensor(image))[0].numpy(), expected, atol=1e-4)
    with pytest.raises(ValueError, match="of another network: classify"):
        lite0.load(lite0.Segmenter(5, (16, 8, 8)), weights | {"temperature": np.ones(1, np.float32)})
