"""What the contraction benchmark refuses to count."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from benchmarks.contraction_check import Checked, ExactCase, compiled_alone  # noqa: E402
from benchmarks.contraction_report import shares  # noqa: E402
from benchmarks.contraction_table import find  # noqa: E402
from benchmarks.peers import Ready, Unavailable  # noqa: E402
from benchmarks.rows import Result, Row  # noqa: E402


@pytest.fixture
def case(tmp_path):
    return ExactCase(find("mm_64").forms[0][1], 0, 1, tmp_path)


def ready(make):
    return Ready(make, make, 0.0)


def test_the_reference_is_in_float64(case):
    x, y = case.inputs
    assert case.reference.dtype is torch.float64
    assert torch.equal(case.reference, x.double() @ y.double())


def test_a_result_is_compared_with_the_reference(case):
    checked = Checked(case)
    assert 0 < checked.error("right", ready(lambda: case.module(*case.inputs))) < 1e-6
    assert checked.error("wrong", ready(lambda: case.module(*case.inputs) * 1.01)) > 1e-3


def test_peers_that_share_memory_are_refused(case):
    checked, kept = Checked(case), case.module(*case.inputs)
    checked.error("one", ready(lambda: kept))
    with pytest.raises(Unavailable, match="in the memory of one"):
        checked.error("two", ready(lambda: kept[:]))
    with pytest.raises(Unavailable, match="in the memory of input 0"):
        checked.error("three", ready(lambda: case.inputs[0].T))


def test_a_peer_that_writes_to_its_inputs_is_refused(case):
    def spoiled():
        out = case.module(*case.inputs)
        case.inputs[0].zero_()
        return out

    with pytest.raises(Unavailable, match="writes to its inputs"):
        Checked(case).error("peer", ready(spoiled))


def test_a_result_of_less_precision_is_refused(case):
    with pytest.raises(Unavailable, match="bfloat16"):
        Checked(case).error("peer", ready(lambda: case.module(*case.inputs).bfloat16()))


@pytest.mark.parametrize(
    ("found", "kernels", "said"),
    [
        ({"compilations": 1, "cache_hits": 0, "fallbacks": {"aten.sort": 1}}, 1, "aten.sort"),
        ({"compilations": 0, "cache_hits": 0, "fallbacks": {}}, 0, "no kernel"),
        ({"compilations": 1, "cache_hits": 0, "fallbacks": {}}, 0, "no kernel"),
    ],
)
def test_what_runs_in_pytorch_is_refused(found, kernels, said):
    package = SimpleNamespace(reset_counters=lambda: None, counters=lambda: found)
    with pytest.raises(Unavailable, match=said):
        compiled_alone(package, lambda: SimpleNamespace(kernels=kernels))


def test_a_compiled_operator_is_accepted(case):
    import ferrule

    compiled = compiled_alone(ferrule, lambda: ferrule.compile(case.module, case.inputs))
    assert Checked(case).error("ferrule", ready(lambda: compiled(*case.inputs))) < 1e-6


def test_a_wrong_peer_is_marked_and_not_counted():
    fast, slow = Result("eager", 1e-6, 1e-6, 1e-6, error=0.5), Result("ferrule", 1e-3, error=1e-7)
    text = shares([Row("mm_64", "square", 1, 1e-4, 5, (fast, slow, Result("peak", 1e-4)))])
    row = text.splitlines()[-1]
    assert row.split(" | ")[3:] == ["–", "**0.10**", "–", "5e-01 WRONG 1e-07 |"]
