"""A float ONNX decoder, exported by optimum."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from optimum.exporters.onnx import main_export
from transformers import AutoConfig, AutoModelForCausalLM

from dareq_edge.errors import UnsupportedArchitectureError
from dareq_edge.hub import locate

TASK = "text-generation-with-past"


def export_float(checkpoint: Path, out: Path, *, share: bool = True) -> None:
    """Export a checkpoint in float32.

    Args:
        checkpoint: A folder with config.json and safetensors.
        out: Folder to fill.
        share: optimum's post-processing, which keeps one copy of tied weights.
    """
    main_export(str(checkpoint), str(out), task=TASK, dtype="fp32", do_validation=False, no_post_process=not share)


@contextmanager
def checkpoint_of(source: str, revision: str | None, *, random: bool) -> Iterator[Path]:
    """A float checkpoint: the one given, or one of random weights with the shape of ``source``/config.json.

    Args:
        source: A folder, or (not ``random``) a hub id.
        revision: Branch, tag or commit on the hub.
        random: Whether to make weights up.

    Raises:
        CheckpointError: There is no such model.
        UnsupportedArchitectureError: transformers knows no causal language model with this config.json.
    """
    if not random:
        yield locate(source, revision)[0]
        return
    with tempfile.TemporaryDirectory(prefix="dareq-random-") as name:
        try:
            config = AutoConfig.from_pretrained(source)
            config.__dict__.pop("quantization_config", None)
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config, torch_dtype=torch.float32)
        except ValueError as error:
            raise UnsupportedArchitectureError(
                f"transformers knows no language model with the config.json of {source}; give --model"
            ) from error
        model.save_pretrained(name)
        del model
        yield Path(name)
