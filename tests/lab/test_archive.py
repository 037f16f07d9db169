"""The Debian archive is read from the machine's own apt configuration, whatever form that takes."""

from pathlib import Path

import pytest

from lab import archive
from lab.errors import MissingTool

DEBIAN_12_IMAGE = """\
Types: deb
# http://snapshot.example/archive/debian/20250520T000000Z
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main
"""

CLOUD_IMAGE = """\
Types: deb
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm bookworm-updates bookworm-backports
Components: main
"""

OTHER_VENDORS = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] https://docker.example/linux/debian bookworm stable
deb https://cloud.example/apt cloud-sdk-bookworm main
deb http://postgres.example/pub bookworm-pgdg main
deb-src http://source.example/debian bookworm main
"""


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /etc/apt on a machine whose apt has no lists and no program."""
    monkeypatch.delenv(archive.MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_main_archive_is_chosen_before_the_security_archive(etc: Path) -> None:
    (etc / "sources.list.d/debian.sources").write_text(DEBIAN_12_IMAGE)
    assert archive.find_address(etc) == "http://mirror.example/debian"


def test_mirror_lists_are_passed_on_as_they_are(etc: Path) -> None:
    (etc / "sources.list.d/debian.sources").write_text(CLOUD_IMAGE)
    assert archive.find_address(etc) == "mirror+file:///etc/apt/mirrors/debian.list"


def test_one_line_file_with_options_and_comments(etc: Path) -> None:
    (etc / "sources.list").write_text(
        "deb http://security.example/debian-security bookworm-security main\n"
        "deb [ arch=amd64 signed-by=/k.gpg ] http://mirror.example/debian/ bookworm main contrib # ours\n"
    )
    assert archive.find_address(etc) == "http://mirror.example/debian/"


def test_other_vendors_and_switched_off_sources_do_not_count(etc: Path) -> None:
    (etc / "sources.list").write_text(OTHER_VENDORS)
    off = DEBIAN_12_IMAGE.replace("Types:", "Enabled: no\nTypes:")
    (etc / "sources.list.d/debian.sources").write_text(off)
    with pytest.raises(MissingTool, match=archive.MIRROR_VARIABLE):
        archive.find_address(etc)


def test_folder_called_debian_is_preferred(etc: Path) -> None:
    (etc / "sources.list").write_text(
        "deb http://vendor.example/packages bookworm main\ndeb http://mirror.example/debian bookworm main\n"
    )
    assert archive.find_address(etc) == "http://mirror.example/debian"


def test_named_mirror_wins(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "sources.list.d/debian.sources").write_text(DEBIAN_12_IMAGE)
    monkeypatch.setenv(archive.MIRROR_VARIABLE, "http://named.example/debian")
    assert archive.find_address(etc) == "http://named.example/debian"


def test_indexed_archive_is_told_by_its_label(etc: Path) -> None:
    apt_get = etc / "apt-get"
    apt_get.write_text(
        "#!/bin/sh\n"
        "echo 'http://one.example/debian-security|Debian|Debian-Security|main'\n"
        "echo 'http://two.example/debian|Debian|Debian Backports|main'\n"
        "echo 'http://three.example/debian|Debian|Debian|contrib'\n"
        "echo 'http://four.example/mirrored|Debian|Debian|main'\n"
    )
    apt_get.chmod(0o755)
    (etc / "sources.list.d/debian.sources").write_text(DEBIAN_12_IMAGE)
    assert archive.find_address(etc) == "http://four.example/mirrored"


def test_proxy_is_kept_and_nothing_else(etc: Path) -> None:
    apt_config = etc / "apt-config"
    apt_config.write_text(
        "#!/bin/sh\n"
        """echo 'Acquire::http::Proxy "http://proxy.example:3128/";'\n"""
        """echo 'Acquire::https::Proxy::internal.example "DIRECT";'\n"""
        """echo 'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";'\n"""
        """echo 'APT::Install-Recommends "1";'\n"""
        """echo 'Acquire::http::Timeout "7";'\n"""
    )
    apt_config.chmod(0o755)
    assert archive.proxy_settings() == [
        'Acquire::http::Proxy "http://proxy.example:3128/";',
        'Acquire::https::Proxy::internal.example "DIRECT";',
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";',
    ]
