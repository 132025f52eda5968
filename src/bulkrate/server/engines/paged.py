"""A causal language model on OpenVINO with a paged key-value cache that we address ourselves.

OpenVINO's own conversion (`paged_attention_transformation`) turns the exported model into one that takes a
flat list of tokens of many sequences, each with a table of cache blocks. Sequences of any lengths run in one
pass without padding, and a shared prefix is stored once: a sequence forked from it borrows its full blocks
and copies only the block it would write into. OpenVINO GenAI runs the same graph, but returns only sampled
tokens; scoring labels needs the logits.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PASS_TOKENS = 1024  # most tokens in one pass: bounds both its time (about a second) and its activations


class OutOfBlocks(RuntimeError):
    """The key-value cache is full; release a sequence and try again."""


@dataclass(slots=True)
class CachedSequence:
    """Tokens whose keys and values are in the cache, in these blocks; full blocks may be shared."""

    blocks: list[int] = field(default_factory=list)
    length_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Tokens that hang below the end of a sequence, parents before children."""

    tokens: NDArray[np.int64]
    depths: NDArray[np.int64]  # 0: a child of the sequence's last token
    sees: NDArray[np.uint8]  # square: 1 where the row's token sees the column's, an ancestor or itself

    @classmethod
    def of(cls, nodes: Many[tuple[int, int]]) -> TokenTree:
        """Build from (token, number of the parent node or -1) pairs."""
        import numpy as np

        depths = np.zeros(len(nodes), np.int64)
        sees = np.eye(len(nodes), dtype=np.uint8)
        for index, (_, parent) in enumerate(nodes):
            if parent >= 0:
                depths[index] = depths[parent] + 1
                sees[index] |= sees[parent]
        return cls(np.array([token for token, _ in nodes], np.int64), depths, sees)

    def mask(self, trunk: int) -> NDArray[np.uint8]:
        """What each of `trunk` sequence tokens and then these tokens sees, as OpenVINO's `qq_bias`."""
        import numpy as np

        mask = np.tri(trunk + len(self.tokens), dtype=np.uint8)
        mask[trunk:, trunk:] = self.sees
        return mask


class PagedModel:
    """Runs tokens through the model and returns hidden states where asked. One thread only."""

    def __init__(self, ir_directory: Path, *, block_count: int, full_precision: bool = False) -> None:
        """Compile the model for the CPU (about 1.5 s), with a cache of `block_count` blocks, untouched yet.

        `full_precision` computes in 32-bit floats where the CPU would choose bfloat16 and 8-bit activations:
        three times slower, and exact enough to compare with.
        """
        import openvino

        core = openvino.Core()
        model = core.read_model(str(ir_directory / "openvino_model.xml"))
        self._vocabulary = prepare(model)
        bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") and not full_precision
        config = {
            "PERFORMANCE_HINT": "LATENCY",  # one stream over all cores; passes are already batches
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "KV_CACHE_PRECISION": "bf16" if bf16 else "f32",  # 8-bit is no faster here and less exact
        }
        if full_precision:
            config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "0"  # else products have 8-bit activations
        compiled = core.compile_model(model, "CPU", config)
        self._tensor = openvino.Tensor
        self._infer = compiled.create_infer_request()
        self._caches: list[NDArray[Any]] = []
        self.block_tokens = 0
        for port in compiled.inputs:
            name = port.get_any_name()
            if not name.startswith(("key_cache.", "value_cache.")):
                continue
            shape = [block_count, *(d.get_length() for d in list(port.get_partial_shape())[1:])]
            tensor = openvino.Tensor(port.get_element_type(), shape)
            self._infer.set_tensor(name, tensor)
            self._caches.append(tensor.data)
            self.block_tokens = shape[2]
        self._free = list(range(block_count - 1, -1, -1))  # low numbers first: the rest stays untouched
        self._holders = [0] * block_count  # sequences that hold each block

    def fork(self, parent: CachedSequence, length_tokens: int) -> CachedSequence:
        """A sequence that continues the first `length_tokens` of `parent`; either may be released first."""
        full, partial = divmod(length_tokens, self.block_tokens)
        block = self._take() if partial else None
        child = CachedSequence(blocks=parent.blocks[:full], length_tokens=length_tokens)
        for shared in child.blocks:
            self._holders[shared] += 1
        if block is not None:
            for cache in self._caches:
                cache[block] = cache[parent.blocks[full]]
            child.blocks.append(block)
        return child

    def release(self, sequence: CachedSequence) -> None:
        """Let go of the sequence's blocks; those that no other sequence holds become free."""
        for block in reversed(sequence.blocks):
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free.append(block)
        sequence.blocks, sequence.length_tokens = [], 0

    def extend(self, sequence: CachedSequence, tokens: NDArray[np.int64]) -> None:
        """Add tokens to one sequence without reading anything, in passes of bounded size."""
        for start in range(0, len(tokens), PASS_TOKENS):
            piece = tokens[start : start + PASS_TOKENS]
            self.forward([sequence], [piece], [[len(piece) - 1]])

    def forward(
        self,
        sequences: Many[CachedSequence],
        tokens: Many[NDArray[np.int64]],
        wanted: Many[Many[int]],
        trees: Many[TokenTree] = (),
    ) -> NDArray[np.float32]:
        """Append `tokens[i]` to `sequences[i]`, all in one pass.

        With `trees`, the last tokens of each piece are a tree hanging from the token before them: a node sees
        the sequence and its own ancestors only. Afterwards the sequence may be forked up to the tree only.

        Returns the last hidden states at the token positions `wanted[i]` (counted within `tokens[i]`), one
        row each in order of sequences. `vocabulary` turns them into logits.
        """
        import numpy as np

        lengths = [len(piece) for piece in tokens]
        past = [sequence.length_tokens for sequence in sequences]
        for sequence, length in zip(sequences, lengths, strict=True):
            while len(sequence.blocks) * self.block_tokens < sequence.length_tokens + length:
                sequence.blocks.append(self._take())
            sequence.length_tokens += length
        begins = offsets(lengths)
        positions = [np.arange(p, p + n) for p, n in zip(past, lengths, strict=True)]
        masks = [np.zeros(0, np.uint8)] * len(lengths)  # empty: causal
        for index, tree in enumerate(trees):
            if len(tree.depths):
                trunk = lengths[index] - len(tree.depths)
                positions[index][trunk:] = past[index] + trunk + tree.depths
                masks[index] = tree.mask(trunk).ravel()
        inputs = {
            "input_ids": np.concatenate(tokens).astype(np.int64),
            "position_ids": np.concatenate(positions),
            "qq_bias": np.concatenate(masks),
            "qq_bias_begins": offsets([len(mask) for mask in masks]),
            "past_lens": np.array(past, np.int32),
            "subsequence_begins": begins,
            "block_indices": np.concatenate([s.blocks for s in sequences]).astype(np.int32),
            "block_indices_begins": np.concatenate(
                [[0], np.cumsum([len(s.blocks) for s in sequences])]
            ).astype(np.int32),
            "max_context_len": np.array(max(s.length_tokens for s in sequences), np.int32),
            "wanted": np.concatenate(
                [begin + np.asarray(each, np.int64) for begin, each in zip(begins[:-1], wanted, strict=True)]
            ),
        }
        for name, value in inputs.items():
            self._infer.set_tensor(name, self._tensor(value))
        self._infer.infer()
        hidden: NDArray[np.float32] = self._infer.get_output_tensor(0).data
        return hidden.reshape(-1, hidden.shape[-1]).astype(np.float32)

    def vocabulary(self, tokens: Many[int]) -> NDArray[np.float32]:
        """The output vectors of these tokens: `hidden @ vocabulary(tokens).T` are their logits."""
        import numpy as np

        return weight_rows(self._vocabulary, np.array(tokens, np.int64))

    def _take(self) -> int:
        if not self._free:
            raise OutOfBlocks
        block = self._free.pop()
        self._holders[block] = 1
        return block


