#!/bin/sh
# Plays an Envoy that never serves, in the way that FAKE_ENVOY names.
case $FAKE_ENVOY in
    fails) echo "no luck" >&2; exit 3 ;;
    crashes) kill -SEGV $$ ;;
    deaf) trap '' TERM; while :; do sleep 0.02; done ;;
    arguments) echo "$@" >"$FAKE_LOG" ;;
    *) exec sleep 100 ;;
esac
