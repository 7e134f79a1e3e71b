"""Compiling what is small and runs a few times, where the compiler takes nearly all the time."""

from functools import partial

import jax

quick_jit = partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
)
"""``jax.jit`` in less than half of its compile time, for slower code; never inside another jit."""
