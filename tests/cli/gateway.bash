# A local gateway for tests that make EzAI calls. Source it after daemon.bash, or alone: it then sources that. Gives: $gateway (the
# program), and after start_gateway $gateway_url $gateway_log $gateway_pid; EZAI_BASE_URL and EZAI_KEY are set to it.
declare -F wait_until >/dev/null || . "$(dirname "${BASH_SOURCE[0]}")/daemon.bash"

gateway=$build/tests/gateway/flagshm_gateway
[ -x "$gateway" ] || fail "$gateway is not built"
gateway_pid='' gateway_url='' gateway_log=$work/gateway.jsonl

# A loopback address is not for a proxy.
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY

start_gateway() { # [OPTION...]: as flagshm_gateway --help
    rm -f "$work/gateway.out"
    "$gateway" --log "$gateway_log" "$@" >"$work/gateway.out" 2>>"$work/gateway.err" &
    gateway_pid=$!
    children+=("$gateway_pid")
    wait_until gateway_is_up
    gateway_url=$(sed -n 's/^listening on //p' "$work/gateway.out")
    export EZAI_BASE_URL=$gateway_url EZAI_KEY=gateway-key
}
gateway_is_up() { grep -q '^listening on http://127.0.0.1:[0-9]*$' "$work/gateway.out"; }
stop_gateway() { # [SIGNAL]
    local code=0 pid others=()
    kill -"${1:-TERM}" "$gateway_pid"
    wait "$gateway_pid" || code=$?
    for pid in "${children[@]}"; do
        [ "$pid" = "$gateway_pid" ] || others+=("$pid")
    done
    children=("${others[@]}")
    gateway_pid=
    [ "${1:-TERM}" != TERM ] || expect 0 "$code" "the gateway's exit code after SIGTERM"
}
gateway_config() { # JSON: replaces the distribution mode's config
    curl -sS --fail-with-body -X PUT --data-binary "$1" "$gateway_url/gateway/config" || fail "the gateway refused its config: $1"
}
gateway_health() { curl -sS --fail "$gateway_url/gateway/health"; }
gateway_has() { [ "$(gateway_health | jq ".$1")" = "$2" ]; } # NAME VALUE, as in GET /gateway/health
gateway_is_idle() { gateway_has in_flight 0; }
gateway_calls() { curl -sS --fail "$gateway_url/gateway/log"; } # the log, a JSON line a call that has ended
gateway_forget() { # the log, and what was counted by client key
    curl -sS --fail -X DELETE "$gateway_url/gateway/log" >/dev/null
    curl -sS --fail -X DELETE "$gateway_url/gateway/state" >/dev/null
}
