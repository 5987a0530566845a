#!/usr/bin/env bash
# What one does by hand for any 4 of 6: each file encrypted (openssl or age) and cut by zfec, two files at a time, then
# the shares in six folders by six rsyncs at once, over ssh. Back: four rsyncs, zunfec, decrypt.
#
#   by_hand.sh put openssl|age KEY FILES HOST:FOLDER SCRATCH 0 1 2 3 4 5
#   by_hand.sh get openssl|age KEY INTO  HOST:FOLDER SCRATCH SHARE SHARE SHARE SHARE
#
# PATH has zfec; RSYNC_RSH is how ssh is started. KEY is a file: openssl's passphrase, or age's identity.
set -euo pipefail

action="$1" cipher="$2" key="$3" files="$4" remote="$5" scratch="$6"
shift 6
mkdir -p "$scratch/sealed" "$scratch/shares"
export action cipher key files scratch

put_file() {
    case "$cipher" in
        openssl) openssl enc -aes-256-ctr -pbkdf2 -pass "file:$key" -in "$files/$1" -out "$scratch/sealed/$1" ;;
        age) age --encrypt --identity "$key" --output "$scratch/sealed/$1" "$files/$1" ;;
    esac
    zfec -q -k 4 -m 6 -d "$scratch/shares" -p "$1" "$scratch/sealed/$1"
    rm "$scratch/sealed/$1"
}

get_file() {
    zunfec -o "$scratch/sealed/$1" "$scratch/shares/$1".[0-5]_6.fec
    case "$cipher" in
        openssl) openssl enc -d -aes-256-ctr -pbkdf2 -pass "file:$key" -in "$scratch/sealed/$1" -out "$files/$1" ;;
        age) age --decrypt --identity "$key" --output "$files/$1" "$scratch/sealed/$1" ;;
    esac
    rm "$scratch/sealed/$1" "$scratch/shares/$1".[0-5]_6.fec
}

two_at_a_time() { xargs -r -0 -n 1 -P 2 bash -c 'set -euo pipefail; "${action}_file" "$1"' _; }

# copy put|get SHARE...: all of them at once
copy() {
    local share running=()
    for share in "${@:2}"; do
        case "$1" in
            put) rsync -a --include="*.${share}_6.fec" --exclude='*' "$scratch/shares/" "$remote/$share" & ;;
            get) rsync -a "$remote/$share/" "$scratch/shares" & ;;
        esac
        running+=("$!")
    done
    for share in "${running[@]}"; do wait "$share"; done
}

export -f put_file get_file
case "$action" in
    put)
        find "$files" -mindepth 1 -printf '%f\0' | two_at_a_time
        copy put "$@"
        ;;
    get)
        copy get "$@"
        find "$scratch/shares" -name "*.$1_6.fec" -printf '%f\0' | sed -z 's/\.[0-5]_6\.fec$//' | two_at_a_time
        ;;
esac
