#!/bin/sh
# serve-mounted NAME FOLDER [OPTION...]: serves whatever KServe's storage initializer has put into a folder.
#
# OPTIONs are those of `servable serve`. The folder holds one of:
#
#   1/saved_model.pb, 2/...          versions of one model, which is served as NAME
#   model.onnx, saved_model.pb ...   the files of one version: they are served as version 1 of NAME
#   scorer.tflite                    the same, under any name
#   digits/1/model.onnx, ...         several models, as in a repository of Triton: each keeps its own name
#
# Nothing is written into the folder, which may be read-only; a link to it is made in TMPDIR.
set -eu

if [ $# -lt 2 ]; then
    echo 'usage: serve-mounted NAME FOLDER [OPTION of servable serve...]' >&2
    exit 2
fi
name=$1
folder=$2
shift 2

holds_versions() {
    for path in "$folder"/*/; do
        case $(basename "$path") in
        *[!0-9]*) ;;
        *) return 0 ;;
        esac
    done
    return 1
}

# The first file of these names; patterns that match nothing stay as they are, and are no files.
first_file() {
    for path in "$@"; do
        if [ -f "$path" ]; then
            echo "$path"
            return 0
        fi
    done
    return 1
}

if holds_versions; then
    exec servable serve "$name=$folder" "$@"
fi
if first_file "$folder"/servable.json "$folder"/model.py "$folder"/saved_model.pb* "$folder"/*.onnx \
    "$folder"/model.tflite >/dev/null; then
    versions=$(mktemp -d)
    ln -s "$folder" "$versions/1"
    exec servable serve "$name=$versions" "$@"
fi
if file=$(first_file "$folder"/*.tflite); then
    versions=$(mktemp -d)
    mkdir "$versions/1"
    ln -s "$file" "$versions/1/model.tflite"
    exec servable serve "$name=$versions" "$@"
fi
exec servable serve "$folder" "$@"
