"""Pictures, calibration and the page: what they are made from, and that they are whole."""

import functools
import html
import http.server
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree

import lossrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lossrs.scoring import ScoreError, score
from lossrs.scoring.calibration import EDGES, Calibration
from lossrs.scoring.command_line import main
from lossrs.scoring.figures import Figure, Figures
from lossrs.scoring.formats import Results
from lossrs.scoring.outputs import Output
from lossrs.scoring.plot import ENDINGS, Picture, panels, write_picture
from lossrs.scoring.plot_data import MOST_GROUPS, bars, group_lines, worst_shares
from lossrs.scoring.progress import Run
from lossrs.scoring.report import report

XY = ("--loss", "l1_loss", "--input", "x", "--target", "y")
CLASSES = ("--loss", "cross_entropy", "--input", "logit_*", "--target", "label")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


# Calibration


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


predictions = st.integers(0, 60).flatmap(
    lambda rows: st.tuples(
        arrays(np.float32, rows, elements=st.floats(-20, 20, width=32)),
        arrays(np.int64, rows, elements=st.integers(0, 1)),
        arrays(np.float64, rows, elements=st.sampled_from([0.0, 0.5, 1.0, 3.0])),
    )
)


@settings(deadline=None, max_examples=60)
@given(predictions, st.integers(0, 60), st.booleans(), st.randoms(use_true_random=False))
def test_neither_batches_nor_order_nor_merging_change_a_bit(rows, cut, weighted, random):
    loss = lossrs.BCEWithLogitsLoss()

    def calibration(indices):
        logits, labels, weight = (column[indices] for column in rows)
        found = Calibration()
        found.update_from(loss, logits, labels, sample_weight=weight if weighted else None)
        return found

    order = list(range(len(rows[0])))
    whole = calibration(order)
    random.shuffle(order)
    one, other = calibration(order[:cut]), calibration(order[cut:])
    other.merge(one)
    assert other == whole
    assert other.to_bytes() == whole.to_bytes()
    assert Calibration.from_bytes(whole.to_bytes()) == whole


@settings(deadline=None, max_examples=60)
@given(predictions, st.booleans())
def test_bins_hold_the_means_of_what_is_in_them(rows, weighted):
    logits, labels, weight = rows
    weight = weight if weighted else np.ones(len(logits))
    found = Calibration()
    found.update_from(lossrs.BCEWithLogitsLoss(), logits, labels, sample_weight=weight if weighted else None)
    bins = found.bins(np.arange(21) / 20)
    assert bins.rows.sum() == np.count_nonzero(weight)
    assert bins.weight.sum() == pytest.approx(weight.sum())
    p = sigmoid(logits)
    for lower, upper, count, w, predicted, observed in zip(
        bins.lower, bins.upper, bins.rows, bins.weight, bins.predicted, bins.observed, strict=True
    ):
        assert lower - 1e-6 <= predicted <= upper + 1e-6
        inside = (p >= lower + 1e-6) & (p < upper - 1e-6) & (weight > 0)
        edge = (np.abs(p - lower) <= 1e-6) | (np.abs(p - upper) <= 1e-6)
        if not edge.any():
            assert count == inside.sum()
            assert w == pytest.approx(weight[inside].sum())
            assert predicted == pytest.approx((p * weight)[inside].sum() / w, rel=1e-6)
            assert observed == pytest.approx((labels * weight)[inside].sum() / w)
    low, high = bins.intervals()
    assert ((low <= bins.observed + 1e-12) & (bins.observed - 1e-12 <= high)).all()


