"""gateway.toml, read and checked before anything starts. Nothing else reads the file.

Secrets never stand in the file: they come from `LANE__…` variables or systemd credentials.
A fault names the key, its line and what was expected (config_faults.py).
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from gateway import config_faults
from gateway.errors import ConfigInvalid

DATABASE = "lane.db"  # the store's file inside the data folder
PREFIX = "LANE__"
FILE_BYTES_MAX = 64 * 1024
CHIPS = {"card": "读卡器", "psam": "PSAM", "obu": "OBU天线"}


def _is_http(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ValueError("应为 http:// 或 https:// 开头的地址，不带用户名、参数")
    return url.rstrip("/")


def _is_ip(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError as bad:
        raise ValueError("应为 IP 地址，如 192.168.3.1") from bad


def _is_loopback(host: str) -> str:
    if not ip_address(host).is_loopback:
        raise ValueError("收费亭页面没有加密，只能用本机回环地址；手持终端请用 [lan]")
    return host


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Port = Annotated[
    int, Field(ge=0, le=65535, description="端口号，整数 0 到 65535（0 = 任意空闲端口）")
]
Folder = Annotated[Path, Field(strict=False, description="文件夹路径（字符串，相对于本配置文件）")]
File = Annotated[Path, Field(strict=False, description="文件路径（字符串，相对于本配置文件）")]
Url = Annotated[str, AfterValidator(_is_http), Field(description="地址（字符串）")]


class Listen(Section):
    """The booth's own page, in clear text, on this machine only."""

    host: Annotated[
        str,
        AfterValidator(_is_ip),
        AfterValidator(_is_loopback),
        Field(description="本机回环 IP，如 127.0.0.1"),
    ] = "127.0.0.1"
    port: Port = 8080


class Lan(Section):
    """The lane Wi-Fi, with TLS, for paired handhelds."""

    host: Annotated[str, AfterValidator(_is_ip), Field(description="本机在车道网络上的 IP 地址")]
    port: Port = 8443
    names: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[0-9A-Za-z.:-]{1,253}$")], ...],
        Field(strict=False, description="证书里另外写上的名字或 IP（字符串数组）"),
    ] = ()

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if ip_address(self.host).is_unspecified and not self.names:
            raise ValueError("host 监听全部地址时，names 的第一项必须是手持终端要访问的地址")
        return self

    @property
    def address(self) -> str:
        """What a handheld types: the bound IP, or the first name when bound to all."""
        return self.names[0] if ip_address(self.host).is_unspecified else self.host


class Station(Section):
    """The exit station this box stands in (domain.md §4)."""

    hex: Annotated[
        str, Field(pattern=r"^\d{4}[0-9A-F]{4}$", description='站Hex码，8位大写，如 "62010B31"')
    ]
    id: Annotated[
        str, Field(pattern=r"^[A-Z]\d{13}$", description="收费站编号，14位，如 G0030620010020")
    ]
    name: Annotated[str, Field(min_length=1, max_length=20, description="站名")]


class Simulated(Section):
    driver: Literal["sim"]


class Absent(Section):
    driver: Literal["none"]


class PcscChip(Section):
    driver: Literal["pcsc"]
    reader: Annotated[
        str, Field(min_length=1, description="PC/SC 读写器名称，或能唯一区分的开头一段")
    ]


class OpencvCamera(Section):
    driver: Literal["opencv"]
    url: Annotated[str, Field(min_length=1, description="rtsp://、http:// 地址或 /dev/video0")]


class SerialScale(Section):
    driver: Literal["serial"]
    url: Annotated[
        str,
        Field(
            pattern=r"^(/dev/[^\s]+|socket://[^\s/@]+:\d{1,5})$",
            description="/dev/ttyS0 或 socket://主机:端口",
        ),
    ]
    baud: Annotated[int, Field(ge=300, le=115_200, description="波特率（比特/秒，整数）")] = 9600


Chip = Annotated[PcscChip | Simulated, Field(discriminator="driver")]
MaybeChip = Annotated[PcscChip | Simulated | Absent, Field(discriminator="driver")]
MaybeCamera = Annotated[OpencvCamera | Simulated | Absent, Field(discriminator="driver")]
MaybeScale = Annotated[SerialScale | Simulated | Absent, Field(discriminator="driver")]


class LaneSection(Section):
    """One lane of this booth and its own devices."""

    name: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,8}$", description="车道代号，如 X03")]
    title: Annotated[str, Field(max_length=20, description="屏幕上显示的名称")] = ""
    lane_id: Annotated[
        str,
        Field(
            pattern=r"^[A-Z]\d{20}$",
            description="车道编号，21位：收费站编号14 + 出口方向 2 + 广场2位 + 车道3位 + 0",
        ),
    ]
    lane_no: Annotated[int, Field(ge=0, le=255, description="车道Hex字节，整数 0 到 255")]
    enabled: Annotated[bool, Field(description="true 或 false")] = True
    card: Chip
    psam: Chip
    obu: MaybeChip = Absent(driver="none")
    camera: MaybeCamera = Absent(driver="none")
    scale: MaybeScale = Absent(driver="none")

    @property
    def shown(self) -> str:
        """What people read: the title, or else the lane's name."""
        return self.title or self.name

    @property
    def is_training(self) -> bool:
        """Some device here is a twin: nothing this lane says is about real money."""
        devices = (self.card, self.psam, self.obu, self.camera, self.scale)
        return any(isinstance(device, Simulated) for device in devices)

    def readers(self) -> Iterator[tuple[str, str]]:
        """(Chinese name of the chip, PC/SC reader) of every chip behind a real reader."""
        for key, name in CHIPS.items():
            if isinstance(chip := getattr(self, key), PcscChip):
                yield name, chip.reader


