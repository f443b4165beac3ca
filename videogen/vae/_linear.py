"""A linear autoencoder of patches that runs beside a convolutional one and carries most of the signal."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._streaming import StreamCache, with_past

#: height and width of a patch, in pixels
SIDE = 8


class LinearPath(nn.Module):
    """Each latent as a linear map of its own patch, and back: the network beside it learns only what is left.

    The idea of residual autoencoding (DC-AE, https://arxiv.org/abs/2410.10733, section 3.1) with learned maps in the
    place of its channel averaging: principal components are the best linear code of given size, and `fit` starts
    there.

    Args:
        latent_channels: channels of the latents.
        frames: of a patch, which is 8x8 pixels large.
    """

    def __init__(self, latent_channels: int, frames: int) -> None:
        super().__init__()
        self.frames, values = frames, 3 * frames * SIDE**2
        self.analysis, self.synthesis = nn.Linear(values, latent_channels), nn.Linear(latent_channels, values)

    def encode(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, 1 + frames k, H, W) -> latents (B, C, 1 + k, H/8, W/8); the first frame's patch repeats it."""
        latents: Tensor = self.analysis(self._patches(with_past(self, video, self.frames - 1, 0, cache)))
        return latents.movedim(-1, 1)

    def decode(self, latents: Tensor, first: bool) -> Tensor:
        """Latents -> video; `first` says that they start a clip, whose first frame stands alone."""
        pattern = "b t h w (c p q r) -> b c (t p) (h q) (w r)"
        video: Tensor = rearrange(self.synthesis(latents.movedim(1, -1)), pattern, p=self.frames, q=SIDE, r=SIDE)
        return video[:, :, self.frames - 1 :] if first else video

    @torch.no_grad()
    def fit(self, clips: Iterable[Tensor]) -> None:
        """Start from the principal components of the patches of some clips (3, T, H, W), scaled to unit variance."""
        patches = torch.cat([self._rows(clip[None]) for clip in clips]).double()
        mean = patches.mean(0)
        variances, directions = torch.linalg.eigh(torch.cov(patches.T))
        count = self.analysis.out_features
        # eigh sorts upwards
        scale, basis = variances[-count:].flip(0).sqrt(), directions[:, -count:].flip(1)
        self.analysis.weight.copy_((basis / scale).T)
        self.analysis.bias.copy_(-mean @ (basis / scale))
        self.synthesis.weight.copy_(basis * scale)
        self.synthesis.bias.copy_(mean)

    def _rows(self, video: Tensor) -> Tensor:
        return self._patches(with_past(self, video, self.frames - 1, 0, None)).flatten(0, 3)

    def _patches(self, video: Tensor) -> Tensor:
        pattern = "b c (t p) (h q) (w r) -> b t h w (c p q r)"
        return rearrange(video, pattern, p=self.frames, q=SIDE, r=SIDE)


def start_silent(*layers: nn.Module) -> None:
    """Zero the last layers of a network, so that at first the linear path speaks alone."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def mean_plus(moments: Tensor, mean: Tensor) -> Tensor:
    """Add to the mean half of stacked moments (B, 2C, T, H, W)."""
    return moments + F.pad(mean, (0, 0) * 3 + (0, mean.shape[1]))
