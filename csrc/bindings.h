// What the binding files share: array types that the border checks (dtype, rank, layout), and who binds what.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace nb = nanobind;

template <class T, size_t rank>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<rank>, nb::c_contig, nb::device::cpu>;
template <class T, size_t rank>
using OutArray = nb::ndarray<T, nb::numpy, nb::ndim<rank>, nb::c_contig, nb::device::cpu>;

// The array's first value, or null for none.
template <class A>
auto data_or_null(const std::optional<A>& array) {
  return array ? array->data() : nullptr;
}
template <class A>
int64_t size_or_zero(const std::optional<A>& array) {
  return array ? static_cast<int64_t>(array->size()) : 0;
}

inline void require_size(const char* name, size_t actual, int64_t wanted) {
  if (static_cast<int64_t>(actual) == wanted) return;
  throw std::invalid_argument(std::string(name) + ": has " + std::to_string(actual) + " values where " +
                              std::to_string(wanted) + " are needed");
}

void bind_machine(nb::module_& m);
void bind_weights(nb::module_& m);
void bind_program(nb::module_& m);
