"""Settings: a typo must not become a default, and every problem is told at once."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from ctid import settings
from ctid.errors import SettingsError

EXAMPLE = Path(__file__).parents[1] / "config" / "ctid.toml"
LEAST = """
policy = "policy.toml"
[asterisk.account]
username = "ctid"
secret_file = "secret"
[database]
dsn = "postgresql:///ctid"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "ctid.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_example_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    example = settings.load(EXAMPLE)
    least = settings.load(written(tmp_path, LEAST))
    for part in ("fastagi", "web", "metrics", "pops", "archive", "log"):
        assert getattr(example, part) == getattr(least, part)
    assert example.database == least.database
    paths = {"account", "dialler"}
    assert example.asterisk.model_dump(exclude=paths) == least.asterisk.model_dump(exclude=paths)


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    text = LEAST.replace('username = "ctid"', "") + (
        '[web]\nprot = 8080\nport = "many"\n[fastagi]\ndecision_timeout = 300\n[log]\nlevel = "loud"\n'
    )
    with pytest.raises(SettingsError) as caught:
        settings.load(written(tmp_path, text))
    told = "\n".join(caught.value.problems)
    for key in ("asterisk.account.username", "web.prot", "web.port", "fastagi.decision_timeout", "log.level"):
        assert key in told
    assert "unknown key" in told
    assert 'such as "300ms"' in told
    assert len(caught.value.problems) == 5


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, LEAST))
    assert loaded.policy == tmp_path / "policy.toml"
    assert loaded.asterisk.account.secret_file == tmp_path / "secret"


@pytest.mark.parametrize(("text", "message"), [("a = ", "is not TOML"), (None, "can not be read")])
def test_a_file_that_is_no_settings_file(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "ctid.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        settings.load(file)


@pytest.mark.parametrize(
    ("text", "seconds"), [("300ms", 0.3), ("20s", 20), ("1.5 min", 90), ("2h", 7200), ("1d", 86400)]
)
def test_durations_read_as_people_write_them(text: str, seconds: float) -> None:
    assert settings.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["20", "s", "-3s", "5 years", 20, None, True, ""])
def test_a_number_without_its_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="unit"):
        settings.parse_duration(text)


def test_a_deadline_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError):
        settings.FastAgi.model_validate({"decision_timeout": "0s"})


def test_a_secret_never_shows(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary-secret\n")
    loaded = settings.load(written(tmp_path, LEAST))
    secret = loaded.asterisk.account.secret()
    assert secret.get_secret_value() == "canary-secret"
    assert "canary" not in repr(secret) + repr(loaded)
