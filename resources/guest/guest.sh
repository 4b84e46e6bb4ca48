# What init and the jobs share. Sourced, not run.
#
# Lines on the console for machines begin with "SUNDOWN: ", then a key and its value.
# Boot markers, by default: 1 init runs, 2 the job is done.
#
# Options on the kernel command line:
#   sundown.job=NAME      the script in /jobs to run (default: shell)
#   sundown.drives=N      wait until N NVMe namespaces are there (default 0: as they come)
#   sundown.wait=SECONDS  how long to wait for them (default 20)
#   sundown.then=ACTION   what follows the job: reboot, poweroff, wait (default), shell,
#                         reset (at once, no device is shut down), crash (a kernel panic),
#                         port:PORT:VALUE (reboot by writing a byte there)
#   sundown.boots=N       take the last action instead after the Nth boot of a job that
#                         counts its boots on the drives
#   sundown.last=ACTION   that last action (default poweroff)
#   sundown.marker=BYTE   the marker of init (default 1)

read -r command_line </proc/cmdline

say() { echo "SUNDOWN: $*"; }

# Writes a boot marker. Stock cloud kernels have no /dev/port.
mark() { outb 0x3f0 "$1" || say "error could not write boot marker $1"; }

# option NAME DEFAULT: sets $value. No subshell: a fork costs milliseconds here.
option() {
    value=$2
    for word in $command_line; do
        case $word in "$1="*) value=${word#*=} ;; esac
    done
}

# The NVMe namespaces, as /dev names them, in $namespaces and counted in $namespace_count.
list_namespaces() {
    namespaces= namespace_count=0
    for disk in /sys/class/block/nvme*n*; do
        # Neither partitions nor, under multipath, the paths to a disk (nvme0c1n1).
        case ${disk##*/} in *\** | *p* | *c*) continue ;; esac
        namespaces="$namespaces ${disk##*/}"
        namespace_count=$((namespace_count + 1))
    done
}

# Waits until as many namespaces are there as sundown.drives says, and says how many are.
wait_for_namespaces() {
    option sundown.drives 0; wanted=$value
    option sundown.wait 20; tries=$((value * 20))
    list_namespaces
    while [ $namespace_count -lt "$wanted" ] && [ $tries -gt 0 ]; do
        sleep 0.05
        tries=$((tries - 1))
        list_namespaces
    done
    say "namespaces $namespace_count"
    if [ $namespace_count -lt "$wanted" ]; then
        say "error $wanted namespaces were expected"
        # Why: what is decoded, whose interrupts never came, the kernel's last words.
        lspci -vv 2>/dev/null | grep -E '^[0-9a-f]|Control:'
        grep -E 'CPU|nvme' /proc/interrupts
        dmesg | grep -E 'nvme|pci' | tail -n 40
    fi
}

# What makes this namespace another than the others: serial number and namespace number.
identity() {
    read -r serial <"/sys/class/block/$1/device/serial"
    identity=$serial/${1##*n}
}

# A label line of a drive: its first sector, read past the page cache. Sets $label.
read_label() { label=$(dd if="/dev/$1" bs=4096 count=1 skip="$2" iflag=direct 2>/dev/null | head -c 512 | tr -d '\000'); }

# write_label NAMESPACE BLOCK TEXT: on the medium when it returns.
write_label() {
    printf '%-511s\n' "$3" |
        dd of="/dev/$1" bs=512 seek=$(($2 * 8)) count=1 iflag=fullblock conv=notrunc,fsync 2>/dev/null
}

# each_namespace FUNCTION: runs it for all namespaces at once; what each says goes, in one
# piece, to /run/said/NAMESPACE, and to the console when all have ended.
each_namespace() {
    mkdir -p /run/said
    for namespace in $namespaces; do
        "$1" "$namespace" >"/run/said/$namespace" 2>&1 &
    done
    wait
    for namespace in $namespaces; do
        cat "/run/said/$namespace"
    done
}

# Reads /run/said: "SUNDOWN: drive NAME intact|written|corrupt boots=N …" of every drive.
# Says "data" for all together and sets $boots.
sum_up() {
    boots=0 verdict=intact first=
    for namespace in $namespaces; do
        line=
        while read -r said; do
            case $said in "SUNDOWN: drive $namespace "*) line=${said#"SUNDOWN: drive $namespace "} ;; esac
        done <"/run/said/$namespace"
        counted=${line#*boots=} counted=${counted%% *}
        case $line in
            intact*) ;;
            written*) [ $verdict = corrupt ] || verdict=written ;;
            *) verdict=corrupt counted=${counted:-0} ;;
        esac
        # Drives that have seen different numbers of boots have lost writes.
        [ "${first:=$counted}" = "$counted" ] || verdict=corrupt
        [ "$counted" -gt $boots ] && boots=$counted
    done
    [ $namespace_count -gt 0 ] || verdict=none
    option sundown.drives "$namespace_count"
    [ $namespace_count -ge "$value" ] || verdict=corrupt
    say "boots $boots"
    say "data $verdict"
}

# The job is done: marker 2, then the action.
finish() {
    read -r uptime _ </proc/uptime
    say "done $uptime"
    mark 2
    option sundown.then wait
    action=$value
    option sundown.boots 0
    if [ "$value" -gt 0 ] && [ "${boots:-0}" -ge "$value" ]; then
        option sundown.last poweroff
        action=$value
    fi
    act "$action"
}

act() {
    say "then $1"
    case $1 in
        reboot) reboot -f ;;
        poweroff) poweroff -f ;;
        reset) echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger ;;
        crash) echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger ;;
        port:*) pair=${1#port:}; outb "${pair%:*}" "${pair#*:}" ;;
        shell) setsid -c sh -l </dev/ttyS0 >/dev/ttyS0 2>&1; poweroff -f ;;
        wait) ;;
        *) say "error no action $1" ;;
    esac
    while :; do sleep 3600; done
}
