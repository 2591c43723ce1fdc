"""The twin of an OBU's ESAM: system file, enciphered vehicle file, gantry totals. Demo keys.

House definition, as nothing public settles it (domain.md §12.6): the answer to 00B4 is
ECB of length(1) ‖ random(8) ‖ data ‖ 80 00…, under the vehicle key diversified by issuer ×2 and
contract serial; length counts random and data. 3DES, or SM4 on a tag of contract version 5x.
"""

from dataclasses import replace
from typing import Any, Self

from gateway.devices.apdu import DF_OBU, EF_TOTALS, MF, StatusWord
from gateway.devices.etc_files import (
    SYSTEM_LENGTHS,
    GantryTotals,
    ObuSystemInfo,
    ObuVehicleInfo,
    TollInfo,
    encode_obu_system,
    encode_totals,
    encode_vehicle,
)
from gateway.devices.sim import crypto
from gateway.devices.sim.chip import Apdu, Refusal, SimChip, piece
from gateway.devices.sim.memory import ChipMemory

TOTALS_OFFSET = 314
TOTALS_FILE_LENGTH = 512
SM4_VERSION = 0x50
"""As a card's version byte tells it (domain.md §1.1); of a tag's nothing public says so."""


class SimObu(SimChip):
    """An on-board unit in range. Its files are public: the bench may spoil them."""

    def __init__(
        self,
        system: bytes,
        vehicle: bytes,
        totals: bytes | None,
        keys: crypto.MasterKeys = crypto.DEMO_KEYS,
    ) -> None:
        super().__init__()
        self._handlers = {
            (0x00, 0xA4): self._select,
            (0x00, 0xB0): self._read_binary,
            (0x00, 0xB4): self._read_vehicle,
        }
        self.system, self.vehicle, self.totals = system, vehicle, totals
        issuer, serial = system[:8], system[10:18]
        self._suite = crypto.SM4 if system[9] >= SM4_VERSION else crypto.TRIPLE_DES
        self._key = self._suite.card_key(keys.vehicle, issuer, serial)
        self._selected = MF

    @classmethod
    def issue(
        cls,
        memory: ChipMemory | None = None,
        *,
        contract_serial: str = "6201012145230123",
        is_installed: bool = True,
        valid_from: str = "20201102",
        valid_to: str = "20301101",
        issuer: str = "B8CACBE062010001",
        plate: str = "甘A12345",
        colour: int = 0,
        vehicle_type: int = 1,
        user_type: int = 0,
        axle_count: int | None = 2,
        entry: TollInfo | None = None,
        entry_prefix: str = "AA2900",
        card_network: str = "6201",
        card_number: str = "2045220000123456",
        card_kind: int = 22,
        province_count: int = 1,
        due_fen: int = 0,
        paid_fen: int = 0,
        success_count: int = 0,
        mileage_m: int = 0,
        no_card_count: int = 0,
        algorithm: crypto.AlgorithmName = "3des",
    ) -> Self:
        """A new OBU. Without `entry` its EF04 is blank, as after an exit."""
        version = SM4_VERSION if algorithm == "sm4" else 0x40
        system = ObuSystemInfo(
            issuer, 0, version, contract_serial, valid_from, valid_to, is_installed
        )
        vehicle = ObuVehicleInfo(plate, colour, vehicle_type, user_type, axle_count)
        totals = None
        if entry is not None:
            totals = GantryTotals(
                entry=replace(entry, accumulated_fen=0, lock=0),
                entry_prefix=entry_prefix,
                card_network=card_network,
                card_number=card_number,
                province_count=province_count,
                due_fen=due_fen,
                paid_fen=paid_fen,
                success_count=success_count,
                mileage_m=mileage_m,
                no_card_count=no_card_count,
            )
        block = encode_totals(totals, issuer, card_kind) if totals else None
        obu = cls(encode_obu_system(system), encode_vehicle(vehicle), block)
        obu._remember(memory or ChipMemory())
        return obu

    @classmethod
    def resume(cls, memory: ChipMemory) -> Self | None:
        """The OBU this memory holds; None if it was never written."""
        state = memory.load()
        if state is None:
            return None
        totals = state["totals"]
        return cls(
            bytes.fromhex(state["system"]),
            bytes.fromhex(state["vehicle"]),
            bytes.fromhex(totals) if totals else None,
        )

    def _remember(self, memory: ChipMemory) -> None:
        state: dict[str, Any] = {
            "system": self.system.hex(),
            "vehicle": self.vehicle.hex(),
            "totals": self.totals.hex() if self.totals else None,
        }
        memory.save(state)

    # ---- the chip ----

    def reset(self) -> None:
        super().reset()
        self._selected = MF

    def _select(self, apdu: Apdu) -> bytes:
        is_inside = self._selected in (DF_OBU, EF_TOTALS)
        if apdu.data not in (MF, DF_OBU) and not (apdu.data == EF_TOTALS and is_inside):
            raise Refusal(StatusWord.NO_FILE)
        self._selected = apdu.data
        return b"\x6f\x04\x84\x02" + apdu.data if apdu.le else b""

    def _read_binary(self, apdu: Apdu) -> bytes:
        if self._selected == MF and apdu.p1 == 0x81:
            return piece(self.system.ljust(SYSTEM_LENGTHS[1], b"\x00"), apdu.p2, apdu.le)
        if self._selected == EF_TOTALS and apdu.p1 < 0x80:
            block = self.totals or b""
            file = (bytes(TOTALS_OFFSET) + block).ljust(TOTALS_FILE_LENGTH, b"\x00")
            return piece(file, apdu.p1 << 8 | apdu.p2, apdu.le)
        raise Refusal(StatusWord.NO_FILE)

    def _read_vehicle(self, apdu: Apdu) -> bytes:
        if self._selected != DF_OBU:
            raise Refusal(StatusWord.CONDITIONS)
        if len(apdu.data) != 10:
            raise Refusal(StatusWord.WRONG_LENGTH)
        random, length, key_id = apdu.data[:8], apdu.data[8], apdu.data[9]
        if key_id:
            raise Refusal(StatusWord.NO_KEY)
        body = random + self.vehicle[:length]
        return self._suite.encipher(self._key, self._suite.pad(bytes([len(body)]) + body))
