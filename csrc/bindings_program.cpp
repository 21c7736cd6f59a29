// Recording and running a program. Arrays that a program goes on reading (weights, rotary tables) are kept alive by it.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "bindings_weights.h"
#include "dispatch.h"
#include "program.h"

namespace {

using hokku::Program;
using Floats = Array<float, 1>;
using Ints = Array<int32_t, 1>;
using Longs = Array<uint64_t, 1>;

void construct(Program* self, int64_t max_rows, int64_t max_logit_rows, std::shared_ptr<hokku::PageMemory> pool,
               std::shared_ptr<hokku::ThreadPool> threads, const std::string& isa) {
  new (self) Program(max_rows, max_logit_rows, std::move(pool), std::move(threads), *hokku::choose_table(isa).table);
}

int tensor(Program& self, int64_t cols, int rows) { return self.tensor(cols, static_cast<hokku::RowKind>(rows)); }

int operand(Program& self, int64_t cols, const WeightArrays& weight, int rows) {
  return self.operand(cols, weight.view.format, weight.view.segments, static_cast<hokku::RowKind>(rows));
}

void embed(Program& self, int out, const WeightArrays& table) {
  self.embed(out, table.view);
}

void rms_norm(Program& self, int out, int x, const Floats& gain, float eps) {
  self.rms_norm(out, x, gain.data(), static_cast<int64_t>(gain.size()), eps);
}

void layer_norm(Program& self, int out, int x, const Floats& gain, const Floats& bias, float eps) {
  const auto num_gains = static_cast<int64_t>(gain.size());
  require_size("bias", bias.size(), num_gains);
  self.layer_norm(out, x, gain.data(), num_gains, bias.data(), eps);
}

void linear(Program& self, int out, int a, const WeightArrays& w, const std::optional<Floats>& bias, bool accumulate) {
  self.linear(out, a, w.view, data_or_null(bias), size_or_zero(bias), accumulate);
}

void linear_swiglu(Program& self, int out, int a, const WeightArrays& w, const std::optional<Floats>& bias) {
  self.linear_swiglu(out, a, w.view, data_or_null(bias), size_or_zero(bias));
}

void linear_gelu(Program& self, int out, int a, const WeightArrays& w, const std::optional<Floats>& bias) {
  self.linear_gelu(out, a, w.view, data_or_null(bias), size_or_zero(bias));
}

void rope_and_store(Program& self, int q, int qkv, const Array<float, 2>& cos, const Array<float, 2>& sin,
                    float q_scale, int64_t layer, const std::optional<Floats>& q_gain,
                    const std::optional<Floats>& k_gain, float eps, int64_t head_dim,
                    const std::vector<int64_t>& sections, bool windowed) {
  require_size("rope.sin", sin.shape(0), static_cast<int64_t>(cos.shape(0)));
  require_size("rope.sin", sin.shape(1), static_cast<int64_t>(cos.shape(1)));
  if (q_gain) require_size("q_gain", q_gain->size(), head_dim);
  if (k_gain) require_size("k_gain", k_gain->size(), head_dim);
  const hokku::RopeTables rope{cos.data(), sin.data(), static_cast<int64_t>(cos.shape(0)),
                               static_cast<int64_t>(2 * cos.shape(1)), q_scale, sections};
  self.rope_and_store(q, qkv, rope, layer, data_or_null(q_gain), data_or_null(k_gain), eps, windowed);
}

void attention(Program& self, int out, int q, int64_t layer, bool causal, bool windowed) {
  self.attention(out, q, layer, {causal, windowed});
}

void run(Program& self, const Ints& tokens, const Ints& positions, const Ints& row_start,
         const Array<int32_t, 2>& page_table, const Ints& logit_index, const Floats& temperature, const Floats& top_p,
         const Ints& top_k, const Longs& seed, const Longs& counter, const std::optional<Array<uint32_t, 2>>& allowed,
         const std::optional<Array<float, 2>>& features, const std::optional<Array<int32_t, 2>>& rope_positions,
         const std::optional<Ints>& window_positions, const std::optional<Ints>& window_row_start,
         const std::optional<Array<int32_t, 2>>& window_page_table, const OutArray<int32_t, 1>& sampled,
         const OutArray<float, 1>& logprobs) {
  const auto rows = static_cast<int64_t>(tokens.size()), logit_rows = static_cast<int64_t>(logit_index.size());
  const int64_t sequences = static_cast<int64_t>(row_start.size()) - 1;
  require_size("positions", positions.size(), rows);
  require_size("page_table", page_table.shape(0), sequences);
  require_size("temperature", temperature.size(), logit_rows);
  require_size("top_p", top_p.size(), logit_rows);
  require_size("top_k", top_k.size(), logit_rows);
  require_size("seed", seed.size(), logit_rows);
  require_size("counter", counter.size(), logit_rows);
  require_size("sampled", sampled.size(), logit_rows);
  require_size("logprobs", logprobs.size(), logit_rows);
  if (allowed) {
    require_size("allowed", allowed->shape(0), logit_rows);
    require_size("allowed", allowed->shape(1), (self.vocabulary() + 31) / 32);
  }
  if (rope_positions) require_size("rope_positions", rope_positions->shape(0), rows);
  hokku::Step step{rows, sequences, logit_rows, tokens.data(), positions.data(), row_start.data(), page_table.data(),
            static_cast<int64_t>(page_table.shape(1)), logit_index.data(), temperature.data(), top_p.data(),
            top_k.data(), seed.data(), counter.data(), data_or_null(allowed), sampled.data(), logprobs.data(),
            data_or_null(features), features ? static_cast<int64_t>(features->shape(0)) : 0,
            features ? static_cast<int64_t>(features->shape(1)) : 0, data_or_null(rope_positions),
            rope_positions ? static_cast<int64_t>(rope_positions->shape(1)) : 0};
  hokku::Step windows = step;
  if (window_positions && window_row_start && window_page_table) {
    windows.sequences = static_cast<int64_t>(window_row_start->size()) - 1;
    require_size("windows.positions", window_positions->size(), rows);
    require_size("windows.page_table", window_page_table->shape(0), windows.sequences);
    windows.positions = window_positions->data();
    windows.row_start = window_row_start->data();
    windows.page_table = window_page_table->data();
    windows.page_table_stride = static_cast<int64_t>(window_page_table->shape(1));
    step.windows = &windows;
  }
  self.run(step);
}

std::vector<std::pair<std::string, double>> timings(const Program& self) {
  std::vector<std::pair<std::string, double>> named;
  for (const auto& [name, seconds] : self.timings()) named.emplace_back(name, seconds);
  return named;
}

// The rows of the last step, without a copy.
nb::ndarray<const float, nb::numpy, nb::ndim<2>> view(nb::handle_t<Program> self, int number) {
  const Program& program = nb::cast<const Program&>(self);
  const hokku::TensorBuffer& buffer = program.buffer(number);
  const size_t shape[2] = {static_cast<size_t>(program.num_rows(buffer.kind)), static_cast<size_t>(buffer.cols)};
  const int64_t strides[2] = {buffer.stride, 1};
  return {buffer.data(), 2, shape, self, strides};
}

}  // namespace

