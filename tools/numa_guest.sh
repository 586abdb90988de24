#!/usr/bin/env bash
# Boots a small machine with several NUMA nodes in qemu and runs commands in it, as no machine at hand may have more than one.
#
#   tools/numa_guest.sh OUT MACHINE QUIRE COMMANDS [FILE...]
#
# OUT       a folder: the kernel stays there, and what the guest printed goes to OUT/NAME.txt, NAME being that of COMMANDS
# MACHINE   two, four, or four-small: see below
# QUIRE     the tool; its shared libraries come along
# COMMANDS  a script for the guest's shell (busybox), which runs it in /work with the tool in the path
# FILE...   files and folders that lie in /work
#
# Kernel and root come from Debian packages: qemu-system-x86, busybox-static, cpio, and linux-image-amd64, which is
# downloaded and not installed. qemu emulates (TCG): slow, but on every machine, and AVX2 exists there.
set -euo pipefail
out=$1 machine=$2 quire=$3 commands=$4
shift 4
name=$(basename "$commands" .sh)
mkdir -p "$out"
out=$(realpath "$out")

# "MiB of memory:CPUs" of each node, and the distances between nodes that are not 20.
case $machine in
two)        nodes=(320:0-1 320:2-3) far=(0:1:21) ;;
four)       nodes=(320:0-1 256:2 192: 0:3) far=(0:1:15 0:2:25 0:3:31 1:2:25 1:3:31 2:3:17) ;;  # memory alone; CPU alone
four-small) nodes=(320:0 256:1 256:2 44:3) far=(0:1:15 0:2:25 0:3:25 1:2:25 1:3:25 2:3:15) ;;  # the last is soon full
*) echo "numa_guest: no machine \"$machine\": two, four, four-small" >&2; exit 2 ;;
esac

fetch_kernel() {
    [ ! -s "$out/vmlinuz" ] || return 0
    local scratch package
    scratch=$(mktemp -d)
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: *//p' | head -n 1)
    (cd "$scratch" && apt-get download "$package") > "$out/kernel.log" 2>&1 || { cat "$out/kernel.log" >&2; return 1; }
    dpkg-deb --fsys-tarfile "$scratch"/*.deb | tar -x -C "$scratch" --wildcards './boot/vmlinuz*'
    mv "$scratch"/boot/vmlinuz* "$out/vmlinuz"
    rm -r "$scratch"
}

build_root() {
    local root=$1 library
    mkdir -p "$root"/{bin,proc,sys,dev,tmp,work,cgroup}
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$quire" "$root/bin/quire"
    ldd "$quire" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
    [ $# -eq 1 ] || cp -r "${@:2}" "$root/work/"
    cp "$commands" "$root/commands.sh"
    cat > "$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t debugfs debug /sys/kernel/debug 2> /dev/null
cd /work
sh /commands.sh < /dev/null > /dev/ttyS1 2>&1
echo "guest: commands ended with status $?" > /dev/ttyS1
poweroff -f
INIT
    chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet) | gzip -1 > "$out/$name.initrd"
}

# An argument list for qemu, one word a line.
describe_machine() {
    local node=0 total=0 cpus=0 mib of options
    for one in "${nodes[@]}"; do
        mib=${one%%:*} of=${one#*:} options="node,nodeid=$node"
        total=$((total + mib))
        [ -z "$of" ] || { options+=",cpus=$of"; cpus=$((${of##*-} + 1)); }
        [ "$mib" = 0 ] || { options+=",memdev=m$node"; printf '%s\n' -object "memory-backend-ram,id=m$node,size=${mib}M"; }
        printf '%s\n' -numa "$options"
        node=$((node + 1))
    done
    for one in "${far[@]}"; do
        IFS=: read -r from to distance <<< "$one"
        printf '%s\n' -numa "dist,src=$from,dst=$to,val=$distance"
    done
    printf '%s\n' -m "${total}M" -smp "$cpus"
}

fetch_kernel
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
build_root "$root" "$@"
mapfile -t described < <(describe_machine)
timeout "${NUMA_GUEST_SECONDS:-600}" nice -n 5 qemu-system-x86_64 -accel "tcg,thread=${NUMA_GUEST_TCG:-single}" -cpu max "${described[@]}" \
    -kernel "$out/vmlinuz" -initrd "$out/$name.initrd" -append "console=ttyS0 quiet panic=-1 ${NUMA_GUEST_KERNEL-}" \
    -display none -monitor none -net none -no-reboot -serial "file:$out/$name.console" -serial "file:$out/$name.txt" \
    > "$out/$name.qemu" 2>&1 || { cat "$out/$name.qemu" "$out/$name.console" >&2; exit 1; }
rm "$out/$name.initrd"
sed -i 's/\r$//' "$out/$name.txt"
grep -q '^guest: commands ended' "$out/$name.txt" || { tail -n 30 "$out/$name.console" "$out/$name.txt" >&2; exit 1; }
