// A packed weight as Python made it: the arrays, kept alive, and the kernels' view of them.
#pragma once

#include <optional>

#include "bindings.h"
#include "kernels.h"

struct WeightArrays {
  Array<uint8_t, 1> codes;
  std::optional<Array<float, 1>> scale;
  std::optional<Array<uint16_t, 1>> gscale, gmin;
  hokku::Weight view;
};
