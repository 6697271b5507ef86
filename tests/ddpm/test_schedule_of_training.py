"""How long a call trains and where on the learning-rate schedule it is, on a clock that the test turns."""

import json
import os
import signal

import numpy as np
import pytest

from ddpm.models import runs
from ddpm.training import train
from ddpm.training.crops import Crops
from ddpm.training.presets import PRESETS, preset_config
from ddpm.training.settings import TrainConfig
from ddpm.training.signals import Stop, Stopped
from ddpm.training.train import Run, Stepper
from tests.conftest import smooth_picture

COMPILING = 88.0  # seconds that the first step takes, all others one


@pytest.fixture
def clock(monkeypatch):
    """Steps that do nothing but take time, a list of the learning rates that they had."""

    class Clock:
        now, rates, first, signal_at = 1000.0, [], True, None

        def monotonic(self):
            return self.now

    clock = Clock()
    clock.rates = []

    def step(stepper):
        clock.now += COMPILING if stepper.__dict__.setdefault("new", True) else 1
        stepper.new = False
        clock.rates.append((stepper.run.seconds, stepper.run.learning_rate()))
        stepper.run.steps += 1
        stepper.run.images += 8
        if clock.signal_at == stepper.run.steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    monkeypatch.setattr(train, "time", clock)
    monkeypatch.setattr(train, "SAVE_EVERY", 1800.0)
    monkeypatch.setattr(Stepper, "__call__", step)
    return clock


def call(folder, minutes=None, stop=None, **changes):
    config = preset_config("tiny", ["-"], {"warmup": 1, **changes})
    run = Run(config, folder)
    run.fit([Crops([smooth_picture(16, 16)], 16)], minutes, quiet=True, stop=stop)
    return run


def test_no_preset_has_a_schedule_of_its_own_in_minutes():
    assert not [name for name, settings in PRESETS.items() if "decay_minutes" in settings]
    assert TrainConfig({}, []).decay_minutes is None


@pytest.mark.parametrize("minutes", [2, 10, 120])
def test_the_schedule_is_the_time_asked_for(clock, tmp_path, minutes):
    """Whatever the first step takes, the rate ends at its last value, and is half way after half the time."""
    run = call(tmp_path, minutes)
    seconds, rates = np.array(clock.rates).T
    assert run.seconds == 60 * minutes
    assert clock.now == 1000 + COMPILING + 60 * minutes
    assert run.learning_rate() == pytest.approx(run.config.final_lr * run.config.lr)
    assert rates[0] == rates[1] == run.config.lr  # the first step's time does not count
    assert rates[np.searchsorted(seconds, 30 * minutes)] == pytest.approx(0.505 * run.config.lr, rel=1e-3)
    assert rates[-1] < 0.0105 * run.config.lr
    assert runs.log(tmp_path)[-1]["seconds"] == 60 * minutes


def test_several_calls_along_one_schedule(clock, tmp_path):
    """9 + 9 + 9 + 3 minutes have the rates that 30 in one go have, and then there is nothing left to do."""
    call(tmp_path / "whole", decay_minutes=30.0)
    whole, clock.rates = dict(clock.rates), []
    for done in (9, 18, 27, 30):
        run = call(tmp_path / "pieces", 9, decay_minutes=30.0)
        assert run.seconds == 60 * done
    assert dict(clock.rates) == pytest.approx(whole)
    steps = run.steps
    assert call(tmp_path / "pieces", 9, decay_minutes=30.0).steps == steps


def test_a_finished_run_goes_on_along_a_longer_schedule(clock, tmp_path):
    call(tmp_path, 10)
    assert call(tmp_path).seconds == 600  # nothing was asked for
    clock.rates = []
    run = call(tmp_path, 20)
    assert (run.seconds, run.span) == (1800, 1800)
    third = 0.5 * (1 + np.cos(np.pi / 3))
    assert clock.rates[0][1] == pytest.approx(run.config.lr * (0.01 + 0.99 * third))


def test_a_run_that_a_signal_ended_goes_on_to_where_it_was_meant_to_end(clock, tmp_path):
    clock.signal_at = 300
    with Stop() as stop:
        run = call(tmp_path, 10, stop)
    assert stop.number == signal.SIGTERM
    assert (run.steps, run.seconds) == (300, 299)
    assert runs.clock(tmp_path) == {"steps": 300, "images": 2400, "seconds": 299, "span": 600}
    clock.signal_at = None
    assert call(tmp_path).seconds == 600


@pytest.mark.parametrize("folder", ["run", "deep/down/run"])
def test_a_signal_in_the_first_step_leaves_no_folder(clock, tmp_path, folder):
    clock.signal_at = 1
    with pytest.raises(Stopped), Stop() as stop:
        call(tmp_path / folder, 10, stop)
    assert not any(tmp_path.iterdir())


def test_a_signal_in_the_first_step_of_a_later_call_leaves_the_run_as_it_was(clock, tmp_path):
    call(tmp_path, 1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    clock.signal_at = json.loads(before["log.jsonl"].splitlines()[-1])["steps"] + 1
    with pytest.raises(Stopped), Stop() as stop:
        call(tmp_path, 1, stop)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_handlers_are_given_back_and_what_is_ignored_stays_so():
    own = signal.getsignal(signal.SIGTERM)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not own
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) is own


def test_a_second_signal_does_not_wait():
    with Stop() as stop:
        stop.patient = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
