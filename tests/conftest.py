"""Eight host devices, strict dtype promotion, and shapes and dtypes checked in every call."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jaxtyping

jaxtyping.install_import_hook("jaxlstm", "beartype.beartype")

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
