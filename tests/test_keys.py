"""The box's signing key: made once, for its owner alone, and never a reason not to sell."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.check.signing import _key as check_key
from gateway.errors import KeyMissing
from gateway.keys import CONTEXT, _believed, is_signed, of_box, prepare, read_public


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = prepare(tmp_path)
    assert prepare(tmp_path).public_hex == first.public_hex == of_box(tmp_path).public_hex
    private = tmp_path / "keys" / "lane.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    assert private.parent.stat().st_mode & 0o777 == 0o700
    shown = read_public(str(tmp_path / "keys" / "lane.pub"))
    assert shown.hex() == first.public_hex


@pytest.mark.parametrize("spoilt", [b"", b"garbage", bytes(100)])
def test_a_spoilt_key_is_set_aside_and_a_new_one_made(tmp_path: Path, spoilt: bytes) -> None:
    first = prepare(tmp_path)
    private = tmp_path / "keys" / "lane.pem"
    private.write_bytes(spoilt)
    second = prepare(tmp_path)
    assert second.public_hex != first.public_hex
    assert (tmp_path / "keys" / "lane.pem.bad1").read_bytes() == spoilt
    assert read_public(str(tmp_path / "keys" / "lane.pub")).hex() == second.public_hex


def spoilings(raw: bytes) -> Iterator[bytes]:
    """Each bit flipped, each byte gone, each end cut off, pages of zeros."""
    for at in range(len(raw)):
        yield from (raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :] for bit in range(8))
        yield raw[:at] + raw[at + 1 :]
        yield raw[:at]
        yield raw[:at] + bytes(min(16, len(raw) - at)) + raw[at + 16 :]


def test_whatever_happens_to_the_key_it_is_the_same_or_not_believed(tmp_path: Path) -> None:
    """A flipped bit in the key's own bytes makes another valid key: it is never taken for ours."""
    prepare(tmp_path)
    private, public = ((tmp_path / "keys" / name).read_bytes() for name in ("lane.pem", "lane.pub"))
    same, refused = 0, 0
    for spoilt in spoilings(private):
        try:
            assert _believed(spoilt, public, tmp_path).private_pem in private, spoilt
            same += 1
        except KeyMissing:
            refused += 1
    assert (same > 100, refused > 1000) == (True, True)
    for spoilt in spoilings(public):
        assert _believed(private, spoilt, tmp_path).public_pem == public


def test_a_changed_key_is_no_new_key_unsaid(tmp_path: Path) -> None:
    first, private = prepare(tmp_path), tmp_path / "keys" / "lane.pem"
    raw = bytearray(private.read_bytes())
    raw[80:81] = b"B" if raw[80:81] == b"A" else b"A"  # still base64, and a key: another one
    private.write_bytes(raw)
    with pytest.raises(KeyMissing, match="对不上"):
        of_box(tmp_path)
    assert prepare(tmp_path).public_hex != first.public_hex
    assert (tmp_path / "keys" / "lane.pem.bad1").read_bytes() == raw


def test_a_key_that_is_gone_is_another_one_and_the_old_public_half_is_kept(tmp_path: Path) -> None:
    first, folder = prepare(tmp_path), tmp_path / "keys"
    (folder / "lane.pem").unlink()
    assert prepare(tmp_path).public_hex != first.public_hex
    assert (folder / "lane.pub.bad1").read_bytes() == first.public_pem


def test_what_openssl_itself_trips_over_is_a_broken_key_too(tmp_path: Path) -> None:
    """cryptography.exceptions.InternalError, which is no ValueError (seen)."""
    prepare(tmp_path)
    private = tmp_path / "keys" / "lane.pem"
    raw = bytearray(private.read_bytes())
    raw[43] = 118
    private.write_bytes(raw)
    with pytest.raises(KeyMissing):
        of_box(tmp_path)
    prepare(tmp_path)
    assert (tmp_path / "keys" / "lane.pem.bad1").read_bytes() == raw


def test_a_disk_that_does_not_read_costs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(tmp_path)

    def no(_: Path) -> bytes:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", no)
        with pytest.raises(OSError, match="no"):
            prepare(tmp_path)
    assert prepare(tmp_path).public_hex == first.public_hex


def test_a_key_of_an_older_program_without_its_public_half_is_taken_on(tmp_path: Path) -> None:
    first, private = prepare(tmp_path), tmp_path / "keys" / "lane.pem"
    private.write_bytes(first.private_pem)
    assert prepare(tmp_path).public_hex == first.public_hex
    assert private.read_bytes() == first.private_pem + first.public_pem


def test_a_public_half_that_was_lost_is_shown_again(tmp_path: Path) -> None:
    first = prepare(tmp_path)
    (tmp_path / "keys" / "lane.pub").unlink()
    prepare(tmp_path)
    assert read_public(str(tmp_path / "keys" / "lane.pub")).hex() == first.public_hex


def test_a_signature_is_of_these_bytes_as_a_parcel_by_this_key(tmp_path: Path) -> None:
    signer, other = prepare(tmp_path / "a"), prepare(tmp_path / "b")
    signed, public = signer.sign(b"words"), bytes.fromhex(signer.public_hex)
    assert is_signed(public, b"words", signed)
    assert not is_signed(public, b"word", signed)
    assert not is_signed(bytes.fromhex(other.public_hex), b"words", signed)
    assert not is_signed(public, b"words", signed[:-1])
    assert not is_signed(public[:-1], b"words", signed)


def test_what_a_key_signed_elsewhere_is_no_parcel() -> None:
    """A centre signs parameter packages with the same key, without our context."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert not is_signed(public, b"words", key.sign(b"words"))
    assert is_signed(public, b"words", key.sign(CONTEXT + b"words"))


def test_a_public_key_is_hex_or_a_file_of_either_kind(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().public_key()
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem, plain = tmp_path / "k.pem", tmp_path / "k.txt"
    pem.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    plain.write_text(raw.hex())
    assert {read_public(str(pem)), read_public(str(plain)), read_public(raw.hex())} == {raw}
    bad = tmp_path / "bad"
    bad.write_bytes(b"\xff\xfe")
    for wrong in (str(bad), str(tmp_path / "none"), "abc", str(tmp_path)):
        with pytest.raises(KeyMissing):
            read_public(wrong)


def test_without_a_key_it_is_said_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing) as none:
        of_box(tmp_path)
    assert "第一次启动" in none.value.action


def test_check_tells_the_public_key_and_who_else_may_read_the_private_one(tmp_path: Path) -> None:
    from types import SimpleNamespace

    settings = SimpleNamespace(data=tmp_path)
    assert str(check_key(settings)).startswith("PASS  签名密钥：会在首次启动时生成")
    signer = prepare(tmp_path)
    assert str(check_key(settings)) == f"PASS  签名密钥：公钥 {signer.public_hex}"
    (tmp_path / "keys" / "lane.pem").chmod(0o644)
    assert str(check_key(settings)).startswith("FAIL")
    (tmp_path / "keys" / "lane.pem").write_bytes(b"x")
    assert str(check_key(settings)).startswith(("WARN", "FAIL"))
