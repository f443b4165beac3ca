"""The critic of a VAE, which learns to tell clips from their reconstructions, and the losses of that game."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# pix2pix's widest layer is this many times the first one's width
WIDEST = 8


class PatchDiscriminator(nn.Module):
    """PatchGAN in 3D: one logit for each overlapping patch of a clip or an image (https://arxiv.org/abs/1611.07004).

    Convolutions over time too, as in TATS (https://arxiv.org/abs/2204.03638); an odd kernel with its padding takes any
    length and size, an image being a clip of one frame. Where the papers have batch norms it has group norms: a batch
    here is small, and of images at one step and of clips at another.

    Args:
        channels: width of the first layer; doubles at each further one, up to eight times.
        depth: layers that halve height and width; all but the first also halve the frames.
    """

    def __init__(self, *, channels: int = 64, depth: int = 3) -> None:
        super().__init__()
        widths = [channels * min(2**i, WIDEST) for i in range(depth + 1)]
        layers: list[nn.Module] = [Conv3(3, widths[0], (1, 2, 2)), nn.LeakyReLU(0.2)]
        for index, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            stride = 2 if index < depth - 1 else 1
            layers += [
                Conv3(narrow, wide, stride, bias=False),
                nn.GroupNorm(math.gcd(wide, 32), wide),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, Conv3(widths[-1], 1))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> logits (B, 1, t, h, w), above zero for what looks real."""
        logits: Tensor = self.layers(video)
        return logits.float()

    def judge(self, video: Tensor) -> Tensor:
        """`forward` for the one who is judged: the gradient goes to the video and not to the weights here."""
        self.requires_grad_(False)
        logits: Tensor = self(video)
        self.requires_grad_(True)
        return logits


class Conv3(nn.Conv3d):
    """3x3x3 convolution of a video with zeros around it, to ceil(size / stride) positions."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int | tuple[int, int, int] = 1, *, bias: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, 3, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        # not by the layer's own padding: on a CPU, in bfloat16, PyTorch 2.14 then computes the weights' gradient with
        # memory that nobody wrote, for clips of few frames or pixels
        return super().forward(F.pad(x, (1,) * 6))


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss from its logits: real ones should pass 1, others -1 (arXiv 1705.02894)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adaptive_weight(error: Tensor, adversarial: Tensor, layer: Tensor) -> Tensor:
    """How many times the adversarial loss fits into the error, by their gradients at a layer (arXiv 2012.09841, eq. 7).

    No gradient flows into it; it is at most 1e4, as the adversarial gradient may vanish.
    """
    # what autocast computed has its own types backwards
    with torch.autocast(layer.device.type, enabled=False):
        norms = [torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in (error, adversarial)]
    weight: Tensor = (norms[0] / (norms[1] + 1e-6)).clamp(max=1e4)
    return weight
