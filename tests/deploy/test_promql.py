"""Which series and labels an expression asks for."""

import pytest

from deploy.checks.promql import Matcher, PromqlError, parse


@pytest.mark.parametrize(
    ("expression", "metrics", "labels"),
    [
        ("up", ["up"], set()),
        ("sum(rate(a_total[5m]))", ["a_total"], set()),
        ("sum by (x, y) (rate(a_total[$__rate_interval]))", ["a_total"], {"x", "y"}),
        ("sum(rate(a_total[${__range}])) by (x)", ["a_total"], {"x"}),
        ("avg without (x) (a)", ["a"], {"x"}),
        ("a / on (x) group_left (y) b", ["a", "b"], {"x", "y"}),
        ("a and ignoring (x) b unless c or d", ["a", "b", "c", "d"], {"x"}),
        ("a > bool 1", ["a"], set()),
        ("a offset 5m - b offset -1h", ["a", "b"], set()),
        ("max_over_time(rate(a_total[5m])[1h:1m])", ["a_total"], set()),
        ("job:a:rate5m / 1e6", ["job:a:rate5m"], set()),
        ("time() - max by (x) (a) > 1.5e-3", ["a"], {"x"}),
        ("histogram_quantile(0.99, sum by (le) (rate(a_bucket[5m])))", ["a_bucket"], {"le"}),
        ("topk(5, a) # not_a_metric", ["a"], set()),
        ("a == Inf or vector(NaN)", ["a"], set()),
        ("count", None, None),
    ],
)
def test_metrics_and_grouping_labels_are_found(expression, metrics, labels):
    if metrics is None:  # an aggregation's name alone is no selector
        with pytest.raises(PromqlError):
            parse(expression)
        return
    found = parse(expression)
    assert [selector.metric for selector in found.selectors] == metrics
    assert found.grouping_labels == labels


def test_matchers_are_read_with_their_operators():
    (selector,) = parse('a{x="1", y!="by (z)", z=~"5..", w!~"q\\"{}"}[5m]').selectors
    assert selector.matchers == (
        Matcher("x", "=", "1"),
        Matcher("y", "!=", "by (z)"),
        Matcher("z", "=~", "5.."),
        Matcher("w", "!~", 'q\\"{}'),
    )


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("ratee(a[5m])", "'ratee' is not a function"),
        ('{job="x"}', "without a metric name"),
        ("rate(a[5m)", "no ']'"),
        ("a{x=1}", "not a label matcher"),
        ('a{x="1"', "no '}'"),
        ('a{x "1"}', "not of the form"),
        ("a ? b", "is no PromQL"),
        ("sum by (x a", "no ')'"),
    ],
)
def test_what_is_no_promql_is_refused_with_its_place(expression, words):
    with pytest.raises(PromqlError, match=None) as refused:
        parse(expression)
    assert words in str(refused.value)
