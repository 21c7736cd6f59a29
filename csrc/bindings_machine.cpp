// What this machine is and has: instruction sets, threads, and the memory of the key/value pool.
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "bindings.h"
#include "cores.h"
#include "dispatch.h"
#include "peaks.h"
#include "program.h"
#include "threads.h"

namespace {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const hokku::KernelTable* table : hokku::available_tables()) names.emplace_back(table->name);
  return names;
}

std::tuple<std::string, std::string> choose_isa(const std::string& name) {
  const hokku::Choice choice = hokku::choose_table(name);
  return {choice.table->name, choice.reason};
}

std::tuple<int, std::string> default_threads() {
  const hokku::ThreadChoice choice = hokku::default_threads();
  return {choice.num_threads, choice.reason};
}

std::tuple<double, double, double> measure_peaks(hokku::ThreadPool& threads, const std::string& isa, double seconds) {
  const hokku::Peaks peaks = hokku::measure_peaks(threads, *hokku::choose_table(isa).table, seconds);
  return {peaks.read_gb_per_s, peaks.int8_tops, peaks.fma_tflops};
}

void construct_pool(hokku::PageMemory* self, int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_dim,
                    int format) {
  new (self) hokku::PageMemory(layers, pages, kv_heads, head_dim, static_cast<hokku::KvFormat>(format));
}

void read_pages(const hokku::PageMemory& self, const Array<int32_t, 1>& pages, const OutArray<uint8_t, 2>& out) {
  require_size("out", out.shape(0), static_cast<int64_t>(pages.size()));
  require_size("out", out.shape(1), self.page_bytes());
  self.read(pages.data(), static_cast<int64_t>(pages.size()), out.data());
}

void write_pages(hokku::PageMemory& self, const Array<int32_t, 1>& pages, const Array<uint8_t, 2>& data) {
  require_size("data", data.shape(0), static_cast<int64_t>(pages.size()));
  require_size("data", data.shape(1), self.page_bytes());
  self.write(pages.data(), static_cast<int64_t>(pages.size()), data.data());
}

}  // namespace

void bind_machine(nb::module_& m) {
  m.def("cpu_features", &hokku::cpu_features);
  m.def("available_isas", &available_isas, "Paths this machine can run, widest first.");
  m.def("choose_isa", &choose_isa, nb::arg("isa"), "The path and why; an empty name follows HOKKU_ISA.");
  m.def("default_threads", &default_threads, "How many threads, and why.");

  nb::class_<hokku::ThreadPool>(m, "ThreadPool")
      .def(nb::init<int>(), nb::arg("num_threads"))
      .def_prop_ro("num_threads", &hokku::ThreadPool::num_threads);

  nb::class_<hokku::PageMemory>(m, "PagePool")
      .def("__init__", &construct_pool, nb::arg("layers"), nb::arg("pages"), nb::arg("kv_heads"), nb::arg("head_dim"),
           nb::arg("format"))
      .def_prop_ro("num_layers", [](const hokku::PageMemory& p) { return p.view().layers; })
      .def_prop_ro("num_pages", [](const hokku::PageMemory& p) { return p.view().pages; })
      .def_prop_ro("kv_heads", [](const hokku::PageMemory& p) { return p.view().kv_heads; })
      .def_prop_ro("head_dim", [](const hokku::PageMemory& p) { return p.view().head_dim; })
      .def_prop_ro("format", [](const hokku::PageMemory& p) { return static_cast<int>(p.view().format); })
      .def_prop_ro("nbytes", &hokku::PageMemory::num_bytes)
      .def_prop_ro("page_bytes", &hokku::PageMemory::page_bytes)
      .def("read_pages", &read_pages, nb::arg("pages").noconvert(), nb::arg("out").noconvert(),
           nb::call_guard<nb::gil_scoped_release>())
      .def("write_pages", &write_pages, nb::arg("pages").noconvert(), nb::arg("data").noconvert(),
           nb::call_guard<nb::gil_scoped_release>());

  m.def("measure_peaks", &measure_peaks, nb::arg("threads"), nb::arg("isa"), nb::arg("seconds"),
        nb::call_guard<nb::gil_scoped_release>(), "(read GB/s, int8 TOPS, float32 TFLOP/s), all threads together.");
}
