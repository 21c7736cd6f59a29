// Spinning is bounded everywhere. The bounds are in pause instructions, of 10 to 40 nanoseconds each.
#include "threads.h"

#include <stdexcept>

namespace hokku {
namespace {

// Longer than one operation that a single worker does (drawing a token: 0.1 ms), shorter than a time slice: who yields
// on a busy machine may wait for a whole slice of somebody else.
constexpr int kSpinsBeforeYield = 8000;
// From the end of a step to the start of the next, when the engine has its next batch ready.
constexpr int kSpinsBeforeSleep = 4000;

void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

void Barrier::wait() noexcept {
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_workers_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
    if (spins < kSpinsBeforeYield) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads), barrier_(num_threads) {
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

void ThreadPool::stop() noexcept {
  job_ = nullptr;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(Job& job) {
  const std::lock_guard<std::mutex> lock(one_job_);
  job_ = &job;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  job.work(0);
  barrier_.wait();
}

void ThreadPool::serve(int worker) noexcept {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; spins < kSpinsBeforeSleep && generation_.load(std::memory_order_acquire) == seen; ++spins) {
      pause();
    }
    generation_.wait(seen, std::memory_order_acquire);
    seen = generation_.load(std::memory_order_acquire);
    if (job_ == nullptr) return;
    job_->work(worker);
    barrier_.wait();
  }
}

}  // namespace hokku
