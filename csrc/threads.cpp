// Spinning is bounded everywhere. The bounds are in pause instructions, of 10 to 40 nanoseconds each.
#include "threads.h"

#include <stdexcept>

namespace hokku {
namespace {

// Within a step: longer than one operation that a single worker does (drawing a token: 0.1 ms). Whoever is later than that
// has lost its core in the middle of a part; those who wait then sleep, so that the system sees a free core to move it to.
constexpr int kSpinsWithinStep = 8000;
// From the end of a step to the start of the next, when the engine has its next batch ready.
constexpr int kSpinsBetweenSteps = 4000;

void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns once `value` is `wanted`: spinning first, then asleep until somebody notifies.
void wait_until(std::atomic<uint32_t>& value, uint32_t wanted) noexcept {
  for (int spins = 0; spins < kSpinsWithinStep; ++spins) {
    if (value.load(std::memory_order_acquire) == wanted) return;
    pause();
  }
  for (uint32_t seen; (seen = value.load(std::memory_order_acquire)) != wanted;) {
    value.wait(seen, std::memory_order_acquire);
  }
}

}  // namespace

Stages::Stages(size_t num_stages, int num_parts)
    : num_parts_(num_parts), begun_(num_stages * static_cast<size_t>(num_parts)), done_(num_stages) {}

void Stages::end_part(size_t stage) noexcept {
  std::atomic<uint32_t>& done = done_[stage].parts;
  if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(num_parts_)) done.notify_all();
}

void Stages::wait(size_t stage) noexcept { wait_until(done_[stage].parts, static_cast<uint32_t>(num_parts_)); }

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads) {
  if (num_threads < 1) throw std::invalid_argument("num_threads: must be at least 1");
  threads_.reserve(static_cast<size_t>(num_threads - 1));
  try {
    for (int worker = 1; worker < num_threads; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::open(Job* job) noexcept {
  job_ = job;
  generation_.fetch_add(1, std::memory_order_seq_cst);
  generation_.notify_all();
}

void ThreadPool::stop() noexcept {
  open(nullptr);
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(Job& job) {
  const std::lock_guard<std::mutex> lock(one_job_);
  open(&job);
  job.work(0);
  // Either a newcomer sees here that the job is closed, or it is seen inside below: one total order over both variables.
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (inside_.load(std::memory_order_seq_cst) != 0) wait_until(inside_, 0);
}

void ThreadPool::serve(int worker) noexcept {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; spins < kSpinsBetweenSteps && generation_.load(std::memory_order_acquire) == seen; ++spins) {
      pause();
    }
    generation_.wait(seen, std::memory_order_acquire);
    seen = generation_.load(std::memory_order_acquire);
    if (seen % 2 == 0) continue;  // closed before we came
    inside_.fetch_add(1, std::memory_order_seq_cst);
    bool goes_home = false;
    if (generation_.load(std::memory_order_seq_cst) == seen) {
      goes_home = job_ == nullptr;
      if (!goes_home) job_->work(worker);
    }
    if (inside_.fetch_sub(1, std::memory_order_acq_rel) == 1) inside_.notify_all();
    if (goes_home) return;
  }
}

}  // namespace hokku
