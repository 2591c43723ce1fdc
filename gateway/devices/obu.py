"""The OBU in words, through its ESAM: system file, vehicle file, gantry totals. No rules.

The vehicle file comes enciphered; the PSAM deciphers it, and our own random in it proves that
the answer belongs to this question (domain.md §3.3), and under which of its keys.
"""

import secrets

from gateway.devices import apdu
from gateway.devices.etc_files import (
    SYSTEM_LENGTHS,
    TOTALS_LENGTH,
    GantryTotals,
    ObuSystemInfo,
    ObuVehicleInfo,
    TagFacts,
    decode_obu_system,
    decode_totals,
    decode_vehicle,
)
from gateway.devices.ports import CardLink
from gateway.devices.psam import Psam
from gateway.errors import CardRefused, DeviceGarbled

SFI_SYSTEM = 0x01
TOTALS_OFFSET = 314
PLAIN_LENGTH = 59
"""Every file has 59 bytes; the 79 of new ones add only what a lane does not need."""
HEADER_MAX = 17
"""Sources skip headers of different length before the random (domain.md §12.6)."""
KEY_3DES, KEY_SM4 = 0, 1
"""The PSAM's ids of its vehicle keys; that 1 is the SM4 one is assumed (domain.md §2)."""
SM4_BLOCK = 16
CIPHER_MAX = 248
"""Bytes that one command to the PSAM takes, in whole blocks."""


class ObuReader:
    """The OBU in range, read with the PSAM's help."""

    def __init__(self, link: CardLink, psam: Psam) -> None:
        self._link, self._psam = link, psam

    async def read(self) -> TagFacts:
        """System file, vehicle file, totals.

        Raises: CardAbsent, if there is no OBU; NoAnswer, DeviceUnavailable, CardRefused,
            DeviceGarbled, of the OBU or of the PSAM.
        """
        await self._link.connect()
        await self._data("选择标签目录", apdu.select(apdu.MF))
        raw = await self._data("读标签系统信息", apdu.read_binary(SFI_SYSTEM, SYSTEM_LENGTHS[0]))
        system = decode_obu_system(raw)
        await self._data("选择标签应用", apdu.select(apdu.DF_OBU))
        vehicle = await self._vehicle(system)
        return TagFacts(system, vehicle, await self._totals())

    async def _vehicle(self, system: ObuSystemInfo) -> ObuVehicleInfo:
        random = secrets.token_bytes(8)
        cipher = await self._data("读标签车辆信息", apdu.read_vehicle(random, PLAIN_LENGTH))
        if not cipher or len(cipher) % 8 or len(cipher) > CIPHER_MAX:
            what = f"标签车辆信息密文有 {len(cipher)} 字节"
            raise DeviceGarbled(f"{what}，应为 8 的倍数，不多于 {CIPHER_MAX}")
        for key_id in (KEY_3DES, KEY_SM4) if len(cipher) % SM4_BLOCK == 0 else (KEY_3DES,):
            serial, issuer = system.contract_serial, system.issuer
            plain = await self._psam.decrypt(serial, issuer, cipher, key_id)
            if (start := plain.find(random, 0, HEADER_MAX + len(random))) >= 0:
                return decode_vehicle(plain[start + len(random) :][:PLAIN_LENGTH])
        raise DeviceGarbled("标签车辆信息里没有本次的随机数，解密不对或不是本次的应答")

    async def _totals(self) -> GantryTotals | None:
        """EF04; an OBU without it, or with an empty one, is still an OBU."""
        try:
            await self._data("选择标签累计信息", apdu.select_quietly(apdu.EF_TOTALS))
            raw = await self._data("读标签累计信息", apdu.read_at(TOTALS_OFFSET, TOTALS_LENGTH))
            return decode_totals(raw)
        except (CardRefused, DeviceGarbled):
            return None

    async def _data(self, name: str, command: bytes) -> bytes:
        return apdu.expect(await self._link.send(command), name)
