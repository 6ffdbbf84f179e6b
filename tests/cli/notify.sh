#!/usr/bin/env bash
# Webhooks arrive, signed and once accepted not again; a slow receiver holds up no other; nothing secret is said.
# Usage: notify.sh BUILD_DIRECTORY
source "$(dirname "$0")/daemon.bash"

probe=$build/tests/notify_probe
secret=whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
password=hunter2
targets=$work/notify.d
received=$work/received
mkdir "$targets"
for name in http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY; do unset $name; done

start_receiver() { # [CERTIFICATE KEY]; gives $port
    python3 "$source_dir/tests/cli/notify_receiver.py" "$received" "$secret" "$@" >"$work/port" &
    children+=($!)
    wait_until test -s "$work/port"
    port=$(cat "$work/port")
    rm "$work/port"
}
target() { # NAME TEXT
    (umask 077 && printf '%s\n' "$2" >"$targets/$1")
}
web() { # NAME PATH [MORE]
    target "$1" "{\"url\": \"http://127.0.0.1:$port$2\", \"secret\": \"$secret\"${3:-}}"
}
give() { # CODE SECONDS NOTICE...
    local wanted=$1
    shift
    run "$wanted" "$probe" "$targets" "$@"
    for word in "$password" "$secret" "${secret#whsec_}" /path; do
        ! grep -qF "$word" <<<"$output$errors" || fail "\"$word\" is said: $output$errors"
    done
}
got() { jq -r --arg id "$1" "select(.id == \$id) | $2" "$received"; }
start_receiver

case_ "a webhook is a signed POST that the specification's receivers accept"
web ok /ok
give 0 10 'n1=ok={"text": "zurück = back"}'
expect "n1 ok delivered 1 " "$output"
expect 'POST /ok {"text": "zurück = back"} application/json true true' \
    "$(got n1 '"\(.method) \(.path) \(.body) \(.type) \(.verified) \(.fresh)"')"
expect_match '^flagshmd/[0-9.]+$' "$(got n1 .agent)"

case_ "the check of the signature can fail"
target wrong "{\"url\": \"http://127.0.0.1:$port/ok\", \"secret\": \"whsec_$(printf 'another secret of 30 bytes....' | base64)\"}"
give 0 10 n2=wrong={}
expect "true false" "$(got n2 '"\(.signed) \(.verified)"')"

case_ "without a secret it is not signed; a password in the address is the receiver's alone"
target plain "{\"url\": \"http://ann:$password@127.0.0.1:$port/ok?path\"}"
give 0 10 n3=plain={}
expect "false Basic $(printf 'ann:%s' $password | base64)" "$(got n3 '"\(.signed) \(.authorization)"')"

case_ "500 twice: the same notice comes again, with a fresh timestamp and signature, until it is taken"
web shaky /fail-twice
give 0 20 n4=shaky={}
expect "n4 shaky failed 1 http://127.0.0.1:$port answered 500
n4 shaky delivered 3 " "$output"
expect "true true,true true,true true" "$(got n4 '"\(.verified) \(.fresh)"' | paste -sd,)"

case_ "an id that could move the parts of what is signed is written otherwise, and verified"
give 0 10 'a.b%=ok={}'
expect true "$(got a%2Eb%25 .verified)"

case_ "a slow receiver delays no other target, and only its own notices"
web slow /hang ', "timeout_s": 3'
target sleeper '{"argv": ["/bin/sleep", "60"], "timeout_s": 3}'
give 1 5 s1=slow={} s2=sleeper={} q1=ok={} q2=ok={} q3=shaky={} q4=ok={}
expect "q1 ok delivered 1 ,q2 ok delivered 1 ,q4 ok delivered 1 " "$(grep ' ok ' <<<"$output" | paste -sd,)"
line_of() { grep -n "^$1 .* $2 " <<<"$output" | cut -d: -f1; }
for quick in q1 q2 q4; do
    [ "$(line_of $quick delivered)" -lt "$(line_of s1 failed)" ] || fail "$quick waited for the slow one: $output"
    [ "$(line_of $quick delivered)" -lt "$(line_of s2 failed)" ] || fail "$quick waited for the sleeper: $output"
done
expect_match "^s1 slow failed 1 http://127.0.0.1:$port gave no answer: .*timed out" "$output"

case_ "what is wrong is said in a sentence, without what is secret"
while read -r name path words; do
    web "$name" "$path"
    give 1 1 "e-$name=$name={}"
    expect_match "^e-$name $name failed 1 http://127.0.0.1:$port $words" "$output"
done <<'CASES'
gone /status-410?path answered 410: it wants no more notices
moved /redirect answered 302: redirects are not followed
denied /status-401 answered 401: mend "secret"
broken /status-503 answered 503
silent /silent gave no answer: 
CASES
expect "" "$(got e-moved 'select(.path == "/ok") | .id')" "a redirect that was followed"
target deaf "{\"url\": \"http://ann:$password@127.0.0.1:1/path\"}"
give 1 1 e-deaf=deaf={}
expect_match '^e-deaf deaf failed 1 http://127.0.0.1:1 gave no answer: ' "$output"
target lost "{\"url\": \"http://ann:$password@nobody.invalid/path\"}"
give 1 1 e-lost=lost={}
expect_match '^e-lost lost failed 1 http://nobody.invalid:80 gave no answer: ' "$output"
give 1 1 e-none=none={}
expect_match "^e-none none failed 1 $targets/none: there is no such file" "$output"
web ajar /ok
chmod 644 "$targets/ajar"
give 1 1 e-ajar=ajar={}
expect_match "chmod 600 $targets/ajar" "$output"
expect "" "$(got e-ajar .id)" "a call for a file that is open to others"

case_ "of the answer only the status counts: gigabytes of body or headers are not read, a 200 that stalls is one"
for path in flood stalls; do
    web answer /$path ', "timeout_s": 3'
    give 0 10 "a-$path=answer={}"
    expect "a-$path answer delivered 1 " "$output"
done
web answer /headers
give 0 10 a-headers=answer={}

case_ "certificates are checked"
if openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$work/key" -out "$work/certificate" 2>"$work/openssl"; then
    start_receiver "$work/certificate" "$work/key"
    target tls "{\"url\": \"https://127.0.0.1:$port/ok\", \"secret\": \"$secret\"}"
    give 1 1 t1=tls={}
    expect_match "^t1 tls failed 1 https://127.0.0.1:$port gave no answer: .*certificate" "$output"
    expect "" "$(got t1 .id)"
else
    fail "openssl: $(cat "$work/openssl")"
fi
