"""Many files, standard input, filters, labels, shards and half precision: what ``lossrs score`` takes."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import lossrs.functional as F
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossrs.scoring import ScoreError, score
from lossrs.scoring.batches import ENDINGS, _ahead, batches
from lossrs.scoring.files import find_files
from lossrs.scoring.survey import Survey
from lossrs.scoring.where import Where

ROWS, CLASSES = 1_000, 4
SPECIES = ["cat", "dog", "hen", "owl"]

random = np.random.default_rng(0)
logits = random.normal(size=(ROWS, CLASSES)).astype(np.float32)
labels = random.integers(0, CLASSES, ROWS)
weights = random.random(ROWS)
country = random.choice(["de", "fr", "it"], ROWS)
day = random.integers(1, 4, ROWS)
ASKED = {"input": "logit_*", "target": "label"}


def table(rows=slice(None), without=(), **other):
    columns = {f"logit_{index}": logits[rows, index] for index in range(CLASSES)}
    columns |= {"label": labels[rows], "w": weights[rows], "country": country[rows], "day": day[rows]} | other
    return pa.table({name: column for name, column in columns.items() if name not in without})


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix
    if ending == ".parquet":
        pq.write_table(content, path, row_group_size=90)
    elif ending == ".csv":
        pyarrow.csv.write_csv(content, path)
    elif ending == ".arrow":
        with pa.ipc.new_file(path, content.schema) as file:
            file.write_table(content, max_chunksize=80)
    elif ending == ".arrows":
        with pa.ipc.new_stream(path, content.schema) as file:
            file.write_table(content, max_chunksize=80)
    else:
        arrays = {name: content[name].to_numpy() for name in content.column_names}
        arrays = {name: array.astype(str) if array.dtype == object else array for name, array in arrays.items()}
        np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole") / "table.parquet", table())


def run(*arguments, cwd=None, **keywords):
    command = [sys.executable, "-m", "lossrs", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=60, check=False, **keywords)


def command(*arguments, **keywords):
    """Run `lossrs score` and return what it prints, and the error if there is one."""
    ran = run("score", *arguments, "--loss", "cross_entropy", "--input", "logit_*", "--target", "label", **keywords)
    assert ran.returncode == 2 if ran.stderr else ran.returncode == 0
    return ran.stdout.decode(), ran.stderr.decode()


def figures(summary):
    """Return what does not depend on how rows are numbered."""
    return {name: value for name, value in summary.to_dict().items() if not name.endswith("_row")}


PIECES = [slice(0, 300), slice(300, 310), slice(310, 310), slice(310, 700), slice(700, 1_000)]


class TestManyFiles:
    @pytest.mark.parametrize("endings", [["parquet"], ["arrow", "parquet"], ["arrows"], ["npz"], ["csv"]], ids=str)
    @pytest.mark.parametrize("batch_size", [37, 65_536])
    def test_are_one(self, tmp_path, whole, endings, batch_size):
        endings = itertools.cycle(endings)
        for index, (rows, ending) in enumerate(zip(PIECES, endings, strict=False)):
            write(tmp_path / f"part-{index}.{ending}", table(rows))
        asked = ASKED | {"by": "country", "sample_weight": "w"}
        alone = score(whole, "cross_entropy", **asked, per_sample=tmp_path / "whole.npy")
        together = score(
            tmp_path / "part-*", "cross_entropy", **asked, batch_size=batch_size, per_sample=tmp_path / "parts.npy"
        )
        losses, expected = np.load(tmp_path / "parts.npy"), np.load(tmp_path / "whole.npy")
        if losses.dtype == np.float32:
            assert (together.overall, together.groups) == (alone.overall, alone.groups)
            np.testing.assert_array_equal(losses, expected, strict=True)
        else:  # text has no single precision
            np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)
        assert len(together.files) == len(PIECES)

    def test_are_read_in_the_order_of_their_paths(self, tmp_path, tmp_path_factory, monkeypatch):
        output = tmp_path_factory.mktemp("output") / "losses.npy"
        paths = [tmp_path / name for name in ("a/2.parquet", "a/10.parquet", "b.parquet", "b/c/0.csv", "_x/0.parquet")]
        for index, path in enumerate(paths):
            write(path, pa.table({"x": [float(index)], "y": [0.0]}))
        (tmp_path / "a" / "_SUCCESS").touch()
        (tmp_path / "a" / ".2.parquet.crc").touch()
        (tmp_path / "a" / "readme.txt").touch()

        def order(*requests):
            score(requests, "l1_loss", input="x", target="y", per_sample=output)
            return np.load(output).tolist()

        monkeypatch.chdir(tmp_path)
        assert order(tmp_path) == order(".") == [1, 0, 2, 3]
        assert order("b", "a") == [1, 0, 3]
        assert order("a/*.parquet", tmp_path / "a" / "2.parquet", "a/10.parquet") == [1, 0]
        assert order("**/*.parquet") == [4, 1, 0, 2]
        assert order("b/c/0.csv", "b.parquet") == [2, 3]

    def test_links_that_lead_back_end(self, tmp_path):
        write(tmp_path / "data/a/part.parquet", table())
        (tmp_path / "data/a/back").symlink_to(tmp_path / "data")
        assert score(tmp_path / "data", "cross_entropy", **ASKED).overall.rows == ROWS

    def test_brackets_in_a_name_are_no_glob_where_the_file_exists(self, tmp_path):
        write(tmp_path / "a[1].parquet", table())
        assert score(tmp_path / "a[1].parquet", "cross_entropy", **ASKED).overall.rows == ROWS

    def test_by_the_command(self, tmp_path, whole):
        for index, rows in enumerate(PIECES):
            write(tmp_path / f"part-{index}.parquet", table(rows))
        expected, _ = command(whole, "--by", "country,day")
        assert command("part-*.parquet", "--by", "country", "--by", "day", cwd=tmp_path) == (expected, "")
        assert command(*sorted(tmp_path.iterdir()), "--by", "country,day") == (expected, "")
        assert expected.split()[:3] == ["country", "day", "mean"]

    @pytest.mark.parametrize("ending", ["parquet", "arrow", "csv"])
    @pytest.mark.parametrize("where", [None, "label != 2"])
    def test_the_place_of_an_extreme_row(self, tmp_path, ending, where):
        for index, rows in enumerate(PIECES):
            write(tmp_path / f"part-{index}.{ending}", table(rows))
        losses = F.cross_entropy(logits, labels, reduction="none")
        chosen = np.flatnonzero(labels != 2) if where else np.arange(ROWS)
        row = int(chosen[np.argmax(losses[chosen])])
        piece = next(index for index, rows in enumerate(PIECES) if rows.start <= row < rows.stop)
        expected = (tmp_path / f"part-{piece}.{ending}", row - PIECES[piece].start)
        found = [score(tmp_path, "cross_entropy", **ASKED, where=where, shard=(n, 3), batch_size=41) for n in (1, 2, 3)]
        found = [of for of in found if of.overall.rows]
        for of in [
            max(found, key=lambda of: of.overall.maximum),
            score(tmp_path, "cross_entropy", **ASKED, where=where),
        ]:
            assert of.overall.maximum_row == row
            assert of.place(of.overall.maximum_row) == expected

    def test_progress_counts_all_rows(self, tmp_path):
        for index, rows in enumerate(PIECES):
            write(tmp_path / f"part-{index}.parquet", table(rows))
        seen = []
        score(tmp_path, "cross_entropy", **ASKED, batch_size=77, progress=lambda *rows: seen.append(rows[:2]))
        assert seen[-1] == (ROWS, ROWS)
        assert [rows for rows, _ in seen] == sorted({rows for rows, _ in seen})


class TestHive:
    @pytest.fixture
    def folder(self, tmp_path):
        for of, number in itertools.product(["de", "fr", "it"], [1, 2, 3]):
            rows = (country == of) & (day == number)
            write(tmp_path / f"country={of}/day={number}/part.parquet", table(rows, ["country", "day"]))
        return tmp_path

    def test_keys_group(self, folder, whole):
        for by in ("country", "day", ("country", "day"), "day,country"):
            found, expected = (score(path, "cross_entropy", **ASKED, by=by) for path in (folder, whole))
            assert list(found.groups) == list(expected.groups)
            assert [*map(figures, found.groups.values())] == [*map(figures, expected.groups.values())]
            assert found.by == expected.by
        assert list(score(folder, "cross_entropy", **ASKED, by="day").groups) == [1, 2, 3]

    def test_keys_filter_and_what_they_rule_out_is_not_read(self, folder, whole):
        where = "country == 'de' and (day >= 2 or weight > 5)".replace("weight", "w")
        expected = score(whole, "cross_entropy", **ASKED, where=where).overall
        bad = table((country == "fr") & (day == 2), ["country", "day"])
        bad = bad.set_column(bad.column_names.index("label"), "label", pa.array(np.full(len(bad), 99)))
        write(folder / "country=fr/day=2/part.parquet", bad)
        with pytest.raises(ScoreError, match=r"country=fr.*label 99"):
            score(folder, "cross_entropy", **ASKED)
        assert figures(score(folder, "cross_entropy", **ASKED, where=where).overall) == figures(expected)

    def test_keys_may_be_any_column(self, tmp_path):
        for label in range(CLASSES):
            write(tmp_path / f"label={label}" / "part.npz", table(labels == label, ["label"]))
            write(tmp_path / "names" / f"label={SPECIES[label]}" / "part.csv", table(labels == label, ["label"]))
        expected = F.cross_entropy(logits, labels)
        assert score(tmp_path / "label=*", "cross_entropy", **ASKED).overall.mean == expected
        found = score(tmp_path / "names", "cross_entropy", **ASKED, labels=SPECIES, by="label")
        assert found.overall.mean == pytest.approx(expected, rel=1e-6)
        assert list(found.groups) == SPECIES
        with pytest.raises(ScoreError, match="column 'label' is 'cat' by the file's path; numbers are needed"):
            score(tmp_path / "names", "cross_entropy", **ASKED)

    def test_values(self, tmp_path):
        names = ["k=1", "k=__HIVE_DEFAULT_PARTITION__", "k=a%2Fb%20c", "k=", "j=1"]
        for index, name in enumerate(names):
            write(tmp_path / name / "x.parquet", pa.table({"x": [float(index)], "y": [0.0], "j": ["own"]}))
        found = score(tmp_path / "k=*", "l1_loss", input="x", target="y", by="k")
        assert {key: group.sum for key, group in found.groups.items()} == {"": 3.0, "1": 0.0, "a/b c": 2.0, None: 1.0}
        assert list(score(tmp_path / "j=1", "l1_loss", input="x", target="y", by="j").groups) == ["own"]
        with pytest.raises(ScoreError, match=r"j=1.*no column 'k'"):
            score(tmp_path, "l1_loss", input="x", target="y", by="k")


class TestStandardInput:
    def stream(self, opener=pa.ipc.new_stream, rows=slice(None)):
        sink = pa.BufferOutputStream()
        content = table(rows)
        with opener(sink, content.schema) as writer:
            writer.write_table(content, max_chunksize=130)
        return sink.getvalue().to_pybytes()

    @pytest.mark.parametrize("opener", [pa.ipc.new_stream, pa.ipc.new_file])
    def test_is_an_arrow_stream_or_file(self, whole, opener):
        expected, _ = command(whole, "--by", "country", "--where", "day != 2")
        arguments = ("-", "--by", "country", "--where", "day != 2")
        assert command(*arguments, input=self.stream(opener)) == (expected, "")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "<stdin>: the stream is empty"),
            (b"PAR1" + bytes(100), "<stdin>: is a Parquet file; an Arrow stream is needed"),
            (b"logit_0,label\n1,0\n", "<stdin>: cannot be read: "),
            ("cut short", "<stdin>: cannot be read: "),
            ("wrong label", "<stdin>: column 'label': label 9 at row 150 is outside [0, 4)"),
        ],
    )
    def test_errors(self, tmp_path, content, message):
        if content == "cut short":
            content = self.stream()[:-3_000]
        elif content == "wrong label":
            stream = pa.BufferOutputStream()
            with pa.ipc.new_stream(stream, table().schema) as writer:
                writer.write_table(table(slice(0, 150)))
                writer.write_table(table(label=np.full(ROWS, 9)))
            content = stream.getvalue().to_pybytes()
        output, error = command("-", "--per-sample", "losses.parquet", input=content, cwd=tmp_path)
        assert output == ""
        assert message in error
        assert len(error.splitlines()) == 1
        assert not list(tmp_path.iterdir())

    def test_is_alone_and_whole(self, whole):
        assert "cannot be read together" in command("-", whole, input=b"")[1]
        assert "<stdin>: cannot be read by shards" in command("-", "--shard", "1/2", input=self.stream())[1]

    def test_a_silent_pipe_can_be_interrupted(self, tmp_path):
        arguments = ["score", "-", "--loss", "mse_loss", "--input", "w", "--target", "w", "--per-sample", "x.npy"]
        with subprocess.Popen(
            [sys.executable, "-m", "lossrs", *arguments],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            process.stdin.write(self.stream()[:-3_000])
            process.stdin.flush()
            deadline = time.monotonic() + 60
            while not list(tmp_path.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            assert process.stderr.read() == b""
        assert not list(tmp_path.iterdir())


def test_a_read_that_hangs_is_left_behind():
    hung = threading.Event()
    ended = []

    def items():
        yield 0
        ended.append(hung.wait(60))
        yield 1

    ahead = _ahead(items())
    assert next(ahead) == 0
    ahead.close()
    assert not ended
    hung.set()


def half_files(folder):
    """Write the logits in half precision in every way there is, and yield the path, the columns, and the logits."""
    half, brain = logits.astype(np.float16), logits.astype(ml_dtypes.bfloat16)
    bits = pa.FixedSizeBinaryArray.from_buffers(pa.binary(2), brain.size, [None, pa.py_buffer(brain.tobytes())])
    lists = {
        "float16": pa.FixedSizeListArray.from_arrays(pa.array(half.ravel()), CLASSES),
        "bfloat16": pa.FixedSizeListArray.from_arrays(bits, CLASSES),
    }
    label = pa.array(labels)
    for name, array in (("float16", half), ("bfloat16", brain)):
        columns = {
            f"logit_{index}": lists[name].flatten().take(pa.array(range(index, half.size, CLASSES)))
            for index in range(CLASSES)
        }
        for ending in ("parquet", "arrow"):
            yield write(folder / f"{name}.{ending}", pa.table(columns | {"label": label})), "logit_*", array
            content = pa.table({"logits": lists[name], "label": label})
            yield write(folder / f"{name}_lists.{ending}", content), "logits", array
        np.savez(folder / f"{name}.npz", logits=array, label=labels)
        yield folder / f"{name}.npz", "logits", array
        np.savez_compressed(folder / f"{name}_compressed.npz", logits=array, label=labels)
        yield folder / f"{name}_compressed.npz", "logits", array
        structured = np.empty(ROWS, [("logits", array.dtype, CLASSES), ("label", np.int8)])
        structured["logits"], structured["label"] = array, labels
        np.save(folder / f"{name}.npy", structured)
        yield folder / f"{name}.npy", "logits", array
        np.save(folder / f"{name}_numbers.npy", array)
        yield folder / f"{name}_numbers.npy", ":", array


def test_half_precision(tmp_path):
    for path, columns, array in half_files(tmp_path):
        wide = array.astype(np.float32)
        if columns == ":":
            found = score(path, "mse_loss", input="0:2", target="2:4", batch_size=33)
            assert found.overall.mean == pytest.approx(F.mse_loss(wide[:, :2], wide[:, 2:]), rel=1e-6), path
        else:
            output = tmp_path / "losses.npy"
            score(path, "cross_entropy", input=columns, target="label", batch_size=33, per_sample=output)
            np.testing.assert_array_equal(
                np.load(output), F.cross_entropy(wide, labels, reduction="none"), strict=True, err_msg=str(path)
            )


class TestLabels:
    names = np.array(SPECIES)[labels]

    @pytest.mark.parametrize(
        "column",
        [
            pa.array(names),
            pa.array(names, pa.large_string()),
            pa.array(names, pa.string_view()),
            pa.array(names).dictionary_encode(),
            pa.DictionaryArray.from_arrays(pa.array(labels, pa.int8()), ["cat", "dog", "hen", "owl"]),
        ],
        ids=lambda column: str(column.type),
    )
    @pytest.mark.parametrize("ending", ["parquet", "arrow", "csv"])
    def test_are_numbered(self, tmp_path, whole, column, ending):
        if ending == "csv":
            column = column.cast(pa.string())
        path = write(tmp_path / f"table.{ending}", table(label=column))
        found = score(path, "cross_entropy", **ASKED, labels=SPECIES, by="label", batch_size=99)
        assert found.overall.mean == pytest.approx(F.cross_entropy(logits, labels), rel=1e-6)
        assert list(found.groups) == SPECIES
        assert [group.rows for group in found.groups.values()] == np.bincount(labels).tolist()

    def test_of_numpy(self, tmp_path):
        expected = F.cross_entropy(logits, labels)
        for array in (self.names, self.names.astype("S"), labels + 7, labels.astype(float) + 7):
            np.savez(tmp_path / "table.npz", logits=logits, label=array)
            known = SPECIES if array.dtype.kind in "US" else ["7", "8", "9", "10"]
            found = score(tmp_path / "table.npz", "cross_entropy", input="logits", target="label", labels=known)
            assert found.overall.mean == expected

    def test_integers_with_labels_are_names_too(self, tmp_path):
        path = write(tmp_path / "table.parquet", table(label=labels + 7))
        found = score(path, "cross_entropy", **ASKED, labels=["7", "8", "9", "10"])
        assert found.overall.mean == F.cross_entropy(logits, labels)

    def test_dictionaries_of_numbers_are_labels_as_they_are(self, tmp_path, whole):
        path = write(tmp_path / "table.arrow", table(label=pa.array(labels).dictionary_encode()))
        expected = score(whole, "cross_entropy", **ASKED).overall
        assert score(path, "cross_entropy", **ASKED).overall == expected

    def test_of_an_elementwise_loss(self, tmp_path):
        answers = pa.array(np.where(labels > 1, "yes", "no"))
        path = write(tmp_path / "table.parquet", table(label=answers))
        found = score(path, "binary_cross_entropy_with_logits", input="logit_0", target="label", labels=["no", "yes"])
        expected = F.binary_cross_entropy_with_logits(logits[:, 0], (labels > 1).astype(np.float32))
        assert found.overall.mean == expected

    def test_by_the_command(self, tmp_path, whole):
        path = write(tmp_path / "table.parquet", table(label=pa.array(self.names)))
        expected, _ = command(whole)
        assert command(path, "--labels", "cat,dog,hen,owl") == (expected, "")
        for text in ("cat\ndog\nhen\nowl\n", "cat\r\ndog\r\nhen\r\nowl", "\ufeffcat\ndog\nhen\nowl\n"):
            (tmp_path / "labels.txt").write_bytes(text.encode())
            assert command(path, "--labels", tmp_path / "labels.txt") == (expected, "")
        (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
        for asked, message in (
            ("none.txt", "none.txt: is no comma list, and cannot be read: No such file or directory"),
            ("latin.txt", "latin.txt: is not UTF-8 text"),
            ("cat,dog,dog,owl", "labels: 'dog' is there twice"),
            ("cat,dog,hen", "3 labels for 4 input columns; the numbers must be equal"),
            (
                "cat,dog,hem,owl",
                "table.parquet: column 'label': 'hen' at row 0 is none of the labels (did you mean 'hem'",
            ),
        ):
            assert (
                message.replace("row 0", f"row {np.argmax(labels == 2)}")
                in command(path, "--labels", asked, cwd=tmp_path)[1]
            )

    @pytest.mark.parametrize("ending", ["parquet", "csv", "npz"])
    def test_an_unknown_label_is_named_with_row_and_file(self, tmp_path, ending):
        for index in range(3):
            names = self.names.astype("U5")
            if index == 2:
                names[777] = "horse"
            write(tmp_path / f"{index}.{ending}", table(label=names))
        for where, row in ((None, 777), ("country != 'zz'", 777), ("day > 0 and w >= 0", 777)):
            with pytest.raises(
                ScoreError, match=f"2.{ending}: column 'label': 'horse' at row {row} is none of the labels"
            ):
                score(tmp_path, "cross_entropy", **ASKED, labels=SPECIES, where=where, batch_size=50)

    def test_a_missing_label_is_named(self, tmp_path):
        names = self.names.tolist()
        names[5] = None
        path = write(tmp_path / "table.parquet", table(label=pa.array(names)))
        with pytest.raises(ScoreError, match="column 'label': null at row 5; a label is needed in every row"):
            score(path, "cross_entropy", **ASKED, labels=SPECIES)


NULLABLE = pa.table(
    {
        "x": [1.0, 2.0, None, 4.0, float("nan"), 6.0],
        "i": pa.array([1, None, 3, 4, 5, 6], pa.int8()),
        "s": ["a", "b", None, "a'b", "ü", "b"],
        "t": pa.array([True, False, None, True, False, True]),
        "d": pa.array([0, 365, 730, None, 1461, 1826], pa.date32()),
        "m": pa.array([0, 1, 2, 3, None, 5], pa.timestamp("us", "UTC")),
        "h": pa.array(np.arange(6, dtype=np.float16)),
        "c": pa.array(["u", "v", "u", None, "v", "u"]).dictionary_encode(),
        "odd name": [0, 1, 2, 3, 4, 5],
        "value": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
        "zero": [0.0] * 6,
    }
)

# Which rows each leaves.
EXPRESSIONS = {
    "x > 1": [1, 3, 5],
    "x != 2": [0, 3, 4, 5],
    "not x > 1": [0, 4],
    "1 < x <= 4": [1, 3],
    "1 <x<i": [],
    "x >= -1.5e0": [0, 1, 3, 5],
    "i in (1, 4, 99)": [0, 3],
    "i not in [1, 4]": [2, 4, 5],
    "not (i in {1, 4})": [2, 4, 5],
    "s == 'b'": [1, 5],
    "'b' == s": [1, 5],
    's == "a\'b"': [3],
    "s == 'ü'": [4],
    "s in ('a', 'ü')": [0, 4],
    "s > 'a'": [1, 3, 4, 5],
    "s is null": [2],
    "s is None": [2],
    "s is not null and i is not null": [0, 3, 4, 5],
    "t": [0, 3, 5],
    "not t": [1, 4],
    "t == false": [1, 4],
    "t == True": [0, 3, 5],
    "t or i == 3": [0, 2, 3, 5],
    "t and not i == 1 or s is null": [2, 3, 5],
    "d >= '1972-01-01'": [2, 4, 5],
    "d == '1971-01-01'": [1],
    "'1970-06-01' < d < '1973-01-01'": [1, 2],
    "m > '1970-01-01T00:00:00.000002Z'": [3, 5],
    "h > 3.5": [4, 5],
    "c == 'u'": [0, 2, 5],
    "c in ('v',)": [1, 4],
    "'u' < c": [1, 4],
    "not c == 'u'": [1, 4],
    "column('odd name') >= 4": [4, 5],
    "column('x') == x": [0, 1, 3, 5],
    "x > i": [],
    "true": [0, 1, 2, 3, 4, 5],
    "false or x == 1": [0],
    "i > 99999999999999999999999": [],
    f"i < 1{'0' * 400} and x > -1{'0' * 400}": [0, 3, 5],
    "(((x == 1)))": [0],
    "x == 1 or\n x == 2": [0, 1],
}


class TestWhere:
    @pytest.mark.parametrize("expression", EXPRESSIONS)
    @pytest.mark.parametrize("kind", ["parquet", "one row groups", "arrow"])
    def test_leaves_rows(self, tmp_path, expression, kind):
        path = tmp_path / ("table.arrow" if kind == "arrow" else "table.parquet")
        if kind == "one row groups":
            pq.write_table(NULLABLE, path, row_group_size=1)
        else:
            write(path, NULLABLE)
        rows = EXPRESSIONS[expression]
        output = tmp_path / "losses.npy"
        score(path, "l1_loss", input="value", target="zero", where=expression, batch_size=4, per_sample=output)
        assert np.load(output).tolist() == [2.0**row for row in rows]

    @pytest.mark.parametrize(
        "expression",
        [
            "country == 'de'",
            "day > 1 and country != 'fr'",
            "0.25 < w <= 0.5",
            "country in ('it', 'de') or day == 3",
            "label < 2",
        ],
    )
    @pytest.mark.parametrize("ending", ["csv", "npz", "arrows", "parquet"])
    def test_is_the_same_in_every_format(self, tmp_path, expression, ending):
        path = write(tmp_path / f"table.{ending}", table())
        chosen = {
            "country == 'de'": country == "de",
            "day > 1 and country != 'fr'": (day > 1) & (country != "fr"),
            "0.25 < w <= 0.5": (weights > 0.25) & (weights <= 0.5),
            "country in ('it', 'de') or day == 3": (country != "fr") | (day == 3),
            "label < 2": labels < 2,
        }[expression]
        found = score(path, "cross_entropy", **ASKED, where=expression, by="country,day", batch_size=77)
        assert found.overall.rows == np.count_nonzero(chosen) < ROWS
        assert found.overall.mean == pytest.approx(F.cross_entropy(logits[chosen], labels[chosen]), rel=1e-6)
        for (of, number), group in found.groups.items():
            # The groups of text are text.
            assert group.rows == np.count_nonzero(chosen & (country == of) & (day == int(number)))

    @pytest.mark.parametrize("kind", ["fixed", "variable", "large", "tensor"])
    def test_of_lists(self, tmp_path, kind):
        fixed = pa.FixedSizeListArray.from_arrays(logits.ravel(), CLASSES)
        column = {
            "fixed": fixed,
            "variable": fixed.cast(pa.list_(pa.float32())),
            "large": fixed.cast(pa.large_list(pa.float32())),
            "tensor": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [CLASSES]), fixed),
        }[kind]
        path = write(tmp_path / "table.arrow", table(logits=column))
        chosen = (country == "de") & (day != 2)
        asked = {"input": "logits", "target": "label", "where": "country == 'de' and day != 2"}
        found = score(path, "cross_entropy", **asked, batch_size=77)
        assert found.overall.mean == F.cross_entropy(logits[chosen], labels[chosen])

    def test_numbered_columns(self, tmp_path):
        np.save(tmp_path / "table.npy", np.column_stack([logits, labels]))
        found = score(tmp_path / "table.npy", "cross_entropy", input=":4", target="4", where="column('4') >= 2")
        assert found.overall.rows == np.count_nonzero(labels >= 2)

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("x >", "where 'x >': invalid syntax, at character "),
            ("x = 1", "invalid syntax, at character 3"),
            ("", "at character 1"),
            ("x > 1 and value + 1 > 2", "'value + 1' is neither a column nor a string nor a number, at character 11"),
            ("s == 'ü' and len(s) > 2", "'len(s)' is neither a column nor a string nor a number, at character 14"),
            ("__import__('os').system('true')", "at character 1"),
            ("x == (lambda: 1)()", "at character 6"),
            ("s == f'{x}'", "at character 6"),
            ("s == b'a'", "at character 6"),
            ("x[0] > 1", "'x[0]' is neither a column nor a string nor a number, at character 1"),
            ("x == null", "nothing compares with null; what asks for it is `is null`, at character 6"),
            ("x is 1", "`is` is followed by null or by not null, at character 6"),
            ("x in 3", "`in` is followed by a list, as in ('a', 'b'), at character 6"),
            ("x in ()", "`in` is followed by a list, as in ('a', 'b'), at character 6"),
            ("'text'", "a comparison, or a column of truth values, is needed, at character 1"),
            ("x == 1 or 3", "a comparison, or a column of truth values, is needed, at character 11"),
            ("not s", "column 's' holds string; a truth value is needed, at character 5"),
            ("x > 'a'", "column 'x' holds double, this is string; they do not compare, at character 5"),
            ("1 < s", "this is int64, column 's' holds string; they do not compare, at character 5"),
            ("t == 1", "column 't' holds bool, this is int64; they do not compare, at character 6"),
            ("d > 'soon'", "'soon' cannot be read as date32[day], at character 5"),
            ("d == t", "where 'd == t': Function 'equal' has no kernel"),
            ("d > 3", "where 'd > 3': Function 'greater' has no kernel matching input types"),
            ("y > 3", "table.parquet: no column 'y'"),
            ("valeu > 3", "no column 'valeu' (did you mean 'value'?)"),
            ("x > 1\0", "where"),
            ("not " * 5_000 + "t", "where"),
            ("(" * 5_000 + "t" + ")" * 5_000, "where"),
        ],
    )
    def test_errors_say_where(self, tmp_path, expression, message):
        path = write(tmp_path / "table.parquet", NULLABLE)
        with pytest.raises(ScoreError) as raised:
            score(path, "l1_loss", input="value", target="zero", where=expression)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_row_groups_that_are_ruled_out_are_not_read(self, tmp_path):
        path = tmp_path / "table.parquet"
        content = pa.table({"x": np.arange(4_000.0), "y": np.zeros(4_000)})
        pq.write_table(content, path, row_group_size=1_000, use_dictionary=False, compression="none")
        column = pq.ParquetFile(path).metadata.row_group(1).column(0)
        damaged = bytearray(path.read_bytes())
        damaged[column.data_page_offset : column.data_page_offset + 100] = bytes(100)
        path.write_bytes(damaged)
        with pytest.raises(ScoreError, match=r"table\.parquet: cannot be read"):
            score(path, "l1_loss", input="x", target="y")
        found = score(path, "l1_loss", input="x", target="y", where="x >= 2000 and not x == 2500").overall
        assert (found.rows, found.sum) == (1_999, np.arange(2_000, 4_000).sum() - 2_500)

    def test_messages_name_the_row_of_the_file(self, tmp_path):
        wrong = labels.copy()
        wrong[[613, 614]] = 9
        write(tmp_path / "a.parquet", table())
        write(tmp_path / "b.parquet", table(label=wrong, w=np.arange(ROWS)))
        with pytest.raises(ScoreError, match=r"b\.parquet: column 'label': label 9 at row 614 is outside"):
            score(tmp_path, "cross_entropy", **ASKED, where="w != 613 and w > -5 and day > 0", batch_size=70)

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.floats(width=32), min_size=1, max_size=30), st.floats(width=32), st.integers(1, 9))
    def test_statistics_never_rule_out_a_row(self, tmp_path_factory, values, threshold, size):
        path = tmp_path_factory.mktemp("where") / "table.parquet"
        x = np.array(values, np.float32)
        pq.write_table(pa.table({"x": x, "one": np.ones(len(x))}), path, row_group_size=size)
        if not np.isfinite(threshold):
            return
        for operator, expected in (
            (">", x > threshold),
            ("<=", x <= threshold),
            ("==", x == threshold),
            ("!=", x != threshold),
        ):
            where = f"x {operator} {threshold!r}"
            assert score(path, "l1_loss", input="one", target="one", where=where).overall.rows == np.count_nonzero(
                expected
            )


class TestShards:
    @pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows", "npz", "csv"])
    @pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
    def test_are_disjoint_and_complete(self, tmp_path, ending, count):
        for index, rows in enumerate(PIECES):
            write(tmp_path / f"part-{index}.{ending}", table(rows))
        kept = []
        for index in range(count):
            output = tmp_path / "losses" / "losses.parquet"
            output.parent.mkdir(exist_ok=True)
            found = score(
                tmp_path / f"*.{ending}", "cross_entropy", **ASKED, shard=(index + 1, count), per_sample=output
            )
            again = score(tmp_path / f"*.{ending}", "cross_entropy", **ASKED, shard=(index + 1, count), batch_size=13)
            assert repr(again.overall) == repr(found.overall)
            kept.append(pq.read_table(output)["loss"].to_numpy())
            assert len(kept[-1]) == found.overall.rows
        whole = tmp_path / "whole.npy"
        score(tmp_path / f"*.{ending}", "cross_entropy", **ASKED, per_sample=whole)
        np.testing.assert_array_equal(np.concatenate(kept), np.load(whole))
        if ending == "parquet" and count <= 3:
            assert max(map(len, kept)) - min(map(len, kept)) <= 180

    def test_a_file_without_row_groups_is_cut_too(self, tmp_path):
        rows = 200_000
        np.save(tmp_path / "table.npy", np.arange(2.0 * rows).reshape(rows, 2))
        (tmp_path / "table.csv").write_text("0,1\n" + "".join(f"{2 * row},{2 * row + 1}\n" for row in range(rows)))
        for path in (tmp_path / "table.npy", tmp_path / "table.csv"):
            shards = [score(path, "l1_loss", input="0", target="1", shard=(index, 3)).overall for index in (1, 2, 3)]
            assert [shard.rows for shard in shards] == [131_072, 65_536, 3_392]

    def test_messages_and_progress(self, tmp_path):
        wrong = labels.copy()
        wrong[950] = 9
        path = write(tmp_path / "table.parquet", table(label=wrong))
        seen = []
        score(path, "cross_entropy", **ASKED, shard=(1, 2), progress=lambda *rows: seen.append(rows[:2]))
        assert seen[-1][0] == seen[-1][1] < 600
        with pytest.raises(ScoreError, match="label 9 at row 950"):
            score(path, "cross_entropy", **ASKED, shard=(2, 2))

    @pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/", "a/b", "-1/2", "1/0"])
    def test_errors(self, whole, shard):
        assert f"{shard!r} is not I/N with 1 <= I <= N" in command(whole, f"--shard={shard}")[1]

    def test_the_function_checks_too(self, whole):
        with pytest.raises(ScoreError, match="a shard is one of 1/n to n/n, got 3/2"):
            score(whole, "cross_entropy", **ASKED, shard=(3, 2))


def corrupt(path):
    """Damage the pages of the second row group."""
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    offset = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 60] = bytes(60)
    path.write_bytes(content)


def without(name):
    return table(without=[name])


BAD = {
    "label out of range": (
        lambda p: write(p, table(label=np.where(np.arange(ROWS) == 812, 9, 0))),
        "17.parquet: column 'label': label 9 at row 812 is outside [0, 4)",
    ),
    "null": (
        lambda p: write(p, table(logit_2=pa.array([*[1.0] * 500, None, *[1.0] * 499], pa.float32()))),
        "17.parquet: column 'logit_2': null at row 500; a number is needed in every row",
    ),
    "missing column": (lambda p: write(p, without("label")), "17.parquet: no column 'label'; there are 'logit_0', "),
    "missing class": (lambda p: write(p, without("logit_2")), "17.parquet: 'logit_*' means 3 columns, in "),
    "another class": (lambda p: write(p, table(logit_7=logits[:, 0])), "4: 'logit_7' is new"),
    "another type": (
        lambda p: write(p, table(logit_2=logits[:, 2].astype(float))),
        "17.parquet: column 'logit_2' holds float64, in ",
    ),
    "text": (
        lambda p: write(p, table(logit_2=country)),
        "17.parquet: column 'logit_2' holds string; numbers are needed",
    ),
    "truncated": (lambda p: p.write_bytes(write(p, table()).read_bytes()[:-50]), "17.parquet: cannot be read: "),
    "corrupt": (lambda p: corrupt(write(p, table())), "17.parquet: cannot be read: "),
    "empty": (lambda p: p.write_bytes(b""), "17.parquet: the file is empty"),
    "no parquet": (lambda p: p.write_bytes(b"a,b\n1,2\n"), "17.parquet: cannot be read: "),
    "unreadable link": (lambda p: p.symlink_to("nowhere"), "17.parquet: no such file"),
    "a folder": (lambda p: (p / "empty").mkdir(parents=True), "no file in this folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_among_many_is_one_line_and_leaves_nothing(tmp_path, name):
    make, message = BAD[name]
    for index in (15, 16, 18):
        write(tmp_path / f"{index}.parquet", table())
    make(tmp_path / "17.parquet")
    (tmp_path / "losses.csv").write_text("before")
    before = sorted(path.name for path in tmp_path.iterdir())
    output, error = command("*.parquet", "--per-sample", "losses.csv", "--batch-size", "64", cwd=tmp_path)
    assert output == ""
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "losses.csv").read_text() == "before"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["*.json"], "*.json: no file matches"),
        (["."], ".: no file in this folder ends in one of .parquet, .pq, "),
        (["none"], "none: the ending '' is none of .parquet, .pq, "),
        (["none.csv", "other.csv"], "none.csv: no such file"),
    ],
)
def test_no_files(tmp_path, arguments, message):
    assert message in command(*arguments, cwd=tmp_path)[1]


def test_lists_of_another_length_in_another_file(tmp_path):
    def lists(width, kind):
        values = pa.FixedSizeListArray.from_arrays(logits[:, :width].ravel(), width)
        return pa.table({"logits": values.cast(kind(width)), "label": np.zeros(ROWS, np.int8)})

    variable, fixed = (lambda _: pa.list_(pa.float32())), (lambda width: pa.list_(pa.float32(), width))
    for kinds in itertools.product((variable, fixed), repeat=2):
        for index, (width, kind) in enumerate(zip((4, 3), kinds, strict=True)):
            write(tmp_path / f"{index}.parquet", lists(width, kind))
        with pytest.raises(ScoreError, match=r"1\.parquet: column 'logits'.*at row 0.*"):
            score(tmp_path, "cross_entropy", input="logits", target="label")
        write(tmp_path / "1.parquet", lists(4, kinds[1]))
        assert score(tmp_path, "cross_entropy", input="logits", target="label").overall.rows == 2 * ROWS


def test_probabilities_as_columns_and_as_lists(tmp_path):
    probabilities = random.dirichlet(np.ones(CLASSES), ROWS).astype(np.float32)
    columns = {f"p_{index}": probabilities[:, index] for index in range(CLASSES)}
    lists = {"p": pa.FixedSizeListArray.from_arrays(probabilities.ravel(), CLASSES)}
    path = write(tmp_path / "table.parquet", table(**columns, **lists))
    for target in ("p_*", "p"):
        found = score(path, "cross_entropy", input="logit_*", target=target, batch_size=64)
        assert found.overall.mean == F.cross_entropy(logits, probabilities)


def test_operands_by_their_names(tmp_path):
    variance = (weights + 0.5).astype(np.float32)
    path = write(tmp_path / "table.parquet", table(var=variance))
    expected = F.gaussian_nll_loss(logits[:, 0], logits[:, 1], variance)
    columns = {"input": "logit_0", "target": "logit_1", "var": "var"}
    assert score(path, "gaussian_nll_loss", **columns).overall.mean == expected
    ran = run("score", path, "--loss", "gaussian_nll_loss", "--input", "logit_0", "--target", "logit_1", "--var", "var")
    assert f"{expected:.8g}" in ran.stdout.decode()
    ran = run("score", path, "--loss", "gaussian_nll_loss", "--input", "logit_0", "--target", "logit_1")
    assert ran.stderr == b"lossrs score: error: the following arguments are required: --var\n"
    with pytest.raises(ScoreError, match="gaussian_nll_loss takes columns for input, target, var, got input, target"):
        score(path, "gaussian_nll_loss", input="logit_0", target="logit_1")


def test_memory_does_not_grow_with_files_or_row_groups(tmp_path):
    rows, columns, files = 200_000, 50, 16  # 40 MB a file, 640 MB in all
    values = np.random.default_rng(0).normal(size=rows).astype(np.float32)
    content = pa.table({f"logit_{index}": values for index in range(columns)} | {"label": np.zeros(rows, np.int8)})
    for index in range(files):
        pq.write_table(content, tmp_path / f"{index}.parquet", row_group_size=rows)
    script = """
