"""The page as files: vendored bytes, no outside address, one catalogue, a size under watch."""

import gzip
import json
import re
from pathlib import Path

from gateway.web.page_words import PAGE_ENGLISH, PAGE_WORDS
from tests.tools.vendor_ui import FILES, INTEGRITY, LOCK, NAME, VENDOR, digest

STATIC = Path(__file__).parents[3] / "gateway" / "web" / "static"
OWN = [path for path in sorted(STATIC.rglob("*")) if path.is_file() and VENDOR not in path.parents]
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
FIRST_WORDS = STATIC / "text.js"  # what is said before the gateway answers
ALPHABET = STATIC / "plate.js"  # the characters of plates are data, not words
CJK = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
COMMENT = re.compile(r"/\*[\s\S]*?\*/|^\s*//.*$", re.MULTILINE)
KEYS = "退清更多军数字无牌民航使临应急"
"""What is printed on keys and is at the same time the key's value."""


def words() -> dict[str, str]:
    """English, as the code says it → 中文."""
    first = re.findall(r"'([^']+)': '([^']+)'", FIRST_WORDS.read_text(encoding="utf-8"))
    return {**PAGE_WORDS, **dict(first)}


def said() -> set[str]:
    """Every word that is named in full, and every deed."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    deeds = re.search(r"export const DEEDS = \{([\s\S]*?)\n\};", text)
    assert deeds
    named = re.findall(r"\b(?:t|warn)\('([^']+)'", text)
    nudged = re.findall(r"this\.nudge = .*?'([^']+)' : '([^']+)'", text)
    return {*named, *sum(nudged, ()), *re.findall(r"^  (\w+): \[", deeds[1], re.MULTILINE)}


def test_vendored_bytes_are_the_reviewed_ones() -> None:
    lock = json.loads(LOCK.read_text(encoding="utf-8"))
    assert lock["tarball"] == INTEGRITY
    assert set(lock["files"]) == set(FILES)
    for name, expected in lock["files"].items():
        assert digest("sha384", (VENDOR / NAME / name).read_bytes()) == expected
    present = {path.name for path in VENDOR.rglob("*") if path.is_file()}
    assert present == set(FILES)


def test_no_address_outside_is_named() -> None:
    for path in OWN:
        found = re.findall(r"https?://[\w.]+|//\w+\.\w+/", path.read_text(encoding="utf-8"))
        assert found == [], path.name


def test_every_word_stands_in_the_catalogue() -> None:
    for path in SCRIPTS:
        if path in (FIRST_WORDS, ALPHABET):
            continue
        code = COMMENT.sub("", path.read_text(encoding="utf-8"))
        code = re.sub(f"['\"`].?[{KEYS}]+.?['\"`]|\\[[^\\]\n]*[{KEYS}][^\\]\n]*\\]", "", code)
        strays = [line.strip() for line in code.splitlines() if CJK.search(line)]
        assert [line for line in strays if not re.search(r"/\^\[", line)] == [], path.name


def test_every_word_that_is_said_has_its_chinese() -> None:
    assert said() - set(words()) == set()
    assert all(CJK.search(chinese) for chinese in words().values())


def test_what_the_code_calls_by_a_name_has_english_words_too() -> None:
    names = {word for word in words() if re.fullmatch(r"[a-z]\w*", word)}
    assert set(PAGE_ENGLISH) == names


def test_no_word_stands_there_that_nobody_says() -> None:
    text = "\n".join(path.read_text("utf-8") for path in SCRIPTS)
    assert [word for word in words() if f"'{word}'" not in text and word not in said()] == []


def test_both_languages_have_the_same_holes() -> None:
    holes = re.compile(r"\{(\w+)\}")
    odd = {w: c for w, c in words().items() if set(holes.findall(w)) != set(holes.findall(c))}
    assert odd == {}


def test_html_carries_no_inline_script_or_style() -> None:
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*src=)", html) == []
    assert "style=" not in html
    assert all("style=" not in path.read_text(encoding="utf-8") for path in SCRIPTS)


def test_the_page_stays_within_its_budget() -> None:
    """Everything the booth's browser is served, the vendored library and its licence too."""
    content = b"".join(path.read_bytes() for path in sorted(STATIC.rglob("*")) if path.is_file())
    assert len(content) <= 90_000
    assert len(gzip.compress(content, 9)) <= 30_000
