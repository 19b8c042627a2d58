"""The protocol's pure core: whatever the portions, the same events; whatever the bytes, events or ProtocolViolation."""

from __future__ import annotations

import itertools
import random
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.server_messages import message, say
from socle_platform.pgwire import messages
from socle_platform.pgwire.errors import ProtocolViolation
from socle_platform.pgwire.protocol import (
    LONGEST_ORDINARY_MESSAGE,
    Authentication,
    BackendKey,
    Column,
    CommandComplete,
    CopyData,
    CopyResponse,
    Decoder,
    Direction,
    Event,
    NegotiateVersion,
    Notification,
    ParameterDescription,
    ParameterStatus,
    ReadyForQuery,
    Row,
    RowDescription,
    ServerError,
    ServerNotice,
    Signal,
)

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, 2**32 - 1)
shorts = st.integers(-(2**15), 2**15 - 1)
fields = st.dictionaries(st.sampled_from("SVCMDHPpqWstcdnFLR"), words, max_size=8)
columns = st.builds(
    Column, words, numbers, shorts, numbers, shorts, st.integers(-(2**31), 2**31 - 1), st.integers(0, 1)
)
events: st.SearchStrategy[Event] = st.one_of(
    st.lists(st.none() | st.binary(max_size=30), max_size=6).map(tuple),
    st.sampled_from(Signal),
    st.builds(Authentication, numbers, st.binary(max_size=20)),
    st.builds(BackendKey, numbers, st.binary(min_size=4, max_size=32)),
    st.builds(ParameterStatus, words, words),
    st.builds(ReadyForQuery, st.sampled_from("ITE")),
    st.builds(CommandComplete, words),
    st.builds(RowDescription, st.lists(columns, max_size=5).map(tuple)),
    st.builds(ParameterDescription, st.lists(numbers, max_size=5).map(tuple)),
    st.builds(ServerError, fields),
    st.builds(ServerNotice, fields),
    st.builds(Notification, numbers, words, words),
    st.builds(CopyResponse, st.sampled_from(Direction), st.integers(0, 1), st.lists(st.integers(0, 1)).map(tuple)),
    st.builds(CopyData, st.binary(max_size=30)),
    st.builds(NegotiateVersion, numbers, st.lists(words, max_size=3).map(tuple)),
)
conversations = st.lists(events, max_size=12)


def portions(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(conversations, st.lists(st.integers(0, 10_000), max_size=8))
def test_any_portions_give_the_same_events(said: list[Event], cuts: list[int]) -> None:
    data = b"".join(map(say, said))
    decoder = Decoder()
    heard = [event for portion in portions(data, cuts) for event in decoder.feed(portion)]
    assert heard == said
    assert decoder.ready == sum(isinstance(event, ReadyForQuery) for event in said)


@given(conversations)
def test_byte_by_byte(said: list[Event]) -> None:
    decoder = Decoder()
    assert [event for byte in b"".join(map(say, said)) for event in decoder.feed(bytes([byte]))] == said


@given(st.integers(0, 3), st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 400))
def test_rows_of_the_first_results_are_dropped(skipped: int, results: list[int], cut: int) -> None:
    said: list[Event] = []
    for number, rows in enumerate(results):
        said += [(b"%d" % number,)] * rows
        said.append(CommandComplete(f"SELECT {rows}"))
    said.append(ReadyForQuery("I"))
    decoder = Decoder()
    decoder.skip_rows(skipped)
    heard = [event for portion in portions(b"".join(map(say, said)), [cut]) for event in decoder.feed(portion)]
    dropped = {(b"%d" % number,) for number in range(skipped)}
    assert heard == [event for event in said if event not in dropped]
    # The order ends with the answer: the next one is whole again.
    assert decoder.feed(say((b"0",))) == [(b"0",)]


