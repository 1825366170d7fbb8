"""The entropy container: one file, coded losslessly in independent frames; layer L1 (numpy and zstandard).

    encode(Path("model.onnx.data"), regions, Path("model.onnx.data.dqz"))
    container = Container.open(Path("model.onnx.data.dqz"))
    out = np.empty(container.nbytes, np.uint8)
    container.decode_into(out)

``layout`` documents the header byte by byte, ``codings`` what the bytes of a frame mean.
"""

from __future__ import annotations

from dareq_edge.container.cost import HEADER_BYTES, coded_bytes, float_bytes
from dareq_edge.container.reader import Container
from dareq_edge.container.regions import Kind, Region
from dareq_edge.container.writer import encode

__all__ = ["HEADER_BYTES", "Container", "Kind", "Region", "coded_bytes", "encode", "float_bytes"]
