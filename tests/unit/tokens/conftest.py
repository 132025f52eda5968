from __future__ import annotations

import pytest
import tiktoken
from reference_encodings import reference_encoding


@pytest.fixture(scope="session", params=["o200k_base", "cl100k_base"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tiktoken.Encoding:
    return reference_encoding(request.param, tmp_path_factory.mktemp("vocabulary"))
