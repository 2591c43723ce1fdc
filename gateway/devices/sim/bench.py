"""The bench: puts vehicles on a lane of twins, tells what the chips hold, breaks what is asked.

A new plate is a new card, the same plate the same card. With a folder everything it put there
survives a kill: the same card lies on the reader again with the same balance.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.devices.etc_files import CardKind
from gateway.devices.sim.camera import TRUCKS_FROM, InView, SimCamera
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.drawer import Drawer
from gateway.devices.sim.faults import CenterSwitch, DemoClock, DiskSwitch, Faults
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.obu import SimObu
from gateway.devices.sim.psam import SimPsam
from gateway.devices.sim.scale import SimScale
from gateway.devices.sim.truth import card_truth, debits_of, kind_of, tag_truth, told
from gateway.devices.sim.vehicle import (
    CREDIT_PURSE,
    STORED_FEN,
    OnCard,
    Vehicle,
    VehicleFields,
    complete,
)
from gateway.errors import RequestInvalid
from gateway.params import Parameters
from gateway.units import Clock

__all__ = ["Bench", "DemoClock"]

NETWORK, ISSUER = "6201", "B8CACBE062010001"
FIRST_NUMBER = 100_001
PUT_BACK = frozenset({"plate", "preset"})
"""A request with nothing else means the card itself, not a new trip, if it was pulled."""


class Bench:
    """One lane's. What `put` has answered is on the devices and, with a folder, on disk."""

    def __init__(
        self,
        card: SimLink,
        psam: SimLink,
        obu: SimLink | None,
        camera: SimCamera | None,
        scale: SimScale | None,
        parameters: Callable[[], Parameters],
        exit_hex: str,
        folder: Path | None,
        clock: Clock,
        *,
        terminal_no: str = "0162000012AB",
        center: CenterSwitch | None = None,
        disk: DiskSwitch | None = None,
    ) -> None:
        self._card, self._psam, self._obu = card, psam, obu
        self._camera, self._scale = camera, scale
        self._parameters, self._exit_hex, self._clock = parameters, exit_hex, clock
        self._faults = Faults(card, psam, obu, camera, scale, clock, center, disk)
        self._drawer = Drawer(folder)
        state = self._drawer.load("bench") or {"next": FIRST_NUMBER, "vehicle": None}
        self._next: int = state["next"]
        self._vehicle: Vehicle | None = None
        self._user_card: SimUserCard | None = None
        self._tag: SimObu | None = None
        memory = self._drawer.memory("psam")
        self._terminal = SimPsam.resume(memory) or SimPsam.issue(memory, terminal_no=terminal_no)
        psam.insert(self._terminal)
        if state["vehicle"] is not None:
            self._return(Vehicle.model_validate(state["vehicle"]))

    # ---- vehicles ----

    def put(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Put a vehicle on the lane; what is there now. See `VehicleFields` for the fields.

        Without a plate a new one is invented. A card that exists keeps balance and counters
        and gets a new entry; if it was merely pulled, it is laid back as it was.
        Raises: RequestInvalid; the lane is then as before.
        """
        asked = VehicleFields.read(fields)
        if self._is_pulled_card_of(asked) and set(fields) <= PUT_BACK:
            self._lay_down()
            return self._told()
        number, card = self._known(asked)
        vehicle = complete(asked, number, card, self._parameters(), self._clock.now_ms())
        user_card = self._drawer.card(vehicle.card_number)
        _check_kind(asked, user_card)
        self._remember_plate(vehicle, number)
        self._user_card = self._charge(user_card, vehicle, asked)
        self._tag = self._fit_tag(vehicle, self._user_card)
        self._vehicle = vehicle
        self._save()
        self._card.remove()  # also the same card comes anew
        self._lay_down()
        return self._told()

    def take_away(self) -> dict[str, Any]:
        """The vehicle leaves with its card and tag."""
        self._vehicle = self._user_card = self._tag = None
        self._save()
        self._lay_down()
        return {"present": False}

    # ---- truth ----

    def truth(self) -> dict[str, Any]:
        """What the chips hold, whatever anyone heard of it."""
        vehicle, card, psam = self._vehicle, self._user_card, self._terminal
        has_tag = self._tag is not None
        is_in_range = has_tag and self._obu is not None and self._obu.chip is self._tag
        return {
            "present": vehicle is not None,
            "vehicle": self._told() if vehicle else None,
            "card": card_truth(card, self._card.chip is card) if card else None,
            "psam": {
                "terminal_no": psam.terminal_no,
                "terminal_seq": psam.terminal_seq,
                "locked": psam.is_locked,
                "authorised": psam.is_authorised,
                "exhausted": psam.terminal_seq >= psam.seq_max,
                "in_slot": self._psam.chip is psam,
            },
            "obu": tag_truth(vehicle, is_in_range) if vehicle and has_tag else None,
            "scale": {"weight_kg": self._scale.weight_kg} if self._scale else None,
        }

    def ledger(self) -> list[dict[str, Any]]:
        """Every debit any card of this bench performed, oldest first."""
        debits = [debit for card in self._drawer.cards() for debit in debits_of(card)]
        return sorted(debits, key=lambda debit: (debit["at"], debit["terminal_seq"]))

    # ---- faults ----

    async def arm(
        self, device: str, fault: str, after: int | None = None, seconds: int | None = None
    ) -> dict[str, Any]:
        """Let a device fail; what was armed. `after`: at the n-th APDU from now.

        `seconds`: how far the clock jumps, how slow the centre is.
        Raises: RequestInvalid, if there is no such fault here.
        """
        return await self._faults.arm(device, fault, after, seconds)

    async def disarm(self) -> dict[str, Any]:
        """Everything works again, and pulled chips lie where they lay."""
        self._lay_down()
        await self._faults.disarm()
        return {"armed": []}

    # ---- how ----

    def _known(self, asked: VehicleFields) -> tuple[int, OnCard | None]:
        """The number behind the plate, and the card that belongs to it."""
        note = self._drawer.load("plates", asked.plate) if asked.plate else None
        if note is None:
            return self._next, None
        card = self._drawer.card(note["card_number"])
        if card is None:
            return note["number"], None
        info = card.info
        return note["number"], OnCard(
            number=info.card_number,
            colour=info.plate_colour,
            vehicle_type=info.vehicle_type,
            vehicle_class=info.user_type,
            valid_to=info.valid_to,
        )

    def _remember_plate(self, vehicle: Vehicle, number: int) -> None:
        """Numbers are used up before anything carries them: a crash may skip one, never repeat."""
        if number == self._next:
            self._next += 1
            self._save()
        note = {"number": number, "card_number": vehicle.card_number}
        self._drawer.save(note, "plates", vehicle.plate)

    def _charge(
        self, card: SimUserCard | None, vehicle: Vehicle, asked: VehicleFields
    ) -> SimUserCard:
        """The card as this trip finds it: new, or known with a fresh entry."""
        if card is None:
            card = self._issue(vehicle, asked)
        card.info = replace(
            card.info,
            plate=vehicle.plate,
            plate_colour=vehicle.colour,
            vehicle_type=vehicle.vehicle_type,
            user_type=vehicle.vehicle_class,
            valid_to=vehicle.valid_to,
        )
        if asked.balance_fen is not None:
            card.balance = asked.balance_fen
        card.write_entry(vehicle.toll())
        return card

    def _issue(self, vehicle: Vehicle, asked: VehicleFields) -> SimUserCard:
        is_credit = asked.card_kind == "credit"
        return self._drawer.keep(
            vehicle.card_number,
            lambda memory: SimUserCard.issue(
                memory,
                plate=vehicle.plate,
                card_kind=CardKind.CREDIT if is_credit else CardKind.STORED,
                balance_fen=CREDIT_PURSE if is_credit else STORED_FEN,
                network=NETWORK,
                card_number=vehicle.card_number,
                issuer=ISSUER,
                algorithm=asked.algorithm or "3des",
            ),
        )

    def _fit_tag(self, vehicle: Vehicle, card: SimUserCard) -> SimObu | None:
        if vehicle.obu_serial is None:
            return None
        is_truck = vehicle.vehicle_type >= TRUCKS_FROM
        return SimObu.issue(
            self._drawer.memory("obus", vehicle.obu_serial),
            contract_serial=vehicle.obu_serial,
            is_installed=not vehicle.obu_removed,
            valid_to=vehicle.obu_valid_to,
            issuer=ISSUER,
            plate=vehicle.tag_plate,
            colour=vehicle.colour,
            vehicle_type=vehicle.vehicle_type,
            user_type=vehicle.vehicle_class,
            axle_count=None if is_truck else vehicle.axle_count,
            entry=vehicle.toll(),
            card_network=NETWORK,
            card_number=vehicle.card_number,
            card_kind=card.info.card_kind,
            due_fen=vehicle.accumulated_fen,
            paid_fen=vehicle.paid_fen,
            success_count=vehicle.success_count,
            mileage_m=vehicle.mileage_m,
            no_card_count=vehicle.no_card_count,
            algorithm=card.algorithm,
        )

    def _return(self, vehicle: Vehicle) -> None:
        """After a restart: what was there is there again."""
        self._user_card = self._drawer.card(vehicle.card_number)
        if self._user_card is None:
            return
        self._vehicle = vehicle
        if vehicle.obu_serial is not None:
            self._tag = SimObu.resume(self._drawer.memory("obus", vehicle.obu_serial))
        self._lay_down()

    def _lay_down(self) -> None:
        """Bring the devices into line with what stands on the lane."""
        _place(self._card, self._user_card)
        _place(self._psam, self._terminal)
        if self._obu:
            _place(self._obu, self._tag)
        vehicle = self._vehicle
        if self._camera:
            self._camera.in_view = (
                InView(vehicle.plate, vehicle.colour, vehicle.vehicle_type) if vehicle else None
            )
        if self._scale:
            self._scale.weight_kg = vehicle.weight_kg if vehicle else 0

    def _is_pulled_card_of(self, asked: VehicleFields) -> bool:
        standing = self._vehicle
        is_same = standing is not None and asked.plate == standing.plate
        return is_same and self._card.chip is not self._user_card

    def _told(self) -> dict[str, Any]:
        assert self._vehicle is not None
        assert self._user_card is not None
        return told(self._vehicle, self._user_card, self._exit_hex, self._parameters().stations)

    def _save(self) -> None:
        vehicle = self._vehicle.model_dump() if self._vehicle else None
        self._drawer.save({"next": self._next, "vehicle": vehicle}, "bench")


def _place(link: SimLink, chip: SimUserCard | SimPsam | SimObu | None) -> None:
    if link.chip is chip and chip is not None:
        return  # it lies there already: moving it would cut a connection
    link.remove()
    if chip is not None:
        link.insert(chip)


def _check_kind(asked: VehicleFields, card: SimUserCard | None) -> None:
    if card is not None and asked.card_kind not in (None, kind_of(card)):
        name = "储值卡" if kind_of(card) == "stored" else "记账卡"
        raise RequestInvalid(f"车牌 {card.info.plate} 的卡是{name}，不能改卡种")
    if card is not None and asked.algorithm not in (None, card.algorithm):
        raise RequestInvalid(f"车牌 {card.info.plate} 的卡用 {card.algorithm}，不能改算法")
