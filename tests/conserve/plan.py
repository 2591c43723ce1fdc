"""What goes wrong, drawn from a seed before anything runs. Knows no gateway."""

import random
from collections import Counter
from dataclasses import dataclass, field

ON_THE_WAY = (
    "drop",  # the connection ends before the request leaves
    "cut_request",  # half of the request arrives
    "delay",
    "duplicate",  # the request is delivered twice
    "reorder",  # the request is delivered behind later ones; the sender hears nothing
    "half_open",  # no answer, no end
    "lost_answer",  # it was done, and nobody heard
    "cut_answer",  # half of the answer arrives
)
INSTEAD = (
    "captive",  # 200 and a page to sign in
    "redirect",
    "busy",  # 429 with Retry-After
    "unavailable",  # 503 with Retry-After
    "broken",  # 500
    "denied",  # 403 for the whole request
    "garbage",  # 200 and half a document
)
OF_RECORDS = (
    "ack_and_drop",  # accepted, and forgotten
    "refuse",  # the whole batch is refused
    "put_off",  # every record `retry`
    "newer_centre",  # unknown fields, and a word of tomorrow for one of the verdicts
    "older_centre",  # no high water yet
)
ON_THE_STREAM = (
    "stream_drop",  # the connection to the broker ends before the body leaves
    "stream_cut",  # half of the body arrives
    "stream_delay",
    "stream_duplicate",
    "stream_half_open",  # nothing passes any more, and no end
    "stream_lost_answer",  # it is in the book, and nobody heard
    "stream_cut_answer",
    "stream_captive",  # a page instead of a broker
)
OF_ALL = ("restored", "two_pullers", "newer_lane", "older_lane")
EVERY = {
    "http": (*ON_THE_WAY, *INSTEAD, *OF_RECORDS, *OF_ALL),
    "nats": (*ON_THE_STREAM, *ON_THE_WAY, *INSTEAD, *OF_ALL, "broker_killed", "broker_emptied"),
}
"""By transport. Each kind must have happened in a run, or the run proves nothing."""

RECORDS, EVIDENCE, HEARTBEAT, PULL = "records", "evidence", "heartbeat", "pull"


@dataclass(slots=True)
class Plan:
    """One lane's bad luck: a fault or none for each of its first requests of a kind."""

    seed: int
    faults: dict[str, list[str]] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)

    @classmethod
    def drawn(cls, seed: int, transport: str = "http") -> "Plan":
        rng = random.Random(seed)
        trouble = rng.choice((0.3, 0.6, 0.9))
        of_records = ON_THE_STREAM if transport == "nats" else ON_THE_WAY + INSTEAD + OF_RECORDS
        plan = cls(seed)
        for kind, length, faults in (
            (RECORDS, 6, of_records),
            (EVIDENCE, 2, ON_THE_WAY + INSTEAD),
            (HEARTBEAT, 2, ON_THE_WAY + INSTEAD),
            (PULL, 8, ON_THE_WAY + INSTEAD),
        ):
            plan.faults[kind] = [
                rng.choice(faults) if rng.random() < trouble else "" for _ in range(length)
            ]
        return plan

    def next(self, kind: str) -> str:
        """What happens to the next request of this kind; empty: nothing."""
        left = self.faults.get(kind)
        fault = left.pop(0) if left else ""
        if fault:
            self.happened[fault] += 1
        return fault

    @property
    def is_over(self) -> bool:
        """Nothing more will go wrong with the money."""
        return not self.faults[RECORDS]