def offsets(lengths: Many[int]) -> NDArray[np.int32]:
    """Where each of consecutive pieces begins, and where the last one ends."""
    import numpy as np

    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def prepare(model: Any) -> Any:
    """Give the exported model paged attention, and make it end before the vocabulary projection.

    Its new output is the last hidden state at the positions named by a new input, `wanted`. The projection is
    a fifth of this model's work, almost all of it for words that are no label; and the CPU would round its
    result to bfloat16, which makes ties of logits that differ by less than 0.1. Returns the node that holds
    the projection's weights.
    """
    import numpy as np
    from openvino import opset13
    from openvino._offline_transformations import paged_attention_transformation

    paged_attention_transformation(model, allow_qq_bias=True)
    result = model.get_results()[0]
    projection = result.input_value(0).get_node()
    while projection.get_type_name() != "MatMul":
        projection = projection.input_value(0).get_node()
    wanted = opset13.parameter([-1], np.int64, name="wanted")
    wanted.output(0).set_names({"wanted"})
    hidden = opset13.gather(projection.input_value(0), wanted, np.int64(0))
    result.input(0).replace_source_output(hidden.output(0))
    model.add_parameters([wanted])
    model.validate_nodes_and_infer_types()
    return projection.input_value(1).get_node()


def weight_rows(node: Any, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some rows of a compressed weight matrix, without unpacking the rest (113 MB).

    Raises:
        NotImplementedError: the weights are packed in a way that this OpenVINO version introduced.
    """
    import numpy as np

    inputs = [each.get_source_output().get_node() for each in node.inputs()]
    match node.get_type_name():
        case "Constant":
            picked: NDArray[np.float32] = node.data[rows].astype(np.float32)
            return picked
        case "Convert":
            return weight_rows(inputs[0], rows)
        case "Subtract":
            return weight_rows(inputs[0], rows) - weight_rows(inputs[1], rows)
        case "Multiply":
            return weight_rows(inputs[0], rows) * weight_rows(inputs[1], rows)
        case "Reshape":
            return weight_rows(inputs[0], rows).reshape(len(rows), -1)
        case other:
            raise NotImplementedError(f"weights packed with {other}")
