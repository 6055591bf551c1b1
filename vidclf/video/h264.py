"""Reading of H.264 packets (ITU-T H.264, section 7.3) as far as planning needs it, without decoding pictures.

A picture of an interlaced video may be coded as two fields, each of which may be a packet. A picture that may be
decoded from may be complete only some pictures later (intra refresh); a message in the packet gives their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_SLICE, _SLICE_OF_KEYFRAME, _MESSAGES, _SEQUENCE, _PICTURE = 1, 5, 6, 7, 8
"""Types of the units (NAL units) of a packet that are read here."""
_RECOVERY_POINT = 6
"""Type of the message (SEI) that gives the number of pictures until the picture is complete."""
_HEADER_BYTES = 64
"""Bytes of a slice that surely hold the part of its header that is read."""
_PROFILES_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles whose sequence parameters state the kind of chroma and the scaling lists."""


@dataclass(frozen=True)
class Slice:
    """Facts about a picture or a field from the header of one of its slices."""

    frame_num: int
    """number of the picture, which both of its fields share"""
    num_frame_nums: int
    """numbers of pictures begin again at 0 after this many"""
    is_field: bool
    """whether it is half of an interlaced picture: its odd or its even rows"""
    is_bottom: bool
    """whether it is the field of the even rows, counted from 1"""
    is_keyframe: bool
    is_reference: bool
    """whether other pictures may refer to it"""


@dataclass(frozen=True)
class _Sequence:
    frame_num_bits: int
    has_fields: bool
    has_colour_planes: bool


@dataclass
class H264Reader:
    """Reader of the packets of one H.264 stream in decoding order.

    `extradata` are the parameters that the container stores for the stream.
    """

    extradata: bytes
    _sequences: dict[int, _Sequence] = field(default_factory=dict)
    _sequence_of_picture: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._length_bytes = 0
        if self.extradata[:1] == b"\1" and len(self.extradata) > 6:  # parameters as in MP4 (ISO/IEC 14496-15)
            self._length_bytes = (self.extradata[4] & 3) + 1
            for unit in _units_of_configuration(self.extradata):
                self._learn(unit)
        else:
            for unit in _units_after_start_codes(self.extradata):
                self._learn(unit)

    @property
    def may_have_fields(self) -> bool:
        """Whether the parameters read so far let a field be a packet of its own."""
        return any(sequence.has_fields for sequence in self._sequences.values())

    @property
    def has_parameters(self) -> bool:
        """Whether parameters of the stream were read so far."""
        return bool(self._sequences)

    def lone_field(self, packet: bytes) -> Slice | None:
        """Return the field of which a packet consists; None if it holds a whole picture, or nothing that can be read.

        The parameters in a packet are those of later packets too.
        """
        found: Slice | None = None
        for header in self._slices(packet):
            if not header.is_field or (found is not None and header.is_bottom != found.is_bottom):
                return None
            found = header
        return found

    def first_slice(self, packet: bytes) -> Slice | None:
        """Return the header of the first slice in a packet; None if none can be read."""
        return next(self._slices(packet), None)

    def pictures_until_complete(self, packet: bytes) -> int:
        """Return after how many pictures decoding from this packet gives complete pictures; 0 for at once."""
        for unit in self._units(packet):
            kind = unit[0] & 31
            if kind in (_SLICE, _SLICE_OF_KEYFRAME):
                return 0
            if kind == _MESSAGES:
                for message, payload in _messages(_unescaped(unit[1:])):
                    if message == _RECOVERY_POINT:
                        try:
                            return _Bits(payload).exp_golomb()
                        except ValueError:
                            return 0
        return 0

    def _slices(self, packet: bytes) -> Iterator[Slice]:
        for unit in self._units(packet):
            kind = unit[0] & 31
            if kind in (_SEQUENCE, _PICTURE):
                self._learn(unit)
            elif kind in (_SLICE, _SLICE_OF_KEYFRAME):
                header = self._slice(unit)
                if header is None:
                    return
                yield header

    def _units(self, packet: bytes) -> Iterator[bytes]:
        if self._length_bytes:
            return _units_after_lengths(packet, self._length_bytes)
        return _units_after_start_codes(packet)

    def _learn(self, unit: bytes) -> None:
        """Remember a set of parameters; one that cannot be read is passed over."""
        try:
            if unit[0] & 31 == _SEQUENCE:
                number, sequence = _sequence(_Bits(_unescaped(unit[1:])))
                self._sequences[number] = sequence
            elif unit[0] & 31 == _PICTURE:
                bits = _Bits(_unescaped(unit[1 : 1 + _HEADER_BYTES]))
                self._sequence_of_picture[bits.exp_golomb()] = bits.exp_golomb()
        except ValueError:
            return

    def _slice(self, unit: bytes) -> Slice | None:
        bits = _Bits(_unescaped(unit[1 : 1 + _HEADER_BYTES]))
        try:
            bits.exp_golomb()
            bits.exp_golomb()
            sequence = self._sequences.get(self._sequence_of_picture.get(bits.exp_golomb(), -1))
            if sequence is None:
                return None
            if sequence.has_colour_planes:
                bits.fixed(2)
            frame_num = bits.fixed(sequence.frame_num_bits)
            is_field = sequence.has_fields and bool(bits.fixed(1))
            is_bottom = is_field and bool(bits.fixed(1))
        except ValueError:
            return None
        return Slice(
            frame_num=frame_num,
            num_frame_nums=1 << sequence.frame_num_bits,
            is_field=is_field,
            is_bottom=is_bottom,
            is_keyframe=unit[0] & 31 == _SLICE_OF_KEYFRAME,
            is_reference=bool(unit[0] >> 5 & 3),
        )


