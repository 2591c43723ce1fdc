"""One connection to NATS servers, for whoever sends there and whoever reads. Knows no subject."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

import nats
from nats.aio.client import Client

CONNECT_S, CLOSE_S = 5.0, 0.5
PING_S, PINGS_MAX = 10, 2
"""A line that passes nothing any more and never ends is given up after so many unanswered."""
BROKEN = (nats.errors.Error, OSError, TimeoutError)


class InTheClear(nats.errors.Error):
    """TLS was asked for, and who answered does not know it: perhaps somebody on the way."""


class Line(Client):
    """Says nothing, no token above all, to a `tls://` server that does not encrypt: the client
    itself would go on in clear."""

    def _connect_command(self) -> bytes:
        server = self._current_server
        is_encrypted = bool(self._server_info.get("tls_required"))
        if server is None or (server.uri.scheme == "tls" and not is_encrypted):
            raise InTheClear
        return super()._connect_command()


async def connected(
    servers: Sequence[str],
    token: str,
    name: str,
    *,
    tls: ssl.SSLContext | None = None,
    on_close: Callable[[], None] = lambda: None,
) -> Client:
    """By way of any server that answers. A line that breaks is closed for good, since a client that
    mends itself leaves a socket behind for each server that takes a connection and says nothing
    (nats-py 2.16).

    `servers`: of one cluster, `nats://` or `tls://`. `tls`: whom to believe and what to show; None:
    the system's. Raises: BROKEN.
    """
    line = Line()

    async def closed() -> None:
        on_close()

    try:
        async with asyncio.timeout(CONNECT_S):
            await line.connect(
                list(servers),
                token=token or None,
                tls=tls,
                error_cb=_no_matter,
                closed_cb=closed,
                connect_timeout=2,
                allow_reconnect=False,
                reconnect_time_wait=1,
                max_reconnect_attempts=1,
                ping_interval=PING_S,
                max_outstanding_pings=PINGS_MAX,
                name=name,
            )
    except BaseException:
        with suppress(*BROKEN):
            async with asyncio.timeout(CLOSE_S):  # it waits for ever after a failed handshake
                await line.close()
        raise
    return line


async def _no_matter(_: Exception) -> None:
    """Whoever waits for an answer notices."""
