#!/usr/bin/env bash
# Pictures of real programs on an X server of its own: programs.sh FOLDER, which holds note.txt and code.rs.
set -euo pipefail
cd "$1"

readonly programs=(Xvfb icewm mousepad geany zenity pcmanfm import xdotool)
for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || {
        echo "$program is missing: apt-get install xvfb icewm mousepad geany zenity pcmanfm imagemagick xdotool" >&2
        exit 1
    }
done

started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT
export DISPLAY=:87 HOME=$PWD
Xvfb "$DISPLAY" -screen 0 1280x800x24 -dpi 96 >/dev/null 2>&1 &
started+=($!)
sleep 2
icewm >/dev/null 2>&1 &
started+=($!)
sleep 3

# Longer than a program takes on a busy machine until its window is drawn.
shot() {
    sleep "${2:-6}"
    import -window root "$1.png"
}

end() {
    kill "$program"
    wait "$program" 2>/dev/null || true
}

mousepad note.txt >/dev/null 2>&1 &
program=$!
started+=("$program")
sleep 8
# Room for the whole note.
xdotool search --onlyvisible --class mousepad windowsize 1000 740
shot editor 4
xdotool key alt+f
shot menu 3
xdotool key Escape alt+e
sleep 2
xdotool key Up
sleep 1
xdotool key Return
shot settings
end

zenity --question --title 'Replace file?' --width 420 --text \
    'A file named report-2024.txt already exists in this folder.\nDo you want to replace it? Its contents will be overwritten.' \
    >/dev/null 2>&1 &
program=$!
started+=("$program")
shot dialog
end

mkdir -p files
# Short names: longer ones are parted over two lines.
touch files/{address,budget,diary,garden,harbor,invoice,kitchen,letter,minutes,order,picture,report,summary,ticket,voucher,weather}.txt
pcmanfm files >/dev/null 2>&1 &
program=$!
started+=("$program")
shot files 8
end

geany -i -c "$PWD/geany" code.rs >/dev/null 2>&1 &
program=$!
started+=("$program")
sleep 10
# Room for all of the code.
xdotool search --onlyvisible --class geany windowsize 1270 740
shot code
end
