"""A copy of a validation kit that asks another question, for measurements; its verdicts are of that question.

python -m examples.arm.variant kit nokai --entry mlas.disable_kleidiai=1   # int8 compute without KleidiAI
python -m examples.arm.variant kit exact --against-fp32                    # int8 compute against fp32 references
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path


def vary(kit: Path, out: Path, entries: dict[str, str], *, against_fp32: bool) -> None:
    """Write the copy.

    Args:
        kit: A kit's folder.
        out: Folder to create.
        entries: Added to what an int8 session is configured with.
        against_fp32: Give int8 compute the host's fp32 predictions as its reference.
    """
    shutil.copytree(kit, out)
    record = json.loads((kit / "kit.json").read_text())
    record["sessions"]["int8"]["entries"].update(entries)
    if against_fp32:
        for part in ("nll", "top", "logp"):
            shutil.copyfile(kit / f"reference/fp32.{part}.npy", out / f"reference/int8.{part}.npy")
            record["files"][f"reference/int8.{part}.npy"] = record["files"][f"reference/fp32.{part}.npy"]
        record["references"]["int8"] = record["references"]["fp32"]
    content = json.dumps(record, indent=1).encode()
    (out / "kit.json").write_bytes(content)
    (out / "kit.sha256").write_bytes(f"{hashlib.sha256(content).hexdigest()}  kit.json\n".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--entry", action="append", default=[], help="KEY=VALUE of the session's configuration")
    parser.add_argument("--against-fp32", action="store_true")
    given = parser.parse_args()
    entries = dict(entry.split("=", 1) for entry in given.entry)
    vary(given.kit, given.out, entries, against_fp32=given.against_fp32)


if __name__ == "__main__":
    main()
