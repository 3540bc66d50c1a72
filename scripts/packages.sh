# packages.sh - sourced: installs Debian or Ubuntu packages that are missing, and says so. As root, or through sudo.

# need PACKAGE...: installs those that are not there.
need() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
    done
    [ -z "$missing" ] && return 0
    echo "installing:$missing"
    as_root=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "error: not root and no sudo (install these yourself:$missing)" >&2; return 1; }
        as_root=sudo
    fi
    $as_root apt-get update -qq
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

BUILD_PACKAGES="gcc libc6-dev cmake ninja-build pkg-config libdnnl-dev libjansson-dev libfyaml-dev libxxhash-dev libpcre2-dev"
