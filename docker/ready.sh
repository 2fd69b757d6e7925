#!/usr/bin/env bash
# Asks TensorFlow Serving whether it answers requests: exit code 0 where every model that models.config names does, or,
# with "any", at least one of them.
#
#   bash ready.sh every|any [CONFIG] [PORT]
#
# The image has neither curl nor wget, so bash itself asks. It asks for /metadata: a model's status is answered with 200
# also while the model loads, and after it failed to.
set -u
mode=$1
config=${2:-/config/models.config}
port=${3:-8501}

# Prints the names, one a line: what follows the two tokens "name" and ":". Comments are no tokens.
names() {
  local line token before="" last=""
  local pattern="^[[:space:]]*(#.*|\"[^\"]*\"|'[^']*'|[A-Za-z0-9_]+|[^[:space:]])"
  while IFS= read -r line || [ -n "$line" ]; do
    while [[ $line =~ $pattern ]]; do
      token=${BASH_REMATCH[1]}
      line=${line:${#BASH_REMATCH[0]}}
      [[ $token == "#"* ]] && continue
      if [[ $before == name && $last == : && $token == [\"\']* ]]; then
        printf '%s\n' "${token:1:-1}"
      fi
      before=$last
      last=$token
    done
  done < "$config"
}

answers() {
  local status=""
  {
    printf 'GET /v1/models/%s/metadata HTTP/1.0\r\nHost: localhost\r\n\r\n' "$1" >&3
    read -r -t 4 _ status _ <&3
  } 3<> "/dev/tcp/127.0.0.1/$port"
  [[ $status == 200 ]]
} 2> /dev/null

ready=0
missing=()
while IFS= read -r name; do
  if answers "$name"; then ready=$((ready + 1)); else missing+=("$name"); fi
done < <(names)

if ((ready == 0)) || [[ $mode != any && ${#missing[@]} -gt 0 ]]; then
  echo "not ready: ${missing[*]:-$config names no model}"
  exit 1
fi
