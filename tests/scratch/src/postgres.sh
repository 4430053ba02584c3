# A PostgreSQL of one's own: postgres.sh IP PORT. Answers "ready" to "start" and "dead" to "kill", and ends with its
# standard input, so that nothing is left however the test ends.
set -eu
cd /
dir=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || kill -QUIT "$server" 2>/dev/null || true
    wait
    rm -rf "$dir"
}
trap stop EXIT
initdb -D "$dir/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$dir/log" 2>&1
# Nothing here outlives the machine: what a killed server has written, the system still has.
echo "listen_addresses = '$1'
port = $2
unix_socket_directories = '$dir'
max_connections = 200
fsync = off" >>"$dir/data/postgresql.conf"
start() {
    # The processes of a server that was killed hold its memory a moment longer, and no second one starts meanwhile.
    for _ in $(seq 100); do
        postgres -D "$dir/data" >>"$dir/log" 2>&1 &
        server=$!
        while kill -0 "$server" 2>/dev/null; do
            pg_isready -q -h "$1" -p "$2" && return 0
            sleep 0.02
        done
        wait "$server" || true
    done
    cat "$dir/log" >&2
    return 1
}
die() {
    children=$(cat "/proc/$server/task/$server/children")
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    # They end as soon as they notice, and until then still answer on the connections that they have.
    for child in $children; do
        while kill -0 "$child" 2>/dev/null; do sleep 0.01; done
    done
}
while read -r order; do
    case $order in
    start) start "$1" "$2" && echo ready ;;
    kill) die && echo dead ;;
    esac
done
