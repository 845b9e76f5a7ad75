# Common parts of the start-* scripts; they source this file first. Not for running by itself.
#
# start-NAME WORKDIR 'COMMAND' runs a server with its data in WORKDIR, then COMMAND with the server's address in the
# environment, and ends with COMMAND's exit code. Both live in a network namespace of their own, in which only loopback
# exists, and in a process namespace that ends with the script: nothing can leave the machine and nothing is left over.
# WORKDIR is emptied first. Servers come from `install`, in $SNAPKIT_TEST_CACHE.
#
# COMMAND finds:
#   SNAPKIT_TEST_STORE_URL      address of an empty store
#   SNAPKIT_TEST_STORE_VERDICT  what `store probe` must find: fit, unfit
#   AWS_* or AZURE_*            endpoint and dummy keys, as snapkit reads them
set -euo pipefail

if [ "${SNAPKIT_TEST_NAMESPACE:-}" != inside ]; then
    [ $# -eq 2 ] || { echo "usage: $0 WORKDIR 'COMMAND'" >&2; exit 2; }
    user=()
    [ "$(id -u)" -eq 0 ] || user=(--map-root-user)
    SNAPKIT_TEST_NAMESPACE=inside exec unshare "${user[@]}" --net --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi
# A start-* inside COMMAND gets namespaces of its own.
unset SNAPKIT_TEST_NAMESPACE
ip link set lo up
trap 'echo "$0: line $LINENO failed" >&2' ERR

cache=${SNAPKIT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/snapkit-test-servers}
work=$(realpath -m "$1")
command=$2
case $work in / | /home | "$HOME") echo "refusing to empty $work" >&2; exit 2 ;; esac
rm -rf "$work"
mkdir -p "$work"

# Nothing of the caller's clouds, proxies or profiles reaches the tests.
for name in $(compgen -e | grep -E '^(AWS|AZURE|GOOGLE)_|_(proxy|PROXY)$' || true); do unset "$name"; done

export_s3() { # port access-key secret-key
    export AWS_ENDPOINT_URL=http://127.0.0.1:$1 AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
    export AWS_ACCESS_KEY_ID=$2 AWS_SECRET_ACCESS_KEY=$3
    export SNAPKIT_TEST_STORE_URL=s3://bkt/some/prefix
}

need() { # program part
    [ -x "$1" ] || command -v "$1" >/dev/null || { echo "$1 is missing: run tests/servers/install $2" >&2; exit 5; }
}

# Waits until the address answers anything at all.
wait_for() { # url log
    for _ in $(seq 1 960); do
        curl -s -o /dev/null "$1" && return
        sleep 0.25
    done
    echo "$1 does not answer; the end of $2:" >&2
    tail -n 20 "$2" >&2
    exit 5
}

run_command() {
    cd "$started_in"
    local status=0
    bash -c "$command" || status=$?
    exit $status
}
started_in=$PWD
cd "$work"
