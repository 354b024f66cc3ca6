"""Functions and classes as Python objects: immutable, picklable, documented."""

import contextlib
import copy
import dataclasses
import doctest
import inspect
import pickle
import re
import typing

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import ALL_VERBS, CASES, verb
from lossrs import _lossrs

LOSSES = pytest.mark.parametrize("name", lossrs.losses)
FUNCTIONS = [
    (name, of)
    for name, cls in lossrs.losses.items()
    for of in ALL_VERBS
    if of != "grad_and_hess" or cls()._kernel.has_hessian
]


def another(loss, field):
    """Return the loss with another setting of an option: the first that it takes."""
    value = getattr(loss, field.name)
    if isinstance(value, str):
        others = [word for word in typing.get_args(field.type) if word != value]
    elif isinstance(value, bool) or value is None:
        others = [0.5 if value is None else not value]
    else:
        others = [value + 1, value / 2, 1, 1.5]
    for other in others:
        with contextlib.suppress(ValueError, TypeError):
            changed = dataclasses.replace(loss, **{field.name: other})
            if changed != loss:
                return changed
    raise AssertionError(f"{loss} has no other {field.name}")


def losses_of(case, rng):
    """Return the loss of a case, and ones with other options."""
    loss = case.loss(case.sample(rng, case.shapes[1]))
    others = [dataclasses.replace(loss, reduction="sum")]
    for field in dataclasses.fields(loss):
        if field.name in case.variant.options or field.name in case.arrays:
            others.append(another(loss, field))
    return loss, others


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loss_is_a_value(case, rng):
    loss, others = losses_of(case, rng)
    copies = [
        copy.copy(loss),
        copy.deepcopy(loss),
        dataclasses.replace(loss),
        eval(repr(loss), vars(lossrs)),
        *(pickle.loads(pickle.dumps(loss, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
    ]
    for other in copies:
        assert other == loss
        assert hash(other) == hash(loss)
        assert repr(other) == repr(loss)
        assert other not in others
    assert len({loss, *copies, *others}) == 1 + len(others)
    assert loss != repr(loss)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loss_is_immutable(case, rng):
    loss, _ = losses_of(case, rng)
    for field in dataclasses.fields(loss):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(loss, field.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(loss, field.name)
        value = getattr(loss, field.name)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0


def test_the_arrays_of_a_loss_are_its_own():
    weight = np.ones(2)
    loss = lossrs.MSELoss(weight=weight, reduction="sum")
    weight[:] = 100
    assert loss([1.0, 1.0], [0.0, 0.0]) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lossrs.HuberLoss(delta=2), lossrs.HuberLoss(delta=2.0)),
        (lossrs.HuberLoss(delta=np.float64(2)), lossrs.HuberLoss(delta=2.0)),
        (lossrs.HuberLoss(delta=np.float32(2)), lossrs.HuberLoss(delta=2.0)),
        (lossrs.HuberLoss(delta=np.array(2.0)), lossrs.HuberLoss(delta=2.0)),
        (lossrs.KLDivLoss(log_target=1), lossrs.KLDivLoss(log_target=True)),
        (lossrs.GaussianNLLLoss(full=np.True_), lossrs.GaussianNLLLoss(full=True)),
        (lossrs.SigmoidFocalLoss(alpha=np.float32(0.5)), lossrs.SigmoidFocalLoss(alpha=0.5)),
        (lossrs.SigmoidFocalLoss(alpha=None, gamma=1), lossrs.SigmoidFocalLoss(gamma=1.0, alpha=None)),
        (lossrs.MarginRankingLoss(margin=-1), lossrs.MarginRankingLoss(margin=-1.0)),
        (lossrs.CrossEntropyLoss(ignore_index=np.int32(3)), lossrs.CrossEntropyLoss(ignore_index=3)),
        (lossrs.CrossEntropyLoss(label_smoothing=1), lossrs.CrossEntropyLoss(label_smoothing=1.0)),
        (lossrs.MSELoss(weight=[1.0, 2.0]), lossrs.MSELoss(weight=np.array([1.0, 2.0]))),
        (lossrs.MSELoss(weight=2.0), lossrs.MSELoss(weight=np.array(2.0))),
    ],
    ids=repr,
)
def test_equal_options_make_equal_losses(one, other):
    assert one == other
    assert hash(one) == hash(other)
    assert eval(repr(one), vars(lossrs)) == one


@pytest.mark.parametrize(
    "loss",
    [
        lossrs.HuberLoss(delta=np.inf),
        lossrs.MSELoss(weight=[1.0, np.inf, -np.inf, np.nan]),
        lossrs.NLLLoss(weight=np.linspace(0, 1, 5000), ignore_index=-(2**63)),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_representation_evaluates_whatever_the_options(loss):
    assert eval(repr(loss), vars(lossrs)) == loss


def test_representations_are_short():
    assert repr(lossrs.MSELoss()) == "MSELoss()"
    assert repr(lossrs.HuberLoss(delta=2.5, reduction="sum")) == "HuberLoss(reduction='sum', delta=2.5)"
    assert repr(lossrs.BCELoss(weight=[1, 2])) == "BCELoss(weight=[1, 2])"


@LOSSES
def test_losses_take_their_options_by_keyword(name):
    cls = lossrs.losses[name]
    assert cls().reduction == "mean"
    for field in dataclasses.fields(cls):
        assert getattr(cls(), field.name) == field.default
    with pytest.raises(TypeError, match="positional"):
        cls("mean")
    assert getattr(lossrs, cls.__name__) is cls
    assert cls.__name__ in lossrs.__all__


@pytest.mark.parametrize(("name", "of"), FUNCTIONS)
def test_functions_pickle_by_name(name, of):
    function = verb(getattr(F, name), of)
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function
    bound = verb(lossrs.losses[name](), of)
    if of:
        assert pickle.loads(pickle.dumps(bound)).__self__ == bound.__self__


@LOSSES
def test_functions_have_the_verbs_of_the_loss(name):
    assert hasattr(getattr(F, name), "grad_and_hess") == lossrs.losses[name]()._kernel.has_hessian


def test_the_names_of_the_module():
    assert sorted(F.__all__) == sorted(lossrs.losses)
    for name in lossrs.__all__:
        assert getattr(lossrs, name) is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+", lossrs.__version__)
    with pytest.raises(TypeError):
        lossrs.losses["mse_loss"] = None


@pytest.mark.parametrize(("name", "of"), FUNCTIONS)
def test_signatures(name, of):
    """Arrays first, in torch's order; options by keyword only; the defaults of the class."""
    signature = inspect.signature(verb(getattr(F, name), of))
    cls = lossrs.losses[name]
    fields, kernel = {field.name: field.default for field in dataclasses.fields(cls)}, cls()._kernel
    arrays = [*kernel.optional, *(option for option in fields if option in cls.array_options)]
    first_array = arrays[:1]
    positional = (["grad_output"] if of == "backward" else []) + [*kernel.operands, *first_array]
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    assert [name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD] == positional
    calls = ["sample_weight", *["wrt"] * (of != "" and len(kernel.inputs) > 1)]
    calls += [*["return_log_prob"] * (kernel.has_log_prob and of in ("", "value_and_grad")), "out"]
    keyword = {name for name, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY}
    assert keyword == (fields.keys() | {*calls}) - {*first_array}
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    for option, default in fields.items():
        assert defaults[option] == default
    of_class = inspect.signature(verb(cls(), of)).parameters
    assert list(of_class) == [name for name in positional if name not in cls.array_options] + calls


def sections(documentation):
    """Return the sections of a numpydoc docstring."""
    parts = re.split(r"^(\w+)\n-+\n", inspect.cleandoc(documentation), flags=re.MULTILINE)
    return {"Summary": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("name", "of"), FUNCTIONS)
def test_functions_are_documented(name, of):
    function = verb(getattr(F, name), of)
    parts = sections(function.__doc__)
    assert list(parts) == ["Summary", "Parameters", "Returns", "Raises", "References", "Examples"]
    documented = re.findall(r"^(\w+) : ", parts["Parameters"], re.MULTILINE)
    assert set(documented) == set(inspect.signature(function).parameters)
    assert parts["Summary"].split("\n\n")[0].count("\n") == 0
    assert "lossrs" not in parts["References"]


@LOSSES
def test_classes_are_documented(name):
    cls = lossrs.losses[name]
    parts = sections(cls.__doc__)
    assert list(parts) == ["Summary", "Parameters", "References", "Examples"]
    documented = re.findall(r"^(\w+) : ", parts["Parameters"], re.MULTILINE)
    assert documented[-1] == "reduction"
    assert sorted(documented) == sorted(field.name for field in dataclasses.fields(cls))
    for of in ALL_VERBS[1:]:
        assert getattr(cls, of).__doc__


def documented_objects():
    yield "lossrs", lossrs
    for name in lossrs.__all__:
        value = getattr(lossrs, name)
        if callable(value):
            yield name, value
    for name, of in FUNCTIONS:
        yield f"{name}.{of}".rstrip("."), verb(getattr(F, name), of)


@pytest.mark.parametrize(("name", "documented"), [pytest.param(*pair, id=pair[0]) for pair in documented_objects()])
def test_examples_run(name, documented):
    assert documented.__doc__
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    example = doctest.DocTestParser().get_doctest(documented.__doc__, {}, name, None, None)
    output = []
    runner.run(example, out=output.append)
    assert not output, "".join(output)
    if name in lossrs.losses:
        assert example.examples


@pytest.mark.parametrize("number", [1, 3, 2])
def test_the_number_of_threads(number):
    before = lossrs.get_num_threads()
    try:
        lossrs.set_num_threads(number)
        assert lossrs.get_num_threads() == number
        for wrong in (-1, 1.5, "2", None):
            with pytest.raises((TypeError, OverflowError, ValueError)):
                lossrs.set_num_threads(wrong)
        assert lossrs.get_num_threads() == number
    finally:
        lossrs.set_num_threads(before)


def test_kernels_check_their_parameters():
    with pytest.raises(ValueError, match="there is no loss named"):
        _lossrs.Loss("no_loss")
    with pytest.raises(ValueError, match="delta is missing"):
        _lossrs.Loss("huber_loss")


def test_a_function_checks_its_options_whatever_it_was_called_with_before(rng):
    x, labels = rng.normal(size=(4, 3)), np.array([0, 1, 1, 2])
    for _ in range(2):
        assert F.cross_entropy(x, labels, ignore_index=1) == F.cross_entropy(x[::3], labels[::3])
        with pytest.raises(TypeError, match="ignore_index must be an integer, got float"):
            F.cross_entropy(x, labels, ignore_index=1.0)
        with pytest.raises(TypeError, match="two values for 'weight'"):
            F.cross_entropy(x, labels, None, weight=None)
    for delta in range(1, 40):
        assert F.huber_loss(x, 0 * x, delta=delta) == lossrs.HuberLoss(delta=delta)(x, 0 * x)
        assert F.huber_loss(x, 0 * x, delta=delta) == F.huber_loss(x, 0 * x, None, delta=delta)
