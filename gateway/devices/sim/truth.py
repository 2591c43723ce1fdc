"""What lies on the lane and what its chips hold, in the words of GET /bench/vehicle. Pure."""

from typing import Any

from gateway.devices.etc_files import CardKind, decode_toll, is_blank_toll
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.vehicle import CardKindName, Vehicle
from gateway.params import Stations


def told(vehicle: Vehicle, card: SimUserCard, exit_hex: str, stations: Stations) -> dict[str, Any]:
    """What was put there: every field, and the card as it is now."""
    station = stations.by_hex(vehicle.entry_hex or "")
    return {
        **vehicle.model_dump(exclude={"obu_serial", "card_number", "tag_plate"}),
        "card_id": card.info.card_id,
        "card_kind": kind_of(card),
        "balance_fen": card.balance,
        "card_seq": card.card_seq,
        "algorithm": card.algorithm,
        "entry_station": station.name if station else None,
        "exit_hex": exit_hex,
        "obu": vehicle.obu_serial is not None,
        "obu_id": vehicle.obu_serial,
        "tag_plate": vehicle.tag_plate if vehicle.obu_serial else None,
    }


def card_truth(card: SimUserCard, is_on_reader: bool) -> dict[str, Any]:
    """Purse, counter, 0019 and every debit of one card."""
    trip = None if is_blank_toll(card.toll) else decode_toll(card.toll)
    return {
        "card_id": card.info.card_id,
        "plate": card.info.plate,
        "card_kind": kind_of(card),
        "balance_fen": card.balance,
        "card_seq": card.card_seq,
        "algorithm": card.algorithm,
        "station_hex": trip.station_hex if trip else None,
        "status": trip.status if trip else None,
        "toll_hex": card.toll.hex().upper(),
        "valid_to": card.info.valid_to,
        "on_reader": is_on_reader,
        "debits": debits_of(card),
    }


def tag_truth(vehicle: Vehicle, is_in_range: bool) -> dict[str, Any]:
    """The tag this vehicle carries."""
    return {
        "obu_id": vehicle.obu_serial,
        "plate": vehicle.tag_plate,
        "removed": vehicle.obu_removed,
        "valid_to": vehicle.obu_valid_to,
        "due_fen": vehicle.accumulated_fen,
        "paid_fen": vehicle.paid_fen,
        "in_range": is_in_range,
    }


def debits_of(card: SimUserCard) -> list[dict[str, Any]]:
    """What this card performed, oldest first."""
    return [
        {"card_id": card.info.card_id, "plate": card.info.plate, **debit._asdict()}
        for debit in card.ledger
    ]


def kind_of(card: SimUserCard) -> CardKindName:
    return "credit" if card.info.card_kind == CardKind.CREDIT else "stored"
