"""The page as files: vendored bytes, no outside address, one catalogue, a size under watch."""

import gzip
import json
import re
from pathlib import Path

from tests.tools.vendor_ui import FILES, INTEGRITY, LOCK, NAME, VENDOR, digest

STATIC = Path(__file__).parents[3] / "gateway" / "web" / "static"
OWN = [path for path in sorted(STATIC.rglob("*")) if path.is_file() and VENDOR not in path.parents]
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
CATALOGUE = STATIC / "zh-CN.js"
ALPHABET = STATIC / "plate.js"  # the characters of plates are data, not words
CJK = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
COMMENT = re.compile(r"/\*[\s\S]*?\*/|^\s*//.*$", re.MULTILINE)
KEYS = "退清更多军数字无牌民航使临应急"
"""What is printed on keys and is at the same time the key's value."""


def words() -> dict[str, str]:
    text = CATALOGUE.read_text(encoding="utf-8")
    found = re.findall(r"(?:'([^']+)'|\b(\w+)): '((?:[^'\\]|\\.)*)'", text)
    return {quoted or bare: value for quoted, bare, value in found}


def used() -> set[str]:
    """Every catalogue key that is named in full."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    return set(re.findall(r"\bt(?:Or)?\('([\w.-]+)'", text))


def test_vendored_bytes_are_the_reviewed_ones() -> None:
    lock = json.loads(LOCK.read_text(encoding="utf-8"))
    assert lock["tarball"] == INTEGRITY
    assert set(lock["files"]) == set(FILES)
    for name, expected in lock["files"].items():
        assert digest("sha384", (VENDOR / NAME / name).read_bytes()) == expected
    present = {path.name for path in VENDOR.rglob("*") if path.is_file()}
    assert present == {*FILES, LOCK.name}


def test_no_address_outside_is_named() -> None:
    for path in OWN:
        found = re.findall(r"https?://[\w.]+|//\w+\.\w+/", path.read_text(encoding="utf-8"))
        assert found == [], path.name


def test_every_word_stands_in_the_catalogue() -> None:
    for path in SCRIPTS:
        if path in (CATALOGUE, ALPHABET):
            continue
        code = COMMENT.sub("", path.read_text(encoding="utf-8"))
        code = re.sub(f"['\"`].?[{KEYS}]+.?['\"`]|\\[[^\\]\n]*[{KEYS}][^\\]\n]*\\]", "", code)
        strays = [line.strip() for line in code.splitlines() if CJK.search(line)]
        assert [line for line in strays if not re.search(r"/\^\[", line)] == [], path.name


def test_every_word_that_is_asked_for_exists() -> None:
    assert used() - set(words()) == set()


def test_every_code_of_the_catalogue_has_a_title() -> None:
    named = set(re.findall(r"E-\d{3}", "".join(path.read_text("utf-8") for path in SCRIPTS)))
    assert named - {key.removesuffix(".title") for key in words() if key.startswith("E-")} == set()


def test_html_carries_no_inline_script_or_style() -> None:
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*src=)", html) == []
    assert "style=" not in html
    assert all("style=" not in path.read_text(encoding="utf-8") for path in SCRIPTS)


def test_the_page_does_not_grow() -> None:
    """A ratchet: lower these when the page gets smaller, never raise them unseen."""
    loaded = [*OWN, VENDOR / NAME / "lit-html.js"]
    content = b"".join(path.read_bytes() for path in loaded)
    assert len(content) <= 166_000
    assert len(gzip.compress(content, 9)) <= 51_000