def test_an_error_ends_the_dropping_of_rows() -> None:
    decoder = Decoder()
    decoder.skip_rows(2)
    decoder.feed(say(ServerError({"C": "22023"})))
    assert decoder.feed(say((b"x",))) == [(b"x",)]


@given(
    st.lists(st.none() | st.binary(max_size=9), max_size=4).map(tuple),
    st.lists(st.none() | st.binary(max_size=9), max_size=4).map(tuple),
    st.sampled_from(["SELECT 1", "INSERT 0 1", "SELECT 0"]),
    st.sampled_from("ITE"),
    st.integers(0, 2),
    st.integers(0, 12),
)
def test_an_answer_of_one_row_read_in_one_step(
    settings: Row, row: Row, tag: str, status: str, skipped: int, missing: int
) -> None:
    first: list[Event] = [Signal.BIND_COMPLETE, settings, CommandComplete("SELECT 1")]
    said = [*first, Signal.BIND_COMPLETE, row, CommandComplete(tag), ReadyForQuery(status)]
    data = b"".join(map(say, said))
    is_such = (skipped, missing, tag, status) == (1, 0, "SELECT 1", "I")
    decoder = Decoder()
    decoder.skip_rows(skipped)
    found = decoder.lone_row(data[: len(data) - missing])
    assert found == (row if is_such else None)
    if not is_such:  # nothing was taken: it can still be read as ever
        plain = Decoder()
        plain.skip_rows(skipped)
        assert decoder.feed(data[: len(data) - missing]) == plain.feed(data[: len(data) - missing])
    else:
        assert decoder.ready == 1
        assert decoder.feed(say((b"0",))) == [(b"0",)]


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_noise_is_no_lone_row(noise: bytes, more: bytes) -> None:
    decoder = Decoder()
    decoder.skip_rows(1)
    start, middle = say(Signal.BIND_COMPLETE), say(CommandComplete("SELECT 1"))
    assert decoder.lone_row(noise) is None
    assert decoder.lone_row(start + b"D" + noise + middle + start + b"D" + more) is None
    assert decoder.ready == 0


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_noise_is_events_or_a_violation(noise: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for portion in noise:
            decoder.feed(portion)
    except ProtocolViolation:
        pass


@given(conversations, st.data())
def test_damage_is_events_or_a_violation(said: list[Event], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(say, said)))
    for _ in range(data.draw(st.integers(1, 4))):
        if whole:
            at = data.draw(st.integers(0, len(whole) - 1))
            if data.draw(st.booleans()):
                whole[at] = data.draw(st.integers(0, 255))
            else:
                del whole[at]
    decoder = Decoder()
    try:
        for event in decoder.feed(bytes(whole)):
            assert event is not None
    except ProtocolViolation:
        pass


