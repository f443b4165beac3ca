"""The geometry of the shapes world: colours, outlines, where objects may start, and how a scene becomes a video."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videogen.data._shapes_grammar import Attributes, Scene

Array = NDArray[np.float32]

MAX_FRAMES = 33
MIN_SIDE = 8
# lengths are in 1/64 of the shorter side, speeds in that unit a frame
UNIT = 64
RADII = {"small": 8.0, "large": 13.0}
JITTER = 0.04
PACES = {"slow": 0.5, "fast": 1.125}
# two objects keep at least this far apart, so that a blur of a pixel or two doesn't join them
GAP = 2.0
# of 512 tries each, before two objects are said to have no room; of 6,000 scenes one needed 109 of them
DRAWS = 4096
STEPS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0), "still": (0.0, 0.0)}

# RGB in [0, 1]
COLOUR_RGB = {
    "red": (0.90, 0.10, 0.10),
    "green": (0.10, 0.80, 0.20),
    "blue": (0.15, 0.35, 1.00),
    "yellow": (1.00, 0.88, 0.10),
    "purple": (0.75, 0.20, 0.85),
    "white": (1.00, 1.00, 1.00),
}
BACKGROUND_RGB = {
    "black": (0.00, 0.00, 0.00),
    "gray": (0.40, 0.40, 0.40),
    "dark blue": (0.03, 0.06, 0.30),
    "dark green": (0.02, 0.25, 0.08),
}


def coverage(shape: str, x: Array, y: Array, radius: Array | float) -> Array:
    """How much of each pixel the shape covers, 0 to 1, from the signed distance to its outline clipped to a pixel.

    Every shape lies inside the box of half side `radius` and has its centre of mass at the origin.

    Args:
        x, y: offsets from the shape's centre in pixels, y downwards; they broadcast.
        radius: pixels, broadcasts with x and y.
    """
    if shape == "circle":
        distance = np.sqrt(x * x + y * y) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - np.float32(0.88) * radius
    elif shape == "triangle":
        # apex (0, -r), base from (-r, r/2) to (r, r/2)
        slope = (1.5 * np.abs(x) - y - radius) / np.float32(np.hypot(1.5, 1.0))
        distance = np.maximum(slope, y - np.float32(0.5) * radius)
    elif shape == "cross":
        across, along, arm = np.abs(x), np.abs(y), np.float32(0.34) * radius
        distance = np.minimum(np.maximum(across - radius, along - arm), np.maximum(across - arm, along - radius))
    else:
        raise ValueError(f"{shape!r} is not a shape of this world: choose circle, square, triangle or cross")
    return np.clip(np.float32(0.5) - distance, 0, 1).astype(np.float32, copy=False)


def tracks(scene: Scene, num_frames: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where each object is in every frame: (objects, T, 2) as x, y in pixels, wholly inside and never touching.

    Raises:
        ValueError: a length or size outside the limits.
        RuntimeError: the scene's two objects have no room to pass each other.
    """
    if not 1 <= num_frames <= MAX_FRAMES:
        raise ValueError(f"{num_frames} frames: objects stay in view for 1 to {MAX_FRAMES} frames, ask for fewer")
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{height}x{width} is too small to tell shapes apart: use at least {MIN_SIDE} pixels a side")
    scale = min(height, width) / UNIT
    for _ in range(DRAWS):
        found = place(scene, num_frames, height / scale, width / scale, rng)
        if found is not None:
            return found * scale
    raise RuntimeError(f"no room for {scene.objects} with radii {scene.radii}: make one of them small")


def place(
    scene: Scene, num_frames: int, height: float, width: float, rng: np.random.Generator, tries: int = 512
) -> NDArray[np.float64] | None:
    """One draw of `tracks` in units of 1/64 of the shorter side, or None when no try keeps the objects apart."""
    time = np.arange(num_frames)[:, None]
    tries = tries if len(scene.objects) > 1 else 1
    paths = []
    for one, radius in zip(scene.objects, scene.radii, strict=True):
        path = time * velocity(one)
        low, high = radius - path.min(axis=0), np.array([width, height]) - radius - path.max(axis=0)
        # (tries, T, 2)
        paths.append(rng.uniform(low, high, (tries, 2))[:, None] + path)
    if len(paths) == 1:
        return paths[0]
    distance = np.abs(paths[0] - paths[1]).max(axis=2).min(axis=1)
    apart = np.flatnonzero(distance > sum(scene.radii) + GAP)
    return np.stack([path[apart[0]] for path in paths]) if len(apart) else None


def velocity(one: Attributes) -> NDArray[np.float64]:
    """(2,) x and y velocity of an object in 1/64 of the shorter side a frame."""
    return np.array(STEPS[one.direction or "still"]) * PACES[one.speed or "slow"]


def render(scene: Scene, num_frames: int, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """The scene as a video (3, T, H, W) float32 in [-1, 1]; `rng` draws where the objects start.

    Raises:
        ValueError: more than 33 frames, or a side under 8 pixels.
    """
    centres = tracks(scene, num_frames, height, width, rng).astype(np.float32)
    scale = min(height, width) / UNIT
    ground = np.array(BACKGROUND_RGB[scene.background], np.float32) * 2 - 1
    video = np.empty((3, num_frames, height, width), np.float32)
    video[:] = ground[:, None, None, None]
    columns, rows = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5
    radii = np.array(scene.radii, np.float32) * np.float32(scale)
    for one, radius, centre in zip(scene.objects, radii, centres, strict=True):
        # nothing outside the box around the whole path changes
        (left, top), (right, bottom) = np.maximum(centre.min(0) - radius - 1, 0), centre.max(0) + radius + 2
        box = np.s_[..., int(top) : int(bottom), int(left) : int(right)]
        x = columns[int(left) : int(right)] - centre[:, 0, None, None]
        y = rows[int(top) : int(bottom), None] - centre[:, 1, None, None]
        alpha = coverage(one.shape, x, y, radius)
        paint = np.array(COLOUR_RGB[one.colour], np.float32) * 2 - 1
        video[box] += (paint - ground)[:, None, None, None] * alpha
    return torch.from_numpy(video)
