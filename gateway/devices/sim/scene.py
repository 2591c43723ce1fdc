"""A drawn lane: asphalt, one vehicle, its plate in its colours, lane name and time burnt in.

Runs only inside the camera's child process: the main process never loads OpenCV.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.devices.sim.glyphs import GLYPHS

Image = NDArray[np.uint8]
Bgr = tuple[int, int, int]

WIDTH, HEIGHT = 1280, 720
CELL_WIDTH, CELL_HEIGHT = 45, 90  # of one plate character, as GA 36 has it: 45 mm × 90 mm
PLATE_HEIGHT, EDGE, GAP = 140, 16, 12
PLATE_WIDTH_MAX = 330  # in the picture
GLYPH_ROWS = 16

BLACK, WHITE = (24, 22, 22), (245, 245, 245)
GREEN, PALE = (110, 190, 70), (235, 240, 235)
BLUE, YELLOW = (158, 68, 12), (30, 180, 245)
PAINTS: Mapping[int, tuple[Bgr, Bgr, Bgr]] = {
    # colour (domain.md §3.1): upper edge, lower edge, letters
    0: (BLUE, BLUE, WHITE),
    1: (YELLOW, YELLOW, BLACK),
    2: (BLACK, BLACK, WHITE),
    3: (WHITE, WHITE, BLACK),
    4: (PALE, GREEN, BLACK),
    5: (GREEN, GREEN, BLACK),
    6: (WHITE, (225, 150, 90), BLACK),
    7: ((245, 225, 200), (245, 225, 200), BLACK),
    11: ((60, 130, 20), (60, 130, 20), WHITE),
    12: ((40, 30, 190), (40, 30, 190), WHITE),
}
UNKNOWN: tuple[Bgr, Bgr, Bgr] = ((150, 150, 150), (150, 150, 150), BLACK)
BODIES: tuple[Bgr, ...] = (
    (196, 192, 186),
    (60, 58, 58),
    (70, 50, 150),
    (226, 226, 222),
    (120, 92, 62),
)


def draw(scene: Mapping[str, Any]) -> Image:
    """A picture of 1280×720 (BGR).

    `scene`: plate and colour (domain.md §3.1), is_truck, is_empty (no vehicle), has_plate, and
    the two captions `lane` and `stamp`.
    """
    image = _road().copy()
    if not scene["is_empty"]:
        body = BODIES[sum(map(ord, scene["plate"])) % len(BODIES)]
        (_truck if scene["is_truck"] else _car)(image, body)
        if scene["has_plate"]:
            _mount(image, draw_plate(scene["plate"], scene["colour"]), 640, 566)
    noise = np.empty(image.shape, np.int16)
    cv2.randu(noise, np.array(-4), np.array(5))  # no sensor is without it
    image = np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)
    _caption(image, scene["lane"], 24, 12)
    _caption(image, scene["stamp"], WIDTH - 24 - sum(map(_advance, scene["stamp"])), 12)
    return image


def draw_plate(plate: str, colour: int) -> Image:
    """A plate face-on, 140 px high, letters spaced as on the metal."""
    upper, lower, ink = PAINTS.get(colour, UNKNOWN)
    width = 2 * EDGE + len(plate) * (CELL_WIDTH + GAP) + GAP
    face = _gradient(PLATE_HEIGHT, width, upper, lower)
    first = EDGE + 2 * (CELL_WIDTH + GAP)
    if colour == 5:  # 黄绿双拼: the province and its letter on yellow
        face[:, :first] = YELLOW
    cv2.rectangle(face, (5, 5), (width - 6, PLATE_HEIGHT - 6), ink, 3)
    top = (PLATE_HEIGHT - CELL_HEIGHT) // 2
    for place, char in enumerate(plate):
        left = EDGE + place * (CELL_WIDTH + GAP) + (GAP if place > 1 else 0)
        _ink(face, _letter(char, CELL_WIDTH, CELL_HEIGHT, is_full=True), left, top, ink)
    cv2.circle(face, (first + GAP // 2 - 2, PLATE_HEIGHT // 2), 6, ink, -1, cv2.LINE_AA)
    return face


def _gradient(height: int, width: int, upper: Bgr, lower: Bgr) -> Image:
    share = np.linspace(0, 1, height)[:, None, None]
    rows = np.array(upper) * (1 - share) + np.array(lower) * share
    return np.ascontiguousarray(np.repeat(rows, width, axis=1).astype(np.uint8))


@cache
def _letter(char: str, width: int, height: int, is_full: bool = False) -> NDArray[np.float64]:
    """How much ink each pixel gets, 0 to 1; a box for a character we have no glyph of.

    `is_full`: without the glyph's empty rows, so that it fills its cell.
    """
    digits = GLYPHS.get(char, "7E" + "42" * 14 + "7E")
    columns = len(digits) * 4 // GLYPH_ROWS
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8)).reshape(-1, columns)
    if is_full:
        used = np.flatnonzero(bits.any(axis=1))
        bits = bits[used[0] : used[-1] + 1]
    large = cv2.resize(bits * 255, (8 * columns, 8 * GLYPH_ROWS), interpolation=cv2.INTER_NEAREST)
    soft = cv2.GaussianBlur(large, (0, 0), 3.2)
    sharp = cv2.threshold(soft, 84, 255, cv2.THRESH_BINARY)[1]
    small = cv2.resize(sharp, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float64) / 255


def _ink(image: Image, mask: NDArray[np.float64], left: int, top: int, ink: Bgr) -> None:
    height, width = mask.shape
    spot = image[top : top + height, left : left + width]
    share = mask[:, :, None]
    spot[:] = (spot * (1 - share) + np.array(ink) * share).astype(np.uint8)


def _advance(char: str) -> int:
    return 20 if char.isascii() else 40


def _caption(image: Image, text: str, left: int, top: int) -> None:
    for char in text:
        width = _advance(char)
        if not 0 <= left <= WIDTH - width - 2:
            break
        if char != " ":
            mask = _letter(char, width, 40)
            _ink(image, mask, left + 2, top + 2, BLACK)
            _ink(image, mask, left, top, WHITE)
        left += width


def _mount(image: Image, face: Image, middle: int, top: int) -> None:
    height, width = face.shape[:2]
    scale = min(1.0, PLATE_WIDTH_MAX / width)
    size = round(width * scale), round(height * scale)
    left = middle - size[0] // 2
    spot = image[top : top + size[1], left : left + size[0]]
    spot[:] = cv2.resize(face, size, interpolation=cv2.INTER_AREA)


def _shape(image: Image, points: list[tuple[int, int]], paint: Bgr) -> None:
    cv2.fillPoly(image, [np.array(points, np.int32)], paint, cv2.LINE_AA)


@cache
def _road() -> Image:
    image = _gradient(HEIGHT, WIDTH, (158, 150, 140), (84, 82, 80))
    image[:190] = _gradient(190, WIDTH, (222, 204, 182), (206, 198, 190))
    _shape(image, [(0, 190), (0, HEIGHT), (180, HEIGHT), (420, 190)], (112, 112, 112))
    _shape(image, [(WIDTH, 190), (WIDTH, HEIGHT), (1100, HEIGHT), (860, 190)], (112, 112, 112))
    for step in range(8):  # kerbs of the two islands, yellow and black
        paint = YELLOW if step % 2 else BLACK
        upper, lower = 190 + step * 66, 190 + (step + 1) * 66
        for near, far in ((180, 420), (1100, 860)):
            at = [far + (near - far) * (y - 190) // (HEIGHT - 190) for y in (upper, lower)]
            side = 16 if far < near else -16
            _shape(
                image,
                [(at[0], upper), (at[1], lower), (at[1] - side, lower), (at[0] - side, upper)],
                paint,
            )
    return image


def _shade(paint: Bgr, share: float) -> Bgr:
    return (int(paint[0] * share), int(paint[1] * share), int(paint[2] * share))


def _car(image: Image, body: Bgr) -> None:
    cv2.ellipse(image, (640, 690), (350, 26), 0, 0, 360, (50, 48, 46), -1, cv2.LINE_AA)
    for left in (330, 850):
        cv2.rectangle(image, (left, 590), (left + 100, 692), BLACK, -1)
    _shape(image, [(452, 250), (828, 250), (912, 440), (368, 440)], _shade(body, 0.86))  # roof
    _shape(image, [(474, 268), (806, 268), (880, 430), (400, 430)], (92, 78, 66))  # windscreen
    _shape(image, [(500, 276), (600, 276), (520, 426), (430, 426)], (132, 118, 104))
    _shape(image, [(340, 440), (940, 440), (972, 500), (308, 500)], _shade(body, 1.0))  # bonnet
    _shape(image, [(308, 500), (972, 500), (962, 660), (318, 660)], _shade(body, 0.92))
    _shape(image, [(420, 508), (860, 508), (836, 556), (444, 556)], (40, 38, 38))  # grille
    for y in (520, 532, 544):
        cv2.line(image, (440, y), (840, y), (86, 84, 84), 2, cv2.LINE_AA)
    for centre in (366, 914):
        cv2.ellipse(image, (centre, 530), (46, 22), 0, 0, 360, (236, 240, 244), -1, cv2.LINE_AA)
        cv2.ellipse(image, (centre, 530), (24, 14), 0, 0, 360, (255, 255, 255), -1, cv2.LINE_AA)
    cv2.rectangle(image, (330, 676), (950, 686), _shade(body, 0.5), -1)


def _truck(image: Image, body: Bgr) -> None:
    cv2.ellipse(image, (640, 694), (390, 24), 0, 0, 360, (50, 48, 46), -1, cv2.LINE_AA)
    cv2.rectangle(image, (330, 60), (950, 520), (176, 172, 164), -1)  # the load's front wall
    for x in range(360, 950, 60):
        cv2.line(image, (x, 60), (x, 200), (150, 146, 140), 3)
    for left in (310, 860):
        cv2.rectangle(image, (left, 600), (left + 110, 696), BLACK, -1)
    cv2.rectangle(image, (316, 190), (964, 670), body, -1)
    _shape(image, [(352, 214), (928, 214), (912, 400), (368, 400)], (88, 76, 64))
    _shape(image, [(400, 222), (560, 222), (500, 394), (384, 394)], (126, 114, 100))
    cv2.rectangle(image, (430, 430), (850, 540), (44, 42, 42), -1)
    for y in range(446, 540, 18):
        cv2.line(image, (440, y), (840, y), (92, 90, 90), 3)
    for left in (336, 864):
        cv2.rectangle(image, (left, 560), (left + 82, 612), (238, 240, 242), -1)
    for left in (270, 968):
        cv2.rectangle(image, (left, 230), (left + 42, 350), (40, 38, 38), -1)  # mirrors
    cv2.rectangle(image, (316, 650), (964, 676), _shade(body, 0.55), -1)
