#!/usr/bin/env bash
# Sweeps on a real Slurm: munge, slurmctld and slurmd of this machine alone, on loopback, without cgroups, in a folder of their own; then ci/slurm.py.
# ci/slurm.sh [BINARY]. Where Slurm cannot be installed or started it says why and passes.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:-target/debug/ticketlens}")
skip() { echo "skipped: Slurm $*"; exit 0; }

[ "$(id -u)" = 0 ] || skip "needs root, to start its daemons"
missing() { for name in munged slurmctld slurmd sbatch; do command -v "$name" >/dev/null || return 0; done; return 1; }
if missing; then
    command -v apt-get >/dev/null || skip "is not installed, and there is no apt-get"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >/tmp/slurm-install.log 2>&1 ||
        skip "cannot be installed: $(tail -1 /tmp/slurm-install.log)"
    missing && skip "was installed, but not all of it"
fi

work=$(mktemp -d /tmp/ticketlens-slurm-XXXXXX)
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
mkdir -m 0755 "$work"/{munge,state,spool}
(umask 077 && head -c 1024 /dev/urandom >"$work/munge/key")
chmod 0755 "$work"
name=$(hostname -s)
# Ports of its own, so that a Slurm that is there already is left alone.
cat >"$work/slurm.conf" <<CONF
ClusterName=ticketlens
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=4096 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
export SLURM_CONF=$work/slurm.conf
daemon() { # LOG COMMAND…
    local log=$1
    shift
    "$@" >"$log" 2>&1 &
    pids=("$!" "${pids[@]}")
}
daemon "$work/munged.out" munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" \
    --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed"
for _ in $(seq 50); do [ -S "$work/munge/socket" ] && break; sleep 0.1; done
[ -S "$work/munge/socket" ] || skip "has no munge: $(tail -1 "$work/munged.out")"
daemon "$work/slurmctld.out" slurmctld -D
daemon "$work/slurmd.out" slurmd -D -N "$name"
ready() { sinfo --noheader --format=%T 2>/dev/null | grep -qx idle; }
for _ in $(seq 100); do ready && break; sleep 0.2; done
ready || skip "does not start: $(cat "$work"/slurm{ctld,d}.{out,log} 2>/dev/null | grep -iE 'error|fatal' | tail -2 | tr '\n' ' ')"
sinfo --version
python3 ci/slurm.py "$binary" || { tail -40 "$work/slurmctld.log" "$work/slurmd.log"; exit 1; }
