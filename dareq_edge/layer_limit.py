"""Refuses a config.json that asks for more layers than any model has: transformers builds them one by one."""

from __future__ import annotations

from pathlib import Path

from dareq_edge.errors import UnsupportedArchitectureError

MOST = 1000
"""Layers of a model; the deepest published decoders have 126."""

_KEYS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers", "num_encoder_layers")


def check_layers(config: object, folder: Path) -> None:
    """Check every count of layers in a config.json, those of its parts included.

    Args:
        config: Its content.
        folder: Where it is, for the message.

    Raises:
        UnsupportedArchitectureError: A count is larger than ``MOST``.
    """
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if key in _KEYS and isinstance(value, int | float) and value > MOST:
            raise UnsupportedArchitectureError(
                f"config.json of {folder} asks for {value!r:.20} layers, {MOST} are the most; get the folder again"
            )
        check_layers(value, folder)
