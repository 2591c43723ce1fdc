"""Commands, answers and status words of the lane's chips, as bytes. No I/O.

Commands carry their Le, as ISO 7816-4 wants it; what T=0 makes of them is `t0_form` and
`t0_next`. Source: domain.md §1.5 (user card), §1.6 (status words), §2 (PSAM), §3 (OBU).
"""

from enum import IntEnum
from typing import Final, Self

from gateway.devices.ports import Answer
from gateway.errors import CardRefused, DeviceGarbled

CAPP_PURCHASE: Final = 0x09
"""交易类型 复合消费 (domain.md §1.5)."""

DF_ETC: Final = b"\x10\x01"
DF_PSAM: Final = b"\xdf\x01"
DF_OBU: Final = b"\xdf\x01"
EF_TOTALS: Final = b"\xef\x04"
MF: Final = b"\x3f\x00"


class StatusWord(IntEnum):
    """What a chip says after its data, and what it means to the collector (domain.md §1.6)."""

    meaning: str

    def __new__(cls, sw: int, meaning: str) -> Self:
        word = int.__new__(cls, sw)
        word._value_ = sw
        word.meaning = meaning
        return word

    OK = 0x9000, "成功"
    CORRUPT = 0x6281, "数据可能损坏"
    FILE_INVALID = 0x6283, "文件已失效"
    VERIFY_FAILED = 0x6300, "校验不通过"
    MEMORY_UNCHANGED = 0x6400, "卡片存储出错，数据没有改变"
    MEMORY_FAILED = 0x6581, "卡片写入出错"
    WRONG_LENGTH = 0x6700, "长度不对"
    SECURE_MESSAGING = 0x6882, "不支持安全报文"
    FILE_TYPE = 0x6981, "文件类型不对"
    SECURITY = 0x6982, "没有权限"
    BLOCKED = 0x6983, "密钥已锁定"
    DATA_INVALID = 0x6984, "随机数或引用数据无效"
    CONDITIONS = 0x6985, "步骤不对，卡片没有进行中的交易"
    NO_FILE_SELECTED = 0x6986, "没有选择文件"
    MAC_MISSING = 0x6987, "缺少安全报文 MAC"
    MAC_WRONG = 0x6988, "安全报文 MAC 不对"
    DATA_WRONG = 0x6A80, "数据不对"
    UNSUPPORTED = 0x6A81, "功能不支持或卡片已锁定"
    NO_FILE = 0x6A82, "没有这个文件"
    NO_RECORD = 0x6A83, "没有这条记录"
    NO_SPACE = 0x6A84, "空间不够"
    P1P2 = 0x6A86, "参数不对"
    NO_KEY = 0x6A88, "没有这把密钥"
    OFFSET = 0x6B00, "偏移超出文件"
    UNKNOWN_INS = 0x6D00, "不认识的命令"
    UNKNOWN_CLA = 0x6E00, "不认识的命令类别"
    NO_DIAGNOSIS = 0x6F00, "卡片没有说明原因"
    NO_FUNDS = 0x9301, "余额不足"
    WRONG_MAC = 0x9302, "MAC 不对"
    LOCKED_FOREVER = 0x9303, "应用已永久锁定"
    AMOUNT_SHORT = 0x9401, "金额不足"
    COUNTER_FULL = 0x9402, "交易计数器已到最大值"
    KEY_INDEX = 0x9403, "不支持的密钥索引"
    NO_PROOF = 0x9406, "没有这笔交易的认证码"


_WORDS = {word.value: word for word in StatusWord}


def meaning(sw: int) -> str:
    """What a status word says, in Chinese; an unlisted one is named as unknown."""
    if word := _WORDS.get(sw):
        return word.meaning
    if sw & 0xFFF0 == 0x63C0:
        return f"校验不通过，还可试 {sw & 0xF} 次"
    return "未知的状态字"


def expect(answer: Answer, command: str, length: int | None = None) -> bytes:
    """The data of a good answer.

    Args:   command: its Chinese name, for the collector. length: bytes wanted; None = any.
    Raises: CardRefused, if the status word is not 9000; DeviceGarbled, if the length is wrong.
    """
    if answer.sw != StatusWord.OK:
        raise CardRefused(
            answer.sw, command, f"{command}被拒绝：{meaning(answer.sw)}（SW={answer.sw:04X}）"
        )
    if length is not None and len(answer.data) != length:
        raise DeviceGarbled(f"{command}应答 {len(answer.data)} 字节，应为 {length} 字节")
    return answer.data


def proves_nothing_happened(sw: int) -> bool:
    """Whether a refusal of DEBIT is certain to have left the purse alone.

    ISO 7816-4 lets 62xx, 63xx, 65xx and 6Fxx come from a card that was already writing; those,
    and words nobody listed, must be proved by the counter instead.
    """
    return sw == StatusWord.MEMORY_UNCHANGED or (
        sw in _WORDS and sw >> 8 in (0x67, 0x68, 0x69, 0x6A, 0x6B, 0x6D, 0x6E, 0x93, 0x94)
    )


# ---- commands -------------------------------------------------------------------------------


def select(file_id: bytes) -> bytes:
    """SELECT by a 2-byte file id; the FCI is asked for, and nobody reads it."""
    return b"\x00\xa4\x00\x00\x02" + _sized(file_id, 2, "file id") + b"\x00"


def select_quietly(file_id: bytes) -> bytes:
    """SELECT without asking for the FCI (EF04 of the OBU, domain.md §3.4)."""
    return b"\x00\xa4\x00\x00\x02" + _sized(file_id, 2, "file id")


def read_binary(sfi: int, length: int) -> bytes:
    """READ BINARY from the start of a file by its short id (1 to 30)."""
    return bytes([0x00, 0xB0, 0x80 | sfi, 0x00, length])


