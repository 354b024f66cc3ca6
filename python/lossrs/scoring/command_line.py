"""The command ``lossrs``: ``score``, ``merge``, ``losses``, ``schema`` and ``info``."""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import lossrs
from lossrs.accumulator import Accumulator
from lossrs.scoring.batches import BATCH_ROWS, ENDINGS
from lossrs.scoring.checkpoint import SECONDS
from lossrs.scoring.columns import ScoreError, near_misses
from lossrs.scoring.comparison import wanted
from lossrs.scoring.files import find_files, path_text
from lossrs.scoring.formats import schema
from lossrs.scoring.outputs import require_apart
from lossrs.scoring.presentation import Presentation, add_options, drop_standard_output, quiet_pipe
from lossrs.scoring.progress import Progress
from lossrs.scoring.score import Score, score
from lossrs.scoring.state import merge
from lossrs.scoring.worst import worst_file, write_worst

_SCORE_HELP = """\
Score the predictions in files: the mean of a loss with its standard error, its sum, and how many rows were read,
ignored (the target is the ignore_index, or the weight is zero) and not finite (the loss is nan or infinite).

columns:
  a name            --input prediction
  several           --input a,b,c
  a glob            --input 'logit_*'          in natural order: logit_2 before logit_10
  a list column     --input logits             K values in each row are K columns
  numbered columns  --input 0:10 --target 10   of a two-dimensional .npy: as Python's indices and slices
  of a path         --by country               in data/country=de/part-0.parquet

files:
  .parquet .pq                 Parquet
  .arrow .feather .ipc .arrows Arrow files and streams
  .csv                         with a header; an empty field, NA or null is a null, nan is a number
  .npy                         rows and columns of numbers, or a structured array with named columns
  .npz                         an array for each column; (rows, K) arrays are K columns
  -                            an Arrow stream on standard input
  Several files, globs ('part-*.parquet', 'data/**/*.csv') and folders are read in the order of their paths, each file
  once; in folders, names that begin with a dot or an underscore are passed over. All files must have the columns, of
  the same types. Numbers are of any width, float16 and bfloat16 (as ml_dtypes saves it in .npy and .npz, as two bytes
  in Arrow and Parquet) among them. What is held in memory does not grow with the files. Nulls are errors.

rows:
  --where "country == 'de' and not is_test and 0.5 <= weight < 2"
  --where "split in ('dev', 'test') or day >= '2024-03-01' or note is null or column('odd name') != 3"
  Columns, strings, numbers, true and false, compared by == != < <= > >= in, not in, is null, is not null; and, or,
  not, parentheses. A comparison with null is null, and a row counts where the whole is true. Files and row groups
  that cannot hold such rows are not read.

results:
  --format csv        a line for each group, whose `scope` is group, and one whose scope is all, with all digits;
                      a key that is null is an empty field, as an empty string is: JSON tells them apart
  --format json       an object, as `lossrs schema` describes it; the figures have the names that CSV has
  --format markdown   the table, for a pull request
  --report page.html  a page with tables, pictures, the worst rows (with --worst) and the command that made it
  --fail-if 'mean > 0.35'                        ends with status 1 if it holds, and says so on standard error
  --fail-if 'mean - 2 * standard_error > 0.35 or nonfinite > 0'
  --fail-if 'any(rows >= 100 and p99 > 4)'       if any group is so
  The figures are those of --format json, quantiles (p99, quantile(0.999)) whether asked for or not; comparisons by
  == != < <= > >= are joined by and, or, not; figures may be added, subtracted, multiplied and divided. any(...) is
  about the groups of --by, all else about all rows. What cannot be told, because a figure is nan, counts as holding.

Losses over classes (those with --ignore-index) take a column for each class as input and labels as target, or, where
the loss allows it, a target column for each class. The elementwise ones take as many columns of each operand; the
loss of a row is then the mean over them. `lossrs score --loss NAME --help` shows the operands of a loss.
"""

