"""What a world is made with: the database behind the centre, and how the records come there."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.sync.center import CenterClient
from tests.conserve.idle import SPEED
from tests.conserve.truth import PostgresTruth, SqliteTruth, Truth
from tests.rig import nats, postgres

STREAM_SPEED = 40.0
"""A broker is a program of its own: its seconds are as long as ours."""


@dataclass(frozen=True, slots=True)
class Way:
    """Can be sent to another process."""

    transport: str = "http"
    dsn: str = ""
    """Of a PostgreSQL in which each world makes tables of its own. Empty: SQLite."""
    nodes: int = 1
    """Of the brokers' cluster."""

    @property
    def speed(self) -> float:
        return STREAM_SPEED if self.transport == "nats" else SPEED


class Ground:
    """The database and the brokers of one world."""

    def __init__(self, way: Way, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self.dsn = postgres.schema(way.dsn) if way.dsn else ""
        self.nodes: Sequence[nats.Node] = ()
        if way.transport == "nats":
            self.nodes = stack.enter_context(nats.running(way.nodes))

    def broker(self) -> Any:
        """For the centre."""
        if not self.nodes:
            return None
        from gateway.center.stream import Broker

        return Broker(tuple(node.url for node in self.nodes), len(self.nodes))

    def client(self, url: str, stream_port: int, *given: Any, **more: Any) -> CenterClient:
        """For a lane. `stream_port`: of its own line to the brokers."""
        if not self.nodes:
            return CenterClient(url, *given, **more)
        from gateway.sync.stream import StreamClient

        return StreamClient(url, [f"nats://127.0.0.1:{stream_port}"], *given, **more)

    def truth(self, database: Any) -> Truth:
        if self.dsn:
            return PostgresTruth(self.dsn)
        return SqliteTruth(self._folder / "center.db", database)

    def kill(self, node: int, *, is_emptied: bool) -> None:
        self.nodes[node].stop(signal.SIGKILL)
        if is_emptied:
            self.nodes[node].empty()

    def revive(self, node: int) -> None:
        self.nodes[node].start()


@contextmanager
def ground(way: Way, folder: Path) -> Iterator[Ground]:
    with ExitStack() as stack:
        yield Ground(way, folder, stack)
