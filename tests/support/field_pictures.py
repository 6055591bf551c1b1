"""H.264 videos in which each picture is two fields coded one after the other (PAFF), as camcorders and broadcasts do.

No encoder of FFmpeg makes such streams, so the bits are written here (ITU-T H.264, sections 7.3 and 9.1). A macroblock
either holds its samples uncompressed or repeats the field of the same parity in the last reference picture. So a
picture that is decoded without its reference has other pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from tests.support.videos import draw_index

_START_CODE = b"\0\0\0\1"
_I_PCM_IN_I, _I_PCM_IN_P = 25, 30


class BitWriter:
    """Writer of the fixed and variable length codes of H.264."""

    def __init__(self) -> None:
        self._whole = bytearray()
        self._bits = ""

    def fixed(self, value: int, length: int) -> BitWriter:
        self._bits += format(value, f"0{length}b")
        return self

    def exp_golomb(self, *values: int) -> BitWriter:
        for value in values:
            digits = format(value + 1, "b")
            self._bits += "0" * (len(digits) - 1) + digits
        return self

    def samples(self, content: bytes) -> None:
        """Append bytes at the next whole byte."""
        self._fill()
        self._whole += content

    def payload(self) -> bytes:
        """Bytes with the stop bit, and with the bytes that keep a start code from appearing in them."""
        self._bits += "1"
        self._fill()
        escaped, zeros = bytearray(), 0
        for byte in self._whole:
            if zeros >= 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return bytes(escaped)

    def _fill(self) -> None:
        self._bits += "0" * (-len(self._bits) % 8)
        self._whole += int(self._bits, 2).to_bytes(len(self._bits) // 8, "big") if self._bits else b""
        self._bits = ""


@dataclass(frozen=True)
class FieldPicture:
    """Two coded fields, in the order in which they are decoded."""

    number: int
    """place in the order of display, which is also the index that the picture shows"""
    is_keyframe: bool
    fields: tuple[bytes, bytes]


def field_pictures(
    num_frames: int, gop: int = 10, *, is_reordered: bool = False, side: int = 64
) -> Iterator[FieldPicture]:
    """Yield the pictures 0 to `num_frames` - 1 in decoding order, with a keyframe every `gop` pictures.

    A picture has `side` × `side` pixels; it must be a multiple of 32.

    With `is_reordered`, every second picture is decoded after the one behind it, and no other picture refers to it.
    """
    reference = np.zeros((side, side), np.uint8)
    for start in range(0, num_frames, gop):
        numbers = list(range(start, min(start + gop, num_frames)))
        frame_num = 0
        for place in _decoding_order(len(numbers), is_reordered):
            luma = _luma(numbers[place], side)
            is_reference = not is_reordered or place % 2 == 0 or place == len(numbers) - 1
            fields = [
                _access_unit(luma, reference, is_bottom, place, frame_num, is_reference) for is_bottom in (False, True)
            ]
            yield FieldPicture(numbers[place], place == 0, (fields[0], fields[1]))
            if is_reference:
                reference, frame_num = luma, frame_num + 1


def write_field_pictures(
    path: Path,
    num_frames: int,
    *,
    fps: int = 10,
    gop: int = 10,
    is_reordered: bool = False,
    fields_per_packet: int = 1,
    has_time_per_field: bool = True,
    side: int = 64,
) -> Path:
    """Write a video of the field pictures 0 to `num_frames` - 1.

    Without `has_time_per_field`, only the first field of a picture has a time.
    """
    raw = path.with_name(f"{path.name}.h264")
    raw.write_bytes(b"".join(b"".join(picture.fields) for picture in field_pictures(2, side=side)))
    ticks = Fraction(1, 90_000)
    step = 90_000 // fps
    with av.open(str(raw)) as template, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(template.streams.video[0])
        stream.time_base = ticks
        for place, picture in enumerate(field_pictures(num_frames, gop, is_reordered=is_reordered, side=side)):
            pieces = picture.fields if fields_per_packet == 1 else (b"".join(picture.fields),)
            for number, piece in enumerate(pieces):
                packet = av.Packet(piece)
                packet.stream, packet.time_base = stream, ticks
                packet.dts = place * step + number * step // 2
                if number == 0 or has_time_per_field:
                    packet.pts = (picture.number + is_reordered) * step + number * step // 2
                packet.duration = step // len(pieces)
                packet.is_keyframe = picture.is_keyframe and number == 0
                container.mux(packet)
    raw.unlink()
    return path


def _decoding_order(num_frames: int, is_reordered: bool) -> list[int]:
    if not is_reordered:
        return list(range(num_frames))
    order = [0]
    for place in range(2, num_frames, 2):
        order += [place, place - 1]
    return order + [place for place in range(num_frames) if place not in order]


def _luma(index: int, side: int) -> npt.NDArray[np.uint8]:
    return (16 + draw_index(index, side, side)[:, :, 0].astype(np.uint16) * 219 // 255).astype(np.uint8)


def _access_unit(
    luma: npt.NDArray[np.uint8],
    reference: npt.NDArray[np.uint8],
    is_bottom: bool,
    place: int,
    frame_num: int,
    is_reference: bool,
) -> bytes:
    """Return one field with all that precedes it; `place` is that of its picture after the last keyframe."""
    is_idr = place == 0 and not is_bottom
    is_intra = place == 0
    delimiter = _unit(9, 0, b"\xf0")
    head = _unit(7, 3, _sequence_parameters(len(luma))) + _unit(8, 3, _picture_parameters()) if is_idr else b""
    bits = BitWriter().exp_golomb(0, 7 if is_intra else 5, 0).fixed(frame_num, 8)
    bits.fixed(1, 1).fixed(is_bottom, 1)
    if is_idr:
        bits.exp_golomb(0)
    bits.fixed((2 * place + is_bottom) % 256, 8)
    if not is_intra:
        bits.fixed(0, 2)
    if is_reference:
        bits.fixed(0, 2 if is_idr else 1)
    bits.exp_golomb(0, 1)
    _write_macroblocks(bits, luma[is_bottom::2], reference[is_bottom::2], is_intra)
    return delimiter + head + _unit(5 if is_idr else 1, 2 if is_reference else 0, bits.payload())


def _write_macroblocks(
    bits: BitWriter, field: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], is_intra: bool
) -> None:
    num_skipped = 0
    for y in range(0, field.shape[0], 16):
        for x in range(0, field.shape[1], 16):
            block = field[y : y + 16, x : x + 16]
            if not is_intra and np.array_equal(block, reference[y : y + 16, x : x + 16]):
                num_skipped += 1
                continue
            if not is_intra:
                bits.exp_golomb(num_skipped)
                num_skipped = 0
            bits.exp_golomb(_I_PCM_IN_I if is_intra else _I_PCM_IN_P)
            bits.samples(block.tobytes() + bytes([128] * 128))
    if num_skipped:
        bits.exp_golomb(num_skipped)


def _sequence_parameters(side: int) -> bytes:
    bits = BitWriter().fixed(77, 8).fixed(0, 8).fixed(30, 8)  # Main profile, level 3
    # Eight bits for frame_num and for the order of display; at most one reference picture.
    bits.exp_golomb(0, 4, 0, 4, 1).fixed(0, 1).exp_golomb(side // 16 - 1, side // 32 - 1)
    bits.fixed(0, 1).fixed(0, 1).fixed(1, 1).fixed(0, 1)  # pictures may be fields; no cropping
    # Of the usability information only the limits: one picture may be reordered, two are held.
    bits.fixed(1, 1).fixed(0, 8).fixed(1, 1).fixed(1, 1).exp_golomb(0, 0, 10, 10, 1, 2)
    return bits.payload()


def _picture_parameters() -> bytes:
    bits = BitWriter().exp_golomb(0, 0).fixed(0, 2).exp_golomb(0, 0, 0).fixed(0, 3).exp_golomb(0, 0, 0)
    return bits.fixed(0b100, 3).payload()  # the loop filter can be switched off


def _unit(kind: int, importance: int, payload: bytes) -> bytes:
    return _START_CODE + bytes([importance << 5 | kind]) + payload
