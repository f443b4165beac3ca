"""A budget: what it is, what it chooses, that the choice is said, that it holds, and that results stay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from videogen.bounded import BoundedVAE, Peak, on_meta, parse_bytes
from videogen.bounded.budget import Plan
from videogen.vae import VAES


def test_sizes_in_words() -> None:
    assert parse_bytes("4GiB") == 4 * 2**30
    assert parse_bytes("1.5 gb") == 1_500_000_000
    assert parse_bytes("800MB") == 800_000_000
    assert parse_bytes("64KiB") == 65536
    assert parse_bytes("1e6") == 1_000_000
    for wrong in ("", "much", "4 parsecs", "-1GiB", "0", "1.2.3GB", "GiB"):
        with pytest.raises(ValueError, match="4GiB"):
            parse_bytes(wrong)


def test_peak_counts_what_is_alive_at_once() -> None:
    with Peak() as peak:
        a = torch.zeros(1000)
        b = a + 1
        view = b[10:]
        del a
        c = torch.zeros(500)
        assert peak.now == 4000 + 2000
        del b, view, c
        assert peak.now == 0
    assert peak.bytes == 8000


def test_a_hollow_copy_shares_nothing_and_counts_the_same(randomised) -> None:
    vae = randomised(VAES.build("wan", base_channels=4, num_res_blocks=1))
    hollow = on_meta(vae)
    assert all(p.is_meta for p in hollow.parameters())
    assert not any(p.is_meta for p in vae.parameters())
    latents = torch.randn(1, 16, 2, 4, 6)
    peaks = []
    for model, given in ((vae, latents), (hollow, latents.to("meta"))):
        with torch.no_grad(), Peak() as peak:
            assert model.decode(given).shape == (1, 3, 5, 32, 48)
        peaks.append(peak.bytes)
    assert peaks[0] == peaks[1]


@pytest.fixture
def wan(randomised):
    return randomised(VAES.build("wan", base_channels=8, num_res_blocks=1, latent_channels=4))


def bounded(vae, budget: float) -> tuple[BoundedVAE, list[str]]:
    said: list[str] = []
    return BoundedVAE(vae, budget=int(budget), say=said.append), said


def choices(vae, task: str, height: int, width: int) -> Iterator[tuple[Plan, str]]:
    """Every choice from the largest pieces to the smallest, with the line that tells it."""
    budget = 1e12
    while True:
        model, said = bounded(vae, budget)
        try:
            plan = model.plan(task, 1, height, width)
        except ValueError:
            # that it says what to do is asked for below
            return
        assert plan.bytes <= budget
        (line,) = said
        yield plan, line
        budget = plan.bytes - 1


def test_less_memory_means_shorter_chunks_and_then_tiles(wan) -> None:
    plans = []
    for plan, line in choices(wan, "decoding", 40, 60):
        assert "decoding 480x320" in line
        assert ("tiles" in line) == (plan.tile is not None)
        plans.append((plan.tile or 10_000, plan.chunk))
    assert plans == sorted(plans, reverse=True)
    assert plans[0] == (10_000, 8)
    assert len({chunk for _, chunk in plans}) == 4
    assert plans[-1] == (128, 1)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["encoding", "decoding"])
def test_the_estimate_holds_at_another_size(task: str, wan) -> None:
    """Measured on 16x16 latents, right on 20x32: chunks of any length, tiles and all."""
    shape = (1, 4, 17, 20, 32) if task == "decoding" else (1, 3, 65, 160, 256)
    for plan, _ in choices(wan, task, 20, 32):
        hollow = BoundedVAE(on_meta(wan), budget=int(plan.bytes))
        hollow._plans[(task, 1, 20, 32)] = plan
        with Peak() as peak:
            clip = torch.empty(shape, device="meta")
            for _ in hollow.decode_stream([clip]) if task == "decoding" else hollow.encode_stream([clip]):
                pass
        own = peak.bytes - clip.untyped_storage().nbytes()
        assert 0.4 * plan.bytes <= own <= plan.bytes, plan


def test_the_result_is_the_whole_clips_where_streams_are_exact(wan, distance) -> None:
    video = torch.rand(1, 3, 17, 32, 48) * 2 - 1
    model, _ = bounded(wan, 4e6)
    with torch.no_grad():
        latents = wan.encode(video).mode()
        assert model.plan("decoding", 1, 4, 6).tile is None
        assert distance(model.encode(video).mode(), latents) <= 1e-5
        assert distance(model.decode(latents), wan.decode(latents)) <= 1e-5
    with pytest.raises(ValueError, match="mode"):
        model.encode(video).sample()
    with pytest.raises(ValueError, match="mode"):
        model.encode(video).kl()


def test_a_vae_that_needs_the_whole_clip_gets_windows_and_a_warning(randomised, distance) -> None:
    vae = randomised(VAES.build("hunyuan", base_channels=8, num_res_blocks=1, norm_groups=4, latent_channels=4))
    model, said = bounded(vae, 2e9)
    video = torch.rand(1, 3, 21, 16, 24) * 2 - 1
    with torch.no_grad():
        # the window is longer than the clip, so it is the whole clip
        assert distance(model.encode(video).mode(), vae.encode(video).mode()) <= 1e-5
    assert "not coded as the whole clip" in said[0]
    small, said = bounded(vae, 6e7)
    with torch.no_grad():
        rebuilt = small.decode(small.encode(video.repeat(1, 1, 2, 4, 4)[:, :, :41]).mode())
    assert rebuilt.shape == (1, 3, 41, 64, 96)
    assert len(said) == 2


def test_too_little_memory_for_the_smallest_pieces_is_refused(wan) -> None:
    with pytest.raises(ValueError, match=r"decoding 480x320 needs about .* MiB .* raise memory_budget"):
        bounded(wan, 1e5)[0].plan("decoding", 1, 40, 60)


def test_the_choice_goes_to_stderr_unless_somebody_listens(wan, capsys) -> None:
    BoundedVAE(wan, budget="1GiB").plan("encoding", 2, 8, 8)
    assert "encoding 64x64" in capsys.readouterr().err
