#!/usr/bin/env bash
# Exported generators under other TensorFlows, the example for tensorflow-addons and OpenVINO, each in an environment of
# its own; minutes and about 6 GB the first time. `.ci/run` does not do it unless asked.
#
#   tests/other_tensorflow/run.sh [2.15 2.19 2.20]    environments in .venv-other/, kept between calls
#   PYTHON    the interpreter that has synthmed and its tests; python by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=${PYTHON:-python}
base=$(command -v python3.11 || command -v python3)

environment() { # NAME PACKAGE...
  local folder=.venv-other/$1
  shift
  [ -x "$folder/bin/python" ] || "$base" -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

interpreters=()
for version in "${@:-2.15 2.19 2.20}"; do
  for one in $version; do
    environment "tensorflow-$one" "tensorflow==$one.*"
    interpreters+=("$PWD/.venv-other/tensorflow-$one/bin/python")
  done
done
environment tensorflow-addons -r examples/tensorflow_addons/requirements.txt
environment openvino openvino

export SYNTHMED_OTHER_TENSORFLOWS=$(IFS=:; echo "${interpreters[*]}")
export SYNTHMED_ADDONS_PYTHON=$PWD/.venv-other/tensorflow-addons/bin/python
export SYNTHMED_OPENVINO_PYTHON=$PWD/.venv-other/openvino/bin/python
exec "$python" -m pytest -v tests/other_tensorflow
