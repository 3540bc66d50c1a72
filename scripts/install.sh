# install.sh - what quickstart.sh and test.sh share, read by `.`: packages and builds.
# shellcheck shell=sh

# shellcheck disable=SC2034
build_packages="gcc libc6-dev cmake ninja-build pkgconf libjansson-dev libfyaml-dev libxxhash-dev libpcre2-dev
zlib1g-dev libdnnl-dev libjpeg-dev libpng-dev"

is_installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -q '^installed$'
}

# install_missing "PACKAGES" ...: installs those that are not there, and says which.
install_missing() {
    missing=
    # shellcheck disable=SC2048
    for package in $*; do
        is_installed "$package" || missing="$missing $package"
    done
    [ "$missing" ] || return 0
    command -v apt-get >/dev/null || {
        echo "error: apt-get: not found (this is for Debian and Ubuntu; elsewhere install the likes of:$missing)" >&2
        exit 2
    }
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "error: packages are missing and there is no sudo (run as root: apt-get install$missing)" >&2
            exit 2
        }
        as_root=sudo
    fi
    echo "installing:$missing"
    $as_root apt-get update -qq
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
}

# build FOLDER [CMAKE OPTIONS]: configures once, builds what has changed.
build() {
    folder=$1
    shift
    log=$folder.log
    [ -f "$folder/build.ninja" ] || echo "building in $folder"
    if ! {
        [ -f "$folder/build.ninja" ] || cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@"
        ninja -C "$folder"
    } >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "error: $folder: the build failed (all of it is in $log)" >&2
        exit 1
    fi
    rm "$log"
}
