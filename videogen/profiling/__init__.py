"""What models take: parameters, operations, memory, seconds; before they are built, and as they run.

A floor of its own, since none of it is a part: it works on any denoiser or VAE, a plugin's too. Configs ask it before
they allocate, commands print what it finds, benchmarks time with it.
"""

from videogen.profiling.measure import Cost, Inputs, decoding_cost, denoising_cost
from videogen.profiling.memory import available, check_fits, weight_bytes
from videogen.profiling.meter import Meter
from videogen.profiling.study import Study, look_through
from videogen.profiling.timing import Timing, interleaved

__all__ = [
    "Cost",
    "Inputs",
    "Meter",
    "Study",
    "Timing",
    "available",
    "check_fits",
    "decoding_cost",
    "denoising_cost",
    "interleaved",
    "look_through",
    "weight_bytes",
]