_SCORE_NOTES = """\
With l a row's loss and w its weight (the sample weight, times the weight of its class for losses over classes):
  mean m           sum(w l) / sum(w)
  standard error   sqrt(n / (n - 1) * sum(w^2 (l - m)^2)) / sum(w),  n the rows that are not ignored
The sums are exact: no result depends on the batch size, the order of the rows, or the number of threads.

The exit status is 0, or 1 if a condition of --fail-if holds, 2 for an error, 70 for a fault of lossrs
itself, with a traceback, and 130 after Ctrl-C, which is heeded between batches, a second one at once.

examples:
  lossrs score predictions.parquet --loss cross_entropy --input 'logit_*' --target label --by split
  lossrs score house_prices.csv --loss huber_loss --delta 2.0 --input predicted --target price --report prices.html
  lossrs score arrays.npz --loss cross_entropy --ignore-index -1 --weight 0.2,0.8 --input logits --target labels
  lossrs score 'runs/*.parquet' --loss cross_entropy --input 'p_*' --target species --labels cat,dog,hen
  lossrs score --loss cross_entropy --help     the options of that loss
"""


_MERGE_HELP = """\
Merge what several runs of `lossrs score --save` have found, of shards or of other files, and print it as one run would
have: to the bit the same. They must have asked the same, and no row may be in two.

  lossrs score 'data/*.parquet' --loss mse_loss --input x --target y --shard 1/2 --save 1.state
  lossrs score 'data/*.parquet' --loss mse_loss --input x --target y --shard 2/2 --save 2.state
  lossrs merge 1.state 2.state
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    It is 0, 1 if a condition of ``--fail-if`` holds, 2 for an error (one line on stderr), 70 for a fault of this
    package (a traceback), and 130 for Ctrl-C.
    """
    if arguments is not None:
        return _run(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what is partial is removed
    # Who has closed these does not want them.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(sys.argv[1:])
    finally:
        # All is done: an interrupt of the interpreter's end would be noise.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _run(words: Sequence[str]) -> int:
    status = 0
    try:
        parsed = _parser(words)
        parsed.command = ("lossrs", *map(path_text, words))
        with quiet_pipe():
            status = parsed.run(parsed) or 0
            sys.stdout.flush()
        return status
    except ScoreError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("out of memory: a smaller --batch-size needs less")
    except OSError as error:
        drop_standard_output()
        return _failed(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 70


def _failed(message: str) -> int:
    with suppress(OSError):
        print(f"lossrs: error: {' '.join(message.splitlines())}", file=sys.stderr)
    return 2


_OPERANDS = {"input": "the predictions", "target": "the labels or values to predict"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it in one line, without the usage."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def _parser(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="lossrs", description="Loss functions on files of predictions.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lossrs {lossrs.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    of_score = commands.add_parser(
        "score",
        help="score the predictions in files",
        description=_SCORE_HELP,
        epilog=_SCORE_NOTES,
        formatter_class=raw,
        allow_abbrev=False,
    )
    of_score.set_defaults(run=_run_score, labels_file=[])
    of_score.add_argument("files", metavar="FILE", nargs="+", help="a file, a glob, a folder, or - for standard input")
    of_score.add_argument("--loss", metavar="NAME", required=True, help="the loss; `lossrs losses` lists them")
    name = _loss_name(arguments)
    for operand in lossrs.losses[name]().operands if name else ("input", "target"):
        of_score.add_argument(
            _flag(operand),
            dest=f"operand.{operand}",
            metavar="COLUMNS",
            required=True,
            help=_OPERANDS.get(operand, f"the {operand} of the loss"),
        )
    of_score.add_argument(
        "--labels",
        metavar="A,B,...|FILE",
        action=_Labels,
        help="what the strings of the target stand for: 0, 1, ... in the order of this list, or of the lines of FILE",
    )
    of_score.add_argument("--sample-weight", metavar="COLUMN", help="weigh each row; a weight of zero leaves it out")
    of_score.add_argument(
        "--by",
        metavar="COLUMN,...",
        action="append",
        default=[],
        help="a result for each value of this column, too, or for each combination of several",
    )
    of_score.add_argument(
        "--compare",
        metavar="COLUMNS",
        help="a second model's predictions: its mean, how much larger its losses are row by row, how often smaller",
    )
    of_score.add_argument(
        "--bootstrap",
        metavar="N",
        type=int,
        default=0,
        help="95%% confidence intervals from N replicates of the rows; a thousand is usual",
    )
    of_score.add_argument("--where", metavar="EXPR", help="score the rows for which this is true")
    of_score.add_argument(
        "--shard",
        metavar="I/N",
        type=_shard,
        default=(1, 1),
        help="score the I-th of N shares of the rows, whole row groups or record batches: no row is in two",
    )
    of_score.add_argument(
        "--per-sample",
        metavar="OUT",
        type=Path,
        help="write each row's (weighted) loss as column `loss` to a .parquet, .arrow, .csv or .npy file",
    )
    of_score.add_argument("--save", metavar="STATE", type=Path, help="write what `lossrs merge` merges with others")
    of_score.add_argument(
        "--checkpoint",
        metavar="STATE",
        type=Path,
        help="keep what has been found here; the same command goes on from it after an interrupt, a kill or an error",
    )
    of_score.add_argument(
        "--checkpoint-seconds", metavar="S", type=float, default=SECONDS, help="how often (default: %(default)s)"
    )
    _add_outputs(of_score)
    of_score.add_argument(
        "--batch-size",
        metavar="ROWS",
        type=int,
        default=BATCH_ROWS,
        help="the most rows to hold at a time (default: %(default)s, fewer where rows are long)",
    )
    if name is not None:
        _add_options(of_score, name)
    of_merge = commands.add_parser(
        "merge",
        help="merge what several runs have saved",
        description=_MERGE_HELP,
        formatter_class=raw,
        allow_abbrev=False,
    )
    of_merge.set_defaults(run=_run_merge)
    of_merge.add_argument("states", metavar="STATE", nargs="+", type=Path, help="what `lossrs score --save` wrote")
    of_merge.add_argument("--save", metavar="STATE", type=Path, help="write what they make together")
    _add_outputs(of_merge)
    of_losses = commands.add_parser("losses", help="list the losses with their options", allow_abbrev=False)
    of_losses.set_defaults(run=_run_losses)
    of_schema = commands.add_parser("schema", help="print the JSON schema of --format json", allow_abbrev=False)
    of_schema.set_defaults(run=_run_schema)
    of_info = commands.add_parser("info", help="print version, instruction set and threads", allow_abbrev=False)
    of_info.set_defaults(run=_run_info)
    return parser.parse_args(arguments)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add what `score` and `merge` have in common."""
    add_options(parser)
    parser.add_argument(
        "--worst",
        metavar=("K", "OUT"),
        nargs=2,
        action=_Worst,
        default=(0, None),
        help="write the K rows of the largest losses, with what they hold, to a .parquet, .arrow, .csv or .json file",
    )


class _Labels(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        try:
            namespace.labels, namespace.labels_file = _labels(values)
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument --labels: {error}")


class _Worst(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        count, path = values
        if not count.isdecimal() or int(count) < 1:
            parser.error(f"argument --worst: {count!r} is not a number of rows")
        setattr(namespace, self.dest, (int(count), Path(path)))


def _loss_name(arguments: Sequence[str]) -> str | None:
    """Find the loss that is asked for by its function's or its class's name: it decides which options there are."""
    first = _Parser(prog="lossrs score", add_help=False, allow_abbrev=False)
    first.add_argument("--loss")
    asked: str | None = first.parse_known_args(arguments)[0].loss
    if asked is None or asked in lossrs.losses:
        return asked
    classes = {cls.__name__: name for name, cls in lossrs.losses.items()}
    if asked not in classes:
        raise ScoreError(
            f"no loss {asked!r}{near_misses(asked, [*lossrs.losses, *classes]) or '; see `lossrs losses`'}"
        )
    return classes[asked]


def _options(name: str) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(lossrs.losses[name]) if field.name != "reduction"]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _labels(text: str) -> tuple[list[str], list[Path]]:
    """Read labels from a comma list, or from a file with one on each line; return them and the files that were read."""
    path = Path(text)
    if "," in text and not path.is_file():
        return text.split(","), []
    try:
        # Only the ends of lines are no part of a label, and not all that Python's splitlines takes for one.
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: is no comma list, and cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{text}: is not UTF-8 text") from None
    return lines[:-1] if lines[-1] == "" else lines, [path]


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 <= I <= N")
    return int(index), int(count)


def _add_options(parser: argparse.ArgumentParser, name: str) -> None:
    parser.set_defaults(loss_name=name)
    fields = _options(name)
    if not fields:
        return
    group = parser.add_argument_group(f"options of {name}")
    for field in fields:
        kind = type(field.default)
        how: dict[str, Any] = {
            "type": kind,
            "metavar": {int: "INTEGER", float: "NUMBER"}.get(kind, "WORD"),
        }
        if field.name in lossrs.losses[name].array_options:
            how = {"type": _numbers_of, "metavar": "NUMBER,..."}
        elif field.default is None:
            how = {"type": float, "metavar": "NUMBER"}
        elif kind is bool:
            how = {"action": argparse.BooleanOptionalAction}
        text = f"default: {field.default}"
        group.add_argument(_flag(field.name), dest=f"loss.{field.name}", default=argparse.SUPPRESS, help=text, **how)


def _numbers_of(text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None


def _run_score(parsed: argparse.Namespace) -> int:
    def given(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in vars(parsed).items() if name.startswith(prefix)}

    try:
        nothing = Accumulator(lossrs.losses[parsed.loss_name](**given("loss.")))
    except (ValueError, TypeError) as error:
        raise ScoreError(f"{parsed.loss_name}: {error}") from error
    more = wanted(compares=parsed.compare is not None, bootstrap=parsed.bootstrap > 0)
    presentation = Presentation(parsed, nothing, more, grouped=bool(parsed.by))
    require_apart(_outputs(parsed), [*(file.path for file in find_files(parsed.files, ENDINGS)), *parsed.labels_file])
    with presentation:
        with Progress(enabled=not parsed.quiet) as progress:
            found = score(
                parsed.files,
                parsed.loss_name,
                options=given("loss."),
                by=parsed.by,
                sample_weight=parsed.sample_weight,
                labels=parsed.labels,
                where=parsed.where,
                shard=parsed.shard,
                per_sample=parsed.per_sample,
                batch_size=parsed.batch_size,
                histogram=bool(presentation.quantiles) or presentation.draws,
                bootstrap=parsed.bootstrap,
                compare=parsed.compare,
                calibration=presentation.draws,
                worst=parsed.worst[0],
                worst_output=parsed.worst[1],
                save=parsed.save,
                checkpoint=parsed.checkpoint,
                checkpoint_seconds=parsed.checkpoint_seconds,
                progress=progress,
                **given("operand."),
            )
        status = presentation.show(found)
    if parsed.checkpoint is not None:
        Path(os.path.realpath(parsed.checkpoint)).unlink(missing_ok=True)
    return status


def _run_merge(parsed: argparse.Namespace) -> int:
    state = merge(parsed.states)
    require_apart(_outputs(parsed), [*parsed.states, *(Path(source.path) for source in state.sources)])
    question, found = state.question, Score.of(state)
    count, path = parsed.worst
    if count > question.worst:
        raise ScoreError(f"{parsed.states[0]}: keeps the {question.worst} worst rows; {count} are asked for")
    more = wanted(compares=question.compares, bootstrap=question.bootstrap > 0)
    with Presentation(parsed, question.accumulator(), more, grouped=bool(question.by)) as presentation:
        if presentation.quantiles and not question.histogram:
            raise ScoreError(f"{parsed.states[0]}: was saved without --quantiles, and so cannot tell any")
        if path is not None:
            worst_file(path, parsed.states).close(whole=False)  # what cannot be written is an error at once
        if parsed.save is not None:
            state.save(parsed.save)
        if path is not None:
            write_worst(found.worst[:count], path, parsed.states)
        if state.missing:
            print(f"lossrs: warning: shards {', '.join(state.missing)} are missing", file=sys.stderr)
        return presentation.show(found)


def _outputs(parsed: argparse.Namespace) -> dict[str, Path | None]:
    """Return the files that are to be written, by the options that ask for them."""
    names = ("per_sample", "save", "checkpoint", "plot", "report")
    return {"--worst": parsed.worst[1]} | {_flag(name): getattr(parsed, name, None) for name in names}


def _run_losses(parsed: argparse.Namespace) -> None:
    lines = []
    for name, cls in lossrs.losses.items():
        options = [
            f"{_flag(field.name)} {'...' if field.default is None else field.default}" for field in _options(name)
        ]
        lines.append((name, cls.__name__, "  ".join(options)))
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    for name, class_name, shown in lines:
        print(f"{name:{widths[0]}}  {class_name:{widths[1]}}  {shown}".rstrip())


def _run_schema(parsed: argparse.Namespace) -> None:
    print(schema(), end="")


def _run_info(parsed: argparse.Namespace) -> None:
    print(f"version          {lossrs.__version__}")
    print(f"instruction set  {lossrs.instruction_set()}")
    print(f"threads          {lossrs.get_num_threads()}")