void bind_program(nb::module_& m) {
  nb::class_<Program>(m, "Program")
      .def("__init__", &construct, nb::arg("max_rows"), nb::arg("max_logit_rows"), nb::arg("pool"), nb::arg("threads"),
           nb::arg("isa"))
      .def_prop_ro("isa", [](const Program& p) { return p.table().name; })
      .def("tensor", &tensor, nb::arg("cols"), nb::arg("rows"))
      .def("operand", &operand, nb::arg("cols"), nb::arg("weight"), nb::arg("rows"))
      .def("embed", &embed, nb::arg("out"), nb::arg("table"), nb::keep_alive<1, 3>())
      .def("features", &Program::features, nb::arg("out"))
      .def("layer_norm", &layer_norm, nb::arg("out"), nb::arg("x"), nb::arg("gain").noconvert(),
           nb::arg("bias").noconvert(), nb::arg("eps"))
      .def("rms_norm", &rms_norm, nb::arg("out"), nb::arg("x"), nb::arg("gain").noconvert(), nb::arg("eps"))
      .def("encode", &Program::encode, nb::arg("out"), nb::arg("x"))
      .def("linear", &linear, nb::arg("out"), nb::arg("a"), nb::arg("w"), nb::arg("bias").noconvert().none(),
           nb::arg("accumulate"), nb::keep_alive<1, 4>())
      .def("linear_swiglu", &linear_swiglu, nb::arg("out"), nb::arg("a"), nb::arg("w"),
           nb::arg("bias").noconvert().none(), nb::keep_alive<1, 4>())
      .def("linear_gelu", &linear_gelu, nb::arg("out"), nb::arg("a"), nb::arg("w"), nb::arg("bias").noconvert().none(),
           nb::keep_alive<1, 4>())
      .def("rope_and_store", &rope_and_store, nb::arg("q"), nb::arg("qkv"), nb::arg("cos").noconvert(),
           nb::arg("sin").noconvert(), nb::arg("q_scale"), nb::arg("layer"), nb::arg("q_gain").noconvert().none(),
           nb::arg("k_gain").noconvert().none(), nb::arg("eps"), nb::arg("head_dim"), nb::arg("sections"),
           nb::arg("windowed"), nb::keep_alive<1, 4>(), nb::keep_alive<1, 5>())
      .def("attention", &attention, nb::arg("out"), nb::arg("q"), nb::arg("layer"), nb::arg("causal"),
           nb::arg("windowed"))
      .def("gather", &Program::gather, nb::arg("out"), nb::arg("x"))
      .def("sample", &Program::sample, nb::arg("logits"))
      .def("run", &run, nb::arg("tokens").noconvert(), nb::arg("positions").noconvert(),
           nb::arg("row_start").noconvert(), nb::arg("page_table").noconvert(), nb::arg("logit_index").noconvert(),
           nb::arg("temperature").noconvert(), nb::arg("top_p").noconvert(), nb::arg("top_k").noconvert(),
           nb::arg("seed").noconvert(), nb::arg("counter").noconvert(), nb::arg("allowed").noconvert().none(),
           nb::arg("features").noconvert().none(), nb::arg("rope_positions").noconvert().none(),
           nb::arg("window_positions").noconvert().none(), nb::arg("window_row_start").noconvert().none(),
           nb::arg("window_page_table").noconvert().none(), nb::arg("sampled").noconvert(), nb::arg("logprobs").noconvert(),
           nb::call_guard<nb::gil_scoped_release>())
      .def("time_operations", &Program::time_operations)
      .def_prop_ro("timings", &timings)
      .def("view", &view, nb::arg("tensor"));
}
