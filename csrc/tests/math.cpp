// The functions of simd/math.inl against double precision, over all their range. Every path computes them with the
// same operations, so the portable vectors stand for all.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "kernels.h"

namespace {

using namespace hokku;
#include "simd/portable.inl"
#include "simd/math.inl"

float exp_of(float x) { return exp(set1(x)).lane[0]; }

// Distance in units in the last place of the float nearest to `wanted`.
double ulps(float got, double wanted) {
  const float nearest = static_cast<float>(wanted);
  const double ulp = static_cast<double>(std::nextafterf(nearest, INFINITY)) - static_cast<double>(nearest);
  return std::fabs(static_cast<double>(got) - wanted) / ulp;
}

bool exp_is_accurate() {
  double worst = 0;
  for (double x = -87.3; x <= 88.0; x += 1.37e-4) {
    const float point = static_cast<float>(x);
    worst = std::max(worst, ulps(exp_of(point), std::exp(static_cast<double>(point))));
  }
  std::printf("exp: at most %.2f units in the last place\n", worst);
  return worst <= 1.0;
}

bool exp_is_exact_where_it_matters() {
  return exp_of(0.0f) == 1.0f && exp_of(-0.0f) == 1.0f && exp_of(-87.4f) == 0.0f && exp_of(-INFINITY) == 0.0f &&
         std::isfinite(exp_of(INFINITY)) && exp_of(INFINITY) == exp_of(88.0f);
}

// 1 + e^-x and the division each add half a unit; from -20 on e^-x carries the error of exp.
bool silu_is_accurate() {
  double worst = 0;
  for (double x = -20; x <= 20; x += 1.1e-4) {
    const float point = static_cast<float>(x);
    const double wanted = static_cast<double>(point) / (1.0 + std::exp(-static_cast<double>(point)));
    if (point != 0.0f) worst = std::max(worst, ulps(silu(set1(point)).lane[0], wanted));
  }
  std::printf("silu: at most %.2f units in the last place\n", worst);
  return worst <= 4.0;
}

// The exponent, some 12 roundings of up to 40, is off by a few millionths, and so is the tail that it makes; where the
// tail is nothing beside 1, the quotient is as good as silu's.
bool gelu_is_accurate() {
  double worst = 0;
  for (double x = -12; x <= 12; x += 1.1e-4) {
    const double point = static_cast<double>(static_cast<float>(x));
    const double inner = std::sqrt(2.0 / M_PI) * (point + 0.044715 * point * point * point);
    const double wanted = point / (1.0 + std::exp(-2.0 * inner));
    const double got = static_cast<double>(gelu(set1(static_cast<float>(x))).lane[0]);
    worst = std::max(worst, std::fabs(got - wanted) / std::max(std::fabs(wanted), 1e-30));
  }
  const bool ends = gelu(set1(1e20f)).lane[0] == 1e20f && std::fabs(gelu(set1(-1e20f)).lane[0]) < 1e-15f;
  std::printf("gelu: within %.2g of itself\n", worst);
  return worst <= 4e-5 && ends;
}

// Every half-precision number, against its definition: (-1)^s * 2^(e-15) * 1.m, and 2^-14 * 0.m where e = 0.
bool halves_are_exact() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>((bits >> 10) & 31u), mantissa = static_cast<int>(bits & 1023u);
    if (exponent == 31) continue;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    const float got = f16_value(static_cast<uint16_t>(bits));
    if (static_cast<double>(std::fabs(got)) != magnitude || std::signbit(got) != ((bits & 0x8000u) != 0)) return false;
  }
  return true;
}

// Rounding to bf16: the neighbours of every value's midpoint go down and up, the midpoint to the even one.
bool bf16_rounds_to_nearest_even() {
  for (uint32_t high = 0; high < 0x7F7F; ++high) {
    const auto rounded = [&](uint32_t low) { return bf16_bits(__builtin_bit_cast(float, high << 16 | low)); };
    if (rounded(0) != high || rounded(0x7FFF) != high || rounded(0x8001) != high + 1) return false;
    if (rounded(0x8000) != high + (high & 1u)) return false;
  }
  const uint16_t nan = bf16_bits(NAN);
  return (nan & 0x7F80u) == 0x7F80u && (nan & 0x7Fu) != 0 && bf16_bits(INFINITY) == 0x7F80u;
}

int check(bool holds, const char* what) {
  std::printf("%s %s\n", holds ? "ok  " : "FAIL", what);
  return holds ? 0 : 1;
}

}  // namespace

int main() {
  return check(exp_is_accurate(), "exp within 1 unit in the last place") +
         check(exp_is_exact_where_it_matters(), "exp at 0, below and above its range") +
         check(silu_is_accurate(), "silu within 4 units in the last place") +
         check(gelu_is_accurate(), "gelu within 4e-5 of itself, and at both ends") +
         check(halves_are_exact(), "half precision widened exactly") +
         check(bf16_rounds_to_nearest_even(), "bf16 rounded to nearest even");
}
