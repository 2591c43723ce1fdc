"""What every document of a place is made with: whose lane, what another route answered, a lamp."""

from typing import Any

from aiohttp import web
from pydantic_core import from_json

from gateway.errors import NotFound
from gateway.flow.lane import Lane
from gateway.web.lane import LANES
from gateway.web.words import Say, is_known

Document = dict[str, Any]
AGAIN_MS = 1500


def lane_asked(request: web.Request) -> Lane:
    """The one asked about; else the first that may sell. Raises: NotFound."""
    lanes, name = request.app[LANES], request.query.get("lane", "")
    found = lanes.get(name) or next((lane for lane in lanes.values() if lane.is_enabled), None)
    if found is None:
        raise NotFound("没有这个车道")
    return found


def read_answer(response: web.StreamResponse) -> Any:
    """What another route answered."""
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    return from_json(response.body)


def lamp_row(name: str, lamp: dict[str, Any], say: Say) -> dict[str, Any]:
    is_ok = lamp["state"] == "ok"
    kilos = lamp.get("weight_kg")
    help_ = say(f"lamp.{name}") if not is_ok and is_known(f"lamp.{name}") else ""
    words = [say(f"device.{lamp['state']}"), lamp["text"], help_, f"{kilos} kg" if kilos else ""]
    return {
        "look": {"ok": "", "missing": "bad"}.get(lamp["state"], "warn"),
        "parts": [{"b": f"{'✓' if is_ok else '▲'} {lamp['name']}"}, " ".join(filter(None, words))],
    }