def test_of_classes_it_is_the_likeliest_that_counts():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(500, 4)) * 3, random.integers(0, 4, 500)
    labels[::7] = -100
    found, of_log_probabilities, of_half = Calibration(), Calibration(), Calibration()
    found.update_from(lossrs.CrossEntropyLoss(), logits, labels)
    kept = labels >= 0
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    bins = found.bins(np.array([0.0, 1.0]))
    assert bins.rows.tolist() == [kept.sum()]
    assert bins.predicted[0] == pytest.approx(probabilities.max(1)[kept].mean(), rel=1e-12)
    assert bins.observed[0] == (logits.argmax(1) == labels)[kept].mean()
    of_log_probabilities.update_from(lossrs.NLLLoss(), np.log(probabilities), labels)
    assert of_log_probabilities.bins(np.array([0.0, 1.0])).predicted[0] == pytest.approx(bins.predicted[0], rel=1e-12)
    of_half.update_from(lossrs.CrossEntropyLoss(), logits.astype(np.float16), labels.astype(np.int8))
    assert of_half.bins(np.array([0.0, 1.0])).predicted[0] == pytest.approx(bins.predicted[0], rel=1e-2)


def test_what_says_nothing_is_left_out():
    found = Calibration()
    found.update(
        np.array([0.5, np.nan, 0.2, 0.3]), np.array([1.0, 1.0, np.nan, 0.0]), sample_weight=np.array([1, 1, 1, 0])
    )
    found.update_from(lossrs.CrossEntropyLoss(), np.zeros((2, 3)), np.full((2, 3), 1 / 3))
    found.update_from(lossrs.MSELoss(), np.zeros(2), np.zeros(2))
    assert found.bins().rows.tolist() == [1]
    assert Calibration().bins().rows.tolist() == []
    assert math.isnan(Calibration().bins().error)


def test_columns_of_labels_are_predictions_each():
    found = Calibration()
    logits, labels = np.array([[0.0, 3.0], [-3.0, 1.0]]), np.array([[0, 1], [0, 1]])
    found.update_from(lossrs.BCEWithLogitsLoss(), logits, labels, sample_weight=np.array([1.0, 2.0]))
    bins = found.bins(np.array([0.0, 1.0]))
    weight = np.array([[1.0, 1.0], [2.0, 2.0]])
    assert (bins.rows[0], bins.weight[0]) == (4, 6)
    assert bins.predicted[0] == pytest.approx((sigmoid(logits) * weight).sum() / 6, rel=1e-12)
    assert bins.observed[0] == 0.5


def test_states_of_something_else_are_refused():
    state = Calibration().to_bytes()
    for wrong in (b"", b"lossrs accumulator\n", state[:-1], state[:-5] + b"x" + state[-4:]):
        with pytest.raises(ValueError, match="state of"):
            Calibration.from_bytes(wrong)


def test_the_edges_are_in_order_and_hold_twentieths():
    assert (np.diff(EDGES) > 0).all()
    assert set((np.arange(21) / 20).tolist()) <= set(EDGES.tolist())
    np.testing.assert_allclose(EDGES, 1 - EDGES[::-1], atol=1e-16)


# What pictures are made from


def result_of(losses, group=None, weight=None):
    total = lossrs.Accumulator(lossrs.L1Loss(), histogram=True)
    total.update_losses(np.asarray(losses, np.float64), group=group, sample_weight=weight)
    return total.result()


odd = st.one_of(
    st.floats(allow_nan=False), st.floats(-5, 5), st.sampled_from([0.0, 1.0, math.inf, 5e-324, 1e308, -1e308])
)


@settings(deadline=None, max_examples=150)
@given(st.lists(odd, min_size=1, max_size=50), st.sampled_from([abs, float]))
def test_all_rows_are_drawn_or_said_not_to_be(losses, sign):
    losses = [sign(loss) for loss in losses]
    drawn = bars(result_of(losses).histogram)
    if drawn is None:
        assert not any(abs(loss) < 9e299 for loss in losses)
        return
    assert (np.diff(drawn.edges) > 0).all()
    assert np.isfinite(drawn.edges).all()
    assert (drawn.shares >= 0).all()
    assert drawn.infinite == np.isinf(losses).mean()
    assert drawn.shares.sum() + drawn.zero + drawn.below + drawn.above + drawn.infinite == pytest.approx(1)


