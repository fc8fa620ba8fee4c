#!/bin/sh
# The steps of the Dockerfile that need a shell: what goes to /opt, each part in a place of its own,
# so that each is a layer of its own. Each leaves bytecode that a read-only file system can use.
#
#   install.sh tools              what builds our package
#   install.sh packages LOCK      the environment /opt/packages, of a lock file
#   install.sh ours COMMAND...    our package to /opt/parallax, with these of its commands
set -eu

bytecode() { # its paths as they will be seen at run time, without times: the same files, the same bytes
    PYTHONPYCACHEPREFIX=/opt/bytecode python -m compileall -q --invalidation-mode unchecked-hash "$@"
}

if [ -f /run/secrets/ca.crt ]; then
    export PIP_CERT=/run/secrets/ca.crt
fi

step=$1
shift
case $step in
tools)
    pip install --no-compile --no-deps --require-hashes -r requirements-build.txt
    ;;
packages)
    python -m venv --without-pip /opt/packages
    pip --python /opt/packages/bin/python install --no-compile --no-deps --require-hashes -r "$1"
    find /opt/packages -type d -name tests -prune -exec rm -rf {} +
    bytecode "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
    bytecode -q /opt/packages/lib || true # torch has files for newer interpreters among its own
    ;;
ours)
    pip wheel --no-build-isolation --no-deps --no-index --wheel-dir wheels .
    rm -rf /opt/parallax
    pip install --no-compile --no-deps --no-index --target /opt/parallax/lib wheels/*.whl
    mkdir /opt/parallax/bin
    for command; do
        mv "/opt/parallax/lib/bin/$command" /opt/parallax/bin/
        sed -i '1s|.*|#!/opt/packages/bin/python|' "/opt/parallax/bin/$command"
    done
    rm -rf /opt/parallax/lib/bin
    bytecode /opt/parallax/lib
    ;;
*)
    echo "install.sh: no step '$step'" >&2
    exit 2
    ;;
esac
