"""What the published layouts of Mochi's autoencoder share: which of our numbered layers is which of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from videogen.checkpoints.layout import Config


class Place(NamedTuple):
    """One of our layers.

    Args:
        ours: a pattern of its name.
        half: "encoder" or "decoder".
        group: of residual blocks that it belongs to, in the order of the forward pass.
        number: of the residual block in its group that it is, or that it follows.
        kind: "block", "attention", or "change" of the resolution.
    """

    ours: str
    half: str
    group: int
    number: int
    kind: str


def places(knobs: Config) -> Iterator[Place]:
    """All numbered layers of both halves."""
    blocks = knobs["num_res_blocks"]
    for half, counts in (("encoder", blocks), ("decoder", blocks[::-1])):
        index = 0
        for group, count in enumerate(counts):
            inner = 0 < group < len(counts) - 1
            attends = half == "encoder" and knobs["encoder_attention"][group]
            kinds = [(n, kind) for n in range(count) for kind in ("block", *(["attention"] if attends else []))]
            if inner:
                # a group of the encoder begins with the downsampling, one of the decoder ends with the upsampling
                kinds.insert(0 if half == "encoder" else len(kinds), (0, "change"))
            for number, kind in kinds:
                yield Place(rf"^{half}\.levels\.{index}\.", half, group, number, kind)
                index += 1


def last(knobs: Config) -> int:
    """The number of the last group of residual blocks."""
    return len(knobs["num_res_blocks"]) - 1
