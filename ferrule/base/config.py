"""Every setting of ferrule, in one typed table.

    setting = name, environment variable, type, default, what it does

A value comes from, in this order: `override` in the running context, the environment variable, the
default. The environment is read at each `get`, so a test or a notebook may change it. Unknown names
and bad values raise `InputError`.

    with config.override(logs=2, verify=True):
        model = ferrule.compile(...)

Those of a compilation are read once, where a frontend begins it, and handed down as one value,
`Settings`. Those of the process (what is told, how many threads run) are read where they are used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from ferrule.base.errors import InputError
from ferrule.base.features import LEVELS


class Setting(NamedTuple):
    """One setting. `choices` or `low`..`high` (both ends included) bound its values; a None default
    may stay None.
    """

    name: str
    env: str
    type: type
    default: Any
    doc: str
    choices: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="logs",
        env="FERRULE_LOGS",
        type=int,
        default=0,
        doc="what to tell: 0 warnings, 1 timings, 2 decisions, 3 programs, 4 code, 7 rewrites",
        low=0,
        high=7,
    ),
    Setting(
        name="dump_dir",
        env="FERRULE_DUMP_DIR",
        type=str,
        default=None,
        doc="a folder for each program's text at each level",
    ),
    Setting(
        name="verify",
        env="FERRULE_VERIFY",
        type=bool,
        default=False,
        doc="check programs after every pass, and their first results against NumPy",
    ),
    Setting(
        name="strict",
        env="FERRULE_STRICT",
        type=bool,
        default=False,
        doc="raise where an operator would run in the framework",
    ),
    Setting(
        name="cache",
        env="FERRULE_CACHE",
        type=bool,
        default=True,
        doc="keep compiled programs on disk and reuse them",
    ),
    Setting(
        name="cache_dir",
        env="FERRULE_CACHE_DIR",
        type=str,
        default="~/.cache/ferrule",
        doc="where compiled programs are kept",
    ),
    Setting(
        name="cache_mb",
        env="FERRULE_CACHE_MB",
        type=int,
        default=2048,
        doc="size of the disk cache in MiB; the least recently used programs go first",
        low=1,
    ),
    Setting(
        name="tuning",
        env="FERRULE_TUNING",
        type=bool,
        default=True,
        doc="use the schedules of the tuning database",
    ),
    Setting(
        name="tuning_db",
        env="FERRULE_TUNING_DB",
        type=str,
        default=None,
        doc="the tuning database; unset: tuning.sqlite in cache_dir",
    ),
    Setting(
        name="num_threads",
        env="FERRULE_NUM_THREADS",
        type=int,
        default=None,
        doc="threads of a program; unset: OMP_NUM_THREADS, else the CPUs that it may use",
        low=1,
        high=64,
    ),
    Setting(
        name="shared_threads",
        env="FERRULE_SHARED_THREADS",
        type=bool,
        default=True,
        doc="run on PyTorch's OpenMP threads where it is loaded, not on others beside them",
    ),
    Setting(
        name="guard_speed",
        env="FERRULE_GUARD_SPEED",
        type=bool,
        default=False,
        doc="measure compiled PyTorch programs beside eager at first, and keep the faster",
    ),
    Setting(
        name="background",
        env="FERRULE_BACKGROUND",
        type=bool,
        default=False,
        doc="run PyTorch programs in eager until they are compiled, in another process",
    ),
    Setting(
        name="numerics",
        env="FERRULE_NUMERICS",
        type=str,
        default="fast",
        doc="strict: no algorithm whose rounding errors grow (Winograd's for convolutions)",
        choices=("fast", "strict"),
    ),
    Setting(
        name="target",
        env="FERRULE_TARGET",
        type=str,
        default="host",
        doc="the CPU to compile for; all but host force an instruction set",
        choices=("host", *(known.name for known in LEVELS), "generic"),
    ),
)

class Settings(NamedTuple):
    """The settings of a compilation as one value, by the names of `SETTINGS`."""

    dump_dir: str | None
    verify: bool
    strict: bool
    cache: bool
    cache_dir: str
    cache_mb: int
    tuning: bool
    tuning_db: str | None
    guard_speed: bool
    background: bool
    numerics: str
    target: str

    @property
    def cache_folder(self) -> Path:
        """Where compiled programs are kept."""
        return Path(self.cache_dir).expanduser()


_OF_COMPILATION = Settings._fields
_BY_NAME: Mapping[str, Setting] = {s.name: s for s in SETTINGS}
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off", "")
_overrides: ContextVar[Mapping[str, Any]] = ContextVar("ferrule_settings", default={})  # noqa: B039


def get(name: str) -> Any:
    """The value of the setting `name` now. Raises InputError for an unknown name or a bad
    environment variable.
    """
    overrides = _overrides.get()
    if name in overrides:
        return overrides[name]
    setting = _setting(name)
    text = os.environ.get(setting.env)
    if text is None or (text == "" and setting.type is not bool):
        return setting.default
    return _checked(setting, _parsed(setting, text), setting.env)


def settings(**options: Any) -> Settings:
    """The settings of a compilation that begins now, some of them as `options` say. Raises
    InputError for unknown options and bad values.
    """
    with override(**options):
        return Settings(**{name: get(name) for name in _OF_COMPILATION})


def of_process(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that hold for a run as well, such as its number of threads."""
    return {name: value for name, value in options.items() if name not in _OF_COMPILATION}


