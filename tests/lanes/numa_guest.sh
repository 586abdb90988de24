# What the lane `numa` runs in a guest with several NUMA nodes (tools/numa_guest.sh), in busybox's shell. Each part begins with
# a line "== NAME"; tests/lanes/numa.py reads what follows. Arguments: none; ./settings says how many steps and which parts to run.
. ./settings
model="--model llama-linear --set kv_cache.num_kv_blocks=512"

# part NAME COMMAND...: if it was asked for.
part() {
    case " $parts " in *" $1 "*) ;; *) return 0 ;; esac
    echo "== $1"
    shift
    "$@" 2>&1
    echo "status $?"
}

verify() { quire topo --verify $model --steps "$few_steps" "$@"; }
balancing() { echo "$1" > /proc/sys/kernel/numa_balancing; shift; verify "$@"; }
huge() { echo "$1" > /sys/kernel/mm/transparent_hugepage/enabled; shift; verify "$@"; }
# Beside a file that takes all of that node's memory, and of its neighbours' what does not fit.
full() {
    node=$1
    free=$(sed -n 's/.*MemFree: *//p' /sys/devices/system/node/node$node/meminfo | sed 's/ kB//')
    mkdir -p /filled && mount -t tmpfs -o "mpol=prefer:$node" none /filled
    head -c $((free * 1024)) /dev/zero > /filled/file
    grep -h MemFree /sys/devices/system/node/node*/meminfo
    shift
    verify "$@"
    result=$?
    rm /filled/file && umount /filled
    return $result
}

# Answers with tokens, log probabilities and logits, the same whoever is asked: sorted, since the first to end comes first.
# Behind them come counts and times, which may differ. The tool's own counts go to ./told.
answers() { quire generate "$@" 2> told | sed 's/, "num_prompt_tokens".*/}/' | sort; }
few="--set scheduler.watermark=0 --set scheduler.max_num_batched_tokens=24 --set scheduler.max_num_seqs=8"
# NAME: of one node, of all, of few blocks.
compare() {
    cmp one all && cmp one few && echo "$* $(wc -l < one) answers, $(wc -c < one) bytes: equal" || echo "$* DIFFERENT"
}
golden() {
    for folder in $goldens; do
        for dtype in $dtypes; do
            common="--model $folder --set model.weight_dtype=$dtype --set kv_cache.dtype=$dtype -i $folder.jsonl"
            answers $common --set topology.cpus=node:0 > one
            answers $common > all
            answers $common $few --set kv_cache.num_kv_blocks="$(cat $folder.blocks)" > few
            compare golden $folder $dtype
            [ "$dtype" != f32 ] || sed "s/^/answer $folder /; s/, *\"logprobs\".*/}/" all
        done
    done
}
crowd() {
    for dtype in $dtypes; do
        common="--model llama-linear --set model.weight_dtype=$dtype --set kv_cache.dtype=$dtype -i crowd.jsonl"
        common="$common --set scheduler.max_num_seqs=12"
        answers $common --set topology.cpus=node:0 > one
        answers $common --set kv_cache.num_kv_blocks=512 > all
        sed -n "s/^quire: \(.* nodes: \|.* step\)/crowd $dtype all \1/p" told
        answers $common --set scheduler.watermark=0 --set kv_cache.num_kv_blocks=20 > few
        sed -n "s/^quire: \(.* nodes: \|.* step\)/crowd $dtype few \1/p" told
        compare crowd $dtype
    done
}

# In a cpuset of its own: CPUs, memory nodes, then a command.
confined() {
    mkdir -p /cgroup/part
    echo "$1" > /cgroup/part/cpuset.cpus
    echo "$2" > /cgroup/part/cpuset.mems
    shift 2
    (echo 0 > /cgroup/part/cgroup.procs; cut="$*"; $cut)
}
# The process cannot see its cpuset, as in a container whose runtime hides it; the kernel refuses to bind all the same.
hidden() {
    mkdir -p /cgroup/part
    echo 0-3 > /cgroup/part/cpuset.cpus
    echo 0 > /cgroup/part/cpuset.mems
    (echo 0 > /cgroup/part/cgroup.procs; mount --bind /tmp /cgroup; mount -t tmpfs none /sys/fs/cgroup; "$@"; result=$?
     umount /sys/fs/cgroup; umount /cgroup; exit $result)
}

mount -t cgroup2 none /cgroup && echo +cpuset > /cgroup/cgroup.subtree_control
part machine quire topo --bandwidth
part balanced balancing 1 --steps "$steps"
part unbalanced balancing 0
part weights quire topo --verify --model qwen2-bias --set kv_cache.num_kv_blocks=512 --steps "$few_steps"
part huge huge always --set topology.huge_pages=on
part golden golden
part crowd crowd
part dry verify --set kv_cache.num_kv_blocks=20 --set scheduler.watermark=0 --set scheduler.max_num_seqs=12
part full full 3
part bench quire bench $model --set run.limits=false --set run.warmup.mode=none --set run.duration=0s --num-prompts 6 \
    --prompt-tokens 40 --output-tokens 8
part threads verify --threads 3
part one_node verify --cpus node:1
part cut_cpus confined 1-2 0-1 verify
part cut_memory confined 0-3 0 verify
part refused hidden verify
part strict hidden verify --set numa.strict=true
