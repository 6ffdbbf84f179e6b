# shellcheck shell=bash
# What tools/quickstart --canary plays: a rollout on a local gateway, in a minute. Sourced by it: its instance, its functions.
# Three processes make the calls of client/example_ezai.c; flagshmd alone decides how many of them go to the new model.

gateway=$(program flagshm_gateway)
example_ezai=$(program example_ezai)
# Shares, and seconds where a real plan has hours.
cat >"$file" <<JSON
{ "flags": {
    "$flag": {
      "control": "claude-haiku-4-5",
      "variant": "claude-sonnet-4-5",
      "rollout": {
        "plan": [ { "shadow_pct": 20 }, { "pct": 5, "hold": "6s" }, { "pct": 25 }, { "pct": 50 }, { "pct": 100 } ],
        "hold": "4s",
        "watch": "4s" } } } }
JSON
good='{"default": {"latency_ms": 5}}'
bad='{"default": {"latency_ms": 5}, "models": {"claude-sonnet-4-5": {"error_rate": 0.5, "error_status": 400}}}'
begun=$SECONDS
users=4000
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY # a loopback address is not for a proxy

bold='' red='' green='' plain=''
if is_coloured; then
    bold=$'\e[1m' red=$'\e[1;31m' green=$'\e[32m' plain=$'\e[0m'
fi
tell() { # STAGE: its line of `flagctl status`, over itself on a terminal, else where something but the time left has changed
    local line=$1 colour=$plain
    local -a words
    read -r -a words <<<"$line"
    case $line in
    *rolled-back*) colour=$red ;;
    *complete*) colour=$green ;;
    esac
    if [ -t 1 ]; then
        printf '\r\e[K  %3d s  %s%s%s' "$((SECONDS - begun))" "$colour" "$line" "$plain"
    elif [ "${words[*]:0:7}" != "$told" ]; then
        printf '  %3d s  %s\n' "$((SECONDS - begun))" "$line"
    fi
    told="${words[*]:0:7}"
}
told=''
wait_for() { # STAGE SECONDS [GUARD]: until the flag is in that stage, and watched: on
    local line until=$((SECONDS + $2)) pid
    while :; do
        line=$(flagctl status --no-header) || die "the server does not answer"
        tell "$line"
        case $line in
        *" $1 "*"${3:-}"*) break ;;
        esac
        [ "$SECONDS" -lt "$until" ] || { echo && die "$1 does not come within $2 s"; }
        for pid in "${children[@]}"; do
            kill -0 "$pid" 2>/dev/null || { echo && die "a process of ours has ended: $(tail -n 1 "$work"/*.err)"; }
        done
        sleep 0.2
    done
    [ ! -t 1 ] || echo
}
gateway_config() { # JSON: how the models behave from now on
    run curl -sS --fail-with-body --max-time 10 -X PUT --data "$1" "$EZAI_BASE_URL/gateway/config" || die "the gateway refuses that"
}
calls_of() { # MODEL STATUS
    grep '"model":"'"$1"'"' "$work/gateway.log" | grep -c '"status":'"$2" || true
}

say "A flag with a plan: shadow 20 %, then 5, 25, 50 and 100 % of the users get the new model"
cat "$file"

say "A stand-in for EzAI on this machine (tests/gateway), and the server"
printf '%s\n' "$good" >"$work/models.json"
echo "\$ flagshm_gateway --config models.json &"
: >"$work/gateway.out" # before it is looked at
"$gateway" --config "$work/models.json" --log "$work/gateway.log" >"$work/gateway.out" 2>"$work/gateway.err" </dev/null &
children+=($!)
for attempt in $(seq 100); do
    port=$(sed -n 's/^listening on .*://p' "$work/gateway.out")
    [ -z "$port" ] || break
    [ "$attempt" -lt 100 ] || die "the gateway does not start: $(cat "$work/gateway.err")"
    sleep 0.1
done
export EZAI_BASE_URL=http://127.0.0.1:$port EZAI_KEY=local
start_server
run flagctl plan "$flag" --users-per-hour 1000000

