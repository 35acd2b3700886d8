"""Files of every format become the same columns; what is wrong with one is said with its line and value."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput
from stoker.simulate.trace import ANY, Trace
from stoker.simulate.traces import load, tables
from stoker.simulate.traces.formats import FORMATS

OWN = "at_s,prompt_tokens,completion_tokens\n"
NO_MOMENT = "which is no ISO 8601 time such as 2026-01-31T09:30:00Z"


def write(tmp_path: Path, text: str, name: str = "trace.csv") -> str:
    file = tmp_path / name
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    return str(file)


def rows(trace: Trace) -> list[tuple[float, int, int, int]]:
    columns = (trace.at_s, trace.prompt_tokens, trace.completion_tokens, trace.cached_tokens)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def refusal(tmp_path: Path, text: str, name: str = "trace.csv") -> str:
    with pytest.raises(InvalidInput) as refused:
        load(write(tmp_path, text, name))
    assert refused.value.param == "trace"
    return refused.value.message


# --- formats ----------------------------------------------------------------------------------------------------------


def test_own_csv_with_every_column(tmp_path: Path) -> None:
    trace = load(
        write(
            tmp_path,
            "at_s,prompt_tokens,completion_tokens,cached_tokens,model,tenant,session\n"
            "0.5,100,20,64,general,acme,s1\n"
            "0.5,200,30,,code,,\n"
            "2,300.0,40,0,,globex,s1\n",
        )
    )
    assert rows(trace) == [(0.5, 100, 20, 64), (0.5, 200, 30, 0), (2.0, 300, 40, 0)]
    assert (trace.models, trace.model.tolist()) == (("general", "code"), [0, 1, ANY])
    assert (trace.tenants, trace.tenant.tolist()) == (("acme", "globex"), [0, ANY, 1])
    assert (trace.name, trace.began_at, trace.notes) == ("trace.csv", None, ())
    kinds = [trace.at_s, trace.prompt_tokens, trace.completion_tokens, trace.cached_tokens, trace.model, trace.tenant]
    assert [each.dtype.name for each in kinds] == ["float64", "int32", "int32", "int32", "int16", "int32"]


def test_own_jsonl_is_the_same(tmp_path: Path) -> None:
    trace = load(
        write(
            tmp_path,
            '{"at_s": 0, "prompt_tokens": 10, "completion_tokens": 5, "model": "general"}\n'
            "\n"
            '{"at_s": 1.25, "completion_tokens": 6, "prompt_tokens": 12, "cached_tokens": 4, "model": null}\n',
            "trace.jsonl",
        )
    )
    assert rows(trace) == [(0.0, 10, 5, 0), (1.25, 12, 6, 0)], "columns are those of the first object"
    assert trace.model.tolist() == [0, ANY]


def test_timestamps_of_several_zones_count_from_the_first(tmp_path: Path) -> None:
    trace = load(
        write(
            tmp_path,
            "timestamp,prompt_tokens,completion_tokens\n"
            "2026-03-01T10:00:00.250000+01:00,10,5\n"
            "2026-03-01T09:00:01Z,11,6\n",
        )
    )
    assert rows(trace) == [(0.0, 10, 5, 0), (0.75, 11, 6, 0)]
    assert trace.began_at == datetime(2026, 3, 1, 9, 0, 0, 250000, UTC)


def test_azure_as_published_and_rebased_are_equal(tmp_path: Path) -> None:
    published = load(
        write(
            tmp_path,
            "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
            "2023-11-16 18:15:46.6805900,374,44\r\n"
            "2023-11-16 18:15:50.9951690,396,109\r\n",
        )
    )
    rebased = load(write(tmp_path, "t_s,input_tokens,output_tokens\n0.000000,374,44\n4.314579,396,109\n"))
    assert rows(published) == rows(rebased) == [(0.0, 374, 44, 0), (4.314579, 396, 109, 0)]
    assert published.began_at == datetime(2023, 11, 16, 18, 15, 46, 680590, UTC)
    assert published.notes == ("TIMESTAMP names no zone and is taken as UTC",)


def test_mooncake_counts_blocks_at_the_beginning_that_were_seen_before(tmp_path: Path) -> None:
    trace = load(
        write(
            tmp_path,
            '{"timestamp": 0, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 2]}\n'
            '{"timestamp": 500, "input_length": 1400, "output_length": 8, "hash_ids": [0, 1, 3]}\n'
            '{"timestamp": 1500, "input_length": 1100, "output_length": 9, "hash_ids": [0, 1, 2]}\n'
            '{"timestamp": 1500, "input_length": 1000, "output_length": 1, "hash_ids": [9, 1]}\n',
            "m.jsonl",
        )
    )
    assert rows(trace) == [(0.0, 1100, 7, 0), (0.5, 1400, 8, 1024), (1.5, 1100, 9, 1100), (1.5, 1000, 1, 0)]


AGENTS = (
    "agent,session,call,t_s,input_chars,output_chars,shared_prefix_chars\n"
    "swe,one,0,0.000,400,41,0\n"
    "swe,one,1,2.500,800,0,399\n"
    "tau,one,0,0.000,100,40,0\n"
)


def test_agents_sessions_begin_at_random_and_keep_their_gaps(tmp_path: Path) -> None:
    trace = load(write(tmp_path, AGENTS))
    by_tenant = {name: trace.at_s[trace.tenant == place] for place, name in enumerate(trace.tenants)}
    assert by_tenant["swe"].tolist() == [0.0, 2.5]
    assert by_tenant["tau"][0] > 0, "the same session id of another agent is another session"
    swe = trace.tenant == 0
    assert trace.prompt_tokens[swe].tolist() == [100, 200]
    assert trace.completion_tokens[swe].tolist() == [11, 1], "41 characters are 10.25 tokens; none count as 1"
    assert trace.cached_tokens[swe].tolist() == [0, 99]
    assert "1 of 3 requests say 0 completion tokens; each counts as 1" in trace.notes
    other = load(write(tmp_path, AGENTS), seed=1)
    assert other.at_s.max() != trace.at_s.max()
    assert load(write(tmp_path, AGENTS), tokens_per_char=0.5).prompt_tokens.max() == 400


def test_gzip_is_seen_by_content_not_by_name(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(gzip.compress((OWN + "0,1,2\n").encode()))
    assert rows(load(str(file))) == [(0.0, 1, 2, 0)]


@pytest.mark.parametrize("delimiter", [";", "\t", ", "])
def test_other_delimiters_and_a_byte_order_mark(tmp_path: Path, delimiter: str) -> None:
    text = "\ufeff" + (OWN + "0,1,2\n").replace(",", delimiter)
    assert rows(load(write(tmp_path, text))) == [(0.0, 1, 2, 0)]


def test_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    trace = load(write(tmp_path, "at_s,prompt_tokens,completion_tokens,tennant\n0,1,2,acme\n"))
    assert trace.notes == ("columns that are not used: tennant",)


def test_no_tokens_count_as_one(tmp_path: Path) -> None:
    trace = load(write(tmp_path, OWN + "0,0,5\n1,7,0\n2,7,0\n"))
    assert rows(trace) == [(0.0, 1, 5, 0), (1.0, 7, 1, 0), (2.0, 7, 1, 0)]
    assert trace.notes == (
        "1 of 3 requests say 0 prompt tokens; each counts as 1",
        "2 of 3 requests say 0 completion tokens; each counts as 1",
    )


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_the_page_s_examples_are_traces(tmp_path: Path, kind: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulate" / "traces.md").read_text()
    trace = load(write(tmp_path, page.partition(f"```{kind}\n")[2].partition("```")[0]))
    assert trace.prompt_tokens[0] == 812
    assert trace.tenants[0] == "acme"


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,ten,5", "prompt_tokens is 'ten', which is no number"),
        ("1,,5", "prompt_tokens is empty"),
        ("1,-3,5", "prompt_tokens is '-3', which is negative"),
        ("1,3,-5.0", "completion_tokens is '-5.0', which is negative"),
        ("1,1.5,5", "prompt_tokens is '1.5', which is no whole number"),
        ("1,1_000,5", "prompt_tokens is '1_000', which is no number"),
        ("1,2147483648,5", "prompt_tokens is '2147483648'; 2147483647 is the most"),
        ("1,nan,5", "prompt_tokens is 'nan', which is no finite number"),
        ("NaN,3,5", "at_s is 'NaN', which is no finite number"),
        ("1e999,3,5", "at_s is '1e999', which is no finite number"),
        ("Infinity,3,5", "at_s is 'Infinity', which is no finite number"),
        ("1764151234,3,5", "at_s is '1764151234'; 1000000000 is the most"),
        ("-1,3,5", "at_s is '-1', which is negative"),
        ("0.5,3,5", "at_s is '0.5', which is earlier than '0.75': times must not fall"),
        ("1,3", "it has 2 fields, and the header 3"),
        ("1,3,5,7", "it has 4 fields, and the header 3"),
        ('1,3,"5', "it is no CSV: unexpected end of data"),
        ("1,3\udcff,5", r"prompt_tokens is '3\udcff', which is no number"),
    ],
)
def test_the_first_wrong_row_is_named_by_its_line(tmp_path: Path, row: str, said: str) -> None:
    text = f"\n{OWN}0,1,1\n\n0.75,1,1\n{row}\n0,x,y\n" if '"' not in row else f"\n{OWN}0,1,1\n\n0.75,1,1\n{row}\n"
    assert refusal(tmp_path, text) == f"trace.csv, line 6: {said}"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"at_s": 1, "prompt_tokens": "x", "completion_tokens": 1}', "prompt_tokens is 'x', which is no number"),
        ('{"at_s": 1, "prompt_tokens": true, "completion_tokens": 1}', "prompt_tokens is True, which is no number"),
        ('{"at_s": 1, "prompt_tokens": null, "completion_tokens": 1}', "prompt_tokens is missing"),
        ('{"at_s": 1, "prompt_tokens": 1}', "completion_tokens is missing"),
        ('{"at_s": NaN, "prompt_tokens": 1, "completion_tokens": 1}', "at_s is nan, which is no finite number"),
        ('{"at_s": 1, "prompt_tokens": 1, "completion_tokens": 1, "model": 3}', "model is 3, which is no text"),
        ('{"at_s": 1, "prompt', """it is no JSON: '{"at_s": 1, "prompt'"""),
        ("[1, 2]", "it is [1, 2], which is no JSON object"),
    ],
)
def test_the_first_wrong_json_line_is_named(tmp_path: Path, row: str, said: str) -> None:
    good = '{"at_s": 0, "prompt_tokens": 1, "completion_tokens": 1, "model": "m"}\n'
    assert refusal(tmp_path, f"{good}\n{row}\n{good}", "t.jsonl") == f"t.jsonl, line 3: {said}"


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (
            "2026-03-01T10:00:00",
            "is '2026-03-01T10:00:00', which says no time zone; write it with Z or an offset such as +02:00",
        ),
        ("1.5", f"is '1.5', {NO_MOMENT}; seconds since the trace began are the column at_s"),
        ("yesterday", f"is 'yesterday', {NO_MOMENT}"),
        ("", "is empty"),
        (
            "2026-02-28T10:00Z",
            "is '2026-02-28T10:00Z', which is earlier than '2026-03-01T00:00:00Z': times must not fall",
        ),
    ],
)
def test_timestamps_need_a_zone_and_an_order(tmp_path: Path, moment: str, said: str) -> None:
    text = f"timestamp,prompt_tokens,completion_tokens\n2026-03-01T00:00:00Z,1,1\n{moment},1,1\n"
    assert refusal(tmp_path, text) == f"trace.csv, line 3: timestamp {said}"


def test_more_cached_than_there_are(tmp_path: Path) -> None:
    text = "at_s,prompt_tokens,completion_tokens,cached_tokens\n0,5,1,5\n1,5,1,6\n"
    said = "cached_tokens is 6, and prompt_tokens, which includes them, only 5"
    assert refusal(tmp_path, text) == f"trace.csv, line 3: {said}"


def test_a_row_over_several_lines_counts_as_an_editor_does(tmp_path: Path) -> None:
    text = 'at_s,prompt_tokens,completion_tokens,tenant\n0,1,1,"a\nb"\n1,1,1,c\n2,x,1,d\n'
    assert refusal(tmp_path, text) == "trace.csv, line 5: prompt_tokens is 'x', which is no number"


def test_a_fault_far_down_has_its_line_too(tmp_path: Path) -> None:
    many = "".join(f"{each},1,1\n" for each in range(10_000))
    assert refusal(tmp_path, f"{OWN}{many}\n9998,1,1\n") == (
        "trace.csv, line 10003: at_s is '9998', which is earlier than '9999': times must not fall"
    )
    across_pieces = OWN + "".join(f"{each},1,1\n" for each in range(tables._PIECE)) + "0,1,1\n"
    assert "at_s is '0', which is earlier than the row before it" in refusal(tmp_path, across_pieces)


def test_calls_of_a_session_must_not_fall(tmp_path: Path) -> None:
    text = AGENTS + "swe,one,2,1.5,1,1,0\n"
    assert refusal(tmp_path, text) == (
        "trace.csv, line 5: t_s is 1.5, which is earlier than the call before it of session 'one'"
    )


def test_missing_columns_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, "at_s,prompt_tokens,output\n0,1,2\n") == (
        "trace.csv: the column completion_tokens is missing; it has at_s, prompt_tokens, output, most like Stoker's own"
    )
    assert refusal(tmp_path, "TIMESTAMP,Tokens\nx,1\n") == (
        "trace.csv: the columns ContextTokens, GeneratedTokens are missing; "
        "it has TIMESTAMP, Tokens, most like Azure 2023"
    )


def test_an_unknown_format_says_what_there_is_and_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(write(tmp_path, "a,b\n1,2\n"))
    assert refused.value.message == "trace.csv is in no known format; its columns are a, b"
    assert refused.value.hint is not None
    assert all(", ".join(each.required) in refused.value.hint for each in FORMATS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "trace.csv is empty"),
        (" \n\n", "trace.csv is empty"),
        (OWN, "trace.csv has no requests"),
        ('[{"at_s": 1}]', "trace.csv is one JSON array"),
        ("a\0b\n", "trace.csv is no text"),
        ("at_s,at_s\n1,2\n", "trace.csv, line 1: the header has at_s twice"),
        ('{"rows": [], "total": {}}\n', "trace.csv holds sums of usage, not requests"),
    ],
)
def test_files_that_hold_no_requests(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text) == said


def test_utf_16_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(OWN + "0,1,1\n", "utf-16")
    with pytest.raises(InvalidInput, match=r"^trace\.csv is UTF-16$"):
        load(str(file))


def test_a_truncated_gzip_says_after_which_line(tmp_path: Path) -> None:
    whole = gzip.compress((OWN + "".join(f"{each},{each * 7919 % 1000},1\n" for each in range(50_000))).encode())
    file = tmp_path / "t.csv.gz"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match=r"^t.csv.gz ends too early, after line [1-9]\d{4}: .* truncated$"):
        load(str(file))
    file.write_bytes(whole[:2000] + b"\0" * 500 + whole[2500:])
    with pytest.raises(InvalidInput, match=r"^t.csv.gz is damaged after line \d+: "):
        load(str(file))


def test_what_is_wrong_before_the_gzip_ends_is_said_first(tmp_path: Path) -> None:
    whole = gzip.compress(
        (OWN + "0,x,1\n" + "".join(f"{each},{each * 7919 % 1000},1\n" for each in range(50_000))).encode()
    )
    file = tmp_path / "t.csv.gz"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="line 2: prompt_tokens is 'x'"):
        load(str(file))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    for what in (str(tmp_path / "none.csv"), "x" * 5000, "a\0b", str(loop)):
        with pytest.raises(InvalidInput, match="there is no file and no shipped trace") as refused:
            load(what)
        assert refused.value.hint is not None
        assert "azure-conversation" in refused.value.hint
        assert "poisson:" in refused.value.hint


def test_more_rows_than_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 5000)
    text = OWN + "".join(f"{each},1,1\n" for each in range(9000))
    assert refusal(tmp_path, text) == "trace.csv has more than 5,000 requests, which is the most"
    assert len(load(write(tmp_path, text), limit_s=100)) == 100, "reading ends where the limit says"
    moments = "timestamp,prompt_tokens,completion_tokens\n" + "".join(
        f"2026-03-01T{each // 3600:02}:{each // 60 % 60:02}:{each % 60:02}Z,1,1\n" for each in range(3600, 12_600)
    )
    assert len(load(write(tmp_path, moments), limit_s=100)) == 100


@pytest.mark.parametrize("name", ["scale", "speed", "limit_s", "tokens_per_char"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_are_above_0(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match="it is a number above 0") as refused:
        load("azure-code", **{name: value})  # type: ignore[arg-type]
    assert refused.value.param == name


HEADERS = [b",".join(name.encode() for name in each.required) for each in FORMATS]
PIECES = st.one_of(
    st.sampled_from(
        [b"1", b"-1", b"", b"x", b"2026-01-01T00:00:00Z", b"Gamma", b"Weibull", b"1e400", b"0.5", b'"', b"\xff"]
    ),
    st.binary(max_size=3),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.one_of(st.sampled_from(HEADERS), st.binary(max_size=20)),
    rows=st.lists(st.lists(PIECES, max_size=7).map(b",".join), max_size=4),
    cut=st.integers(0, 30),
    is_gzip=st.booleans(),
)
def test_any_file_is_a_trace_or_refused(
    tmp_path: Path, header: bytes, rows: list[bytes], cut: int, is_gzip: bool
) -> None:
    content = b"\n".join([header, *rows])
    file = tmp_path / "t.csv"
    file.write_bytes(gzip.compress(content)[: -cut or None] if is_gzip else content)
    try:
        trace = load(str(file), limit_s=10_000, scale=0.5)
    except InvalidInput as refused:
        trace, param = None, refused.param
    assert (trace is None and param in ("trace", "scale")) or (np.diff(trace.at_s) >= 0).all()  # type: ignore[union-attr]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(sorted({name for each in FORMATS for name in each.required} | {"hash_ids", "model"})),
            st.one_of(
                st.none(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=3)
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_json_lines_are_a_trace_or_refused(tmp_path: Path, objects: list[dict[str, object]]) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in objects))
    try:
        found = len(load(str(file)))
    except InvalidInput as refused:
        found = 1 if refused.param in ("trace", "scale") else 0
    assert found
