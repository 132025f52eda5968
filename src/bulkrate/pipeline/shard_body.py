"""A shard's lines as a readable, seekable file that never exists on disk."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from bulkrate.core.identity import NUMBER_LENGTH, counted, shard_prefix
from bulkrate.pipeline.run_folder import BodyReader
from bulkrate.providers.provider import Tag, Wire


class ShardBody(io.RawIOBase):
    """The upload of one shard, composed while it is read.

    Each line is the dialect's envelope around a custom_id and a stored body. Only seeking to the start or
    the end is supported, which is what HTTP clients do to learn the length and to begin again.
    """

    def __init__(
        self,
        reader: BodyReader,
        wire: Wire,
        *,
        tag: Tag,
        rows: Sequence[int],
        cap: int | None = None,
        size_bytes: int | None = None,
    ) -> None:
        super().__init__()
        self._reader = reader
        self._wire = wire
        self._tag = tag
        self._rows = rows
        self._cap = cap
        self._size = size_bytes
        self._rewind()

    def _rewind(self) -> None:
        self._lines = self._compose()
        self._rest = b""
        self._position = 0

    def _compose(self) -> Iterator[bytes]:
        before, between, after = self._wire.envelope(self._tag)
        head = before + shard_prefix(self._tag.run, self._tag.shard).encode()
        bodies = self._reader.bodies(self._rows)
        if (cap := self._cap) is not None:
            bodies = (self._wire.with_cap(body, cap) for body in bodies)
        for number, body in zip(counted(NUMBER_LENGTH), bodies, strict=False):
            yield b"".join([head, number.encode(), between, body, after])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        chunk = self._take(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def _take(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            line = next(self._lines, None)
            if line is None:
                break
            parts.append(line)
            have += len(line)
        data = b"".join(parts)
        self._rest = data[size:]
        self._position += min(size, len(data))
        return data[:size]

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and offset == 0:
            self._position = self.size_bytes
        elif whence == io.SEEK_CUR and offset == 0:
            pass
        elif whence == io.SEEK_SET and offset == 0:
            self._rewind()
        elif whence == io.SEEK_SET and offset == self._position:
            pass
        else:
            raise io.UnsupportedOperation("a shard's body is read from the start")
        return self._position

    @property
    def size_bytes(self) -> int:
        """Length of the whole upload in bytes."""
        if self._size is None:
            self._size = sum(map(len, self._compose()))
        return self._size
