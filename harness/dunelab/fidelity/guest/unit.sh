#!/bin/sh
# SPDX-License-Identifier: MIT
#
# unit.sh SECONDS FOLDER COMMAND...: run a unit of a suite in an empty folder.
#
# Standard output is what the unit writes to $DUNELAB_EVENTS, as it comes;
# standard error the end of what it prints.  What it left running is killed.

seconds=$1
folder=$2
shift 2

rm -rf "$folder"
mkdir -p "$folder/cwd" || exit 125
: >"$folder/events"
cd "$folder/cwd" || exit 125
ulimit -S -c 0

export DUNELAB_UNIT="$folder" DUNELAB_EVENTS="$folder/events"
setsid timeout -s KILL "$seconds" "$@" </dev/null >"$folder/log" 2>&1 &
tail -n +1 -s 0.2 -f --pid=$! "$folder/events"
wait $!
status=$?

for environ in $(grep -lsaF "DUNELAB_UNIT=$folder" /proc/[0-9]*/environ); do
	pid=${environ#/proc/}
	kill -9 "${pid%/environ}" 2>/dev/null
done
tail -c 400000 "$folder/log" >&2
cd / && rm -rf "$folder"
exit $status
