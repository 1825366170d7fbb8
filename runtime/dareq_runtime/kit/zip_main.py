"""The __main__.py of a zipped kit: ``python kit.zip [options]`` unpacks it beside the zip and runs its validate.py.

Copied, never imported; Python 3.9 and its standard library only.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path


def unpack(archive: Path) -> Path:
    """The kit's folder beside the zip: unpacked whole or not at all, or the one that is there already."""
    with zipfile.ZipFile(archive) as kit:
        names = [name for name in kit.namelist() if "/" in name]
        folder = archive.with_name(names[0].split("/")[0])
        if folder.exists():
            mine = folder / "kit.json"
            if not mine.is_file() or mine.read_bytes() != kit.read(f"{folder.name}/kit.json"):
                raise OSError(f"{folder} is another kit or none; move it away")
            return folder
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=archive.parent))
        try:
            print(f"unpacking to {folder}", file=sys.stderr)
            kit.extractall(scratch, names)
            os.replace(scratch / folder.name, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


if __name__ == "__main__":
    try:
        program = unpack(Path(sys.argv[0]).resolve()) / "validate.py"
    except (OSError, zipfile.BadZipFile) as error:
        print(f"cannot judge: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    runpy.run_path(str(program), run_name="__main__")
