"""Running an exported folder in fp32 compute, and its distance from transformers on the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from transformers import AutoModelForCausalLM

from dareq_edge.manifest import Manifest


def session(folder: Path, compute: str = "fp32", optimized: Path | None = None) -> ort.InferenceSession:
    """The folder's graph as its manifest says it must be opened; ``optimized``: where onnxruntime writes its own."""
    manifest = Manifest.read(folder)
    settings = manifest.sessions[compute]
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, settings.optimization)
    for key, value in settings.entries.items():
        options.add_session_config_entry(key, value)
    if optimized is not None:
        options.log_severity_level = 3  # it warns that the file fits this machine only
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(folder / manifest.graph, options)


def run(sess: ort.InferenceSession, ids: np.ndarray, mask: np.ndarray, past: list[np.ndarray] | None) -> list:
    """One call of the graph; ids [B, S], mask [B, T]."""
    caches = [i for i in sess.get_inputs() if i.name.startswith("past")]
    empty = [np.zeros((len(ids), i.shape[1], 0, i.shape[3]), np.float32) for i in caches]
    positions = np.maximum(mask.cumsum(1) - 1, 0)[:, -ids.shape[1] :]
    feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return sess.run(None, feeds | {i.name: p for i, p in zip(caches, past or empty, strict=True)})


def distance_from_transformers(folder: Path, checkpoint: Path) -> float:
    """Largest logit error, relative to the largest logit, of nine tokens at once and three alone, one row padded."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    sess = session(folder)
    ids = np.random.default_rng(0).integers(4, 96, (2, 12))
    mask = np.ones_like(ids)
    mask[1, :4] = 0  # left padding
    whole = torch.from_numpy(mask), torch.from_numpy(np.maximum(mask.cumsum(1) - 1, 0))
    with torch.inference_mode():
        wanted = model(torch.from_numpy(ids), attention_mask=whole[0], position_ids=whole[1]).logits.numpy()
    first = run(sess, ids[:, :9], mask[:, :9], None)
    found = [first[0]]
    past = first[1:]
    for t in range(9, 12):
        step = run(sess, ids[:, t : t + 1], mask[:, : t + 1], past)
        found.append(step[0])
        past = step[1:]
    error = np.abs(np.concatenate(found, axis=1) - wanted)[mask.astype(bool)].max()
    return float(error / np.abs(wanted).max())