def read_at(offset: int, length: int) -> bytes:
    """READ BINARY of the selected file; offset 0 to 7FFF."""
    if not 0 <= offset < 0x8000:
        raise ValueError(f"offset {offset} does not fit 15 bits")
    return b"\x00\xb0" + offset.to_bytes(2) + bytes([length])


def read_record(sfi: int, number: int, length: int) -> bytes:
    """READ RECORD by number, counted from 1: 0019 rec 1 is 00B201CC2B."""
    return bytes([0x00, 0xB2, number, sfi << 3 | 4, length])


def get_balance() -> bytes:
    """GET BALANCE of the electronic purse: 4 bytes, unsigned."""
    return bytes.fromhex("805C000204")


def init_purchase(amount_fen: int, terminal_no: bytes, key_index: int = 1) -> bytes:
    """INITIALIZE FOR CAPP PURCHASE 复合消费初始化. Moves no money.

    Args:   amount_fen: 0 ≤ x < 2³². terminal_no: 6 bytes, PSAM file 0016.
    Returns: 80 50 03 02 0B ‖ key(1) ‖ amount(4) ‖ terminal(6) ‖ Le 0F.
    Raises: ValueError, OverflowError; nothing has been sent then.
    """
    terminal = _sized(terminal_no, 6, "terminal number")
    return (
        b"\x80\x50\x03\x02\x0b" + bytes([key_index]) + amount_fen.to_bytes(4) + terminal + b"\x0f"
    )


def update_toll(record: bytes) -> bytes:
    """UPDATE CAPP DATA CACHE of 0019 record AA; effective only with the DEBIT that follows."""
    return b"\x80\xdc\xaa\xc8\x2b" + _sized(record, 43, "toll record")


def debit(terminal_seq: int, at: str, mac1: bytes) -> bytes:
    """DEBIT FOR CAPP PURCHASE. Irreversible.

    Args:   at: yyyymmddHHMMSS, as the PSAM was told. mac1: 4 bytes of the PSAM.
    Returns: 80 54 01 00 0F ‖ terminal seq(4) ‖ date(4) ‖ time(3) ‖ MAC1(4) ‖ Le 08.
    """
    moment = _sized(bytes.fromhex(at), 7, "date and time")
    mac = _sized(mac1, 4, "MAC1")
    return b"\x80\x54\x01\x00\x0f" + terminal_seq.to_bytes(4) + moment + mac + b"\x08"


def get_proof(card_seq: int) -> bytes:
    """GET TRANSACTION PROOF 取交易认证 of a composite purchase: MAC and TAC, 8 bytes."""
    return b"\x80\x5a\x00" + bytes([CAPP_PURCHASE]) + b"\x02" + card_seq.to_bytes(2) + b"\x08"


def psam_init_purchase(body: bytes) -> bytes:
    """INIT_SAM_FOR_PURCHASE: 36 bytes (domain.md §2) → terminal seq(4) ‖ MAC1(4)."""
    return b"\x80\x70\x00\x00\x24" + _sized(body, 36, "8070 body") + b"\x08"


def psam_check_mac2(mac2: bytes) -> bytes:
    """CREDIT_SAM_FOR_PURCHASE: the PSAM checks the card's MAC2. Wrong ones lock it in time."""
    return b"\x80\x72\x00\x00\x04" + _sized(mac2, 4, "MAC2")


def psam_deliver_key(serial: bytes, issuer: bytes, key_id: int = 0) -> bytes:
    """DELIVERY KEY: derive the OBU's file key in two levels from issuer ×2 and serial.

    Args: serial: 8 bytes, contract serial. issuer: the first 4 bytes of the OBU's issuer.
    """
    factors = _sized(serial, 8, "contract serial") + _sized(issuer, 4, "issuer") * 2
    return bytes([0x80, 0x1A, 0x59, key_id + 3, 0x10]) + factors


def psam_decrypt(cipher: bytes) -> bytes:
    """CIPHER DATA with the delivered key: as many bytes come back."""
    return b"\x80\xfa\x80\x00" + bytes([len(cipher)]) + cipher + bytes([len(cipher)])


def read_vehicle(random: bytes, plain_length: int, key_id: int = 0) -> bytes:
    """Read the OBU's vehicle file enciphered; `random` comes back inside (domain.md §3.3)."""
    body = _sized(random, 8, "random") + bytes([plain_length, key_id])
    return b"\x00\xb4\x00\x00\x0a" + body + b"\x00"


def _sized(value: bytes, length: int, name: str) -> bytes:
    if len(value) != length:
        raise ValueError(f"{name} is {len(value)} bytes, wants {length}")
    return value


# ---- T=0 ------------------------------------------------------------------------------------

T0_STEPS_MAX = 8  # GET RESPONSEs and repeats in one exchange; a chip that wants more is broken


def t0_form(command: bytes) -> bytes:
    """The command as T=0 carries it: a case 4 leaves its Le at home (domain.md §1.5)."""
    has_data_and_le = len(command) > 5 and len(command) == 6 + command[4]
    return command[:-1] if has_data_and_le else command


def t0_next(command: bytes, sw: int) -> bytes | None:
    """What to send after this status word: GET RESPONSE, a repeat with the right Le, or nothing.

    Only a command without data is repeated: 6Cxx to anything else goes up as a refusal, so
    that no purchase command is ever sent twice from down here.
    """
    if sw >> 8 == 0x61:
        return b"\x00\xc0\x00\x00" + bytes([sw & 0xFF])
    if sw >> 8 == 0x6C and len(command) == 5:
        return command[:4] + bytes([sw & 0xFF])
    return None