class Center(Section):
    """The provincial centre. Without a token records wait until one is there."""

    url: Url
    transport: Annotated[
        Literal["http", "nats"], Field(description="流水走 http 或 nats；其他内容都走 http")
    ] = "http"
    nats: Annotated[
        tuple[
            Annotated[
                str,
                Field(pattern=r"^(nats|tls)://[^\s,]+$", description="nats:// 或 tls:// 地址"),
            ],
            ...,
        ],
        Field(strict=False, description="NATS 集群各节点的地址（字符串数组）"),
    ] = ()
    token: SecretStr | None = None
    fare_timeout_s: Annotated[
        float, Field(gt=0, le=10, description="在线计费最长等待（秒，大于0，最多10）")
    ] = 1.0
    parameter_key: Annotated[
        str | None,
        Field(pattern=r"^[0-9a-f]{64}$", description="参数签名公钥 Ed25519，64位小写十六进制"),
    ] = None
    ca: File | None = None
    """PEM: who signs the centre's certificate, and the brokers'. None: the system's."""
    certificate: File | None = None
    """PEM: this box's own for them, its key in the same file. None: the token alone."""

    @model_validator(mode="after")
    def _nats_is_somewhere(self) -> Self:
        if self.transport == "nats" and not self.nats:
            wanted = "写 nats 时，另一项 nats 应有至少一个节点的地址"
            raise config_faults.misplaced(("center", "transport"), wanted)
        return self


class Consumer(Section):
    """Who may pull sealed batches over the lane network."""

    name: Annotated[
        str,
        Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="取数方名称，小写字母、数字、下划线"),
    ]
    token: SecretStr | None = None


class ParametersSection(Section):
    """Where parameter packages lie before the centre has sent any."""

    folder: Folder | None = None


class SpoolSection(Section):
    """The log of money: where it lies and how it is written."""

    folder: Folder | None = None
    """Another partition; `data/spool` becomes a link to it. None: inside `data`."""
    block_bytes: Annotated[
        Literal[512, 4096] | None, Field(description="写一次最少的字节数，512 或 4096（整数）")
    ] = None
    """None: as much as the disk writes at once. Less, and a cut may spoil rows written before."""


class EvidenceSection(Section):
    """Photos."""

    keep_days: Annotated[
        int, Field(ge=1, le=3650, description="上级已有的照片在本机至少保存的天数，1 到 3650")
    ] = 90
    """Older ones that the centre holds are deleted, and only when space runs short."""


class ExportSection(Section):
    """What a master carries away by hand."""

    media: Folder = Path("/media")
    """Whatever is mounted below it is a stick that exports may be written to."""


class HealthSection(Section):
    """How the box proves that it gets on (reliability.md rule 13)."""

    proof_every_s: Annotated[
        int, Field(ge=30, le=3600, description="隔多少秒做一次自检流水，整数 30 到 3600")
    ] = 300


