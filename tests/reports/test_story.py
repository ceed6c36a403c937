"""Sentences say what the numbers say."""

import pytest

from chita.records import LayerRecord, SolvedRecord
from chita.reports.runs import Reported, reported
from chita.reports.story import comparison_story, story_of
from tests.reports.records import line, record


def told(own):
    story = story_of(reported(own))
    return " ".join((*story.gained, *story.lost, *story.not_gained, *story.more))


def test_a_run_tells_what_it_gained_lost_and_did_not_gain():
    words = told(record(flops=300, dense_flops=1000))
    for part in (
        "90.00 % of the 1,000 weights",
        "100 are kept",
        "30.0 % of its FLOPs left, if zeros are skipped",
        "3 outputs of layers keep no weight",
        "95.00 before, 91.50 after, 3.50 points worse",
        "change by +0.4 in the last stage; on samples held out it changed by +0.5",
        "nothing was timed",
        "as large as before",
        "7.0 s, 57 % of it for solve, at most 512 MB",
        "25.00% lower: that is proven",
    ):
        assert part in words, part


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
    solved = [SolvedRecord(inputs=3, left="saw no input"), SolvedRecord(inputs=9, raised=True)]
    layers = [
        LayerRecord(name=n, shape=(1, 9), weights=9, kept=9, dead_outputs=0, solved=s)
        for n, s in zip("ab", solved, strict=True)
    ]
    words = told(record(layers=layers))
    assert "a was left dense: it saw no input." in words
    assert "raised in 1 layers (b)" in words


def runs(**values):
    return [
        Reported(name="", source="", line=line(method, seed, value))
        for method, found in values.items()
        for seed, value in enumerate(found)
    ]


def test_a_difference_within_the_spread_of_seeds_is_no_lead():
    (first, _) = comparison_story(runs(a=(90.0, 92.0), b=(90.5, 91.0)))
    assert "a is best with 91.00 ± 1.41, 0.25 points ahead of b; no more than seeds differ" in first
    (first, _) = comparison_story(runs(a=(90.0, 90.2), b=(80.0, 80.2)))
    assert "more than 2 standard errors" in first
    (first, _) = comparison_story(runs(a=(90.0,), b=(80.0,)))
    assert "chance is not known" in first
