#!/usr/bin/env bash
# The gateway against the vendor's own SDK, which the lock file pins. Usage: gateway_sdk.sh BUILD_DIRECTORY
# Needs the npm registry once for each build directory. FLAGSHM_OFFLINE=1 skips it where there is none.
if [ "${FLAGSHM_OFFLINE:-}" = 1 ]; then
    echo "skipped: FLAGSHM_OFFLINE=1"
    exit 77
fi
. "$(dirname "$0")/gateway.bash"

case_ "npm installs what the lock file pins, into the build directory"
for program in node npm; do
    command -v "$program" >/dev/null || fail "$program is missing: tools/install-packages test"
done
sources=$source_dir/tests/gateway/sdk
sdk=$build/tests/gateway/sdk
mkdir -p "$sdk"
# What npm installed stays as long as what it was asked for.
if ! cmp -s "$sources/package-lock.json" "$sdk/installed"; then
    rm -f "$sdk/installed"
    cp "$sources/package.json" "$sources/package-lock.json" "$sdk"
    (cd "$sdk" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier) >"$work/npm.log" 2>&1 || {
        tail -n 15 "$work/npm.log" >&2
        # A network that keeps us from the registry is no fault of ours; anything else is.
        if ! npm ping --fetch-retries 1 --fetch-timeout 20000 >"$work/ping.log" 2>&1; then
            tail -n 3 "$work/ping.log" >&2
            echo "skipped: npm reaches no registry from here, so the vendor's SDK was NOT tried (FLAGSHM_OFFLINE=1 says so at once)"
            exit 77
        fi
        fail "npm could not install the SDK, though it reaches its registry"
    }
    cp "$sources/package-lock.json" "$sdk/installed"
fi
cp "$sources/package.json" "$sources/sdk.mjs" "$sdk"
pinned=$(jq -r '.dependencies["@anthropic-ai/sdk"]' "$sources/package.json")
expect "$pinned" "$(jq -r .version "$sdk/node_modules/@anthropic-ai/sdk/package.json")" "version of the SDK"
! grep -q '"resolved"' "$sources/package-lock.json" || fail "the lock file names a registry: npm config omit-lockfile-registry-resolved=true"

case_ "the SDK ($pinned) talks to the gateway"
start_gateway
# Its own settings must not leak in.
env -u ANTHROPIC_API_KEY -u ANTHROPIC_AUTH_TOKEN -u ANTHROPIC_BASE_URL -u NODE_OPTIONS node "$sdk/sdk.mjs" "$gateway_url"
wait_until gateway_is_idle
stop_gateway