def test_the_axis_is_logarithmic_where_losses_span_decades():
    random = np.random.default_rng(0)
    assert bars(result_of(10 ** random.uniform(-4, 1, 1_000)).histogram).is_log
    assert not bars(result_of(random.uniform(0, 1, 1_000)).histogram).is_log
    assert not bars(result_of(random.normal(size=1_000)).histogram).is_log
    outlier = bars(result_of([*random.uniform(0, 1, 10_000), 1e9]).histogram)
    assert outlier.edges[-1] < 1.1
    assert outlier.above > 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(1e-6, 1e6) | st.just(0.0), min_size=2, max_size=60).filter(any))
def test_the_worst_rows_make_up_their_share(losses):
    rows, share = worst_shares(result_of(losses).histogram)
    assert (rows[0], share[0]) == (0, 0)
    assert (rows[-1], share[-1]) == pytest.approx((1, 1))
    expected = np.cumsum(sorted(losses, reverse=True)) / sum(losses)
    found = np.interp(np.arange(1, len(losses) + 1) / len(losses), rows, share)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_shares_of_losses_below_zero_say_nothing():
    assert worst_shares(result_of([-1.0, 2.0]).histogram) is None
    assert worst_shares(result_of([0.0, 0.0]).histogram) is None
    assert worst_shares(result_of([math.inf]).histogram) is None


@pytest.mark.parametrize("count", [1, 3, MOST_GROUPS, MOST_GROUPS + 1, 5_000])
def test_groups_are_sorted_and_the_rest_is_summarised(count):
    random = np.random.default_rng(0)
    keys = np.repeat(np.arange(count), 3)
    result = result_of(random.exponential(size=len(keys)), group={"key": keys})
    lines = group_lines(Figures(result, result.groups, ("key",)))
    assert len(lines) == min(count, MOST_GROUPS)
    assert sum(line.groups for line in lines) == count
    assert sum(line.rows for line in lines) == len(keys)
    ends = [(line.value, line.value) if line.groups == 1 else (line.high, line.low) for line in lines]
    flat = [end for pair in ends for end in pair]
    assert flat == sorted(flat, reverse=True)
    for line in lines:
        if line.groups == 1:
            of_key = result.groups[(int(line.label),)]
            assert line.high - line.value == pytest.approx(1.96 * of_key.standard_error, rel=1e-3)


def test_groups_without_a_finite_mean_are_worst():
    result = result_of([1.0, math.nan, math.inf, 2.0], group={"key": np.array(["a", "b", "c", "d"])})
    assert [line.label for line in group_lines(Figures(result, result.groups, ("key",)))][2:] == ["d", "a"]


def two_models():
    """Return figures of two models, with intervals of the first mean that are those of a bootstrap."""
    random, keys = np.random.default_rng(0), np.arange(600) % 6
    first = result_of(random.exponential(size=600), group={"key": keys})
    apart = result_of(np.abs(keys - 2.5) * (keys - 2.5) + random.normal(size=600) / 10, group={"key": keys})
    figures = Figures(first, first.groups, ("key",))
    figures.add(Figure("mean_lower", ""), first.mean - 1, first.groups.mean - 1)
    figures.add(Figure("mean_upper", ""), first.mean + 1, first.groups.mean + 2)
    figures.add(Figure("difference", ""), apart.mean, apart.groups.mean)
    figures.add(Figure("difference_standard_error", ""), apart.standard_error, apart.groups.standard_error)
    return first, figures


def test_intervals_are_those_that_were_asked_for():
    _, figures = two_models()
    assert all(
        (line.value - line.low, line.high - line.value) == pytest.approx((1, 2)) for line in group_lines(figures)
    )
    lines = group_lines(figures, "difference")
    assert [line.label for line in lines] == ["5", "4", "3", "2", "1", "0"]
    for line in lines:
        error = figures.column("difference_standard_error")[int(line.label)]
        assert line.high - line.low == pytest.approx(2 * 1.96 * error, rel=1e-3)


