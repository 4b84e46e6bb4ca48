# Debian's packages, fetched and unpacked without installing anything. Sourced by the setup
# script, which sets $apt_dir, a folder for package lists, and has the functions step and die.
#
# Packages are from Debian 12 and its backports, or, with all the packages that they depend on,
# from the next release and its backports. The mirror is the one that this machine uses.

readonly suite=bookworm
readonly backports=bookworm-backports
readonly next_suite=trixie
readonly next_backports=trixie-backports

# Options of apt-get for lists of our own in a folder.
options_in() {
    printf '%s\n' -o "Dir::Etc::SourceList=$1/sources.list" -o "Dir::Etc::SourceParts=-" \
        -o "Dir::State::Lists=$1/lists" -o "Dir::State::extended_states=$1/extended_states" \
        -o "Dir::Cache=$1/cache" -o "APT::Sandbox::User=root" -o "APT::Update::Error-Mode=any" \
        -o "APT::Install-Recommends=false" -o "Acquire::Retries=3" -o "Debug::NoLocking=true"
}
mapfile -t own_apt < <(options_in "$apt_dir")
# As on a machine that has nothing installed: so that all that a package depends on is fetched.
mapfile -t next_apt < <(options_in "$apt_dir/next")
next_apt+=(-o "Dir::State::status=$apt_dir/next/status")

# One line each: mirror, suite, component of every Debian 12 index the machine has.
machine_indexes() {
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' \
        'Created-By: Packages' 2>/dev/null |
        grep -E " $suite(-updates|-security)? main$" | sort -u
}

# The option of a line in a source list.
signed_by() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ ! -f $keyring ]] || echo "[signed-by=$keyring] "
}

update_package_lists() {
    [[ -f $apt_dir/updated ]] && return
    step "reading Debian's package lists"
    if ! machine_indexes | grep " $suite " >/dev/null; then
        ((EUID == 0)) || die "this machine has never run 'apt-get update'; run it as root, then run this again"
        apt-get -qq update >&2 || die "'apt-get update' failed: see the lines above; is there a network?"
    fi
    local mirror
    mirror=$(machine_indexes | sed -n "s/ $suite main\$//p" | sed -n 1p)
    [[ -n $mirror ]] || die "apt knows no mirror for Debian's suite $suite: check the sources in /etc/apt"
    mkdir -p "$apt_dir"/{,next/}{lists,cache/archives}/partial
    {
        machine_indexes | while read -r uri codename component; do
            echo "deb $(signed_by)$uri $codename $component"
        done
        echo "deb $(signed_by)$mirror $backports main"
    } >"$apt_dir/sources.list"
    printf "deb $(signed_by)%s %s main\n" "$mirror" "$next_suite" "$mirror" "$next_backports" \
        >"$apt_dir/next/sources.list"
    : >"$apt_dir/next/status"
    apt-get "${own_apt[@]}" -qq update >&2 && apt-get "${next_apt[@]}" -qq update >&2 ||
        die "could not read the package lists from $mirror: is there a network?"
    touch "$apt_dir/updated"
}

# Unpacks package files into one folder: unpack FOLDER FILE…
unpack() {
    local into=$1 deb
    shift
    mkdir -p "$into"
    for deb in "$@"; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$into" --keep-directory-symlink \
            --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale
    done
}

# Fetches packages of Debian 12, just these, and unpacks them: unpack_packages FOLDER PACKAGE…
unpack_packages() {
    local into=$1 debs=$apt_dir/debs
    shift
    update_package_lists
    rm -rf "$debs" && mkdir -p "$debs"
    (cd "$debs" && apt-get "${own_apt[@]}" -qq download "$@" >&2) ||
        die "could not fetch the packages: $*; is there a network?"
    unpack "$into" "$debs"/*.deb
    rm -rf "$debs"
}

# Fetches packages of the next release's backports, where they are there, with all that they depend on,
# and unpacks them: unpack_next FOLDER PACKAGE…
unpack_next() {
    local into=$1 archives=$apt_dir/next/cache/archives
    shift
    update_package_lists
    apt-get "${next_apt[@]}" -qq -y --download-only -t "$next_backports" install "$@" \
        >"$apt_dir/next/log" 2>&1 </dev/null ||
        { tail -n 20 "$apt_dir/next/log" >&2; die "could not fetch the packages: $*; is there a network?"; }
    # From trixie on /lib and /lib64 are links into /usr.
    mkdir -p "$into/usr"
    ln -s usr/lib "$into/lib" && ln -s usr/lib64 "$into/lib64"
    unpack "$into" "$archives"/*.deb
    rm -f "$archives"/*.deb
}

# The package of the newest cloud kernel that a list knows: kernel_package SUITE OPTION…
kernel_package() {
    local from=$1
    shift
    apt-cache "$@" show "linux-image-cloud-amd64/$from" 2>/dev/null |
        sed -n 's/^Depends:.*\(linux-image-[0-9][^ ,]*-cloud-amd64\).*/\1/p' | sed -n 1p | grep . ||
        die "found no cloud kernel in $from"
}
