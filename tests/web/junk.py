"""What a broken page might send: commands that are nearly right, and anything at all."""

from typing import Any

from hypothesis import strategies as st

VALID: list[dict[str, Any]] = [
    {"command": "read"},
    {"command": "submit_plate", "plate": "甘A12345", "colour": 0, "photo": None},
    {"command": "classify", "vehicle_type": 1, "vehicle_class": 0},
    {"command": "weigh", "axle_count": 3, "weight_kg": 18350, "limit_kg": 27000},
    {"command": "confirm_entry", "station_hex": "62010A12", "source": "typed"},
    {"command": "minimum_fare", "operator": "9001", "password": "x"},
    {"command": "settle_by_hand", "means": "cash", "amount_fen": 100, "reason": "x"},
    {"command": "resume", "passage": "P1"},
]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = sorted({name for body in VALID for name in body})


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """A valid command with a few fields replaced, added or taken away; or anything at all."""
    if draw(st.integers(0, 4)) == 0:
        return draw(JUNK)
    body = dict(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(FIELDS) | st.text(max_size=8))
        if draw(st.booleans()):
            body[name] = draw(JUNK)
        else:
            body.pop(name, None)
    return body
