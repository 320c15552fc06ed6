#!/bin/sh
# Gives the command its secrets: every file of $SECRETS_DIR that is named like a variable of ours or of Prefect becomes
# that variable, unless it is set already. So secrets stand neither in the image nor in what `docker inspect` shows.
set -eu

for file in "${SECRETS_DIR:-/run/secrets/explains2a}"/*; do
    name=${file##*/}
    case $name in
        *[!A-Z0-9_]*) continue ;;
        EXPLAINS2A_* | PREFECT_*) ;;
        *) continue ;;
    esac
    [ -f "$file" ] || continue
    if [ ! -r "$file" ]; then
        echo "secret $name cannot be read by user $(id -u)" >&2
        exit 1
    fi
    eval "known=\${$name+set}"
    # shellcheck disable=SC2154  # set by the line before
    [ -n "$known" ] || export "$name=$(cat "$file")"
done
exec "$@"
