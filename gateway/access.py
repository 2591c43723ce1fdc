"""Who may do what: sign-in, sessions, and a station master's word. Knows nothing of HTTP.

Passwords are argon2id and are checked in one thread of their own: 20 ms of work each, never on
the event loop. A try is counted before it is checked, so hanging up does not make it free.
"""

import asyncio
import hashlib
import secrets
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.errors import AccessRefused, MasterRefused, OperatorLocked, PasswordWrong
from gateway.params import Operator, Operators
from gateway.store import Store
from gateway.units import Clock, iso

TRIES_MAX = 5  # wrong ones in a row
LOCK_MS = 5 * 60_000
STRANGERS_MAX = 256  # numbers nobody has, whose wrong tries are remembered
SESSION_MS_MAX = 24 * 3_600_000  # longer than any shift; a forgotten tablet ends


@dataclass(frozen=True, slots=True)
class Who:
    """The person behind a request, and the screen they sit at."""

    operator: str
    name: str
    role: str
    """collector, master or engineer"""
    owner: str
    """booth, or handheld:<id>"""


@dataclass(slots=True)
class _Tries:
    wrong: int = 0
    locked_until_ms: int | None = None
    """Monotonic."""


@dataclass(frozen=True, slots=True)
class _Session:
    operator: str
    owner: str
    created_ms: int


class Access:
    """Signed-in people. Table `session` is its own; only the hash of a token is kept there."""

    def __init__(self, store: Store, operators: Callable[[], Operators], clock: Clock) -> None:
        self._store, self._operators, self._clock = store, operators, clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="password")
        self._one_by_one = asyncio.Lock()
        self._tries: dict[str, _Tries] = {}
        self._loading = asyncio.Lock()
        self._sessions: dict[str, _Session] | None = None

    async def sign_in(self, number: str, password: str, owner: str) -> tuple[str, Who]:
        """Open a session for `owner` (a screen): its token, 43 characters, and who it is.

        Raises: PasswordWrong, saying how many tries are left; OperatorLocked, saying until when.
        """
        operator = await self._check(number, password, PasswordWrong)
        sessions = await self._loaded()
        token, session = secrets.token_urlsafe(32), _Session(number, owner, self._clock.now_ms())
        await self._store.write(_insert(_hash(token), session))
        sessions[_hash(token)] = session
        return token, Who(number, operator.name, operator.role, owner)

    async def who(self, token: str, owner: str) -> Who | None:
        """Whose token this is, if it was given to this screen and its person still works here."""
        session = (await self._loaded()).get(_hash(token))
        if session is None or session.owner != owner or self._is_stale(session):
            return None
        operator = self._operators().find(session.operator)
        return Who(operator.number, operator.name, operator.role, owner) if operator else None

    async def sign_out(self, token: str) -> None:
        """End the session; an unknown token is no fault."""
        if (await self._loaded()).pop(_hash(token), None) is not None:
            await self._store.write(_delete([_hash(token)]))

    async def end_sessions_of(self, owner: str) -> None:
        """End every session of a screen: its credential was revoked."""
        sessions = await self._loaded()
        ended = [key for key, session in sessions.items() if session.owner == owner]
        for key in ended:
            del sessions[key]
        await self._store.write(_delete(ended))

    async def approve(self, number: str, password: str) -> Operator:
        """The station master who gave this password.

        Raises: MasterRefused, for a wrong number, password or rank; OperatorLocked.
        """
        operator = await self._check(number, password, MasterRefused)
        if operator.role != "master":
            raise MasterRefused(f"工号 {number} 不是站长")
        return operator

    def close(self) -> None:
        """Let the thread end. Does not wait for a check that is under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # ---- passwords ----

    async def _check(self, number: str, password: str, fault: type[AccessRefused]) -> Operator:
        async with self._one_by_one:
            tries = self._counted(number)
            operator = self._operators().find(number)
            if await self._matches(operator, password) and operator is not None:
                self._tries.pop(number, None)
                return operator
            if tries.locked_until_ms is not None:
                raise self._locked(number, tries.locked_until_ms)
            left = TRIES_MAX - tries.wrong
            who = "站长工号" if fault is MasterRefused else "工号"
            raise fault(f"{who}或密码不对，还可以试 {left} 次")

    def _counted(self, number: str) -> _Tries:
        """One more try for this number, counted as wrong until it proves right."""
        tries = self._tries.get(number, _Tries())
        now_ms = self._clock.monotonic_ms()
        if tries.locked_until_ms is not None:
            if now_ms < tries.locked_until_ms:
                raise self._locked(number, tries.locked_until_ms)
            tries = _Tries()
        tries.wrong += 1
        if tries.wrong >= TRIES_MAX:
            tries.locked_until_ms = now_ms + LOCK_MS
        self._tries[number] = tries
        self._forget_strangers()
        return tries

    def _forget_strangers(self) -> None:
        """Bound what invented numbers cost; a real person's count is never pushed out."""
        strangers = [number for number in self._tries if self._operators().find(number) is None]
        for number in strangers[: len(strangers) - STRANGERS_MAX]:
            del self._tries[number]

    def _locked(self, number: str, until_ms: int) -> OperatorLocked:
        again_ms = self._clock.now_ms() + until_ms - self._clock.monotonic_ms()
        return OperatorLocked(
            f"密码连续错 {TRIES_MAX} 次，工号 {number} 已锁定，{iso(again_ms)[11:16]} 后可再试"
        )

    async def _matches(self, operator: Operator | None, password: str) -> bool:
        """Unknown numbers cost the same time: somebody's hash is checked, and does not count."""
        rows = self._operators().rows
        if operator is None and not rows:
            return False
        expected = (operator or rows[0]).password_hash
        loop = asyncio.get_running_loop()
        is_right = await loop.run_in_executor(self._thread, _verify, expected, password)
        return is_right and operator is not None

    # ---- sessions ----

    async def _loaded(self) -> dict[str, _Session]:
        """All sessions, read once: from then on memory decides, so an ended one never revives."""
        async with self._loading:
            if self._sessions is None:
                rows = await self._store.rows("SELECT * FROM session")
                kept = {
                    row["token_hash"]: _Session(row["operator"], row["owner"], row["created_ms"])
                    for row in rows
                }
                stale = [key for key, session in kept.items() if self._is_stale(session)]
                if stale:
                    await self._store.write(_delete(stale))
                self._sessions = {key: kept[key] for key in kept if key not in stale}
        return self._sessions

    def _is_stale(self, session: _Session) -> bool:
        return self._clock.now_ms() - session.created_ms > SESSION_MS_MAX


def _verify(expected: str, password: str) -> bool:
    """In the thread. A damaged hash lets nobody in."""
    try:
        return PasswordHasher().verify(expected, password)
    except (VerificationError, InvalidHashError):
        return False


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _insert(token_hash: str, session: _Session) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO session (token_hash, operator, owner, created_ms) VALUES (?, ?, ?, ?)",
            (token_hash, session.operator, session.owner, session.created_ms),
        )

    return work


def _delete(token_hashes: list[str]) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.executemany("DELETE FROM session WHERE token_hash = ?", [(h,) for h in token_hashes])

    return work


DEMO_NUMBERS = ("1001", "9001", "7001")
"""Each opens with itself as password in the demo's table; a lane that sells refuses them."""


def demo_operators(operators: Operators) -> list[str]:
    """Numbers whose password is the demo's. Slow on purpose: argon2, some 20 ms each."""
    return [n for n in DEMO_NUMBERS if (who := operators.find(n)) and _opens(who.password_hash, n)]


def _opens(password_hash: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
