"""A hand-built exported folder for the runtime's tests: a small pre-LN decoder made of the ops that exports use
(GatherBlockQuantized, MatMulNBits, GroupQueryAttention with an attention bias), and the same model in numpy float64.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dareq_edge.manifest import Manifest
from dareq_edge.packing import pack

BLOCK = 32
MS = "com.microsoft"


@dataclass
class Shape:
    vocab: int = 96
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 128
    layers: int = 2
    context: int = 48
    seed: int = 0

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


@dataclass
class TinyDecoder:
    """Random weights on the int4 grid; ``write`` makes the folder, ``logits`` is the independent reference.

    keeps: The graph has the optional input num_logits_to_keep; exports of before it do not.
    """

    shape: Shape = field(default_factory=Shape)
    keeps: bool = True

    def __post_init__(self) -> None:
        s = self.shape
        self.rng = np.random.default_rng(s.seed)
        self.codes: dict[str, NDArray[np.uint8]] = {}
        self.scales: dict[str, NDArray[np.float32]] = {}
        self.floats = {"pos": self.rng.normal(0, 2.0, (s.context, s.hidden)).astype(np.float32)}
        self._matrix("embed", s.vocab, s.hidden, gain=2.0)
        for i in range(s.layers):
            kv = s.kv_heads * s.head_dim
            sizes = {"q": (s.hidden, s.hidden), "k": (kv, s.hidden), "v": (kv, s.hidden), "o": (s.hidden, s.hidden)}
            sizes |= {"fc1": (s.ffn, s.hidden), "fc2": (s.hidden, s.ffn)}
            for name, (n, k) in sizes.items():
                self._matrix(f"{i}.{name}", n, k, gain=3.0 if name in "qk" else 1.5)
                self.floats[f"{i}.{name}.bias"] = self.rng.normal(0, 0.1, n).astype(np.float32)
        for name in [f"{i}.ln{j}" for i in range(s.layers) for j in (1, 2)] + ["ln"]:
            self.floats[f"{name}.w"] = self.rng.normal(1, 0.1, s.hidden).astype(np.float32)
            self.floats[f"{name}.b"] = self.rng.normal(0, 0.1, s.hidden).astype(np.float32)

    def _matrix(self, name: str, n: int, k: int, gain: float) -> None:
        self.codes[name] = self.rng.integers(1, 16, (n, k)).astype(np.uint8)
        spread = gain / 4.3 / np.sqrt(k)
        self.scales[name] = (spread * self.rng.uniform(0.7, 1.3, (n, 1))).astype(np.float32)

    def weight(self, name: str) -> NDArray[np.float64]:
        return (self.codes[name].astype(np.float64) - 8) * self.scales[name]

    # -- numpy reference -------------------------------------------------------------------------------------

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 [T, V], by the textbook formulas."""
        s = self.shape
        h = self.weight("embed")[ids] + self.floats["pos"][: len(ids)]
        causal = np.where(np.tri(len(ids), dtype=bool), 0.0, -np.inf)
        for i in range(s.layers):
            x = self._norm(f"{i}.ln1", h)
            q, k, v = (self._linear(f"{i}.{n}", x).reshape(len(ids), -1, s.head_dim) for n in "qkv")
            out = np.empty_like(q)
            for head in range(s.heads):
                kv = head * s.kv_heads // s.heads
                scores = q[:, head] @ k[:, kv].T / np.sqrt(s.head_dim) + causal
                p = np.exp(scores - scores.max(1, keepdims=True))
                out[:, head] = p / p.sum(1, keepdims=True) @ v[:, kv]
            h = h + self._linear(f"{i}.o", out.reshape(len(ids), -1))
            x = np.maximum(self._linear(f"{i}.fc1", self._norm(f"{i}.ln2", h)), 0)
            h = h + self._linear(f"{i}.fc2", x)
        return self._norm("ln", h) @ self.weight("embed").T

    def _norm(self, name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return x * self.floats[f"{name}.w"] + self.floats[f"{name}.b"]

    def _linear(self, name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ self.weight(name).T + self.floats[f"{name}.bias"]

    # -- folder ----------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> Path:
        """model.onnx + model.onnx.data + config.json + dareq.json."""
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(
            self.model(),
            folder / "model.onnx",
            save_as_external_data=True,
            location="model.onnx.data",
            size_threshold=256,
        )
        s = self.shape
        config = {"max_position_embeddings": s.context, "eos_token_id": 2, "pad_token_id": 1, "vocab_size": s.vocab}
        (folder / "config.json").write_text(json.dumps(config))
        Manifest(kind="onnx", source="tiny decoder").with_files(folder).write(folder)
        return folder

    def model(self) -> onnx.ModelProto:
        s = self.shape
        self.nodes: list[onnx.NodeProto] = []
        self.inits: list[onnx.TensorProto] = []
        for name, value in self.floats.items():
            self._init(name, value)
        for name in self.codes:
            self._matrix_inits(name)
        self._bias_nodes()
        embed = {"bits": 4, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        self._op("GatherBlockQuantized", ["embed.table", "input_ids", "embed.scales"], ["tok"], MS, **embed)
        self._op("Gather", ["pos", "position_ids"], ["posn"])
        self._op("Add", ["tok", "posn"], ["h0"])
        for i in range(s.layers):
            self._layer(i)
        if self.keeps:
            self._keep_nodes(f"h{s.layers}", "kept")
        last = "kept" if self.keeps else f"h{s.layers}"
        self._op("LayerNormalization", [last, "ln.w", "ln.b"], ["hn"], axis=-1, epsilon=1e-5)
        self._linear_node("embed", "hn", "logits", bias=False)
        graph = helper.make_graph(self.nodes, "tiny", self._inputs(), self._outputs(), self.inits)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _init(self, name: str, value: NDArray) -> None:
        self.inits.append(numpy_helper.from_array(value, name))

    def _matrix_inits(self, name: str) -> None:
        n, k = self.codes[name].shape
        table = pack(self.codes[name], 4)
        self._init(f"{name}.q", table.reshape(n, k // BLOCK, BLOCK // 2))
        self._init(f"{name}.scales", np.repeat(self.scales[name], k // BLOCK, axis=1))
        if name == "embed":
            self._init("embed.table", table)

    def _op(self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: object) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))

    def _linear_node(self, name: str, x: str, y: str, *, bias: bool = True) -> None:
        n, k = self.codes[name].shape
        inputs = [x, f"{name}.q", f"{name}.scales"] + (["", "", f"{name}.bias"] if bias else [])
        self._op("MatMulNBits", inputs, [y], MS, N=n, K=k, bits=4, block_size=BLOCK, accuracy_level=4)

    def _bias_nodes(self) -> None:
        """attention_mask -> attention_bias [B, 1, S, T], seqlens_k [B], total_sequence_length []."""
        for name, value in {"one": 1.0, "far": -1e9}.items():
            self._init(name, np.array(value, np.float32))
        for name, dims in {"i1": [1], "ax12": [1, 2]}.items():
            self._init(name, np.array(dims, np.int64))
        self._init("minus1", np.array(-1, np.int32))
        self._op("Cast", ["attention_mask"], ["maskf"], to=TensorProto.FLOAT)
        self._op("Sub", ["one", "maskf"], ["inv"])
        self._op("Mul", ["inv", "far"], ["bias2"])
        self._op("Unsqueeze", ["bias2", "ax12"], ["bias4"])
        self._op("Shape", ["input_ids"], ["B"], start=0, end=1)
        self._op("Shape", ["input_ids"], ["S"], start=1, end=2)
        self._op("Shape", ["attention_mask"], ["T"], start=1, end=2)
        self._op("Concat", ["B", "i1", "S", "T"], ["bias_shape"], axis=0)
        self._op("Expand", ["bias4", "bias_shape"], ["bias"])
        self._op("Squeeze", ["T"], ["T0"])
        self._op("Cast", ["T0"], ["total"], to=TensorProto.INT32)
        self._op("Add", ["total", "minus1"], ["last"])
        self._op("Expand", ["last", "B"], ["seqlens_k"])

    def _keep_nodes(self, x: str, y: str) -> None:
        """The last k positions; -0 = 0 is where all of them start."""
        ends = {"ax0": 0, "ax1": 1, "forever": np.iinfo(np.int64).max}
        for name, value in ends.items():
            self._init(name, np.array([value], np.int64))
        self._init("num_logits_to_keep", np.array(0, np.int64))
        self._op("Neg", ["num_logits_to_keep"], ["minus_k"])
        self._op("Unsqueeze", ["minus_k", "ax0"], ["from"])
        self._op("Slice", [x, "from", "forever", "ax1"], [y])

    def _layer(self, i: int) -> None:
        s = self.shape
        self._op("LayerNormalization", [f"h{i}", f"{i}.ln1.w", f"{i}.ln1.b"], [f"{i}.x1"], axis=-1, epsilon=1e-5)
        for n in "qkv":
            self._linear_node(f"{i}.{n}", f"{i}.x1", f"{i}.{n}_out")
        past = [f"past_key_values.{i}.key", f"past_key_values.{i}.value"]
        inputs = [f"{i}.{n}_out" for n in "qkv"] + [*past, "seqlens_k", "total", "", "", "", "bias"]
        present = [f"present.{i}.key", f"present.{i}.value"]
        heads = {"num_heads": s.heads, "kv_num_heads": s.kv_heads, "do_rotary": 0}
        self._op("GroupQueryAttention", inputs, [f"{i}.attn", *present], MS, **heads)
        self._linear_node(f"{i}.o", f"{i}.attn", f"{i}.o_out")
        self._op("Add", [f"h{i}", f"{i}.o_out"], [f"{i}.mid"])
        self._op("LayerNormalization", [f"{i}.mid", f"{i}.ln2.w", f"{i}.ln2.b"], [f"{i}.x2"], axis=-1, epsilon=1e-5)
        self._linear_node(f"{i}.fc1", f"{i}.x2", f"{i}.f1")
        self._op("Relu", [f"{i}.f1"], [f"{i}.f1r"])
        self._linear_node(f"{i}.fc2", f"{i}.f1r", f"{i}.f2")
        self._op("Add", [f"{i}.mid", f"{i}.f2"], [f"h{i + 1}"])

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        small = {"input_ids": "sequence_length", "attention_mask": "total_sequence_length"}
        small["position_ids"] = "sequence_length"
        found = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch_size", d]) for n, d in small.items()]
        keep = [helper.make_tensor_value_info("num_logits_to_keep", TensorProto.INT64, [])] if self.keeps else []
        return found + self._caches("past_key_values", "past_sequence_length") + keep

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        shape = ["batch_size", "kept_length" if self.keeps else "sequence_length", self.shape.vocab]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)
        return [logits, *self._caches("present", "total_sequence_length")]

    def _caches(self, stem: str, length: str) -> list[onnx.ValueInfoProto]:
        shape = ["batch_size", self.shape.kv_heads, length, self.shape.head_dim]
        names = [f"{stem}.{i}.{kind}" for i in range(self.shape.layers) for kind in ("key", "value")]
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in names]
