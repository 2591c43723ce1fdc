"""gateway/config.py: a right file is read as written, a wrong one is refused with its line."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway import config
from gateway.config import PcscChip, Simulated, load
from gateway.errors import ConfigInvalid

FOLDER = Path(config.__file__).parent
EXAMPLE = (FOLDER / "gateway.example.toml").read_text("utf-8")


def write(folder: Path, text: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(text, "utf-8")
    return file


def refusal(folder: Path, was: str, becomes: str) -> str:
    """The example with one change, loaded: what the fault says. Line numbers stay."""
    assert EXAMPLE.count(was) >= 1, was
    with pytest.raises(ConfigInvalid) as fault:
        load(write(folder, EXAMPLE.replace(was, becomes, 1)), {})
    return fault.value.detail


def line(part: str) -> int:
    return next(n for n, text in enumerate(EXAMPLE.splitlines(), 1) if part in text)


def test_the_example_file_is_valid_and_is_read_as_written() -> None:
    read = load(FOLDER / "gateway.example.toml", {})
    assert read.lane[0].card == PcscChip(driver="pcsc", reader="Contactless")
    assert read.lan is not None
    assert read.lan.address == "192.168.3.1"
    assert read.database == Path("/var/lib/lane-gateway/lane.db")
    assert read.center.token is None


def test_the_demo_file_has_one_enabled_lane_and_only_simulated_devices() -> None:
    read = load(FOLDER / "demo.toml", {})
    assert [(lane.name, lane.enabled) for lane in read.lane] == [("X03", True), ("X04", False)]
    for lane in read.lane:
        devices = (lane.card, lane.psam, lane.obu, lane.camera, lane.scale)
        assert devices == (Simulated(driver="sim"),) * 5
    assert read.parameters.folder == FOLDER / "parameters" / "demo"


def test_every_key_of_every_section_stands_in_the_example() -> None:
    def keys(section: type[config.Section]) -> set[str]:
        return set(section.model_fields)

    sections = (config.Settings, config.Listen, config.Lan, config.Station, config.LaneSection)
    sections += (config.Center, config.Consumer, config.ParametersSection, config.SerialScale)
    secret = {"token"}
    for key in set().union(*map(keys, sections)) - secret:
        assert f"{key} =" in EXAMPLE or f"[{key}]" in EXAMPLE or f"[[{key}]]" in EXAMPLE, key


def test_every_key_and_secret_stands_in_the_readme() -> None:
    readme = (FOLDER.parent / "README.md").read_text("utf-8")
    sections = (config.Listen, config.Lan, config.Station, config.LaneSection, config.Center)
    for key in {key for section in sections for key in section.model_fields} - {"token"}:
        assert f"`{key}`" in readme, key
    for secret in ("center.token", "consumer.<name>.token", "camera.<lane>.url"):
        assert f"`{secret}`" in readme
        assert f"`{config.variable(secret)}`" in readme


@pytest.mark.parametrize(
    ("was", "becomes", "place", "wanted"),
    [
        ("port = 8443", 'port = "8443"', "lan.port", "整数 0 到 65535"),
        ("port = 8443", "port = 84430", "lan.port", "整数 0 到 65535"),
        ("port = 8443", "prt = 8443", "lan.prt", "是不是 port？"),
        ('hex = "62010B31"', 'hex = "62010b31"', "station.hex", "8位大写"),
        ('"62010B31"', "62010", "station.hex", "8位大写"),
        ("lane_no = 3", "lane_no = 3.5", "lane[0].lane_no", "整数 0 到 255"),
        ("lane_no = 3", "lane_no = 256", "lane[0].lane_no", "整数 0 到 255"),
        ("enabled = true", 'enabled = "yes"', "lane[0].enabled", "true 或 false"),
        ('reader = "SAM"', 'raeder = "SAM"', "lane[0].psam.raeder", "是不是 reader？"),
        ('"pcsc", reader = "SAM"', '"usb"', "lane[0].psam.driver", "pcsc、sim"),
        ("baud = 9600", 'baud = "9600 bps"', "lane[0].scale.baud", "比特/秒，整数"),
        ("fare_timeout_s = 1.0", "fare_timeout_s = 1000", "center.fare_timeout_s", "秒，大于0"),
        ('transport = "http"', 'transport = "kafka"', "center.transport", "http 或 nats"),
        ('transport = "http"', 'transport = "nats"', "center.transport", "节点的地址"),
        ('"https://center', '"center', "center.url", "https://"),
        ('host = "127.0.0.1"', 'host = "0.0.0.0"', "listen.host", "回环"),
        ('host = "127.0.0.1"', 'host = "booth"', "listen.host", "IP 地址"),
        ('name = "province"', 'name = "Province 1"', "consumer[0].name", "小写字母"),
        ('"gw.lane"', '"gw lane"', "lan.names[0]", "名字或 IP"),
        ('"G00306200100202010030"', '"G00306200100211010030"', "lane[0].lane_id", "出口方向 2"),
    ],
)
def test_a_wrong_value_is_refused_with_key_line_and_what_was_expected(
    tmp_path: Path, was: str, becomes: str, place: str, wanted: str
) -> None:
    told = refusal(tmp_path, was, becomes).splitlines()[0]
    assert told.startswith(f"第 {line(was)} 行 {place}：")
    assert wanted in told


def test_a_missing_key_is_placed_at_the_table_it_should_stand_in(tmp_path: Path) -> None:
    told = refusal(tmp_path, 'hex = "62010B31"', "")
    assert told.startswith(f"第 {line('[station]')} 行 station.hex：缺少这一项")


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    told = refusal(tmp_path, "[parameters]", "[paramters]")
    assert f"第 {line('[parameters]')} 行 paramters：没有这个配置项，是不是 parameters？" in told


def test_broken_toml_tells_line_and_column(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[station]", "[station").startswith(f"第 {line('[station]')} 行第")


def test_one_reader_for_two_chips_is_refused(tmp_path: Path) -> None:
    assert "读写器 Contactless 用了两次" in refusal(tmp_path, '"SAM"', '"Contactless"')


def test_a_box_without_an_enabled_lane_is_refused(tmp_path: Path) -> None:
    assert "至少要启用一条车道" in refusal(tmp_path, "enabled = true", "enabled = false")


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("fare_timeout_s = 1.0", 'token = "h0rse-battery"'),
        ("rtsp://192", "rtsp://admin:h0rse-battery@192"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(
    tmp_path: Path, was: str, becomes: str
) -> None:
    told = refusal(tmp_path, was, becomes)
    assert told.startswith(f"第 {line(was)} 行")
    assert "环境变量" in told
    assert "h0rse" not in told


def test_secrets_come_from_variables(tmp_path: Path) -> None:
    variables = {
        "LANE__CENTER__TOKEN": "c-token",
        "LANE__CONSUMER__PROVINCE__TOKEN": "p-token",
        "LANE__CAMERA__X03__URL": "rtsp://admin:pw@192.168.3.20/1",
    }
    read = load(write(tmp_path, EXAMPLE), variables)
    assert read.center.token is not None
    assert read.center.token.get_secret_value() == "c-token"
    assert read.consumer[0].token is not None
    assert read.consumer[0].token.get_secret_value() == "p-token"
    assert read.lane[0].camera.url == "rtsp://admin:pw@192.168.3.20/1"  # type: ignore[union-attr]


def test_secrets_come_from_systemd_credentials_and_a_variable_wins(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "center.token").write_text("from-credential\n")
    (credentials / "consumer.province.token").write_text("p-token\n")
    file = write(tmp_path, EXAMPLE)

    read = load(file, {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert read.center.token is not None
    assert read.center.token.get_secret_value() == "from-credential"
    assert read.consumer[0].token is not None

    both = {"CREDENTIALS_DIRECTORY": str(credentials), "LANE__CENTER__TOKEN": "from-variable"}
    token = load(file, both).center.token
    assert token is not None
    assert token.get_secret_value() == "from-variable"


def test_an_empty_credential_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"center\.token"):
        load(write(tmp_path, EXAMPLE), {"LANE__CENTER__TOKEN": ""})


def test_a_misspelt_variable_is_refused_without_its_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as fault:
        load(write(tmp_path, EXAMPLE), {"LANE__CENTRE__TOKEN": "h0rse"})
    assert "LANE__CENTRE__TOKEN" in fault.value.detail
    assert "h0rse" not in fault.value.detail


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    variables = {"LANE__CENTER__TOKEN": "h0rse", "LANE__CAMERA__X03__URL": "rtsp://a:h0rse@c/1"}
    read = load(write(tmp_path, EXAMPLE), variables)
    assert "h0rse" not in str(config.masked(read))
    assert "rtsp://***@c/1" in str(config.masked(read))


def test_settings_are_frozen() -> None:
    read = load(FOLDER / "demo.toml", {})
    with pytest.raises(ValidationError):
        read.listen.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(("raw", "wanted"), [(b"a\n\xff", "第 2 行"), (b"#" * 70_000, "64 KiB")])
def test_a_file_that_is_no_configuration_is_refused(
    tmp_path: Path, raw: bytes, wanted: str
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_bytes(raw)
    with pytest.raises(ConfigInvalid, match=wanted):
        load(file, {})
    with pytest.raises(ConfigInvalid, match="读不了"):
        load(tmp_path / "none.toml", {})


def test_a_demo_takes_port_folder_and_centre_from_the_command_line(tmp_path: Path) -> None:
    read = config.demo(tmp_path, 18080, "http://127.0.0.1:19090", "t0ken")
    assert (read.data, read.listen.port) == (tmp_path, 18080)
    assert read.center.url == "http://127.0.0.1:19090"
    assert read.center.token is not None
