"""What is sent to S3 is the buffers, one after the other, whoever reads it in which pieces."""

import base64
import io
import zlib

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.aws.s3_bodies import Body, OutOfTime


def left() -> float:
    return 1.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=8),
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(1, 50),
)
def test_any_range_read_in_any_pieces(buffers: list[bytes], start: int, size: int, step: int) -> None:
    whole = b"".join(buffers)
    start = min(start, len(whole))
    body = Body([memoryview(each) for each in buffers]).part(start, size)
    due = whole[start : start + size]
    reader = body.within(left)
    assert b"".join(iter(lambda: bytes(reader.read(step)), b"")) == due
    assert body.size_bytes == len(due)
    assert body.crc32() == base64.b64encode(zlib.crc32(due).to_bytes(4, "big")).decode()
    assert reader.seek(0) == 0
    assert bytes(reader.read()) == due
    assert reader.seek(0, io.SEEK_END) == reader.tell() == len(due)


def test_no_byte_is_copied() -> None:
    buffer = bytearray(b"0123456789")
    piece = Body([memoryview(buffer)]).within(left).read(4)
    buffer[0:1] = b"x"
    assert bytes(piece) == b"x123"


def test_boto3_reads_it_also_where_it_adds_checksums_itself() -> None:
    """As it does over HTTPS, with a body that carries its checksum at its end."""
    body = Body([memoryview(b"abc"), memoryview(b"defgh")])
    wrapped = AwsChunkedWrapper(body.within(left), checksum_cls=Crc32Checksum, checksum_name="x-amz-checksum-crc32")
    due = f"3\r\nabc\r\n5\r\ndefgh\r\n0\r\nx-amz-checksum-crc32:{body.crc32()}\r\n\r\n"
    assert wrapped.read() == due.encode()


def test_nothing_is_read_when_the_time_is_over() -> None:
    with pytest.raises(OutOfTime):
        Body([memoryview(b"abc")]).within(lambda: 0.0).read(1)
