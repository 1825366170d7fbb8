"""Stand-in until ``dareq_edge.calibration.self_text`` exists: text that the model writes itself."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from dareq_edge.progress import Progress
from dareq_edge.recipes import Source


@torch.inference_mode()
def calibration_tokens(
    source: Source, *, samples: int, length: int, seed: int, temperatures: tuple[float, ...], progress: Progress
) -> torch.Tensor:
    """int64 [S, T]."""
    kept = source.work / f"text-{samples}-{length}-{seed}.safetensors"
    if kept.is_file():
        return load_file(kept)["ids"]
    model = AutoModelForCausalLM.from_pretrained(source.checkpoint.folder, dtype=torch.bfloat16).eval()
    config = source.checkpoint.config.get_text_config(decoder=True)
    generator = torch.Generator().manual_seed(seed)
    bos = config.bos_token_id if config.bos_token_id is not None else 0
    ids, cache = torch.full((samples, 1), bos), None
    heat = torch.tensor(temperatures)[torch.arange(samples) % len(temperatures)][:, None]
    while ids.shape[1] < length:
        progress("writing text", ids.shape[1], length)
        out = model(ids[:, -1:], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        p = torch.softmax(out.logits[:, -1].float() / heat, -1)
        ids = torch.cat([ids, torch.multinomial(p, 1, generator=generator)], 1)
    source.work.mkdir(parents=True, exist_ok=True)
    save_file({"ids": ids}, kept)
    return ids.clone()
