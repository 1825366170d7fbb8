"""Plans with as many forms as the format has, for the tiny models and the embedded one."""

from __future__ import annotations

from dareq_edge.spec import QuantSpec


def spec(bits: int, group_size: int | None = None) -> QuantSpec:
    return QuantSpec(bits, group_size, method="rtn")


_OPT = "model.decoder"
OPT = {  # tied; layers.1.fc1 and what further layers have stay float
    f"{_OPT}.embed_tokens": spec(4),
    f"{_OPT}.embed_positions": spec(8),
    f"{_OPT}.layers.0.self_attn.q_proj": spec(4),
    f"{_OPT}.layers.0.self_attn.k_proj": spec(8),
    f"{_OPT}.layers.0.self_attn.v_proj": spec(4, 32),
    f"{_OPT}.layers.0.self_attn.out_proj": spec(3),
    f"{_OPT}.layers.0.fc1": spec(8, 32),
    f"{_OPT}.layers.0.fc2": spec(2),
    f"{_OPT}.layers.1.self_attn.q_proj": spec(4),
    f"{_OPT}.layers.1.self_attn.k_proj": spec(3),  # the same container: joined
    f"{_OPT}.layers.1.self_attn.v_proj": spec(4),
    f"{_OPT}.layers.1.self_attn.out_proj": spec(8),
    f"{_OPT}.layers.1.fc2": spec(4, 16),
}
OPT_JOINED = {f"{_OPT}.layers.1.self_attn.q_proj+k_proj+v_proj.qweight"}

LLAMA = {  # an own head; the token table, layers.1's queries and layers.0's up projection stay float
    "model.layers.0.self_attn.q_proj": spec(4),
    "model.layers.0.self_attn.k_proj": spec(2),
    "model.layers.0.self_attn.v_proj": spec(4, 64),  # as wide as the rows: the same blocks
    "model.layers.0.self_attn.o_proj": spec(4, 32),
    "model.layers.0.mlp.gate_proj": spec(4),
    "model.layers.0.mlp.down_proj": spec(5),
    "model.layers.1.self_attn.k_proj": spec(4),
    "model.layers.1.self_attn.v_proj": spec(4),
    "model.layers.1.self_attn.o_proj": spec(6, 64),
    "model.layers.1.mlp.gate_proj": spec(8),
    "model.layers.1.mlp.up_proj": spec(8),
    "model.layers.1.mlp.down_proj": spec(4, 128),
    "lm_head": spec(8, 32),
}
LLAMA_JOINED = {
    "model.layers.0.self_attn.q_proj+k_proj+v_proj.qweight",
    "model.layers.1.mlp.gate_proj+up_proj.qweight",
}
