#!/bin/sh
# Publishes through redis-cli as people do. Arguments: host, port, password (may be empty).
set -eu
host=$1 port=$2 password=$3
[ -z "$password" ] || export REDISCLI_AUTH="$password"

expect() {
    [ "$2" = "$1" ] || { echo "expected '$1', got '$2'" >&2; exit 1; }
}

for protocol in -2 -3; do
    cli() { redis-cli "$protocol" -h "$host" -p "$port" -n 1 "$@"; }
    cli publish room one >/dev/null
    # Commands from standard input are sent one by one, with redis-cli's own quoting.
    printf '%s\n' 'publish room "\xc3\xa9\r\n\x00"' 'publish room "piped 0"' 'publish room "piped 1"' 'publish room "piped 2"' | cli >/dev/null
    expect QUEUED "$(printf '%s\n' multi 'publish room "queued 0"' 'publish room "queued 1"' 'publish room "queued 2"' exec | cli | sed -n '/QUEUED/p' | sort -u)"
    expect PONG "$(cli ping)"
    case "$(cli get key)" in
        *"not Redis"*) ;;
        *) echo "GET was answered" >&2; exit 1 ;;
    esac
done
