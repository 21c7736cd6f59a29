// Each worker repeats one piece of work until its time is up; the rate is the work of all over the time of all.
#include "peaks.h"

#include <atomic>
#include <chrono>
#include <cstring>

#include "memory.h"

namespace hokku {
namespace {

using Clock = std::chrono::steady_clock;

// A worker's share of the buffer that is read: with two of them already beyond most third-level caches.
constexpr int64_t kReadFloats = int64_t{48} << 20;
// Read between two looks at the clock.
constexpr int64_t kReadChunk = int64_t{1} << 20;
// Weights and activations of 16 KB each: both stay in the first-level cache.
constexpr int64_t kRows = 32, kOutputs = 32, kInputs = 512;

class Timed final : public Job {
 public:
  using Work = double (*)(const KernelTable&, int worker, int64_t turn, void* state);
  Timed(const KernelTable& table, Work piece, void* state, double seconds)
      : table_(table), piece_(piece), state_(state), seconds_(seconds) {}
  void work(int worker) noexcept override {
    double done = 0;
    for (int64_t turn = 0; elapsed() < seconds_; ++turn) done += piece_(table_, worker, turn, state_);
    total_.fetch_add(done, std::memory_order_relaxed);
  }
  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double total() const { return total_.load(std::memory_order_relaxed); }

 private:
  const KernelTable& table_;
  const Work piece_;
  void* const state_;
  const double seconds_;
  const Clock::time_point start_ = Clock::now();
  std::atomic<double> total_{0};
};

double rate(ThreadPool& threads, const KernelTable& table, Timed::Work piece, void* state, double seconds) {
  Timed job(table, piece, state, seconds);
  threads.run(job);
  return job.total() / job.elapsed();
}

// Keeps a result from being thought useless.
void use(float value) { asm volatile("" : : "g"(value) : "memory"); }

double read_chunk(const KernelTable& table, int worker, int64_t turn, void* state) {
  const float* share = static_cast<const float*>(state) + worker * kReadFloats;
  use(table.read_all(share + turn * kReadChunk % kReadFloats, kReadChunk));
  return static_cast<double>(kReadChunk) * sizeof(float);
}

double multiply_add(const KernelTable& table, int, int64_t, void*) {
  constexpr int64_t rounds = 100'000;
  use(table.multiply_add(rounds));
  return 2.0 * kLanes * kFmaChains * static_cast<double>(rounds);
}

double small_linear(const KernelTable& table, int, int64_t, void* state) {
  const LinearTask& shared = *static_cast<const LinearTask*>(state);
  alignas(64) float out[kRows * kOutputs];
  LinearTask task = shared;
  task.out = out;
  for (int i = 0; i < 100; ++i) table.linear_int8(task);
  return 100 * 2.0 * kRows * kOutputs * kInputs;
}

double int8_rate(ThreadPool& threads, const KernelTable& table, double seconds) {
  const Memory codes(kOutputs * kInputs), scale(kOutputs * sizeof(float)), data(kRows * kInputs);
  const Memory row_scale(kRows * sizeof(float)), row_sum(kRows * sizeof(int32_t));
  std::memset(codes.as<uint8_t>(), 128, codes.bytes());
  const Weight weight{WeightFormat::int8, kOutputs, kInputs, kInputs, 1, codes.as<uint8_t>(), scale.as<float>(),
                      nullptr, nullptr};
  const Operand operand{OperandFormat::int8_segment, kInputs, kInputs, 1, data.as<uint8_t>(), row_scale.as<float>(),
                        row_sum.as<int32_t>()};
  LinearTask task{&operand, &weight, kRows, 0, kOutputs / kLanes, nullptr, kOutputs, nullptr, Epilogue::store};
  return rate(threads, table, &small_linear, &task, seconds);
}

double read_rate(ThreadPool& threads, const KernelTable& table, double seconds) {
  const Memory memory(static_cast<size_t>(threads.num_threads() * kReadFloats) * sizeof(float));
  std::memset(memory.as<char>(), 1, memory.bytes());
  return rate(threads, table, &read_chunk, memory.as<float>(), seconds);
}

}  // namespace

Peaks measure_peaks(ThreadPool& threads, const KernelTable& table, double seconds) {
  const double third = seconds / 3;
  return {read_rate(threads, table, third) * 1e-9, int8_rate(threads, table, third) * 1e-12,
          rate(threads, table, &multiply_add, nullptr, third) * 1e-12};
}

}  // namespace hokku
