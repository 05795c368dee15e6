"""Byte stream -> whole msgpack-RPC frames. Pure.

A frame is one msgpack value; frames stand back to back. `Unpacker.skip()` walks over a value without building it, so
a length that is only declared never allocates: what is held is what really arrived, at most `max_frame_bytes`. Between
frames nothing is held, an Unpacker (44 kB) least of all.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from supervisor.core.errors import RemoteProtocolError


class FrameReader:
    """Feed it bytes, take out frames. After an error it is of no more use."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._skipper: msgpack.Unpacker | None = None
        """While a frame is unfinished."""
        self._data = bytearray()
        self._base = 0
        """Position of the skipper's stream at which `_data` begins."""

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._data)

    @property
    def partial_bytes(self) -> int:
        """Of the frame that is unfinished; twice as many are held, as the skipper has them too."""
        return len(self._data)

    def feed(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Yield the frames that are whole now, without their copies staying behind.

        Raises:
            RemoteProtocolError: the bytes are no msgpack, or a frame passes the size limit.
        """
        # In slices, so that neither buffer ever holds much more than one frame.
        for start in range(0, len(data), self._max_frame_bytes):
            piece = data[start : start + self._max_frame_bytes]
            if self._skipper is None:
                # Room for the frame's end to lie anywhere in the chunk that completes it.
                self._skipper = msgpack.Unpacker(max_buffer_size=2 * self._max_frame_bytes + 1)
                self._base = 0
            self._data += piece
            self._skipper.feed(piece)
            yield from self._whole_frames(self._skipper)
            if not self._data:
                self._skipper = None

    def _whole_frames(self, skipper: msgpack.Unpacker) -> Iterator[bytes]:
        while self._data:
            try:
                skipper.skip()
            except msgpack.OutOfData:
                if len(self._data) > self._max_frame_bytes:
                    raise self._too_long() from None
                return
            except msgpack.StackError as error:
                raise RemoteProtocolError("a value is nested deeper than msgpack can be read at all") from error
            except (ValueError, msgpack.UnpackException) as error:
                raise RemoteProtocolError(f"the bytes are no msgpack: {error!r}") from error
            size = skipper.tell() - self._base
            if size > self._max_frame_bytes:
                raise self._too_long()
            frame = bytes(self._data[:size])
            del self._data[:size]
            self._base += size
            yield frame

    def _too_long(self) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"a frame is longer than {self._max_frame_bytes} bytes",
            max_frame_bytes=self._max_frame_bytes,
        )
