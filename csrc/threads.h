// The pool of workers that walk a step's operations together.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace hokku {

// Where all workers of a step meet between two operations. Spins, then gives the core away: a step has some hundred
// meetings of a few microseconds each, and must still advance when there are more workers than free cores.
class Barrier {
 public:
  explicit Barrier(int num_workers) : num_workers_(num_workers) {}
  void wait() noexcept;

 private:
  const int num_workers_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

// What every worker does in one step. Nothing in it may throw.
class Job {
 public:
  virtual void work(int worker) noexcept = 0;

 protected:
  ~Job() = default;
};

// `num_threads` workers, of which the caller of `run` is number 0.
class ThreadPool {
 public:
  // Throws std::invalid_argument for less than one thread, std::system_error when the system has none left.
  explicit ThreadPool(int num_threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int num_threads() const { return num_threads_; }
  Barrier& barrier() { return barrier_; }
  // Runs job.work(i) on every worker i and returns when all have. One job at a time; a second caller waits.
  void run(Job& job);

 private:
  void stop() noexcept;
  void serve(int worker) noexcept;

  const int num_threads_;
  Barrier barrier_;
  std::mutex one_job_;
  Job* job_ = nullptr;  // null in the last generation: go home
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::vector<std::thread> threads_;
};

}  // namespace hokku
