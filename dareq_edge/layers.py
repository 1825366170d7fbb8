"""Where a transformers model keeps its decoder layers, and where in them a module is."""

from __future__ import annotations

from torch import nn


def decoder_layers(model: nn.Module) -> str | None:
    """The list of as many modules as the model has layers; of several, the one with the most parameters.

    Args:
        model: A transformers model; its parameters may be on the meta device.

    Returns:
        Its name, e.g. "model.decoder.layers"; ``None`` if there is no such list.
    """
    config = model.config.get_text_config(decoder=True)  # type: ignore[union-attr,operator]
    count = int(getattr(config, "num_hidden_layers", 0))
    sizes = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    return max(sizes, key=sizes.__getitem__) if count and sizes else None


def place_of(module: str, layers: str | None) -> tuple[int | None, str]:
    """(block, kind) of a module.

    >>> place_of("model.layers.3.mlp.up_proj", "model.layers")
    (3, 'mlp.up_proj')
    >>> place_of("model.embed_tokens", "model.layers")
    (None, 'embed_tokens')
    """
    if layers is not None and module.startswith(f"{layers}."):
        number, _, kind = module.removeprefix(f"{layers}.").partition(".")
        return int(number), kind
    return None, module.rsplit(".", 1)[-1]