def test_two_models_are_drawn(tmp_path):
    first, figures = two_models()
    of = Picture("two models", "l1_loss", figures, first.histogram, None)
    text = drawn(of, tmp_path / "out.svg").decode()
    assert [panel.name for panel in panels(of)] == ["histogram", "worst rows", "groups", "differences"]
    assert "The second model is better in 3 of 6 groups, worse in 3" in text
    assert "intervals (bootstrap)" in text
    assert "intervals (1.96 standard errors)" in text


# Files

RANDOM = np.random.default_rng(0)
ROWS = 400
KINDS = {
    "one group": {"losses": RANDOM.exponential(size=ROWS), "group": {"key": np.zeros(ROWS, int)}},
    "forty groups": {"losses": RANDOM.exponential(size=ROWS), "group": {"key": np.arange(ROWS) % 40}},
    "many keys": {
        "losses": RANDOM.exponential(size=ROWS),
        "group": {
            "a": np.arange(ROWS) % 3,
            "b": np.array(["x" * 90, "$x^2_", "日本語\n\x1b[", "", None], object)[np.arange(ROWS) % 5],
        },
    },
    "infinite": {"losses": np.where(np.arange(ROWS) % 7, 1.0, np.inf), "group": {"key": np.arange(ROWS) % 9}},
    "nan": {"losses": np.full(ROWS, np.nan), "group": {"key": np.arange(ROWS) % 9}},
    "few": {"losses": np.array([0.5, 2.0, 3.0]), "group": {"key": np.array([1, 1, 2])}},
    "one": {"losses": np.array([0.5])},
    "none": {"losses": np.empty(0)},
    "no row of any group": {"losses": np.empty(0), "group": {"key": np.empty(0, int)}},
    "zeros": {"losses": np.zeros(ROWS)},
    "huge": {"losses": np.exp(RANDOM.normal(size=ROWS) * 200), "group": {"key": np.arange(ROWS) % 5}},
    "negative": {"losses": RANDOM.normal(size=ROWS), "group": {"key": np.arange(ROWS) % 5}},
    "large": {"losses": np.array([1e308, 1.7e308, -1.7e308]), "group": {"key": np.arange(3)}},
    "weighted": {"losses": RANDOM.exponential(size=ROWS), "weight": RANDOM.random(ROWS)},
}


def picture(losses, group=None, weight=None, calibration=None, loss="l1_loss"):
    result = result_of(losses, group, weight)
    figures = Figures(result, result.groups, tuple(group or ()))
    return Picture("l1_loss of <data> & $more$", loss, figures, result.histogram, calibration)


def calibrated(rate):
    """Return a calibration of predictions of events of some rate."""
    logits = RANDOM.normal(size=2_000) + np.log(rate / (1 - rate))
    found = Calibration()
    found.update_from(lossrs.BCEWithLogitsLoss(), logits, RANDOM.random(2_000) < sigmoid(logits))
    return found


def drawn(of, path):
    with Output(path, ENDINGS) as output:
        write_picture(output, of)
    return path.read_bytes()


MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_all_kinds_of_data(tmp_path, kind, capfd):
    """Warnings are errors here."""
    ElementTree.fromstring(drawn(picture(**KINDS[kind]), tmp_path / "out.svg"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_kind_of_file(tmp_path, ending):
    of = picture(**KINDS["forty groups"], calibration=calibrated(0.3))
    assert drawn(of, tmp_path / f"out{ending}").startswith(MAGIC[ending])
    assert [panel.name for panel in panels(of)] == ["histogram", "worst rows", "calibration", "groups"]


@pytest.mark.parametrize("rate", [0.3, 0.001, 0.999])
def test_calibration_of_rare_and_of_usual_events(tmp_path, rate):
    of = picture(**KINDS["zeros"], calibration=calibrated(rate), loss="binary_cross_entropy_with_logits")
    text = drawn(of, tmp_path / "out.svg").decode()
    assert "calibration error" in text
    assert "predicted probability" in text


def test_names_are_drawn_as_they_are(tmp_path):
    text = drawn(picture(**KINDS["many keys"]), tmp_path / "out.svg").decode()
    assert "$x^2_" in text
    assert "日本語\\n\\x1b[" in text
    assert "l1_loss of &lt;data&gt; &amp; $more$" in text


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    program = f"""if True:
        import sys, warnings
        import matplotlib
        before = matplotlib.rcParams.copy()
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from pathlib import Path
        from test_score_output_pictures import KINDS, drawn, picture
        drawn(picture(**KINDS["few"]), Path({str(tmp_path)!r}) / "out.png")
        assert matplotlib.rcParams.copy() == before
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


def test_nothing_is_imported_that_is_not_asked_for(tmp_path):
    write(tmp_path / "x.parquet", x=[1.0], y=[0.0])
    program = "import sys; from lossrs.scoring.command_line import main; main(sys.argv[1:]);"
    program += "sys.exit(any(name in sys.modules for name in ('matplotlib', 'rich', 'lossrs.scoring.report')))"
    arguments = ["score", str(tmp_path / "x.parquet"), *XY]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(0)
    columns = {f"logit_{index}": random.normal(size=300).astype(np.float32) for index in range(3)}
    columns |= {"label": random.integers(0, 3, 300), "country": random.choice(["<de>", "f&r", "日本"], 300)}
    return write(tmp_path / "a <b> & c.parquet", **columns)


def run(*arguments):
    return main([*map(str, arguments)])


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_plot_and_report_are_written_by_the_command(tmp_path, file, capsys):
    arguments = ("score", file, *CLASSES, "--by", "country")
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert (
        run(*arguments, "--plot", tmp_path / "out.PNG", "--report", tmp_path / "out.html", "--fail-if", "rows > 1") == 1
    )
    assert capsys.readouterr().out == printed
    assert left(tmp_path) == [file.name, "out.PNG", "out.html"]
    assert (tmp_path / "out.PNG").read_bytes().startswith(MAGIC[".png"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--plot", "out.jpg"), "the ending '.jpg' is none of .png, .svg, .pdf"),
        (("--report", "out.pdf"), "the ending '.pdf' is none of .html"),
        (("--plot", "nowhere/out.png"), "cannot be written: No such file or directory"),
        (("--plot", "out.png", "--report", "nowhere/out.html"), "cannot be written: No such file or directory"),
        (("--report", "."), "the ending '' is none of .html"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert run("score", "missing.parquet", *XY, *options) == 2
    assert message in capsys.readouterr().err
    assert left(tmp_path) == []


def test_an_error_leaves_what_was_there(tmp_path, capsys):
    write(tmp_path / "x.parquet", x=[1.0, None], y=[0.0, 0.0])
    (tmp_path / "out.png").write_bytes(b"before")
    assert (
        run("score", tmp_path / "x.parquet", *XY, "--plot", tmp_path / "out.png", "--report", tmp_path / "o.html") == 2
    )
    assert (tmp_path / "out.png").read_bytes() == b"before"
    assert left(tmp_path) == ["out.png", "x.parquet"]


@pytest.mark.parametrize("option", ["--plot=out.png", "--plot=out.svg", "--plot=out.pdf", "--report=out.html"])
def test_a_full_disk(tmp_path, option):
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    write(tmp_path / "x.parquet", x=[1.0, 2.0], y=[0.0, 0.0])

    def no_large_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))

    # What matplotlib keeps about fonts is written before, not now.
    from matplotlib import font_manager  # noqa: F401

    command = [sys.executable, "-m", "lossrs", "score", "x.parquet", *XY, option]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False, preexec_fn=no_large_files
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"lossrs: error: .*/out\.\w+: cannot be written: File too large\n", ran.stderr)
    assert left(tmp_path) == ["x.parquet"]


@pytest.mark.parametrize("option", ["--plot=out.png", "--report=out.html"])
def test_without_matplotlib(tmp_path, option):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('no matplotlib')")
    write(tmp_path / "x.parquet", x=[1.0], y=[0.0])
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "lossrs", "score", "x.parquet", *XY, option]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.endswith(" needs matplotlib: pip install 'lossrs[score]'\n")


def test_shards_merge_to_the_same_picture(tmp_path, file, capsys):
    arguments = ("score", file, *CLASSES, "--by", "country")
    table = pq.read_table(file)
    pq.write_table(table, file, row_group_size=50)
    run(*arguments, "--plot", tmp_path / "whole.svg")
    for number in (1, 2, 3):
        run(
            *arguments,
            "--shard",
            f"{number}/3",
            "--save",
            tmp_path / f"{number}.state",
            "--plot",
            tmp_path / "part.svg",
        )
    assert run("merge", *(tmp_path / f"{n}.state" for n in (3, 1, 2)), "--plot", tmp_path / "merged.svg") == 0
    assert (tmp_path / "merged.svg").read_bytes() == (tmp_path / "whole.svg").read_bytes()
    assert "calibration error" in (tmp_path / "merged.svg").read_text()
    assert (tmp_path / "part.svg").read_bytes() != (tmp_path / "whole.svg").read_bytes()


def test_batches_do_not_change_the_picture(tmp_path, file, capsys):
    arguments = ("score", file, *CLASSES, "--by", "country", "--plot")
    run(*arguments, tmp_path / "a.svg")
    run(*arguments, tmp_path / "b.svg", "--batch-size", "7")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


# The page


XHTML = "{http://www.w3.org/1999/xhtml}"


def page_of(file, *, quantiles=(), worst=0, **options):
    found = score(file, histogram=True, calibration=True, worst=worst, **options)
    command = ("lossrs", "score", str(file), "--where", "x > 'a'")
    figures = Figures(found.overall, found.groups, found.by, quantiles)
    return report(Results(found, figures, Run(command, found.overall.rows, 0.5, 2**30)))


def parsed(page):
    """Return the page's tree: it is XML, too."""
    tree = ElementTree.fromstring(page)
    names = [element.attrib["id"] for element in tree.iter() if "id" in element.attrib]
    assert len(names) == len(set(names))
    for element in tree.iter():
        for name, value in element.attrib.items():
            if name.rsplit("}")[-1] in ("href", "src", "srcset", "action", "data"):
                assert value.startswith(("#", "data:")), (element.tag, name, value)
                assert value[1:] in names or not value.startswith("#")
            for target in re.findall(r"url\(([^)]*)\)", value):
                assert target.startswith("#")
                assert target[1:] in names
    assert not re.search(r"@import|url\((?!#)", "".join(tree.itertext()))
    return tree


ASKED = {"loss": "cross_entropy", "input": "logit_*", "target": "label"}


def test_the_page_says_all(file):
    page = page_of(file, **ASKED, by="country", quantiles=[0.5, 0.99], worst=5, options={"label_smoothing": 0.125})
    tree = parsed(page)
    titles = [element.text for element in tree.iter(f"{XHTML}h2")]
    assert titles == [
        "Pictures",
        "Groups (3)",
        "Worst rows",
        "All rows",
        "Calibration",
        "Command",
        "Options of cross_entropy",
        "Files (1)",
    ]
    text = " ".join(" ".join(tree.itertext()).split())
    found = score(file, **ASKED, by="country", options={"label_smoothing": 0.125})
    assert repr(found.overall.mean) in text
    for key, group in found.groups.items():
        assert f"{key} {group.mean:.8g}" in text
    assert f"lossrs {lossrs.__version__}" in text
    assert f"lossrs score '{file}' --where 'x > '\"'\"'a'\"'\"''" in text
    assert "label_smoothing 0.125" in text
    assert "300 rows in 0.5 s, 600 rows/s, peak memory 1,024 MiB" in text
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}svg"))) == 4
    assert file.name in text


def test_the_page_of_very_many_groups_shows_the_worst(tmp_path):
    rows = 2_500
    file = write(tmp_path / "x.parquet", x=np.arange(rows) / 1.0, y=np.zeros(rows), key=np.arange(rows))
    tree = parsed(page_of(file, loss="l1_loss", input="x", target="y", by="key"))
    cells = [[cell.text for cell in row] for row in tree.iter(f"{XHTML}tr")]
    keys = [int(row[0]) for row in cells if row and row[0] and row[0].isdecimal()]
    assert keys == list(range(rows - 1, rows - 1_001, -1))


def test_names_that_look_like_the_page_are_written_as_they_are(tmp_path):
    name = 'x: #0072b2 url(#a) id="b"'
    file = write(tmp_path / "x.parquet", x=[1.0, 2.0], y=[0.0, 0.0], key=[name, "</svg><script>"])
    tree = parsed(page_of(file, loss="l1_loss", input="x", target="y", by="key"))
    texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {name, "</svg><script>"} <= set(texts)
    assert [element.text for element in tree.iter(f"{XHTML}td")].count(name) == 1


def test_the_page_of_two_models(tmp_path, capsys):
    random = np.random.default_rng(0)
    x, y, key = random.normal(size=400), random.normal(size=400), np.arange(400) % 3
    file = write(tmp_path / "x.parquet", x=x, y=y, other=x * 0.5, key=key)
    arguments = ("score", file, *XY, "--compare", "other", "--bootstrap", "50", "--by", "key")
    assert run(*arguments, "--report", tmp_path / "out.html", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    tree = parsed((tmp_path / "out.html").read_text(encoding="utf-8"))
    text = " ".join(" ".join(tree.itertext()).split())
    assert (
        f"difference {found['difference']:.6g} ± {found['difference_standard_error']:.2g} (standard error) 95 %:"
        in text
    )
    assert "The second model is better in 3 of 3 groups, worse in 0" in text


@pytest.mark.parametrize("x", [[], [1.0], [np.nan, np.inf], [0.0, 0.0]])
def test_pages_of_odd_data_are_whole(tmp_path, x):
    file = write(tmp_path / "x.parquet", x=np.array(x), y=np.zeros(len(x)), key=np.arange(len(x)))
    parsed(page_of(file, loss="l1_loss", input="x", target="y", by="key", quantiles=[0.5], worst=2))
    parsed(page_of(file, loss="l1_loss", input="x", target="y"))


class _Asked(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page_and_asks_for_nothing_else(tmp_path, file):
    page = page_of(file, **ASKED, by="country", worst=5)
    click = """<script>
      var heads = document.querySelectorAll("section:nth-of-type(2) th");
      var body = heads[0].closest("table").tBodies[0];
      var seen = function () { return Array.from(body.rows).map(function (row) { return row.cells[0].textContent; }); };
      var shown = [];
      heads[1].firstChild.click(); shown.push(seen(), heads[1].getAttribute("aria-sort"));
      heads[1].firstChild.click(); shown.push(seen(), heads[1].getAttribute("aria-sort"));
      heads[0].firstChild.click(); shown.push(seen(), heads[1].getAttribute("aria-sort"));
      document.body.dataset.shown = shown.join("|");
      document.body.dataset.wide = document.documentElement.scrollWidth > window.innerWidth;
    </script></body>"""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "page.html").write_text(page.replace("</body>", click), encoding="utf-8")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Asked, directory=str(folder))) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for width in (400, 1_300):
            command = [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr", "--v=0",
                f"--window-size={width},900", "--dump-dom", f"http://127.0.0.1:{server.server_port}/page.html",
            ]  # fmt: skip
            ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
            assert not [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
            shown, wide = re.search(r'data-shown="([^"]*)" data-wide="(\w+)"', ran.stdout).groups()
            groups = score(file, **ASKED, by="country").groups
            by_mean = ",".join(sorted(groups, key=lambda key: groups[key].mean))
            by_mean_down = ",".join(sorted(groups, key=lambda key: -groups[key].mean))
            shown = html.unescape(shown).split("|")
            assert shown[:4] == [by_mean, "ascending", by_mean_down, "descending"]
            assert sorted(shown[4].split(",")) == sorted(groups)
            assert shown[5] == ""
            assert wide == "false"
        server.shutdown()
    assert set(server.asked) == {"/page.html"}


def test_outputs_without_an_ending_are_refused(tmp_path):
    with pytest.raises(ScoreError, match="the ending '' is none of"):
        Output(tmp_path / "out", ENDINGS)
