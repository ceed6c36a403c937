"""Sentences say what the numbers say."""

import random

import pytest
from scipy import stats

from chita.records import LayerRecord, SolvedRecord
from chita.reports.runs import Reported, reported
from chita.reports.summary import comparison_summary, summary_of
from tests.reports.records import line, record, stage


def told(own):
    summary = summary_of(reported(own))
    return " ".join((*summary.gained, *summary.lost, *summary.not_gained, *summary.more))


def test_a_run_tells_what_it_gained_lost_and_did_not_gain():
    words = told(record(flops=300, dense_flops=1000))
    for part in (
        "90.00 % of the 1,000 weights",
        "100 are kept",
        "30.0 % of its FLOPs, if zeros are skipped",
        "3 outputs of layers keep no weight, so the input",
        "95.00 before, 91.50 after, 3.50 points worse",
        "would rise by 0.4 in the last stage; on validation samples it rose by 0.5.",
        "nothing was timed",
        "holds zeros as it holds any number",
        "collect 2.00 s, solve 4.00 s, evaluate 1.00 s, total 8.00 s",
        "peak memory 512 MB",
        "no mask has an objective below 0.3: gap 25.00%",
    ):
        assert part in words, part


def test_a_loss_that_falls_is_told_to_fall():
    words = told(record(stages=(stage(0.5, 0.5, 0.4, -0.0496),)))
    assert "would fall by 0.0496; on validation samples it fell by 0.1." in words


@pytest.mark.parametrize(
    ("metric", "dense", "pruned", "words"),
    [
        ("top-1 accuracy, per cent", 90.0, 91.0, "1.00 points better"),
        ("top-1 accuracy, per cent", 90.0, 90.0, "as before"),
        ("perplexity", 80.0, 90.0, "10 worse"),
        ("mean squared error", 0.5, 0.4, "0.1 better"),
        ("mean cosine with the dense network's embeddings", 1.0, 0.75, "0.25 worse"),
    ],
)
def test_each_measure_knows_which_way_is_worse(metric, dense, pruned, words):
    own = record(metric=metric, dense_metric=dense, pruned_metric=pruned)
    assert words in told(own)


def test_what_was_not_measured_is_not_claimed():
    assert "Nothing was measured" in told(record(metric=None, dense_metric=None))


def test_layers_left_dense_and_raised_ridges_are_told():
    solved = [
        SolvedRecord(inputs=3, skipped="saw no input"),
        SolvedRecord(inputs=9, ridge_raised=True, ridge=0.25),
    ]
    layers = [
        LayerRecord(name=n, shape=(1, 9), weights=9, kept=9, dead_outputs=0, solved=s)
        for n, s in zip("ab", solved, strict=True)
    ]
    words = told(record(layers=layers))
    assert "left dense: a, which saw no input" in words
    assert "ridge raised: b (0.25)" in words


def runs(**values):
    return [
        Reported(name="", source="", line=line(solver, seed, value))
        for solver, found in values.items()
        for seed, value in enumerate(found)
    ]


def test_a_difference_that_seeds_explain_is_no_lead():
    (first, _) = comparison_summary(runs(a=(90.0, 92.0), b=(90.5, 91.0)))
    assert "a is best with 91.00 ± 1.41, 0.25 points ahead of b; seeds could explain it" in first
    (first, _) = comparison_summary(runs(a=(90.0, 90.2, 90.1), b=(80.0, 80.2, 80.1)))
    assert "seeds would rarely explain it" in first
    (first, _) = comparison_summary(runs(a=(90.0,), b=(80.0,)))
    assert "chance is not known" in first
    (first, _) = comparison_summary(runs(a=(90.0,), b=(90.0,)))
    assert "a and b are equal" in first


def test_the_chance_is_that_of_welchs_test():
    a, b = (90.0, 91.0, 92.5), (93.0, 93.2)
    chance = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert f"(p = {chance:.2g}, 2 seeds)" in comparison_summary(runs(a=a, b=b))[0]


def test_of_equal_solvers_few_are_called_apart():
    chance = random.Random(0)
    called = 0
    for _ in range(1000):
        a, b = ([chance.gauss(90, 1) for _ in range(2)] for _ in "ab")
        called += "rarely" in comparison_summary(runs(a=a, b=b))[0]
    assert called < 70  # one in twenty, by chance


def test_small_and_large_means_are_shown():
    tiny = [Reported(name="", source="", line=line(m, 0, v, metric="mean squared error"))
            for m, v in (("a", 2.05e-5), ("b", 4.1e-5))]  # fmt: skip
    assert "a is best with 2.05e-05, 2.05e-05 ahead of b" in comparison_summary(tiny)[0]


def test_what_was_no_number_after_pruning_is_told_so():
    words = told(record(metric="perplexity", dense_metric=80.0, pruned_metric=None))
    assert "perplexity: 80 before; after it was no finite number." in words


def test_a_loss_with_cosine_in_its_name_is_a_loss():
    assert "0.5 worse" in told(record(metric="my cosine loss", dense_metric=0.5, pruned_metric=1.0))