import sys
from lossrs.scoring import score

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))

import pyarrow.dataset
seen = [anonymous()]
found = score(sys.argv[1:], "cross_entropy", input="logit_*", target="label", batch_size=5_000,
              progress=lambda *_: seen.append(anonymous()))
print(found.overall.rows, max(seen) - seen[0])
"""
    peaks = []
    for count in (1, files):
        paths = [tmp_path / f"{index}.parquet" for index in range(count)]
        command = [sys.executable, "-c", script, *map(str, paths)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout.split()
        assert int(found[0]) == count * rows
        peaks.append(int(found[1]))
    # Two or three pages of a column are open at a time, of up to 1 MiB each; all files together are 640 MB.
    assert max(peaks) < 256 << 20, peaks


def test_text_that_is_no_text(tmp_path):
    offsets, data = pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff")
    names = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])
    path = write(tmp_path / "table.arrow", pa.table({"x": [0.0, 1.0], "y": [0.0, 1.0], "g": names}))
    with pytest.raises(ScoreError, match="column 'g' holds text that is not UTF-8"):
        score(path, "l1_loss", input="x", target="y", by="g")


def test_row_numbers_are_over_all_files(tmp_path):
    for of, rows in (("a", slice(0, 300)), ("b", slice(300, 400)), ("c", slice(400, 1_000))):
        for ending in ("parquet", "csv"):
            write(tmp_path / ending / f"of={of}" / f"part.{ending}", table(rows))
    for ending, shard in itertools.product(("parquet", "csv"), ((1, 1), (1, 2), (2, 2))):
        for where, chosen in (
            ("w > 0.5", weights > 0.5),
            ("w > 0.5 and of != 'b'", np.delete(weights > 0.5, np.s_[300:400])),
        ):
            condition = Where(where)
            survey = Survey({"input": "w"}, [], condition, False)
            parts = survey.parts(find_files([tmp_path / ending], ENDINGS), shard)
            found = [batch.row_numbers() for batch in batches(parts, survey.request(77))]
            numbers = np.concatenate(found) if found else np.empty(0, int)
            expected = np.flatnonzero(chosen)
            if shard == (1, 1):
                np.testing.assert_array_equal(numbers, expected)
            else:
                assert np.isin(numbers, expected).all()
                assert len(numbers) < len(expected) or ending == "csv"


def test_no_thread_stays_behind(whole, tmp_path):
    path = write(tmp_path / "table.parquet", table(label=np.where(np.arange(ROWS) == 500, 9, 0)))
    score(whole, "cross_entropy", **ASKED)
    with pytest.raises(ScoreError, match="label 9 at row 500") as raised:
        score(path, "cross_entropy", **ASKED, batch_size=10)
    assert raised.tb is not None
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("lossrs")]


def test_the_working_folder_may_hold_the_output(tmp_path):
    write(tmp_path / "a.parquet", table())
    with pytest.raises(ScoreError, match="is the file that is read"):
        score(tmp_path, "cross_entropy", **ASKED, per_sample=Path(tmp_path / "a.parquet"))
