"""Settings: defaults, the environment, overrides, and refusal of what makes no sense."""

from __future__ import annotations

import threading

import pytest

from ferrule.base import config, log
from ferrule.base.errors import InputError


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in config.SETTINGS:
        monkeypatch.delenv(setting.env, raising=False)


def test_every_setting_has_its_default() -> None:
    for setting in config.SETTINGS:
        assert config.get(setting.name) == setting.default


def test_the_environment_comes_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRULE_LOGS", "3")
    monkeypatch.setenv("FERRULE_VERIFY", "on")
    monkeypatch.setenv("FERRULE_CACHE", "")
    assert (config.get("logs"), config.get("verify"), config.get("cache")) == (3, True, False)


def test_override_comes_first_nests_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRULE_LOGS", "3")
    with config.override(logs=1, target="generic"):
        with config.override(logs=2):
            assert (config.get("logs"), config.get("target")) == (2, "generic")
        assert config.get("logs") == 1
    assert (config.get("logs"), config.get("target")) == (3, "host")


def test_override_holds_in_its_own_thread_alone() -> None:
    seen = []
    with config.override(logs=5):
        thread = threading.Thread(target=lambda: seen.append(config.get("logs")))
        thread.start()
        thread.join()
    assert seen == [0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"speed": 1}, "no setting is called 'speed'"),
        ({"logs": 8}, "an integer from 0 to 7, not 8"),
        ({"logs": True}, "an integer"),
        ({"verify": 1}, "true or false"),
        ({"target": "avx"}, "one of host, avx512, avx2, neon, rvv, generic"),
        ({"num_threads": 0}, "from 1 to 64"),
    ],
)
def test_bad_overrides_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message), config.override(**values):
        pass


def test_bad_environment_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRULE_NUM_THREADS", "many")
    with pytest.raises(InputError, match=r"FERRULE_NUM_THREADS must be .* not 'many'"):
        config.get("num_threads")


def test_the_table_tells_every_setting_and_its_value() -> None:
    with config.override(cache_mb=77):
        text = config.table()
    for setting in config.SETTINGS:
        assert setting.name in text
        assert setting.env in text
    assert "77" in text


def test_messages_show_at_their_level(capsys: pytest.CaptureFixture[str]) -> None:
    with config.override(logs=2):
        log.log(2, "shown")
        log.log(3, lambda: pytest.fail("made although it is not shown"))
    log.warn("a unique warning")
    log.warn("a unique warning")
    err = capsys.readouterr().err
    assert err.count("shown") == 1
    assert err.count("a unique warning") == 1
