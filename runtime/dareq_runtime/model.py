"""An exported model that generates, gives logits, and can be scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dareq_edge.errors import DataError, SpecError
from dareq_edge.progress import Progress, silent
from dareq_edge.report import ScoreReport
from dareq_runtime.decoder import Cache, extend
from dareq_runtime.folder import OnnxFolder
from dareq_runtime.generation import Apart, Generation, OnId, Together, check_lengths, generate_ids
from dareq_runtime.lookup import generate_by_lookup
from dareq_runtime.sampling import Sampling
from dareq_runtime.scorer import CHUNK
from dareq_runtime.scoring import score
from dareq_runtime.session import Graph
from dareq_runtime.tokenizer import TextStream, decode, encode, read_tokenizer
from dareq_runtime.tokens import TokenSet
from dareq_runtime.windows import WindowProtocol, make_protocol

OnToken = Callable[[int, int, str], None]
"""Called as ``on_token(row, token_id, text)``; ``text`` is what became certain, and is empty without a tokenizer.
A character left incomplete at the very end comes with token_id -1."""

Prompt = str | Sequence[int] | NDArray[np.int64]
_Ids = Sequence[NDArray[np.int64]]
_Way = Callable[[_Ids, int, Sampling, frozenset[int], OnId], list[list[int]]]


class OnnxModel:
    """An exported model. Implements ``Scorer``; made by ``loading.load``.

    Attributes:
        folder: What was read beside the graph.
        label: "onnx int8 compute" or "onnx fp32 compute".
        graph: The open session and its shapes.
        chunk: Tokens per forward pass when reading prompts.
    """

    def __init__(self, folder: OnnxFolder, graph: Graph, label: str, chunk: int) -> None:
        self.folder = folder
        self.label = label
        self.chunk = chunk
        self.graph = graph

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The folder's tokenizer, read when first asked for; ``None`` if it has none.

        Raises:
            ArtifactError: Its files cannot be read.
        """
        return read_tokenizer(self.folder.path)

    @property
    def threads(self) -> int:
        """Threads within an operator; 0 is onnxruntime's own choice, one per physical core."""
        return self.graph.threads

    @property
    def cache_bits(self) -> int:
        """Bits of a key's or value's number: 32, 16 or 8."""
        return 8 * np.dtype(self.graph.cache_dtype).itemsize

    @property
    def context_length(self) -> int:
        """Longest sequence, prompt and new tokens together."""
        return self.folder.context_length

    @property
    def vocab_size(self) -> int:
        """V, the width of a row of logits."""
        return self.graph.vocab_size

    def chunk_logits(self, ids: NDArray[np.int64], chunk: int = CHUNK) -> Iterator[NDArray[np.float32]]:
        """Logits of one window, piece by piece through the cache; see ``Scorer.chunk_logits``.

        Raises:
            DataError: The window is empty, longer than the context, or has ids out of range.
        """
        ids = np.asarray(ids, dtype=np.int64)
        if ids.ndim != 1 or not 1 <= len(ids) <= self.context_length:
            raise DataError(f"a window has shape {ids.shape}; expected 1 to {self.context_length} token ids")
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise DataError(f"a window holds token ids outside 0..{self.vocab_size - 1}; use the model's tokenizer")
        lane = Cache(self.graph, 1, len(ids)).lane(0, 1)
        for start in range(0, len(ids), chunk):
            yield extend(lane, ids[start : start + chunk], done=start)

    def logits(self, ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits of a whole sequence: float32 [T, V] for T ids. For long ones prefer ``chunk_logits``."""
        return np.concatenate(list(self.chunk_logits(np.asarray(ids, np.int64), min(self.chunk, CHUNK))))

    def score(
        self, tokens: TokenSet, protocol: WindowProtocol | None = None, *, progress: Progress = silent
    ) -> ScoreReport:
        """Perplexity on a token set; see ``scoring.score``. The default protocol is "gptq"."""
        return score(self, tokens, protocol or make_protocol("gptq"), progress=progress)

    def encode(self, prompt: Prompt) -> NDArray[np.int64]:
        """Token ids of a prompt, int64 [T]; text gets the tokenizer's leading special token if it has one.

        Raises:
            DataError: Text without a tokenizer, or ids that are not a flat list of integers.
        """
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise DataError(f"{self.folder.path} has no tokenizer; give token ids instead of text")
            return np.asarray(encode(self.tokenizer, prompt).ids, dtype=np.int64)
        ids = np.asarray(prompt)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise DataError(f"a prompt is {ids.dtype} {ids.shape}; give text or a flat list of token ids")
        return ids.astype(np.int64)

    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop_ids: Iterable[int] | None = None,
        on_token: OnToken | None = None,
        lookup: bool = False,
    ) -> Generation:
        """Continue one prompt; greedy by default.

        Args:
            prompt: Text, or token ids (taken as they are).
            max_new_tokens: Most new tokens; prompt and new tokens must fit the context.
            temperature: 0 is greedy; see ``Sampling`` for this and the next three.
            top_k: 0 keeps all tokens.
            top_p: 1 keeps all tokens.
            seed: The same seed and prompt give the same tokens.
            stop_ids: Ids that end the text; ``None`` takes the model's own, an empty list none.
            on_token: Called for every new token, for streaming.
            lookup: Guess tokens from what the text repeats, which is faster where it does; greedy only. With int8
                compute a near tie between two tokens may fall the other way (see the module ``lookup``).

        Raises:
            SpecError: An option is out of range, two exclude each other, or there is no room for the new tokens.
            DataError: The prompt is empty, too long, or text without a tokenizer.

        Example:
            >>> from dareq_runtime import load
            >>> model = load("exported", threads=1)
            >>> made = model.generate([17, 8, 30], max_new_tokens=4, stop_ids=[])
            >>> len(made.ids), made.stopped
            (4, 'length')
            >>> made == model.generate([17, 8, 30], max_new_tokens=4, stop_ids=[])
            True
        """
        sampling = Sampling(temperature, top_k, top_p, seed)
        if lookup and temperature > 0:
            raise SpecError(f"lookup is greedy but temperature is {temperature}; use one of them")
        return self._generate(
            [prompt], self._by_lookup if lookup else self._apart, max_new_tokens, sampling, stop_ids, on_token
        )[0]

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int = 64,
        sampling: Sampling | None = None,
        stop_ids: Iterable[int] | None = None,
        on_token: OnToken | None = None,
        together: bool = False,
    ) -> list[Generation]:
        """Continue several prompts of any lengths; each gets the tokens it would get alone.

        Args and errors are those of ``generate``, but for these:

        Args:
            prompts: Text or token ids each.
            max_new_tokens: See ``generate``.
            sampling: Greedy by default.
            stop_ids: See ``generate``.
            on_token: See ``generate``; its first argument is the index of the prompt.
            together: Advance all rows in one pass: several times the throughput, but with int8 compute a near
                tie between two tokens may fall the other way than alone (see the module ``generation``).
        """
        way = self._together if together and len(prompts) > 1 else self._apart
        return self._generate(prompts, way, max_new_tokens, sampling or Sampling(), stop_ids, on_token)

    def _generate(
        self,
        prompts: Sequence[Prompt],
        way: _Way,
        new: int,
        sampling: Sampling,
        stop_ids: Iterable[int] | None,
        on_token: OnToken | None,
    ) -> list[Generation]:
        """Check, continue by one of the ways below, and turn tokens into text."""
        ids = [self.encode(p) for p in prompts]
        check_lengths(ids, new, self.context_length, self.vocab_size)
        stops = self.folder.stop_ids if stop_ids is None else frozenset(stop_ids)
        streams = [None if self.tokenizer is None else TextStream(self.tokenizer) for _ in ids]

        def on_id(row: int, token: int) -> None:
            stream = streams[row]
            if on_token is not None:
                on_token(row, token, "" if stream is None else stream.add(token))

        rows = way(ids, new, sampling, stops, on_id)
        for row, stream in enumerate(streams):
            if on_token is not None and stream is not None and (rest := stream.finish()):
                on_token(row, -1, rest)
        return [self._generation(new_ids, stops) for new_ids in rows]

    def _apart(self, ids: _Ids, new: int, sampling: Sampling, stops: frozenset[int], on_id: OnId) -> list[list[int]]:
        batch = Apart(self.graph, ids, new, self.chunk)
        return generate_ids(batch, sampling.streams(ids), new=new, sampling=sampling, stop_ids=stops, on_id=on_id)

    def _together(
        self, ids: _Ids, new: int, sampling: Sampling, stops: frozenset[int], on_id: OnId
    ) -> list[list[int]]:
        batch = Together(self.graph, ids, new, self.chunk, self.folder.pad_id)
        return generate_ids(batch, sampling.streams(ids), new=new, sampling=sampling, stop_ids=stops, on_id=on_id)

    def _by_lookup(
        self, ids: _Ids, new: int, sampling: Sampling, stops: frozenset[int], on_id: OnId
    ) -> list[list[int]]:
        made = generate_by_lookup(
            self.graph, ids[0], new=new, chunk=self.chunk, stop_ids=stops, on_id=lambda token: on_id(0, token)
        )
        return [made]

    def begin(self, ids: NDArray[np.int64], max_new_tokens: int) -> Apart:
        """Read one prompt and be ready for one step after the other, as ``generate`` does; for measurements.

        Args:
            ids: int64 [T].
            max_new_tokens: Steps that will be taken at most, the first token included.

        Raises:
            SpecError: There is no room for that many new tokens.
            DataError: The prompt is empty, too long, or has ids out of range.
        """
        check_lengths([ids], max_new_tokens, self.context_length, self.vocab_size)
        return Apart(self.graph, [ids], max_new_tokens, self.chunk)

    def _generation(self, new: list[int], stops: frozenset[int]) -> Generation:
        text = None if self.tokenizer is None else decode(self.tokenizer, new)
        return Generation(tuple(new), text, "stop" if new[-1] in stops else "length")
