# Ends commands: every process of their sessions, and every descendant of these that left them while its parents
# are still there. First politely, then by force; prints how many are left. Lines before this one set
# `sessions`, the process ids of the login shells, `shells`, those of them that have not exited yet, each with a
# space on both sides, and `signal`, which where it is not empty is sent instead to all of them; then it prints
# how many there were. `age`, where it is set, is for how many seconds the connection of those commands has stood,
# which is another: a guest that was started since has other processes by these ids, and one that cannot tell may.
if [ -n "$age" ]; then
  read -r uptime _ 2>/dev/null </proc/uptime || exit
  [ "${uptime%.*}" -ge "$age" ] || exit
fi
table() {
  if [ -r /proc/self/stat ]; then
    for stat in /proc/[0-9]*/stat; do
      read -r line 2>/dev/null <"$stat" || continue
      process=${line%% *}
      set -- ${line##*\)}
      [ "$1" = Z ] || echo "$process $2 $4"
    done
  else
    ps -A -o pid= -o ppid= -o pgid=
  fi
}
ours=$shells
scan() {
  now=$(table)
  before=
  while [ "$ours" != "$before" ]; do
    before=$ours
    alive=
    while read -r process parent group; do
      case "$ours" in *" $process "*) alive="$alive $process"; continue ;; esac
      case "$sessions" in *" $group "*) ours="$ours$process "; continue ;; esac
      case "$ours" in *" $parent "* | *" $group "*) ours="$ours$process " ;; esac
    done <<END
$now
END
  done
  [ -n "$alive" ]
}
nap() { sleep "$1" 2>/dev/null || sleep 1; }
send() { for process in $alive; do kill "-$1" "$process" 2>/dev/null && sent=$((sent + 1)); done; }
if [ -n "$signal" ]; then
  sent=0
  scan && send "$signal"
  printf '\nsent %s\n' $sent
  exit
fi
if scan; then
  send TERM
  send CONT
  for turn in 1 2 3 4 5 6 7 8 9 10; do
    nap 0.1
    scan || break
  done
fi
for turn in 1 2 3 4 5; do
  scan || break
  send KILL
  nap 0.1
done
scan
set -- $alive
printf '\nleft %s\n' $#
