"""The report as one page: it needs nothing else, it is safe whatever names are in it, and it stays small."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser, a_browser
from results import a_result, renamed

from stoker.simulate.page import MOST_OF_A_KIND, Other, page
from stoker.simulate.page_plots import Plot, Series, data, figure
from stoker.simulate.page_series import MOST_BINS, MOST_STEPS, Steps, of_latency, of_money, of_nodes
from stoker.simulate.report import Seen, Targets
from stoker.simulate.result import Event, Timeline

EVIL = (
    "\"'><script>document.documentElement.dataset.owned=1</script></script></style><!--"
    '<img src="https://evil.example/x" onerror="document.documentElement.dataset.owned=1">'
)


class Elements(HTMLParser):
    """What a parser of HTML makes of a page: each element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.found)


def test_the_page_needs_nothing_else() -> None:
    text = page(a_result(), title="manifests/", other=Other("other/", a_result(seed=8)))
    elements = Elements(text)

    assert not re.search(r"https?://", text)
    for tag, attributes in elements.found:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "image", "use")
        assert not {"src", "srcset", "data", "action", "xlink:href"} & set(attributes), (tag, attributes)
        assert str(attributes.get("href", "#")).startswith("#")
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_a_name_is_never_more_than_a_name() -> None:
    plain, evil = page(renamed(a_result(), "name"), title="name"), page(renamed(a_result(), EVIL), title=EVIL)
    plain_elements, evil_elements = Elements(plain), Elements(evil)

    assert "<img" not in evil
    assert evil.count("<script") == plain.count("<script") == 2
    assert "<!--" not in evil
    assert [tag for tag, _ in evil_elements.found] == [tag for tag, _ in plain_elements.found]
    assert not [key for _, attributes in evil_elements.found for key in attributes if key.startswith("on")]
    assert EVIL in "".join(evil_elements.words)


def test_control_characters_are_shown_and_not_written() -> None:
    text = page(renamed(a_result(), "\x1b[2J\u202e"), title="a\x07b\x9b")

    assert not {char for char in text if not char.isprintable()} - {"\n"}
    assert "<h1>a\\x07b\\x9b</h1>" in text
    assert "general\\x1b[2J\\u202e" in text


def test_halves_of_surrogate_pairs_do_not_keep_the_page_from_being_written(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(renamed(a_result(), "\ud800")), encoding="utf-8")


def test_what_the_page_shows() -> None:
    text = page(a_result(), title="manifests/", targets=Targets(ttft_s=30.0))
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))

    assert "<h1>manifests/</h1>" in text
    assert "3,000 requests of made-up over 1 h 00 min from 2026-01-05 08:00:00 UTC; nodes by Karpenter; seed 7" in words
    assert "Cost of the run $5.02" in words
    assert "95 answers were late (3.2 % of those that were served)." in words
    assert "g6e.xlarge $1.86 37 %" in words
    assert "model-code-c1 0:10:00 code, g5.xlarge spot" in words
    assert "interruption node-2 spot notice: 120 s zone us-east-1b" in words
    assert "image ghcr.io/acme/engine:1.2: size unknown, 8.0 GB taken for granted" in words
    assert "rates general table: 8B on L4" in words
    for title in ("Requests per second", "Time to first token", "general: replicas", "vision: requests"):
        assert f'<title id="plot-{_number(text, title)}-t">{title}</title>' in text
    assert "Comparison" not in text


def _number(text: str, title: str) -> str:
    found = re.search(rf'id="plot-(\d+)-t">{title}<', text)
    assert found, title
    return found[1]


def test_a_comparison_stands_beside_it() -> None:
    first = a_result()
    second = replace(first, costs=replace(first.costs, total=first.costs.total * 2), kind="groups")
    second = replace(second, notes=(*first.notes, "a note of its own"))
    text = page(first, title="mine/", other=Other("cluster-autoscaler", second, ["not <like> with like"]))
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))

    assert "mine/ cluster-autoscaler change" in words
    assert "not &lt;like&gt; with like" in words
    assert "cluster-autoscaler: a note of its own" in words
    assert re.search(r"dollars\s+\$5.02\s+\$10.04\s+\+100.0 %", words)
    assert "served 2,959 2,959 same" in words
    assert "Dollars so far, side by side" in words


def test_parts_of_the_bill_are_cents_that_sum_to_it() -> None:
    text = page(a_result())
    for title in ("By model", "By tenant", "By node type", "By capacity type", "By pool", "By part"):
        table = text[text.index(f"<caption>{title}</caption>") :].partition("</table>")[0]
        cents = [round(float(each) * 100) for each in re.findall(r"\$([\d.]+)<", table)]
        assert sum(cents) == 502, title


