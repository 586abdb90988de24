#!/usr/bin/env bash
# Proves that the simulator can fail: each patch of tests/sim/mutants, applied to a copy of cache/ and scheduler/, must
# be caught on every seed. Usage: tools/run_mutants.sh [--build DIR] [--seeds K] [--steps N] [--jobs J] [NAME...]
# Production code carries no switches; a patch that no longer applies fails.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/mutants seeds=5 steps=400000 jobs=$(nproc) cc=${CC:-cc}
names=()
while [ $# -gt 0 ]; do
    case $1 in
        --build) build=$2; shift 2 ;;
        --seeds) seeds=$2; shift 2 ;;
        --steps) steps=$2; shift 2 ;;
        --jobs)  jobs=$2; shift 2 ;;
        -*) echo "usage: $0 [--build DIR] [--seeds K] [--steps N] [--jobs J] [NAME...]" >&2; exit 64 ;;
        *)  names+=("$1"); shift ;;
    esac
done
mkdir -p "$build" && build=$(cd "$build" && pwd) || exit 1
flags="-std=gnu17 -O1 -w -D_GNU_SOURCE"
sources=$(cd "$root" && ls cache/*.c scheduler/*.c tests/sim/*.c tests/support/cache_mirror.c base/*.c |
    grep -v -e kv_memory -e sim/scope -e sim/decisions -e sim/nodes)

# compile TREE OUT FILE...: objects of the files, headers from the tree first
compile() {
    local tree=$1 out=$2
    shift 2
    for file; do
        local from=$tree
        [ -f "$tree/$file" ] || from=$root
        $cc $flags -I"$tree" -I"$root" -I"$root/include" -I"$root/tests" -c "$from/$file" -o "$out/$(echo "${file%.c}" | tr / _).o" || return 1
    done
}
link() { $cc "$1"/*.o -lm -o "$2"; }

# The unchanged program: its objects serve all mutants, and it must pass.
base=$build/base
rm -rf "$base" && mkdir -p "$base"
echo "$sources" | xargs -P "$jobs" -n 4 bash -c "$(declare -f compile); root='$root' cc='$cc' flags='$flags'; compile '$root' '$base' \"\$@\"" _ || exit 1
link "$base" "$build/base/quire_sim" || exit 1
"$base/quire_sim" --quiet --no-gate --steps 20000 > "$build/base/log" || { cat "$base/log"; echo "the unchanged program fails"; exit 1; }

# One line: name, oracles, worst steps, verdict.
run_mutant() {
    local patch=$1 name; name=$(basename "$patch" .patch)
    local tree=$build/$name objects=$build/$name/objects worst=0 oracles="" caught=0
    rm -rf "$tree" && mkdir -p "$objects"
    cp -r "$root/cache" "$root/scheduler" "$tree"
    if ! (cd "$tree" && patch -p1 --fuzz=0 --quiet < "$patch" > log 2>&1); then
        echo "$name - - NO-LONGER-APPLIES"
        return
    fi
    ln "$base"/*.o "$objects" 2>/dev/null || cp "$base"/*.o "$objects"
    local changed; changed=$(grep '^+++ b/' "$patch" | sed 's,^+++ b/,,')
    case $changed in *.h*) changed=$sources ;; esac
    for file in $changed; do rm -f "$objects/$(echo "${file%.c}" | tr / _).o"; done
    # shellcheck disable=SC2086
    compile "$tree" "$objects" $changed >> "$tree/log" 2>&1 && link "$objects" "$tree/quire_sim" >> "$tree/log" 2>&1 ||
        { echo "$name - - DOES-NOT-COMPILE"; return; }
    for ((i = 0; i < seeds; i++)); do
        local out; out=$("$tree/quire_sim" --quiet --no-gate --seed $((1 + 1000 * i)) --steps "$steps" 2>> "$tree/log" | tail -1)
        echo "$out" >> "$tree/log"
        case $out in FAILED*) ;; *) continue ;; esac
        caught=$((caught + 1))
        set -- $out
        case $oracles in *$3*) ;; *) oracles=${oracles:+$oracles,}$3 ;; esac
        [ "$4" -gt "$worst" ] && worst=$4
    done
    [ "$caught" -eq "$seeds" ] && echo "$name $oracles $worst caught" || echo "$name ${oracles:--} $worst SURVIVED-$((seeds - caught))-of-$seeds"
}

[ ${#names[@]} -eq 0 ] && names=("$root"/tests/sim/mutants/*.patch)
for i in "${!names[@]}"; do [ -f "${names[$i]}" ] || names[$i]=$(ls "$root"/tests/sim/mutants/"${names[$i]}"*.patch); done
printf '%s\n' "${names[@]}" | xargs -P "$jobs" -n 1 bash -c "$(declare -f compile link run_mutant)
    root='$root' build='$build' base='$base' seeds=$seeds steps=$steps cc='$cc' flags='$flags' sources='$(echo $sources)'
    run_mutant \"\$1\"" _ | sort > "$build/table"
{ echo "mutant oracle worst-steps verdict"; cat "$build/table"; } | column -t
total=$(wc -l < "$build/table") caught=$(grep -c ' caught$' "$build/table")
echo "$caught of $total mutants caught on each of $seeds seeds"
[ "$total" -gt 0 ] && [ "$caught" -eq "$total" ]
