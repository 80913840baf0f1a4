"""A body in chunks, read as strictly as the head of its request."""

from __future__ import annotations

from io import BufferedReader

from gevent import pywsgi

from . import strictness


class Input(pywsgi.Input):
    """
    gevent's body of a request, with lines between the chunks that can be read in one way only.

    Its name is that of the base class, so that the method below takes the place of the private one there.
    """

    __slots__ = ()

    @classmethod
    def of(cls, body: pywsgi.Input) -> Input:
        """Return a body that was not read yet as one that is read strictly."""
        return cls(body.rfile, body.content_length, body.socket, chunked_input=body.chunked_input)

    @property
    def is_broken(self) -> bool:
        """Whether nobody knows where it ends."""
        return bool(self._chunked_input_error)

    def __read_chunk_length(self, rfile: BufferedReader) -> int:
        try:
            size = strictness.chunk_size(rfile.readline(strictness.LONGEST_CHUNK_LINE))
            if size == 0:
                strictness.read_fields(rfile)  # trailers, which are ignored
        except ValueError as exc:
            # The server answers it with 400.
            self._chunked_input_error = True
            raise pywsgi._InvalidClientInput(str(exc)) from exc  # type: ignore[attr-defined] # noqa: SLF001
        else:
            return size
