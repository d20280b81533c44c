# shellcheck shell=sh
# Checks what `./run` and `./test` need before anything is built, and installs what it may. Sourced by both.
#
# On Debian and Ubuntu missing packages are installed with apt-get, as root or with `sudo -n`. Anywhere else, and for
# Rust, the one line to type is printed. Nothing is asked.

say() { printf '%s: %s\n' "$program" "$*" >&2; }
fail() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
has_one_of() { for candidate in "$@"; do has "$candidate" && return; done; return 1; }

# Servers and compilers may live outside of a user's PATH.
PATH="$PATH:$HOME/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

# The oldest Rust that builds this: `rust-version` in Cargo.toml.
rust_needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
rustup_line="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --default-toolchain $rust_needed"

# missing_packages WHAT...: the Debian packages of WHAT (build, servers, faults, rustup) that are not installed.
missing_packages() {
    for what in "$@"; do
        case $what in
        build)
            has cc || echo gcc
            [ -e /usr/include/stdio.h ] || echo libc6-dev
            has make || echo make
            [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
            ;;
        servers)
            # shellcheck disable=SC2086 # one word per program
            while read -r package programs; do
                has_one_of $programs || echo "$package"
            done <deploy/servers.txt
            ;;
        faults)
            # Clocks that are wrong; `find` prints nothing where the library is missing.
            [ -n "$(find /usr/lib -name libfaketimeMT.so.1 2>/dev/null | head -n 1)" ] || echo faketime
            ;;
        rustup) has curl || echo curl ;;
        esac
    done | tr '\n' ' '
}

# The command that makes us root without a question; empty output and success for root itself.
root_command() {
    [ "$(id -u)" -eq 0 ] && return
    has sudo && sudo -n true 2>/dev/null && echo "sudo -n"
}

# install PACKAGE...: with apt-get, without starting the services that the packages bring.
install() {
    by_hand="apt-get update && apt-get install -y --no-install-recommends $*"
    has apt-get || fail "missing: $*. Install these (the names are Debian's), then run this again."
    if has sudo; then as_root_by_hand="sudo sh -c"; else as_root_by_hand="su -c"; fi
    as_root=$(root_command) || fail "missing: $*. This user may not install packages without a password; type this, then run this again:
    $as_root_by_hand '$by_hand'"
    say "installing with apt-get: $*"
    # The packages would start servers on the standard ports; `policy-rc.d` prevents that. One that is there already stays.
    # shellcheck disable=SC2016,SC2086 # expanded by the inner shell; `as_root` is empty or two words
    $as_root sh -c '
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap "rm -f $policy" EXIT
            trap "exit 130" INT TERM
            printf "#!/bin/sh\nexit 101\n" >$policy && chmod 755 $policy
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    ' sh "$@" || fail "apt-get failed. Try it by hand, then run this again:
    $by_hand"
}

# version_at_least FOUND NEEDED: compares the first two numbers.
version_at_least() {
    found_major=${1%%.*} found_rest=${1#*.} needed_major=${2%%.*} needed_rest=${2#*.}
    [ "$found_major" -gt "$needed_major" ] ||
        { [ "$found_major" -eq "$needed_major" ] && [ "${found_rest%%.*}" -ge "${needed_rest%%.*}" ]; }
}

# Sets `rust_problem`; empty if Rust can build this.
check_rust() {
    rust_problem=
    if ! has cargo || ! has rustc; then
        rust_problem="Rust $rust_needed or newer is missing"
    else
        found=$(rustc --version 2>/dev/null | cut -d' ' -f2)
        version_at_least "${found:-0.0}" "$rust_needed" ||
            rust_problem="Rust $rust_needed or newer is needed; $(command -v rustc) is ${found:-unusable}"
    fi
}

# prepare WHAT...: everything that WHAT and the build need is there afterwards, or this script has ended with a line
# that says what to type. Cheap checks come first: the build takes minutes.
prepare() {
    check_rust
    # Where Rust is missing, its installer is needed, by us or by the reader of the line below.
    [ -z "$rust_problem" ] || set -- rustup "$@"
    # shellcheck disable=SC2046 # one word per package
    set -- $(missing_packages build "$@")
    [ $# -eq 0 ] || install "$@"
    if [ -n "$rust_problem" ]; then
        [ -n "$install_rust" ] || fail "$rust_problem (Debian's own is too old). Type this, then run this again, or let \`./$program --install-rust\` do it:
    $rustup_line"
        say "installing Rust $rust_needed with rustup, into $HOME/.cargo and $HOME/.rustup"
        sh -c "$rustup_line" >/dev/null || fail "rustup failed. Type this, then run this again:
    $rustup_line"
        check_rust
        [ -z "$rust_problem" ] || fail "$rust_problem, although rustup has run; see the lines above."
    fi
    free_mib=$(df -Pm . | awk 'NR == 2 { print $4 }')
    [ "$free_mib" -ge "$disk_mib" ] || [ -d "$target" ] ||
        fail "the build needs about $disk_mib MiB; $(pwd) has $free_mib MiB left. Free some, or set CARGO_TARGET_DIR to another disk."
}

has_node() {
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}

# Sets `browser_problem`; empty if the web client can be tested in a browser.
check_browser() {
    browser_problem=
    if ! has_node || ! has npm; then
        browser_problem="Node.js 20.19 or later, with npm, is missing (Debian 13 and later have it)"
    elif [ -z "${CHROMIUM:-}" ] && ! has_one_of chromium chromium-browser google-chrome; then
        browser_problem="the package chromium is missing"
    elif ! (cd clients/web && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund >/dev/null 2>&1; }); then
        browser_problem="\`npm ci\` fails in clients/web"
    fi
}

# Installs what tests in a browser need, if that is possible. Without it they are skipped, loudly.
prepare_browser() {
    check_browser
    [ -n "$browser_problem" ] || return 0
    if has apt-get && as_root=$(root_command); then
        packages=
        if ! has_node || ! has npm; then
            candidate=$(apt-cache policy nodejs 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*\).*/\1/p')
            [ "${candidate:-0}" -lt 20 ] || packages="nodejs npm"
        fi
        [ -n "${CHROMIUM:-}" ] || has_one_of chromium chromium-browser google-chrome || packages="$packages chromium"
        if [ -n "$packages" ]; then
            say "installing with apt-get, for tests of the web client: $packages"
            # shellcheck disable=SC2086 # words; `as_root` is empty or two of them
            $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages \
                >/dev/null 2>&1 || true
        fi
        check_browser
    fi
    [ -z "$browser_problem" ] || say "THE TESTS OF THE WEB CLIENT IN A BROWSER ARE SKIPPED: $browser_problem"
}

target=${CARGO_TARGET_DIR:-target}
install_rust=