def test_a_long_run_is_thinned_by_stated_rules_and_stays_small() -> None:
    day = a_result(requests=1_000_000, hours=24.0)
    noise = tuple(Event(float(i), "pod", f"pod-{i}", "ready", {"n": i}) for i in range(50_000))
    text = page(replace(day, journal=(*day.journal, *noise)))

    assert len(text.encode()) < 1_500_000
    assert f"Of each kind the newest {MOST_OF_A_KIND} are here; left out: 49,872 of pod" in text
    assert text.count('<tr data-kind="pod"') == MOST_OF_A_KIND
    assert "join up to 10 steps of the run&#x27;s timeline into one" in text
    assert "the 24 slowest, at most 6 of them never ready" in text


def test_an_empty_run_has_a_page_too() -> None:
    empty = a_result(requests=0)
    nothing = np.zeros(0)
    gone = Timeline(nothing, *({m: nothing.astype(np.int32) for m in empty.models} for _ in range(4)), {}, nothing)
    text = page(replace(empty, replicas=(), nodes=(), journal=(), timeline=gone, notes=(), assumptions={}))

    assert "0 requests of made-up" in text
    assert "No replica was made while the trace ran." in text
    assert "Nothing was decided." in text


# -- plots --


def a_plot(**changes: object) -> Plot:
    series = [Series("a", [1.0, 1.0, 4.0, 2.0], 0), Series("b", [None, 2.0, None, 3.0], 1, "line")]
    return replace(Plot("title", "what", [0.0, 10.0, 20.0, 30.0], 40.0, series), **changes)  # type: ignore[arg-type]


def test_steps_hold_their_value_and_lines_have_gaps() -> None:
    text = figure(a_plot(), 3)

    assert 'id="plot-3"' in text
    assert 'd="M0 150H500V0H750V100H1000"' in text  # 1, 1, 4, 2 of 4, to the end
    assert 'd="M250 100h.1M750 50h.1"' in text
    assert (
        '<tr><th scope="row"><span>0:00:20</span></th><td class="number">4</td><td class="number">-</td></tr>' in text
    )


def test_a_stack_is_drawn_one_on_top_of_the_other() -> None:
    series = [Series("low", [1.0, 1.0], 0), Series("high", [0.0, 1.0], 1, is_pale=True), Series("none", [0.0, 0.0], 2)]
    text = figure(a_plot(at=[0.0, 20.0], series=series, is_stack=True), 0)

    assert 'class="band c0" d="M0 100H1000H1000V200H0Z"' in text
    assert 'class="band c1 pale" d="M0 100H500V0H1000H1000V100H0Z"' in text
    assert "band c2" not in text


def test_values_far_apart_get_a_scale_by_powers_of_ten() -> None:
    far = [Series("a", [0.01, 1.0, 10.0, 100.0], 0, "line")]
    text = figure(a_plot(series=far, unit="seconds", may_be_log=True), 0)

    assert re.findall(r'class="y" style="top:([\d.]+)%" aria-hidden="true">([^<]+)<', text) == [
        ("100", "10 ms"),
        ("75", "100 ms"),
        ("50", "1 s"),
        ("25", "10 s"),
        ("0", "100 s"),
    ]
    assert 'd="M0 200h.1L250 100L500 50L750 0"' in text


def test_the_pointer_reads_what_is_drawn() -> None:
    assert json.loads(json.dumps(data([a_plot()]))) == [
        {"unit": "count", "end": 40.0, "at": [0.0, 10.0, 20.0, 30.0], "values": [[1, 1, 4, 2], [None, 2, None, 3]]}
    ]


def test_joined_steps_show_the_highest_and_the_mean_and_nodes_of_one_moment() -> None:
    made = a_result()
    n = MOST_STEPS * 2
    ramp = np.arange(n, dtype=np.int32)
    line = replace(
        made.timeline,
        at=np.arange(n, dtype=np.float64) - 4.0,
        nodes={
            ("p", "x", "spot"): np.where(ramp % 2 == 0, 5, 0).astype(np.int32),
            ("q", "x", "spot"): np.where(ramp % 2 == 0, 1, 0).astype(np.int32),
            ("p", "y", "on-demand"): np.where(ramp % 2 == 1, 2, 0).astype(np.int32),
        },
        usd_per_hour=np.where(ramp % 2 == 0, 3.0, 1.0),
    )
    result = replace(made, timeline=line, ended_at_s=float(n - 4))
    steps = Steps(result)

    assert len(steps.at) == MOST_STEPS
    assert steps.joined == 2
    assert steps.at[0] == 0.0  # what was before the trace began is no part of it
    assert max(steps.highest(ramp)) == n - 1
    nodes = of_nodes(result, steps)
    assert [each.name for each in nodes.series] == ["x spot", "y on-demand"]
    both = set(zip(*(each.values for each in nodes.series), strict=True))
    assert both <= {(6.0, 0.0), (0.0, 2.0)}
    per_hour, so_far = of_money(result, steps)
    assert per_hour.series[0].values[0] == pytest.approx(2.0, abs=1.0)
    assert so_far.series[0].values[-1] == pytest.approx(2.0 * (n - 4) / 3600, rel=0.01)