class Settings(Section):
    """Everything configurable; frozen. Relative paths are taken from the file's folder."""

    data: Folder
    listen: Listen = Listen()
    lan: Lan | None = None
    station: Station
    lane: Annotated[
        tuple[LaneSection, ...], Field(strict=False, description="至少一条车道 [[lane]]")
    ]
    center: Center
    consumer: Annotated[tuple[Consumer, ...], Field(strict=False)] = ()
    parameters: ParametersSection = ParametersSection()
    spool: SpoolSection = SpoolSection()
    evidence: EvidenceSection = EvidenceSection()
    export: ExportSection = ExportSection()
    health: HealthSection = HealthSection()

    @property
    def database(self) -> Path:
        return self.data / DATABASE

    @model_validator(mode="after")
    def _lanes_fit_the_station(self) -> Self:
        for index, lane in enumerate(self.lane):
            if lane.lane_id[:15] != f"{self.station.id}2":
                wanted = f"应以本站编号 {self.station.id} 加出口方向 2 开头"
                raise config_faults.misplaced(("lane", index, "lane_id"), wanted)
        return self

    @model_validator(mode="after")
    def _nothing_is_named_twice(self) -> Self:
        enabled = [lane for lane in self.lane if lane.enabled]
        if not enabled:
            raise config_faults.misplaced(("lane",), "至少要启用一条车道（enabled = true）")
        for section, what, names in (
            ("lane", "车道代号", [lane.name for lane in self.lane]),
            ("lane", "lane_id", [lane.lane_id for lane in self.lane]),
            ("lane", "读写器", [reader for lane in enabled for _, reader in lane.readers()]),
            ("consumer", "取数方", [consumer.name for consumer in self.consumer]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise config_faults.misplaced((section,), f"{what} {'、'.join(twice)} 用了两次")
        return self


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check a configuration file; secrets come from `environ`.

    Raises: ConfigInvalid, naming key, line and what was expected. Nothing was started.
    """
    text = _read(path)
    values = config_faults.parse(text)
    config_faults.refuse_secrets(text, values)
    try:
        read = Settings.model_validate(values)
    except ValidationError as bad:
        raise ConfigInvalid(config_faults.explain(text, Settings, bad)) from bad
    return _with_secrets(_anchored(read, path.absolute().parent), environ)


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if len(raw) > FILE_BYTES_MAX:
            raise ConfigInvalid(f"配置文件超过 {FILE_BYTES_MAX // 1024} KiB")
        return raw.decode("utf-8")
    except OSError as missing:
        raise ConfigInvalid(f"配置文件 {path} 读不了：{missing.strerror}") from missing
    except UnicodeDecodeError as bad:
        line = raw[: bad.start].count(b"\n") + 1
        raise ConfigInvalid(f"第 {line} 行：不是 UTF-8 文字，请用 UTF-8 保存") from bad


def _anchored(read: Settings, folder: Path) -> Settings:
    tables = read.parameters.folder
    parameters = ParametersSection(folder=None if tables is None else folder / tables)
    log = read.spool.folder
    spool = read.spool.model_copy(update={"folder": None if log is None else folder / log})
    export = ExportSection(media=folder / read.export.media)
    own = {name: getattr(read.center, name) for name in ("ca", "certificate")}
    center = read.center.model_copy(update={n: f and folder / f for n, f in own.items()})
    anchored = {"parameters": parameters, "spool": spool, "export": export, "center": center}
    return read.model_copy(update={"data": folder / read.data, **anchored})


def _with_secrets(read: Settings, environ: Mapping[str, str]) -> Settings:
    """Tokens and camera addresses with passwords: from variables, or else from credentials."""
    given = {name: _secret(name, environ) for name in _secret_names(read)}
    _refuse_unknown(environ, given)
    token = given["center.token"] or read.center.token
    return read.model_copy(
        update={
            "center": read.center.model_copy(update={"token": token}),
            "consumer": tuple(
                who.model_copy(update={"token": given[f"consumer.{who.name}.token"]})
                for who in read.consumer
            ),
            "lane": tuple(_with_camera(lane, given) for lane in read.lane),
        }
    )


def _with_camera(lane: LaneSection, given: Mapping[str, SecretStr | None]) -> LaneSection:
    url = given.get(f"camera.{lane.name}.url")
    if url is None:
        return lane
    camera = OpencvCamera(driver="opencv", url=url.get_secret_value())
    return lane.model_copy(update={"camera": camera})


def _secret_names(read: Settings) -> Iterator[str]:
    yield "center.token"
    yield from (f"consumer.{who.name}.token" for who in read.consumer)
    for lane in read.lane:
        if isinstance(lane.camera, OpencvCamera):
            yield f"camera.{lane.name}.url"


def variable(name: str) -> str:
    """The environment variable of a secret: center.token → LANE__CENTER__TOKEN."""
    return PREFIX + name.upper().replace(".", "__")


def _secret(name: str, environ: Mapping[str, str]) -> SecretStr | None:
    value = environ.get(variable(name))
    if value is None and (folder := environ.get("CREDENTIALS_DIRECTORY")):
        file = Path(folder) / name
        try:
            value = file.read_text("utf-8").strip() if file.exists() else None
        except (OSError, UnicodeDecodeError) as bad:
            raise ConfigInvalid(f"凭据 {name} 读不了：{type(bad).__name__}") from bad
    if value is None:
        return None
    if not value or not value.isprintable():
        raise ConfigInvalid(f"凭据 {name} 是空的或含有控制字符")
    return SecretStr(value)


def _refuse_unknown(environ: Mapping[str, str], given: Mapping[str, Any]) -> None:
    known = {variable(name) for name in given}
    if strange := sorted(set(filter(lambda key: key.startswith(PREFIX), environ)) - known):
        raise ConfigInvalid(
            f"环境变量 {'、'.join(strange)} 没有对应的配置项；可用：{'、'.join(sorted(known))}"
        )


def masked(read: Settings) -> dict[str, Any]:
    """The settings as JSON values for people: secrets and passwords in addresses as stars."""
    shown = re.sub(r"(://)[^/\s\"@]+@", r"\1***@", read.model_dump_json())
    values: dict[str, Any] = json.loads(shown)
    return values


def demo(data: Path, port: int, center_url: str, token: str) -> Settings:
    """demo.toml with what a demo's command line decides. Raises: ConfigInvalid."""
    read = load(Path(__file__).with_name("demo.toml"), environ={})
    center = read.center.model_copy(update={"url": center_url, "token": SecretStr(token)})
    listen = read.listen.model_copy(update={"port": port})
    return read.model_copy(update={"data": data, "listen": listen, "center": center})