class _Bits:
    """Reader of fixed and variable length codes. Raises ValueError behind the last bit."""

    def __init__(self, content: bytes) -> None:
        self._value = int.from_bytes(content, "big")
        self._left = 8 * len(content)

    def fixed(self, length: int) -> int:
        if length > self._left:
            raise ValueError("no bits are left")
        self._left -= length
        return (self._value >> self._left) & ((1 << length) - 1)

    def exp_golomb(self) -> int:
        """Read an unsigned number in Exp-Golomb code (section 9.1)."""
        num_zeros = 0
        while not self.fixed(1):
            num_zeros += 1
        return (1 << num_zeros) - 1 + self.fixed(num_zeros)

    def signed_exp_golomb(self) -> int:
        number = self.exp_golomb()
        return (number + 1) // 2 if number % 2 else -(number // 2)


def _sequence(bits: _Bits) -> tuple[int, _Sequence]:
    """Read the number of a set of sequence parameters, and those that slices depend on."""
    profile = bits.fixed(8)
    bits.fixed(16)
    number = bits.exp_golomb()
    has_colour_planes = False
    if profile in _PROFILES_WITH_CHROMA:
        chroma = bits.exp_golomb()
        has_colour_planes = chroma == 3 and bool(bits.fixed(1))
        bits.exp_golomb()
        bits.exp_golomb()
        bits.fixed(1)
        if bits.fixed(1):
            for place in range(12 if chroma == 3 else 8):
                if bits.fixed(1):
                    _skip_scaling_list(bits, 16 if place < 6 else 64)
    frame_num_bits = bits.exp_golomb() + 4
    order_kind = bits.exp_golomb()
    if order_kind == 0:
        bits.exp_golomb()
    elif order_kind == 1:
        bits.fixed(1)
        bits.signed_exp_golomb()
        bits.signed_exp_golomb()
        for _ in range(bits.exp_golomb()):
            bits.signed_exp_golomb()
    bits.exp_golomb()
    bits.fixed(1)
    bits.exp_golomb()
    bits.exp_golomb()
    return number, _Sequence(frame_num_bits, not bits.fixed(1), has_colour_planes)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_exp_golomb()) % 256
        last = following or last


def _messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each message (SEI) in a unit."""
    place = 0
    while place + 2 < len(content):
        numbers = [0, 0]
        for which in range(2):
            while place < len(content) and content[place] == 255:
                numbers[which] += 255
                place += 1
            if place == len(content):
                return
            numbers[which] += content[place]
            place += 1
        yield numbers[0], content[place : place + numbers[1]]
        place += numbers[1]


def _unescaped(content: bytes) -> bytes:
    """Return the content of a unit without the bytes that keep a start code from appearing in it."""
    return content.replace(b"\0\0\3", b"\0\0")


def _units_after_start_codes(packet: bytes) -> Iterator[bytes]:
    """Yield the units of a packet in which each begins after 00 00 01 (annex B)."""
    start = packet.find(b"\0\0\1")
    while start >= 0:
        end = packet.find(b"\0\0\1", start + 3)
        unit = packet[start + 3 : end if end >= 0 else None]
        if unit:
            yield unit
        start = end


def _units_after_lengths(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    """Yield the units of a packet in which each begins after its length in bytes, as in MP4."""
    place = 0
    while place + length_bytes < len(packet):
        length = int.from_bytes(packet[place : place + length_bytes], "big")
        place += length_bytes
        unit = packet[place : place + length]
        if not unit:
            return
        yield unit
        place += length


def _units_of_configuration(extradata: bytes) -> Iterator[bytes]:
    """Yield the sets of parameters that an MP4 or Matroska file stores for the stream (ISO/IEC 14496-15)."""
    place = 5
    for mask in (31, 255):
        if place >= len(extradata):
            return
        number = extradata[place] & mask
        place += 1
        for _ in range(number):
            length = int.from_bytes(extradata[place : place + 2], "big")
            unit = extradata[place + 2 : place + 2 + length]
            if unit:
                yield unit
            place += 2 + length
