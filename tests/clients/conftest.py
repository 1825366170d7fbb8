"""One exported model after the other."""

from __future__ import annotations

import pytest

from client_cases import MODELS, Exported, export_case

_PARAMS = [pytest.param(name, marks=[pytest.mark.slow] if name == "opt-mini" else []) for name in MODELS]


@pytest.fixture(scope="module", params=_PARAMS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A folder, and our own tokens."""
    return export_case(request.param, tmp_path_factory.mktemp("clients"))
