// Runs the linears of every path this machine has on random operands and compares them with the portable path: bit
// for bit in int8 and int4, within a bound in bf16. The Python tests do this and more; this program needs nothing but
// a compiler, so that it also runs under an emulator of another CPU (tools/check_arm.sh) or a sanitizer.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "dispatch.h"
#include "kernels.h"
#include "memory.h"
#include "pack.h"

namespace {

using hokku::Epilogue;
using hokku::KernelTable;
using hokku::LinearTask;
using hokku::Memory;
using hokku::WeightFormat;

struct Case {
  WeightFormat format;
  Epilogue epilogue;
  int64_t rows, inputs, outputs;
  int64_t segments = 1;
};

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Operands and weights of one case; one table after the other is run on them.
class Linear {
 public:
  Linear(const Case& c, std::mt19937& random) : case_(c), shape_{c.outputs, c.inputs, c.segments} {
    pack_weights(random);
    encode_rows(random);
    bias_.resize(static_cast<size_t>(shape_.blocks() * hokku::kLanes));
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t n = 0; n < c.outputs; ++n) bias_[static_cast<size_t>(n)] = uniform(random);
  }

  std::vector<float> run(const KernelTable& table) const {
    const int64_t columns = shape_.blocks() * hokku::kLanes / (case_.epilogue == Epilogue::swiglu ? 2 : 1);
    std::vector<float> out(static_cast<size_t>(case_.rows * columns), 0.25f);
    const int64_t middle = shape_.blocks() / 4 * 2;
    for (const auto& [begin, end] : {std::pair{int64_t{0}, middle}, std::pair{middle, shape_.blocks()}}) {
      const LinearTask task{&operand_,  &weight_, case_.rows,   begin,         end,
                            out.data(), columns,  bias_.data(), case_.epilogue};
      switch (case_.format) {
        case WeightFormat::int8: table.linear_int8(task); break;
        case WeightFormat::int4: table.linear_int4(task); break;
        case WeightFormat::bf16: table.linear_bf16(task); break;
      }
    }
    return out;
  }

 private:
  void pack_weights(std::mt19937& random) {
    std::vector<float> values(static_cast<size_t>(case_.outputs * case_.inputs));
    std::normal_distribution<float> normal;
    for (float& value : values) value = normal(random);
    codes_ = Memory(static_cast<size_t>(shape_.code_bytes(case_.format)));
    scale_ = Memory(static_cast<size_t>(shape_.scale_count()) * sizeof(float));
    gscale_ = Memory(static_cast<size_t>(shape_.group_count()) * sizeof(uint16_t));
    gmin_ = Memory(static_cast<size_t>(shape_.group_count()) * sizeof(uint16_t));
    weight_ = {case_.format, case_.outputs, case_.inputs, shape_.depth(), case_.segments, codes_.as<uint8_t>(),
               scale_.as<float>(), gscale_.as<uint16_t>(), gmin_.as<uint16_t>()};
    switch (case_.format) {
      case WeightFormat::int8: pack_int8(values.data(), shape_, codes_.as<uint8_t>(), scale_.as<float>()); break;
      case WeightFormat::int4:
        pack_int4(values.data(), shape_, false, codes_.as<uint8_t>(), gscale_.as<uint16_t>(), gmin_.as<uint16_t>());
        break;
      case WeightFormat::bf16: pack_bf16(values.data(), shape_, codes_.as<uint16_t>()); break;
    }
  }

