# Shared by the scripts beside it: makes a virtual environment with what is needed, on a bare Debian 12 too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    say "This needs root: $*"; return 1
  fi
}

# apt_install PACKAGE...: from Debian or Ubuntu, without questions
apt_install() {
  command -v apt-get >/dev/null || { say "Please install: $*"; return 1; }
  say "Installing from Debian: $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.12 python3.11 python3.13 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"; return
    fi
  done
  return 1
}

# make_venv FOLDER EXTRAS: a virtual environment with this checkout installed, made again when pyproject.toml changes
make_venv() {
  local folder=$1 extras=$2 python stamp
  python=$(find_python) || { apt_install python3 python3-venv; python=$(find_python); } ||
    { say "Shunter needs Python 3.11 or later"; exit 3; }
  stamp="$(sha256sum pyproject.toml | cut -c1-16) $extras $python"
  if [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$stamp" ]; then return; fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
  say "Installing Shunter into $folder ..."
  "$python" -m venv --clear "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[$extras]"
  echo "$stamp" >"$folder/.stamp"
}
