#!/bin/bash
# Installs what is missing: Debian packages, then .venv with requirements.txt, requirements-dev.txt and event-hooks.
# Run from the top of the checkout (make setup). Idempotent, and fast if everything is installed.
set -euo pipefail

python=${PYTHON:-python3}
stamp=.venv/requirements.sha256

fail() {
    printf '%s\n' "$@" "Or use docker compose, which needs none of this: python3 tools/compose_env.py && docker compose up --build" >&2
    exit 1
}

# Each line: a package, and a command that succeeds if the required part of it is installed.
# The Python headers and venv may come from elsewhere than Debian.
missing_packages() {
    while read -r package check; do
        eval "$check" >/dev/null 2>&1 || echo "$package"
    done <<'LIST'
build-essential            command -v gcc && command -v make
pkg-config                 command -v pkg-config
default-libmysqlclient-dev pkg-config --exists mysqlclient || pkg-config --exists libmariadb
perl                       perl -MData::Dumper -e 1
mariadb-server             PATH=$PATH:/usr/sbin command -v mariadbd
postgresql                 compgen -G '/usr/lib/postgresql/*/bin/initdb' || command -v initdb
rabbitmq-server            test -x /usr/lib/rabbitmq/bin/rabbitmq-server || command -v rabbitmq-server
chromium                   command -v chromium
faketime                   compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1'
python3-venv               "$python" -c 'import ensurepip, venv'
python3-dev                test -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
LIST
}

install_packages() {
    local names="$*" root=()
    command -v apt-get >/dev/null || fail "Missing, and there is no apt-get to install them: $names"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || fail "Missing, and installing them needs root: $names" "As root: apt-get install $names"
        root=(sudo -n)
    fi
    echo "Installing: $names"
    keep_services_from_starting "${root[@]}"
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq)
    local install=("${apt[@]}" install --yes --no-install-recommends "$@")
    local log
    log=$(mktemp)
    # The package lists may be absent or old
    { "${install[@]}" || { "${apt[@]}" update && "${install[@]}"; }; } >"$log" 2>&1 ||
        { tail -n 15 "$log" >&2; fail "apt-get could not install: $names (log: $log)"; }
    rm -f "$log"
}

# Debian starts a server when it installs one, unless this file forbids it. The stack starts its own servers, on its own ports.
keep_services_from_starting() {
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && return
    trap "$* rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' | "$@" tee "$policy" >/dev/null
    "$@" chmod 755 "$policy"
}

make_venv() {
    local wanted
    wanted=$({ "$python" --version; cat requirements.txt requirements-dev.txt pyproject.toml; echo "$PWD"; } | sha256sum)
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
    echo "Installing the Python packages into .venv"
    # A copied or moved environment, or one of another Python, cannot be used
    [ "$(.venv/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" = "$PWD/.venv" ] || rm -rf .venv
    [ -e .venv ] || "$python" -m venv .venv
    # pip installs uv only: uv installs the rest ten times as fast. With bytecode, each process of Airflow starts in half the time
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
        --requirement <(sed -n '/^uv==/,/[^\\]$/p' requirements-dev.txt) &&
        .venv/bin/uv pip sync --quiet --compile-bytecode --require-hashes --python .venv/bin/python requirements.txt requirements-dev.txt &&
        .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable . ||
        fail "The Python packages did not install; the message above says which. PyPI must be reachable."
    echo "$wanted" >"$stamp"
}

command -v "$python" >/dev/null || fail "Missing: $python. Install Python 3.11, 3.12 or 3.13 (Debian: apt-get install python3)."
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
    fail "$("$python" --version) is not supported. Use Python 3.11, 3.12 or 3.13: make PYTHON=python3.11 setup"
mapfile -t missing < <(missing_packages)
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
make_venv
.venv/bin/python -m compileall -q dags plugins tools
