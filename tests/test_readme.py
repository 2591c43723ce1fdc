"""README.md says what is so: its commands, its settings, its files, its picture."""

import argparse
import re
import shlex
import struct
import subprocess
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from gateway.__main__ import _parser
from gateway.config import Settings, load
from gateway.devices.sim.faults import KNOWN
from gateway.devices.sim.vehicle import PRESETS
from gateway.params import Policy

REPO = Path(__file__).parents[1]
TEXT = (REPO / "README.md").read_text("utf-8")
PICTURES = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def fenced(text: str) -> list[str]:
    return [block.strip() for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.DOTALL)]


def ticked(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def rows(text: str) -> list[list[str]]:
    """The body cells of the tables in a piece of Markdown."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [
        [c.strip() for c in line.strip("|").split(" | ")] for line in lines if "---" not in line
    ]


# ---- commands ----


def test_quick_start_is_two_commands_of_one_line_each() -> None:
    see, try_ = fenced(section("Quick start"))
    for command in (see, try_):
        assert "\n" not in command
        assert command.startswith("sh .ci/setup ")
    assert see.endswith(" demo")
    assert "python -m pytest" in try_


def test_the_set_up_knows_both_words_and_refuses_others() -> None:
    setup = (REPO / ".ci" / "setup").read_text()
    for command in fenced(section("Quick start")):
        assert f"\n{command.split()[2]})" in setup
    told = subprocess.run(
        ["sh", ".ci/setup", "everything"], cwd=REPO, capture_output=True, text=True, timeout=20
    )
    assert (told.returncode, told.stderr) == (2, "usage: sh .ci/setup camera|dev\n")


def test_the_set_ups_extras_are_the_projects_own() -> None:
    known = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    asked = set(re.findall(r"--extra (\w+)", (REPO / ".ci" / "setup").read_text()))
    assert asked == set(known["optional-dependencies"])


def test_every_command_of_the_table_is_understood_with_every_option_named() -> None:
    shown = [c for row in rows(section("Commands")) for c in ticked(row[0])]
    assert len(shown) == 12
    for line in shown:
        words = shlex.split(re.sub(r"[\[\]]", "", line))
        assert words[0] == "lane-gateway"
        words = ["1234" if w.isdigit() else w for w in words[1:]]
        _parser().parse_args(words)


def test_every_command_and_option_there_is_stands_in_the_readme() -> None:
    text = section("Commands")
    for names, parser in subcommands(_parser()):
        assert " ".join(names) in text, names
        for action in parser._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or f"{option} " in text or f"{option}]" in text


def subcommands(
    parser: argparse.ArgumentParser, *before: str
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner or (before and any("--help" not in a.option_strings for a in parser._actions)):
        yield before, parser
    for action in inner:
        for name, child in action.choices.items():
            yield from subcommands(child, *before, name)


def test_what_the_readme_puts_on_the_bench_is_known_there() -> None:
    text = section("What one sees")
    names = {name for row in rows(text)[1:] for name in ticked(row[0])}
    assert names == set(PRESETS)
    faults = re.findall(r'"device":\s+"(\w+)",\s+"fault":\s+"(\w+)"', text)
    assert len(faults) == 3
    for device, fault in faults:
        assert fault in KNOWN[device]


# ---- settings ----


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Every key a person may write, sections and drivers followed; secrets are not among them."""
    for name, field in model.model_fields.items():
        kinds = list(models_in(field.annotation))
        if SecretStr in typing.get_args(field.annotation):
            continue
        yield name
        for kind in kinds:
            yield from keys(kind)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def test_every_setting_is_mentioned_and_no_other() -> None:
    cells = [cell for row in rows(section("Settings"))[1:] for cell in row[:2]]
    mentioned = {re.sub(r"[\[\]]", "", word) for cell in cells for word in ticked(cell)}
    drivers = {"pcsc", "opencv", "serial", "sim", "none"}
    secrets = {word for word in mentioned if "." in word or "__" in word}
    assert mentioned - drivers - secrets == set(keys(Settings))
    for word in drivers:
        assert f"`{word}`" in section("Settings")


def test_the_secrets_come_by_the_names_of_the_table(tmp_path: Path) -> None:
    named = [ticked(row[1]).pop() for row in rows(section("Settings")) if "LANE__" in row[1]]
    assert len(named) == 3
    filled = [n.replace("<NAME>", "PROVINCE").replace("<LANE>", "X03") for n in named]
    environ = dict.fromkeys(filled, "rtsp://camera.example/1")
    read = load(REPO / "gateway" / "gateway.example.toml", environ)
    assert read.center.token
    assert read.consumer[0].token
    assert "camera.example" in read.lane[0].camera.model_dump_json()


def test_each_policy_of_the_table_of_open_questions_is_one() -> None:
    text = section("What nobody could tell us")
    for key in Policy.model_fields:
        assert f"`{key}`" in text


# ---- files ----


def test_every_file_named_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert link.startswith("http") or (REPO / link).exists(), link
    for name in re.findall(r"`([\w/]+\.(?:py|toml|service))`", TEXT):
        paths = (REPO / name, REPO / "gateway" / name)
        assert name == "gateway.toml" or any(p.exists() for p in paths), name


@pytest.mark.parametrize("name", PICTURES)
def test_its_pictures_are_whole_screens_and_small(name: str) -> None:
    raw = (REPO / name).read_bytes()
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", raw[16:24]) in ((1024, 768), (360, 740))
    assert len(raw) <= 40_000


def test_it_shows_four_of_the_screens() -> None:
    assert len(PICTURES) == 4


@pytest.mark.parametrize("block", fenced(TEXT))
def test_no_line_of_code_is_cut_by_a_page(block: str) -> None:
    longest = max(map(len, block.splitlines()))
    assert longest <= 110 or block.startswith("stateDiagram")
