import sys
from types import SimpleNamespace

import pytest

from bench import agreement


@pytest.fixture
def model(monkeypatch):
    """A model that differs on the days that a test names."""
    differing = set()

    def live(seed):
        if seed in differing:
            raise AssertionError(f"engine 1, model {seed}")

    monkeypatch.setitem(sys.modules, "a_model", SimpleNamespace(live=live))
    monkeypatch.setitem(agreement.MODELS, "charging", "a_model")
    return differing


def test_a_day_that_differs_is_told_with_its_seed_and_the_others_are_lived(model):
    model.update({12, 14})
    assert agreement.differences_of("charging", 10, 5) == (
        5, ["seed 12: AssertionError: engine 1, model 12", "seed 14: AssertionError: engine 1, model 14"],
    )  # fmt: skip


def test_a_day_on_which_an_expected_refusal_stays_away_differs_too(monkeypatch):
    """pytest says so by something that is no Exception, and that no other process could be told of."""
    monkeypatch.setitem(sys.modules, "a_model", SimpleNamespace(live=lambda seed: pytest.fail(f"no refusal {seed}")))
    monkeypatch.setitem(agreement.MODELS, "charging", "a_model")
    assert agreement.differences_of("charging", 3, 1) == (1, ["seed 3: Failed: no refusal 3"])


@pytest.mark.parametrize(("differing", "code", "agree"), [((), 0, 600), ((7,), 1, 599)])
def test_the_exit_code_is_about_all_days(model, monkeypatch, differing, code, agree):
    model.update(differing)
    monkeypatch.setattr(agreement, "ProcessPoolExecutor", InThisProcess)
    said = []
    monkeypatch.setattr("builtins.print", said.append)
    monkeypatch.setattr(sys, "argv", ["agreement", "--days", "600"])
    assert agreement.main() == code
    assert said == [f"charging: {agree} of 600 days agree"]


def test_the_real_model_lives_a_day():
    assert agreement.differences_of("charging", 0, 1) == (1, [])


class InThisProcess:
    def __init__(self, _processes):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None
