"""One card reader, one PSAM slot and one OBU in range, all twins, with the real code above them."""

from dataclasses import dataclass, field

from gateway.devices.etc_card import EtcCard
from gateway.devices.etc_files import TollInfo, encode_toll, exit_record
from gateway.devices.obu import ObuReader
from gateway.devices.psam import Psam
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.obu import SimObu
from gateway.devices.sim.psam import SimPsam
from gateway.flow.debit import Purse

ENTRY = TollInfo(
    station_hex="62010A12",
    lane_no=3,
    at_s=1_605_058_200,
    vehicle_type=1,
    status=3,
    gantry_hex="62A103",
    gantry_at_s=1_605_059_100,
    plate="甘A12345",
    plate_colour=0,
    axle_count=2,
    weight_kg=0,
    vehicle_status=0xFF,
    accumulated_fen=1250,
)
TOLL_HEX = encode_toll(exit_record(ENTRY, "62010B31", 0x15, 1_605_061_800, 4)).hex().upper()
AT = "20201111103000"


@dataclass
class Booth:
    """Everything a debit needs; `card` and `psam` are the truth, `purse` is what is tested."""

    card: SimUserCard = field(
        default_factory=lambda: SimUserCard.issue(balance_fen=10_000, card_seq=0x4C, entry=ENTRY)
    )
    psam: SimPsam = field(default_factory=lambda: SimPsam.issue(terminal_seq=0x183712))
    obu: SimObu = field(default_factory=lambda: SimObu.issue(entry=ENTRY))
    is_t0: bool = False

    def __post_init__(self) -> None:
        self.card_link = SimLink("读卡器", is_t0=self.is_t0)
        self.psam_link = SimLink("PSAM", is_t0=self.is_t0)
        self.obu_link = SimLink("OBU", is_t0=self.is_t0)
        self.card_link.insert(self.card)
        self.psam_link.insert(self.psam)
        self.obu_link.insert(self.obu)
        self.etc_card = EtcCard(self.card_link)
        self.psam_words = Psam(self.psam_link)
        self.obu_reader = ObuReader(self.obu_link, self.psam_words)
        self.purse = Purse(self.etc_card, self.psam_words)

    @property
    def card_id(self) -> str:
        return self.card.info.card_id
