"""Embeddings by static word vectors: a text's vector is the mean of its tokens' vectors, made unit length.

The vectors and their tokenizer are files in the `wordllama` wheel, which is never imported: what it adds is a
dozen lines of numpy. No model runs, so a text takes a fifth of a millisecond; for what that is worth see
docs/adr/0012-local-embeddings.md.
"""

from __future__ import annotations

import json
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from bulkrate.server.engine import EngineAnswer, EngineRequest
from bulkrate.server.engines.weights import WeightsMissing
from bulkrate.tokens.local_model import json_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

MODEL = "wordllama-256"
DISTRIBUTION = "wordllama"
WEIGHTS_NAME = "wordllama/weights/l2_supercat_256.safetensors"
TOKENIZER_NAME = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
INSTALL_HINT = "pip install --no-deps wordllama"
CONTEXT_WINDOW = 32_768  # none by nature: a bound on what one request may hold
SLOTS = 256


class StaticEngine:
    """An `Engine` over the vectors in the `wordllama` wheel."""

    model = MODEL
    kinds = frozenset({"embed"})
    context_window = CONTEXT_WINDOW
    slots = SLOTS

    def __init__(self) -> None:
        """Find the files; they are read with the first request (0.1 s).

        Raises:
            WeightsMissing: the wheel with the vectors is not installed.
        """
        self._weights_path, self._tokenizer_path = _file(WEIGHTS_NAME), _file(TOKENIZER_NAME)
        self._waiting: dict[str, EngineRequest] = {}

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """A row for each token."""
        return read_safetensors(self._weights_path)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return json_tokenizer(self._tokenizer_path)

    def check(self, request: EngineRequest) -> str | None:
        """Why this request can never be answered, or None."""
        size = self.vectors.shape[1]
        if request.dimensions is not None and request.dimensions > size:
            return f"this model's vectors have {size} dimensions"
        for text in request.inputs:
            if len(text.encode()) > self.context_window:  # a token is at least one byte: no need to count
                tokens = len(self._tokenizer.encode(text, add_special_tokens=False).ids)
                if tokens > self.context_window:
                    return f"{tokens} tokens, the context window is {self.context_window}"
        return None

    def submit(self, request: EngineRequest) -> None:
        """Take a request."""
        self._waiting[request.id] = request

    def cancel(self, request_id: str) -> None:
        """Forget a request."""
        self._waiting.pop(request_id, None)

    def step(self) -> list[EngineAnswer]:
        """Embed what waits, up to `slots` requests, the highest priority first."""
        ready = sorted(self._waiting.values(), key=lambda request: -request.priority)[: self.slots]
        for request in ready:
            del self._waiting[request.id]
        texts = [text for request in ready for text in request.inputs]
        tokens = iter(self._tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        return [self._answer(request, [next(tokens).ids for _ in request.inputs]) for request in ready]

    def _answer(self, request: EngineRequest, texts: list[list[int]]) -> EngineAnswer:
        return EngineAnswer(
            id=request.id,
            text="",
            finish_reason="stop",
            input_tokens=sum(map(len, texts)),
            cached_tokens=0,
            output_tokens=0,
            embeddings=tuple(self._vector(ids, request.dimensions).tobytes() for ids in texts),
        )

    def _vector(self, ids: list[int], dimensions: int | None) -> NDArray[np.float32]:
        """Trained so that the first numbers of a vector make a good one by themselves."""
        import numpy as np

        if not ids:
            return np.zeros(dimensions or self.vectors.shape[1], dtype="<f4")
        mean = self.vectors[ids].mean(axis=0)[:dimensions]
        length = float(np.linalg.norm(mean))
        vector: NDArray[np.float32] = (mean / length if length else mean).astype("<f4")
        return vector

    def close(self) -> None:
        """Forget what is pending."""
        self._waiting.clear()


def _file(name: str) -> Path:
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise WeightsMissing(f"the word vectors are not installed: {INSTALL_HINT}") from None
    path = Path(str(distribution.locate_file(name)))
    if not path.is_file():
        raise WeightsMissing(f"{DISTRIBUTION} {distribution.version} does not contain {name}")
    return path


def read_safetensors(path: Path) -> NDArray[np.float32]:
    """The one tensor of a safetensors file: a length, a JSON header of that length, then the numbers."""
    import numpy as np

    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    (tensor,) = [entry for name, entry in header.items() if name != "__metadata__"]
    kind = {"F16": "<f2", "F32": "<f4"}[tensor["dtype"]]
    first, end = tensor["data_offsets"]
    numbers = np.frombuffer(content[begin + first : begin + end], kind)
    vectors: NDArray[np.float32] = numbers.reshape(tensor["shape"]).astype(np.float32)
    return vectors