say "Three processes make calls, for $users users, as programs of yours would (client/example_ezai.c)"
feeds=()
for number in 1 2 3; do
    mkfifo "$work/users.$number"
    "$example_ezai" <"$work/users.$number" >"$work/answers.$number" 2>"$work/worker.$number.err" &
    children+=($!)
    exec {fd}>"$work/users.$number"
    feeds+=("$fd")
done
mkfifo "$work/never"
exec {never}<>"$work/never" # a clock that starts no process
(
    while :; do
        for fd in "${feeds[@]}"; do
            for _ in 1 2 3 4 5 6 7 8; do echo "user-$((RANDOM % users))"; done >&"$fd"
        done
        read -r -t 0.05 -u "$never" || true
    done
) 2>/dev/null &
children=($! "${children[@]}") # the first to be ended
for fd in "${feeds[@]}"; do exec {fd}>&-; done
echo "\$ example_ezai <users.1 & example_ezai <users.2 & example_ezai <users.3 &"

say "Shadow: every user is answered by the old model; for 20 % the new one is asked as well, behind their backs"
wait_for shadow-20pct 20

say "Canary: no harm was seen, so 5 % of the users get the new model"
wait_for canary-5pct 30 " on "
grep -m 1 ': control (' "$work/answers.1" | cut -c 1-100 || die "nobody was answered by control"
for attempt in $(seq 100); do
    line=$(grep -h -m 1 ': variant (' "$work"/answers.? | head -n 1 | cut -c 1-100) && [ -n "$line" ] && break
    [ "$attempt" -lt 100 ] || die "nobody was answered by the variant"
    sleep 0.1
done
echo "$line"

say "${bold}The new model goes bad: half of its calls now fail${plain} (HTTP 400; the gateway's error_rate is 0.5)"
gateway_config "$bad"
wait_for rolled-back 60
echo "The server has taken it back by itself. As a pipeline sees it:"
code=0
run flagctl status "$flag" --wait --timeout 10s >"$work/verdict" || code=$?
head -n 2 "$work/verdict"
echo "(exit code $code: rolled back)"
[ "$code" = 3 ] || die "exit code $code instead of 3"

say "Why? The server says it in a sentence, with its numbers"
run flagctl history "$flag" --limit 4
run flagctl status "$flag"
flagctl history "$flag" --limit 4 | grep -q 'rolled back from [0-9]* % to 0 %.*failed' || die "the history does not say why"
failed=$(calls_of claude-sonnet-4-5 400)
errors=$(cat "$work"/worker.*.err | wc -l)
echo "The new model failed in $failed calls. Control answered these (falls_back): users saw $errors errors."
[ "$failed" -gt 0 ] || die "no call failed"
[ "$errors" = 0 ] || die "users saw errors: $(cat "$work"/worker.*.err | head -n 1)"
run flagctl set "$flag" 25
sleep 1
told=''
tell "$(flagctl status --no-header)"
[ ! -t 1 ] || echo
echo "It stays at 0 %, whatever the file says, until a person clears it, or the file has another variant."
flagctl get "$flag" | grep -q rolled-back || die "the latch does not hold"
run flagctl set "$flag" 100 >/dev/null

say "The model is mended (the gateway's config), and a person lets it try again"
gateway_config "$good"
run flagctl clear "$flag" --reason "the provider has mended it"

say "The second attempt, from the first step"
for stage in shadow-20pct canary-5pct ramp-25pct; do
    wait_for "$stage" 40
done
wait_for ramp-50pct 40 " on "
sleep 1.5
run flagctl status "$flag"
wait_for full 40
wait_for complete 40
code=0
run flagctl status "$flag" --wait --timeout 10s >"$work/verdict" || code=$?
head -n 2 "$work/verdict"
echo "(exit code $code: done)"
[ "$code" = 0 ] || die "exit code $code instead of 0"

say "The new model is the normal one: the file says so, and needs no plan any more"
run flagctl finish "$flag"
cat "$file"
grep -q '"control": "claude-sonnet-4-5"' "$file" || die "the file still has the old control"

say "Done in $((SECONDS - begun)) s; all of it is stopped and removed. README.md, \"A first canary\", has the same by hand"