  // Every fifth row holds nothing but ±127, the largest codes.
  void encode_rows(std::mt19937& random) {
    const int64_t rows = round_up(case_.rows, 32), depth = shape_.depth();
    const int64_t groups = case_.format == WeightFormat::int4 ? shape_.groups() : case_.segments;
    data_ = Memory(static_cast<size_t>(rows * depth * 2));
    row_scale_ = Memory(static_cast<size_t>(rows * groups) * sizeof(float));
    row_sum_ = Memory(static_cast<size_t>(rows * groups) * sizeof(int32_t));
    operand_ = {static_cast<hokku::OperandFormat>(case_.format), case_.inputs, depth, case_.segments, data_.as<uint8_t>(),
                row_scale_.as<float>(), row_sum_.as<int32_t>()};
    std::uniform_int_distribution<int> code(-127, 127);
    for (int64_t m = 0; m < case_.rows; ++m) {
      for (int64_t g = 0; g < groups; ++g) {
        row_scale_.as<float>()[m * groups + g] = 0.02f + 1e-4f * static_cast<float>(code(random));
      }
      for (int64_t k = 0; k < case_.inputs; ++k) {
        const int drawn = code(random);
        const int value = m % 5 != 0 ? drawn : drawn < 0 ? -127 : 127;
        if (case_.format == WeightFormat::bf16) {
          const float exact = static_cast<float>(value) / 64;
          uint32_t bits;
          std::memcpy(&bits, &exact, sizeof bits);
          data_.as<uint16_t>()[m * depth + k] = static_cast<uint16_t>(bits >> 16);
        } else {
          data_.as<int8_t>()[m * depth + k] = static_cast<int8_t>(value);
          row_sum_.as<int32_t>()[m * groups + k * groups / depth] += value;
        }
      }
    }
  }

  const Case case_;
  const hokku::PackedShape shape_;
  Memory codes_, scale_, gscale_, gmin_, data_, row_scale_, row_sum_;
  hokku::Weight weight_{};
  hokku::Operand operand_{};
  std::vector<float> bias_;
};

// Activations are below 2 and weights of unit spread: sums err by K roundings of a magnitude below 4 K, and swiglu
// multiplies two of them.
float tolerance(const Case& c) {
  if (c.format != WeightFormat::bf16) return 0.0f;
  const auto inputs = static_cast<float>(c.inputs);
  const float sum_error = inputs * 0x1p-24f * 4 * inputs;
  return c.epilogue == Epilogue::swiglu ? sum_error * 8 * inputs : sum_error;
}

bool agree(const Case& c, const KernelTable& table, const std::vector<float>& expected,
           const std::vector<float>& actual) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::fabs(actual[i] - expected[i]) <= tolerance(c)) continue;
    std::printf("%s: format %d, epilogue %d, %lld x %lld x %lld in %lld segments: %g instead of %g at %zu\n", table.name,
                static_cast<int>(c.format), static_cast<int>(c.epilogue), static_cast<long long>(c.rows),
                static_cast<long long>(c.inputs), static_cast<long long>(c.outputs), static_cast<long long>(c.segments),
                static_cast<double>(actual[i]), static_cast<double>(expected[i]), i);
    return false;
  }
  return true;
}

bool check(const Case& c, std::mt19937& random) {
  const Linear linear(c, random);
  const std::vector<float> expected = linear.run(*hokku::choose_table("portable").table);
  bool good = true;
  for (const KernelTable* table : hokku::available_tables()) {
    good = agree(c, *table, expected, linear.run(*table)) && good;
  }
  return good;
}

}  // namespace

int main() {
  std::mt19937 random(1);
  int failures = 0, cases = 0;
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4, WeightFormat::bf16}) {
    for (const Epilogue epilogue : {Epilogue::store, Epilogue::accumulate, Epilogue::swiglu}) {
      for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 11, 16, 17, 33, 70}) {
        for (const int64_t inputs : {1, 33, 200, 1100}) {
          for (const int64_t outputs : {1, 50, 96}) {
            const int64_t whole = epilogue == Epilogue::swiglu ? round_up(outputs, 32) : outputs;
            failures += check({format, epilogue, rows, inputs, whole}, random) ? 0 : 1;
            ++cases;
          }
        }
        if (format != WeightFormat::int8) continue;
        for (const auto& [inputs, segments] : {std::pair{200, 4}, std::pair{1100, 3}, std::pair{1100, 18}}) {
          failures += check({format, epilogue, rows, inputs, 96, segments}, random) ? 0 : 1;
          ++cases;
        }
      }
    }
  }
  std::printf("linears: %d cases,", cases);
  for (const KernelTable* table : hokku::available_tables()) std::printf(" %s", table->name);
  std::printf(": %d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