def test_percentiles_over_time_are_of_when_requests_came() -> None:
    result = a_result()
    plot = of_latency(Seen(result), "ttft_s", "t")
    waits = (result.outcomes.first_at - result.trace.at_s)[(result.trace.at_s < 60) & (result.outcomes.state == 1)]

    assert len(plot.at) == 60 < MOST_BINS
    assert plot.series[0].values[0] == sorted(waits)[(len(waits) + 1) // 2 - 1]
    assert plot.series[2].values[0] == max(waits)


# -- in a real browser --

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium, and none is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as made:
        yield made


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    file = tmp_path / "page.html"
    file.write_text(page(renamed(a_result(), EVIL), title="m", other=Other("o", a_result(seed=8))), encoding="utf-8")
    browser.open(file, width=1280)
    yield browser
    assert browser.troubles == []
    assert browser.asked_for == [file.as_uri()]
    assert browser.value("document.documentElement.dataset.owned") is None


@needs_chromium
def test_in_chromium_the_pointer_reads_all_plots_at_one_moment(shown: Browser) -> None:
    said = shown.value("""(() => {
        const frame = document.querySelector("#plot-1 .frame"), box = frame.getBoundingClientRect();
        const event = new PointerEvent("pointermove", {clientX: box.left + box.width / 4, clientY: box.top + 9});
        frame.dispatchEvent(event);
        const crosses = [...document.querySelectorAll(".cross")];
        const plot = [...document.querySelectorAll("figure")].find((f) => f.textContent.startsWith("general"));
        return [crosses.every((c) => !c.hidden), [...new Set(crosses.map((c) => c.dataset.at))].join(),
            [...plot.querySelectorAll("output")].map((o) => o.textContent).join()];
    })()""")

    assert said == [True, "0:15:00", "2,2"]


@needs_chromium
def test_in_chromium_a_plot_is_read_by_keyboard(shown: Browser) -> None:
    said = shown.value("""(() => {
        const plot = document.querySelector("#plot-1");
        plot.focus();
        const press = (key) => plot.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        press("Home"); press("ArrowRight"); press("ArrowRight");
        const there = plot.querySelector(".cross").dataset.at;
        press("Escape");
        return [document.activeElement.id, there, plot.querySelector(".cross").hidden];
    })()""")

    assert said == ["plot-1", "0:00:36", True]


@needs_chromium
def test_in_chromium_the_journal_is_filtered(shown: Browser) -> None:
    said = shown.value("""(() => {
        const filter = document.querySelector(".filter"), [kind, words] = [filter.querySelector("select"),
            filter.querySelector("input")];
        const rows = () => [...document.querySelectorAll(".journal tbody tr")].filter((r) => r.offsetParent).length;
        const all = rows();
        kind.value = "scale"; kind.dispatchEvent(new Event("change"));
        const scale = rows();
        words.value = "waiting 41"; words.dispatchEvent(new Event("input"));
        return [all, scale, rows(), filter.querySelector("output").textContent];
    })()""")

    assert said == [16, 4, 1, "1 of 16"]


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_in_chromium_the_page_is_no_wider_than_the_screen_whatever_the_names(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    file = tmp_path / "page.html"
    long = renamed(a_result(), "-a-very-long-name-without-a-space" * 4)
    file.write_text(page(long, title="x" * 200, other=Other("y" * 99, a_result(seed=8))), encoding="utf-8")
    browser.open(file, width=width)

    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


@needs_chromium
def test_in_chromium_the_page_is_whole_without_its_script(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(a_result()), encoding="utf-8")
    browser.open(file, width=1280, runs_scripts=False)
    shape = browser.call("DOM.getDocument", depth=-1)
    drawn = browser.call("DOM.querySelectorAll", nodeId=shape["root"]["nodeId"], selector="figure svg path.line")
    hidden = browser.call("DOM.querySelectorAll", nodeId=shape["root"]["nodeId"], selector=".filter[hidden]")

    assert len(drawn["nodeIds"]) > 15
    assert len(hidden["nodeIds"]) == 1
