#!/bin/sh
# What an image of servable runs.
#
# Without arguments, and with flags: TensorFlow Serving's command line on its ports, for the model that MODEL_NAME and
# MODEL_BASE_PATH name, as the image tensorflow/serving does. Anything else is a command, and runs instead:
# `servable serve`, `servable token create ...`, `sh`.
#
# Source of the contract: tensorflow_serving/tools/docker/Dockerfile of tensorflow/serving. There the server is a child
# of the script and never hears of SIGTERM; `exec` makes it the process that signals go to.
set -eu

case "${1:---}" in
-*)
    name=${MODEL_NAME:-model}
    exec tensorflow_model_server --port=8500 --rest_api_port=8501 \
        "--model_name=$name" "--model_base_path=${MODEL_BASE_PATH:-/models}/$name" "$@"
    ;;
servable)
    # A server in a container is for other machines. It does not start before it is told how to know who asks. Other
    # commands read the same variables, and `servable rollback` has no such question to answer.
    if [ "${2:-}" = serve ]; then
        export SERVABLE_BIND="${SERVABLE_BIND:-0.0.0.0}"
    fi
    exec "$@"
    ;;
*)
    exec "$@"
    ;;
esac
