"""One of the two copies damaged while the box was off: what is mended then is cut off, too."""

from collections.abc import Callable
from random import Random

from tests.powercut.disk import PAGE, SECTOR, Image

DATABASE, LOG = "/lane.db", "/spool/"
Damage = Callable[[bytearray, Random], bytearray | None]


def damaged(image: Image, chance: Random) -> tuple[Image, str]:
    """The image with one file of the tables or of the log spoilt, and what was done to it."""
    files = [path for path in image if path.startswith(LOG) and path.endswith(".seg")]
    path = DATABASE if chance.random() < 0.5 else chance.choice(sorted(files))
    what = chance.choice(sorted(DAMAGES))
    spoilt = dict(image)
    body = DAMAGES[what](bytearray(image[path] or b""), chance)
    if body is None:
        del spoilt[path]
    else:
        spoilt[path] = body
    return spoilt, f"{what} {path}"


def _flipped(body: bytearray, chance: Random) -> bytearray:
    body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return body


def _replaced(size: int, *, is_zero: bool) -> Damage:
    def damage(body: bytearray, chance: Random) -> bytearray:
        at = chance.randrange(-(-len(body) // size)) * size
        length = len(body[at : at + size])
        body[at : at + size] = bytes(length) if is_zero else chance.randbytes(length)
        return body

    return damage


def _cut_short(body: bytearray, chance: Random) -> bytearray:
    return body[: chance.randrange(len(body))]


DAMAGES: dict[str, Damage] = {
    "a bit of": _flipped,
    "garbage in": _replaced(SECTOR, is_zero=False),
    "zeros in": _replaced(PAGE, is_zero=True),
    "cut short:": _cut_short,
    "emptied:": lambda _, __: bytearray(),
    "gone:": lambda _, __: None,
}