def overridden(name: str) -> Any:
    """What `override` has set `name` to in this context, else None: a quick look for hot paths."""
    return _overrides.get().get(name)


@contextmanager
def override(**values: Any) -> Iterator[None]:
    """Gives settings other values inside a `with`, in this thread or task alone."""
    checked = {name: _checked(_setting(name), value, name) for name, value in values.items()}
    token = _overrides.set({**_overrides.get(), **checked})
    try:
        yield
    finally:
        _overrides.reset(token)


def table() -> str:
    """All settings with their present values, as text in columns."""
    rows = [("setting", "environment", "type", "value", "what it does")]
    for s in SETTINGS:
        kind = "|".join(s.choices) or s.type.__name__
        rows.append((s.name, s.env, kind, str(get(s.name)), s.doc))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths)), row[4]]) for row in rows
    )


def _setting(name: str) -> Setting:
    try:
        return _BY_NAME[name]
    except KeyError:
        raise InputError(
            f"no setting is called {name!r}; the settings are: {', '.join(_BY_NAME)}"
        ) from None


def _parsed(setting: Setting, text: str) -> Any:
    """The value that an environment variable's text stands for; the text itself where it stands for
    none.
    """
    if setting.type is bool:
        low = text.strip().lower()
        return True if low in _TRUE else False if low in _FALSE else text
    if setting.type is int:
        try:
            return int(text)
        except ValueError:
            return text
    return text


def _checked(setting: Setting, value: Any, where: str) -> Any:
    if value is None and setting.default is None:
        return value
    fits = type(value) is setting.type or (setting.type is str and isinstance(value, os.PathLike))
    if fits and setting.type is str:
        value = os.fspath(value)
        fits = not setting.choices or value in setting.choices
    if fits and setting.type is int:
        fits = (setting.low is None or value >= setting.low) and (
            setting.high is None or value <= setting.high
        )
    if not fits:
        raise InputError(f"{where} must be {_expected(setting)}, not {value!r}")
    return value


def _expected(setting: Setting) -> str:
    if setting.choices:
        return "one of " + ", ".join(setting.choices)
    if setting.type is int:
        low = "" if setting.low is None else f" from {setting.low}"
        return f"an integer{low}" + ("" if setting.high is None else f" to {setting.high}")
    return "true or false (1 or 0)" if setting.type is bool else "text"
