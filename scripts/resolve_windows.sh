#!/bin/sh
# Whether every dependency has a wheel for 64-bit Windows, so that an installation there needs no compiler.
# Asks the package index only; installs and runs nothing. Needs uv (pip install uv): pip judges the markers of
# dependencies by the system it runs on, uv by the one it is asked for.
#     sh scripts/resolve_windows.sh [PYTHON_VERSION]
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
found=$(uv pip compile "$root/pyproject.toml" --extra modelscope --quiet --no-header --no-annotate \
    --python-platform x86_64-pc-windows-msvc --python-version "${1:-3.11}" --only-binary :all:)
printf '%s\n' "$found"
printf '%s packages for win_amd64 and Python %s, all as wheels\n' "$(printf '%s\n' "$found" | wc -l)" "${1:-3.11}"
