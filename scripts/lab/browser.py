"""A Chromium for the browser tests: the machine's own, else a private one of Debian's with a Chinese font.

Chromium starts its helpers from the path of its own program, which under a private loader is the loader. So
the loader is copied beside Chromium's files, where they are looked for, and the helpers are started by the
same script as the browser.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from pathlib import Path

from lab import debian
from lab import prefix as prefixes
from lab.progress import Report

_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir prefix="relative">../usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""

# No sandbox: it needs set-uid root or user namespaces, and only our own page is opened.
_SCRIPT = """\
#!/bin/sh
here=${{0%/*}}
export FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/../usr/lib/chromium/ld.so" --library-path "{libraries}" \\
  "$here/../usr/lib/chromium/chromium-headless-shell" \\
  --browser-subprocess-path="$0" --no-zygote --no-sandbox "$@"
"""


def chromium(report: Report | None = None) -> Path:
    """Return a headless Chromium that can be started like any other program.

    Args:
        report: Where progress goes if it must be fetched; by default to standard error.

    Raises:
        LabError: There is none and it can not be fetched.
    """
    return installed_chromium() or fetched_chromium(report)


def installed_chromium() -> Path | None:
    """Return the machine's own Chromium, if it has one."""
    path = Path("/usr/bin/chromium")
    return path if os.access(path, os.X_OK) else None


def fetched_chromium(report: Report | None = None) -> Path:
    """Return Debian's headless Chromium in a private folder, whatever the machine has.

    Raises:
        LabError: It can not be fetched.
    """
    prefix = debian.ensure("chromium", report)
    wrapper = prefix / prefixes.WRAPPERS / "chromium"
    if not wrapper.exists():
        _wrap(prefix, wrapper)
    return wrapper


def lend_libraries(report: Report | None = None) -> None:
    """Let programs that we start from now on find libatomic, which Playwright's driver needs.

    A small Debian lacks it. Call it before Playwright is started; where the machine has it, nothing happens.

    Raises:
        LabError: It can not be fetched.
    """
    try:
        ctypes.CDLL("libatomic.so.1")
    except OSError:
        folder = _only("libatomic.so.1", debian.ensure("libatomic", report))
        others = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([str(folder), *filter(None, others)])


def _only(library: str, prefix: Path) -> Path:
    """Return a folder with nothing but one library in it: the machine's own C library must stay in use."""
    folder = prefix / "only"
    if not (folder / library).exists():
        folder.mkdir(exist_ok=True)
        found = next(prefix.glob(f"usr/lib/*-linux-gnu/{library}"))
        with contextlib.suppress(FileExistsError):
            (folder / library).symlink_to(Path("..") / found.relative_to(prefix))
    return folder


def _wrap(prefix: Path, wrapper: Path) -> None:
    wrapper.parent.mkdir(exist_ok=True)
    loader = prefixes.loader(prefix)
    shutil.copy(loader, prefix / "usr/lib/chromium/ld.so")
    (wrapper.parent / "fonts.conf").write_text(_FONTS)
    # Beside each other, and the name last: another test may be waiting for it.
    new = wrapper.with_name(f"chromium.{os.getpid()}")
    new.write_text(_SCRIPT.format(libraries=prefixes.search_path(prefix, "$here/..")))
    new.chmod(0o755)
    new.rename(wrapper)
