"""`compress`, in the plainest way: a dictionary of whole strings, one code after another."""

from __future__ import annotations


def packed(content: bytes, widest: int = 16, *, clear_at: int = 0, block: bool = True) -> bytes:
    """The bytes of a `.Z` file. *clear_at* empties the dictionary after so many codes."""
    header = bytes([0x1F, 0x9D, widest | (0x80 if block else 0)])
    out = _Codes()
    strings = _fresh(block=block)
    string = b""
    codes = 0
    for byte in content:
        longer = string + bytes([byte])
        if longer in strings:
            string = longer
            continue
        out.write(strings[string])
        codes += 1
        if block and clear_at and codes % clear_at == 0:
            # What was read last has not yet gone into the dictionary on the other side.
            out.write(256)
            out.end_group()
            out.width = 9
            strings = _fresh(block=block)
        elif len(strings) < 1 << widest:
            strings[longer] = len(strings)
            # The other side is one entry behind.
            if len(strings) > (1 << out.width) and out.width < widest:
                out.end_group()
                out.width += 1
        string = bytes([byte])
    if string:
        out.write(strings[string])
    return header + out.bytes()


def packed_zeros(codes: int) -> bytes:
    """As short as can be: each code is one zero longer than the one before it."""
    out = _Codes()
    out.write(0)
    for code in range(257, 256 + codes):
        if code == 1 << out.width:
            out.end_group()
            out.width += 1
        out.write(code)
    return b"\x1f\x9d\x90" + out.bytes()


def _fresh(*, block: bool) -> dict[bytes, int]:
    strings = {bytes([byte]): byte for byte in range(256)}
    if block:
        strings[b"\0no string" * 99] = 256
    return strings


class _Codes:
    """Codes of growing width, in groups of eight."""

    def __init__(self) -> None:
        self.width = 9
        self._bits: list[str] = []
        self._group = 0

    def write(self, code: int) -> None:
        self._bits.append(f"{code:0{self.width}b}"[::-1])
        self._group = (self._group + 1) % 8

    def end_group(self) -> None:
        while self._group:
            self.write(0)

    def bytes(self) -> bytes:
        bits = "".join(self._bits)
        bits += "0" * (-len(bits) % 8)
        return int(bits[::-1] or "0", 2).to_bytes(len(bits) // 8, "little")
