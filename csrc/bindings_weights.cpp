// Packed weights, and the packers that write them into arrays made by Python.
#include "bindings_weights.h"

#include <nanobind/stl/optional.h>

#include <cstdint>
#include <string>

#include "pack.h"

namespace {

using hokku::PackedShape;
using hokku::WeightFormat;
using Matrix = Array<float, 2>;
using Bytes = OutArray<uint8_t, 1>;
using Halves = OutArray<uint16_t, 1>;

void require_aligned(const char* name, const void* data) {
  if (reinterpret_cast<uintptr_t>(data) % 64 == 0) return;
  throw std::invalid_argument(std::string(name) + ": must begin at a multiple of 64 bytes");
}

WeightFormat format_of(int format) {
  if (format >= 0 && format <= static_cast<int>(WeightFormat::bf16)) return static_cast<WeightFormat>(format);
  throw std::invalid_argument("format: unknown");
}

PackedShape shape_of(int64_t rows, int64_t cols, int64_t segments = 1) {
  if (rows <= 0) throw std::invalid_argument("rows: must be at least 1");
  if (cols <= 0) throw std::invalid_argument("cols: must be at least 1");
  const PackedShape shape{rows, cols, segments};
  if (shape.has_whole_segments()) return shape;
  throw std::invalid_argument("segments: must be equal and multiples of 64 inputs");
}

// An array that a format needs: there, of the right size, and aligned.
template <class A>
auto needed(const char* name, const std::optional<A>& array, int64_t size) {
  if (!array) throw std::invalid_argument(std::string(name) + ": this format needs it");
  require_size(name, array->size(), size);
  require_aligned(name, array->data());
  return array->data();
}

void construct(WeightArrays* self, int format_number, int64_t rows, int64_t cols, int64_t segments,
               const Array<uint8_t, 1>& codes, const std::optional<Array<float, 1>>& scale,
               const std::optional<Array<uint16_t, 1>>& gscale, const std::optional<Array<uint16_t, 1>>& gmin) {
  const WeightFormat format = format_of(format_number);
  const PackedShape shape = shape_of(rows, cols, segments);
  if (format != WeightFormat::int8 && segments != 1) {
    throw std::invalid_argument("segments: only int8 has more than one");
  }
  require_size("codes", codes.size(), shape.code_bytes(format));
  require_aligned("codes", codes.data());
  hokku::Weight view{format, rows, cols, shape.depth(), segments, codes.data(), nullptr, nullptr, nullptr};
  if (format == WeightFormat::int8) view.scale = needed("scale", scale, shape.scale_count());
  if (format == WeightFormat::int4) {
    view.gscale = needed("gscale", gscale, shape.group_count());
    view.gmin = needed("gmin", gmin, shape.group_count());
  }
  new (self) WeightArrays{codes, scale, gscale, gmin, view};
}

PackedShape matrix_shape(const Matrix& weights, int64_t segments = 1) {
  return shape_of(static_cast<int64_t>(weights.shape(0)), static_cast<int64_t>(weights.shape(1)), segments);
}

void pack_int8(const Matrix& weights, int64_t segments, const Bytes& codes, const OutArray<float, 1>& scale) {
  const PackedShape shape = matrix_shape(weights, segments);
  require_size("codes", codes.size(), shape.code_bytes(WeightFormat::int8));
  require_size("scale", scale.size(), shape.scale_count());
  hokku::pack_int8(weights.data(), shape, codes.data(), scale.data());
}

void require_int4(PackedShape shape, const Bytes& codes, const Halves& gscale, const Halves& gmin) {
  require_size("codes", codes.size(), shape.code_bytes(WeightFormat::int4));
  require_size("gscale", gscale.size(), shape.group_count());
  require_size("gmin", gmin.size(), shape.group_count());
}

void pack_int4(const Matrix& weights, bool refine, const Bytes& codes, const Halves& gscale, const Halves& gmin) {
  const PackedShape shape = matrix_shape(weights);
  require_int4(shape, codes, gscale, gmin);
  hokku::pack_int4(weights.data(), shape, refine, codes.data(), gscale.data(), gmin.data());
}

void pack_int4_codes(const Array<uint8_t, 2>& nibbles, const Matrix& scale, const Matrix& minimum, const Bytes& codes,
                     const Halves& gscale, const Halves& gmin) {
  const PackedShape shape = shape_of(static_cast<int64_t>(nibbles.shape(0)), static_cast<int64_t>(nibbles.shape(1)));
  if (shape.cols % hokku::kGroup != 0) throw std::invalid_argument("nibbles: columns must be a multiple of 32");
  const int64_t groups = shape.cols / hokku::kGroup;
  require_size("scale", scale.size(), shape.rows * groups);
  require_size("minimum", minimum.size(), shape.rows * groups);
  require_int4(shape, codes, gscale, gmin);
  hokku::pack_int4_codes(nibbles.data(), scale.data(), minimum.data(), shape, codes.data(), gscale.data(), gmin.data());
}

void pack_bf16(const Matrix& weights, const Bytes& codes) {
  const PackedShape shape = matrix_shape(weights);
  require_size("codes", codes.size(), shape.code_bytes(WeightFormat::bf16));
  require_aligned("codes", codes.data());
  hokku::pack_bf16(weights.data(), shape, reinterpret_cast<uint16_t*>(codes.data()));
}

void unpack(const WeightArrays& weight, const OutArray<float, 2>& out) {
  require_size("out", out.size(), weight.view.rows * weight.view.cols);
  hokku::unpack(weight.view, out.data());
}

}  // namespace

void bind_weights(nb::module_& m) {
  nb::class_<WeightArrays>(m, "Weight")
      .def("__init__", &construct, nb::arg("format"), nb::arg("rows"), nb::arg("cols"), nb::arg("segments"),
           nb::arg("codes").noconvert(), nb::arg("scale").noconvert().none(), nb::arg("gscale").noconvert().none(),
           nb::arg("gmin").noconvert().none());
  const nb::call_guard<nb::gil_scoped_release> unlocked;
  m.def("pack_int8", &pack_int8, nb::arg("weights").noconvert(), nb::arg("segments"), nb::arg("codes").noconvert(),
        nb::arg("scale").noconvert(), unlocked);
  m.def("pack_int4", &pack_int4, nb::arg("weights").noconvert(), nb::arg("refine"), nb::arg("codes").noconvert(),
        nb::arg("gscale").noconvert(), nb::arg("gmin").noconvert(), unlocked);
  m.def("pack_int4_codes", &pack_int4_codes, nb::arg("nibbles").noconvert(), nb::arg("scale").noconvert(),
        nb::arg("minimum").noconvert(), nb::arg("codes").noconvert(), nb::arg("gscale").noconvert(),
        nb::arg("gmin").noconvert(), unlocked);
  m.def("pack_bf16", &pack_bf16, nb::arg("weights").noconvert(), nb::arg("codes").noconvert(), unlocked);
  m.def("unpack", &unpack, nb::arg("weight"), nb::arg("out").noconvert(), unlocked);
}