def test_a_long_fuzz_of_typed_messages_with_wild_bodies() -> None:
    chance = random.Random(7)  # noqa: S311 - repeatable on purpose
    kinds = b"RKSZCTtENAGHWdvD123nsIc"
    seen = {"events": 0, "violations": 0}
    for _ in range(20_000):
        body = chance.randbytes(chance.choice((0, 1, 2, 4, 5, 8, 13, 40)))
        if chance.random() < 0.5:
            body = body.replace(b"\xff", b"\0") + b"\0"
        try:
            seen["events"] += len(Decoder().feed(message(bytes([chance.choice(kinds)]), body)))
        except ProtocolViolation:
            seen["violations"] += 1
    assert min(seen.values()) > 1000


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"D" + pack("!I", 3), id="shorter than a header"),
        pytest.param(b"Z" + pack("!I", 5) + b"X", id="no such status"),
        pytest.param(message(b"D", pack("!Hi", 1, 5) + b"abc"), id="column longer than its row"),
        pytest.param(message(b"D", pack("!Hi", 1, -2)), id="negative length"),
        pytest.param(message(b"D", pack("!Hi", 1, 1) + b"ab"), id="row longer than its columns"),
        pytest.param(message(b"D", b"\0"), id="row without a count"),
        pytest.param(message(b"C", b"SELECT 1"), id="text without an end"),
        pytest.param(message(b"C", b"\xff\xfe\0"), id="text that is not UTF-8"),
        pytest.param(message(b"E", b"Cxxx"), id="field without an end"),
        pytest.param(message(b"E", b""), id="fields without an end"),
        pytest.param(message(b"1", b"x"), id="content where none belongs"),
        pytest.param(message(b"?", b""), id="unknown kind"),
        pytest.param(message(b"t", pack("!H", 9)), id="fewer types than announced"),
        pytest.param(message(b"K", pack("!I", 1) + b"abc"), id="short key"),
        pytest.param(message(b"v", pack("!II", 0, 2**32 - 1)), id="more options than bytes"),
        pytest.param(b"?" + pack("!I", 100), id="unknown kind, incomplete"),
        pytest.param(b"Z" + pack("!I", LONGEST_ORDINARY_MESSAGE + 1), id="absurd length"),
        pytest.param(b"D" + pack("!I", 2**31), id="longer than any message"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", id="another protocol"),
    ],
)
def test_violations(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        Decoder().feed(data)


def test_a_long_message_in_small_portions_takes_linear_time_and_memory() -> None:
    column = b"x" * 8_000_000
    data = say((column,))
    decoder = Decoder()
    heard: list[Event] = []
    for start in range(0, len(data), 1000):
        heard += decoder.feed(data[start : start + 1000])
    assert heard == [(column,)]


@given(words, words, st.lists(st.none() | st.binary(max_size=20), max_size=5))
def test_what_we_say_can_be_read_back(name: str, sql: str, args: list[bytes | None]) -> None:
    head = messages.bind_head(b"", name.encode())
    values = [messages.count(len(args))]
    messages.append_values(values, args)
    said = messages.parse(name.encode(), sql) + messages.bind(head, values) + messages.EXECUTE + messages.SYNC
    kinds: list[tuple[bytes, bytes]] = []
    while said:
        length = int.from_bytes(said[1:5]) + 1
        kinds.append((said[:1], said[5:length]))
        said = said[length:]
    assert [kind for kind, _ in kinds] == [b"P", b"B", b"E", b"S"]
    assert kinds[0][1] == name.encode() + b"\0" + sql.encode() + b"\0\0\0"
    body = kinds[1][1].removeprefix(b"\0" + name.encode() + b"\0\0\0")
    assert int.from_bytes(body[:2]) == len(args)
    # The parameters are laid out as a row's columns are.
    assert Decoder().feed(message(b"D", body[:-2])) == [tuple(args)]
    assert body[-2:] == messages.TEXT_RESULTS


def test_text_for_the_server_never_holds_a_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        messages.parse(b"s1", "select 1\0; drop table t")
    with pytest.raises(ValueError, match="65535"):
        messages.count(65536)


def test_fields_of_an_error() -> None:
    said = {
        "S": "FEHLER", "V": "ERROR", "C": "23505", "M": "duplicate", "D": "detail", "H": "hint", "P": "12", "s": "app",
        "t": "things", "c": "id", "d": "int4", "n": "things_pkey", "W": "line 1", "R": "_bt_check_unique",
    }  # fmt: skip
    error = ServerError(said).as_error()
    assert (error.severity, error.sqlstate, error.message, error.detail, error.hint) == (
        "ERROR", "23505", "duplicate", "detail", "hint",
    )  # fmt: skip
    assert (error.schema, error.table, error.column, error.constraint) == ("app", "things", "id", "things_pkey")
    assert (error.position, error.datatype, error.context, error.routine) == (12, "int4", "line 1", "_bt_check_unique")
    bare = ServerError({}).as_error()
    assert (bare.sqlstate, bare.message, bare.detail, bare.position) == ("XX000", "", None, None)
