# Sourced by scripts/demo, test and bench: what this checkout needs, installed once.
# Sets WITH_PCSC and WITH_NFCPY to yes or no, and READER_LOCKS to their lock files; venv_with makes .venv.

cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

can_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
    done
}

# install_packages NAME…: install what is missing of these Debian packages; fails if that cannot be done here.
install_packages() {
    command -v dpkg-query >/dev/null || return 1
    missing=$(missing_packages "$@")
    [ -z "$missing" ] && return 0
    if ! can_be_root; then
        say "These Debian packages are missing: $missing"
        say "Install them with: sudo apt-get install $missing"
        return 1
    fi
    say "Installing Debian packages: $missing"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null || true
    # shellcheck disable=SC2086 # a list of words on purpose
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

python_is_there() {
    "$PYTHON" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# venv_with LOCK…: a virtual environment with these lock files, made anew when one of them changes.
venv_with() {
    wanted=$("$PYTHON" --version; cat pyproject.toml "$@" | sha256sum)
    [ "$(cat .venv/.installed 2>/dev/null)" = "$wanted" ] && return 0
    say "Setting up the virtual environment in .venv"
    [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
    for lock in "$@"; do
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    done
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s' "$wanted" > .venv/.installed
}

python_is_there || install_packages python3 python3-venv || true
python_is_there || { say "Python 3.11 or newer with the venv module is needed: sudo apt-get install python3 python3-venv"; exit 1; }

WITH_PCSC=yes
if ! install_packages gcc libc6-dev python3-dev libpcsclite-dev pcscd vsmartcard-vpcd; then
    say "Going on without PC/SC: no reader behind pcscd can be used without these packages."
    WITH_PCSC=no
fi

WITH_NFCPY=yes
if ! install_packages libusb-1.0-0; then
    say "Going on without nfcpy: no PN532 and no reader on USB can be used without libusb."
    WITH_NFCPY=no
fi

READER_LOCKS=
[ "$WITH_PCSC" = yes ] && READER_LOCKS="$READER_LOCKS requirements/pcsc.txt"
[ "$WITH_NFCPY" = yes ] && READER_LOCKS="$READER_LOCKS requirements/nfcpy.txt"
true
