from __future__ import annotations

import hashlib
import json

import pytest

from dareq_edge.errors import ArtifactError
from dareq_edge.seal import KEY, check_seal, sealed

TEXT = sealed(json.dumps({"format": 1, "source": "é\n"}, indent=1, ensure_ascii=False))


def test_the_digest_is_that_of_the_text_with_zeros_in_its_place() -> None:
    blank = '{\n "format": 1,\n "source": "é\\n",\n "sha256": "%s"\n}\n'
    digest = hashlib.sha256((blank % ("0" * 64)).encode()).hexdigest()
    assert blank % digest == TEXT
    check_seal(TEXT.encode(), json.loads(TEXT)[KEY], "x")


@pytest.mark.parametrize("claimed", [None, "", 7, "0" * 64, "f" * 63, ["0" * 64]])
def test_other_digests_are_refused(claimed: object) -> None:
    with pytest.raises(ArtifactError, match="x does not match the sha256 it carries"):
        check_seal(TEXT.encode(), claimed, "x")


def test_every_changed_byte_is_found() -> None:
    content = TEXT.encode()
    for at in range(len(content)):
        changed = content[:at] + bytes([content[at] ^ 2]) + content[at + 1 :]
        try:
            claimed = json.loads(changed.decode()).get(KEY)
        except ValueError:
            continue
        with pytest.raises(ArtifactError):
            check_seal(changed, claimed, "x")
