"""What a viewer may send through a view-only console, for every way its bytes can be cut."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.relay import rfb
from console.relay.endings import Ending, RelayError

KEY = struct.pack("!BBxxI", 4, 1, 0xFF0D)
POINTER = struct.pack("!BBHH", 5, 1, 10, 20)
PIXEL_FORMAT = bytes(20)
UPDATE_REQUEST = struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480)
CONTINUOUS_UPDATES = bytes([150]) + bytes(9)
DESKTOP_SIZE = struct.pack("!BxHHBx", 251, 800, 600, 1) + bytes(16)
EXTENDED_KEY = struct.pack("!BBHII", 255, 0, 1, 0xFF0D, 28)
AUDIO_ON = b"\xff\x01\x00\x00"
AUDIO_FORMAT = b"\xff\x01\x00\x02" + bytes(6)
XVP_SHUTDOWN = b"\xfa\x00\x01\x02"


def encodings(*numbers):
    return struct.pack("!BxH", 2, len(numbers)) + b"".join(struct.pack("!i", number) for number in numbers)


def cut_text(text, extended=False):
    return struct.pack("!Bxxxi", 6, -len(text) if extended else len(text)) + text


def fence(payload):
    return struct.pack("!BxxxIB", 248, 1, len(payload)) + payload


MESSAGES = st.one_of(
    st.sampled_from([(PIXEL_FORMAT, True), (UPDATE_REQUEST, True), (CONTINUOUS_UPDATES, True), (AUDIO_ON, True), (AUDIO_FORMAT, True)]),
    st.sampled_from([(KEY, False), (POINTER, False), (EXTENDED_KEY, False), (XVP_SHUTDOWN, False), (DESKTOP_SIZE, False)]),
    st.lists(st.integers(-300, 20), max_size=30).map(lambda numbers: (encodings(*numbers), True)),
    st.binary(max_size=300).flatmap(lambda text: st.booleans().map(lambda extended: (cut_text(text, extended), False))),
    st.binary(max_size=64).map(lambda payload: (fence(payload), True)),
)


@given(messages=st.lists(MESSAGES, max_size=20), data=st.data())
def test_however_the_bytes_are_cut_requests_pass_whole_and_input_never_does(messages, data):
    stream = b"".join(message for message, _ in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    view_only = rfb.ViewOnly()
    passed = b"".join(view_only.feed(stream[start:end]) for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True))
    assert passed == b"".join(message for message, passes in messages if passes)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_whatever_comes_is_parsed_or_refused_and_little_is_held(pieces):
    view_only = rfb.ViewOnly()
    try:
        for piece in pieces:
            view_only.feed(piece)
            assert len(view_only._held) <= 4 + 4 * 1024
    except RelayError as error:
        assert error.code is Ending.BAD_INPUT


def test_a_long_paste_is_dropped_without_being_held():
    view_only = rfb.ViewOnly()
    assert view_only.feed(struct.pack("!Bxxxi", 6, 2**31 - 1)) == b""
    for _ in range(100):
        assert view_only.feed(bytes(65536)) == b""
    assert view_only._held == b""


@pytest.mark.parametrize("message", [b"\x07", b"\xfe", b"\xff\x02\x00\x00", encodings(*range(1025))])
def test_what_has_no_known_end_is_an_error(message):
    with pytest.raises(RelayError) as caught:
        rfb.ViewOnly().feed(message)
    assert caught.value.code is Ending.BAD_INPUT


def test_longer_pointer_events_are_never_agreed_on():
    assert rfb.ViewOnly().feed(encodings(7, -316, 0)) == encodings(7, 0)


def test_challenge_response_is_des_with_the_key_bits_reversed():
    # The worked example of DES: key 133457799BBCDFF1, which is this password with each byte's bits in reverse.
    password = bytes.fromhex("c82cea9ed93dfb8f").decode("latin-1")
    assert rfb.challenge_response(password, bytes.fromhex("0123456789abcdef")).hex() == "85e813540f0ab405"
    assert rfb.challenge_response("longer than eight", bytes(8)) == rfb.challenge_response("longer t", bytes(8))
