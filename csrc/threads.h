// The pool of workers that walk a step's operations together.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace hokku {

// A sequence of stages, each cut into parts. Workers walk the stages in order; a stage's parts are done once each, by its
// own worker or, if that one has lost its core to somebody else, by whoever is done with his own. So nobody waits for a
// worker that holds no part.
class Stages {
 public:
  Stages(size_t num_stages, int num_parts);
  int num_parts() const { return num_parts_; }

  // Does what is left of a stage, part number `worker` first, and returns when all of its parts are done. Everybody who
  // walks must have returned from the stage before.
  template <class DoPart>
  void walk(size_t stage, int worker, const DoPart& do_part) noexcept {
    for (int turn = 0; turn < num_parts_; ++turn) {
      const int part = (worker + turn) % num_parts_;
      if (!begin(stage, part)) continue;
      do_part(part);
      end_part(stage);
    }
    wait(stage);
  }

 private:
  struct alignas(64) Count {
    std::atomic<uint32_t> parts{0};
  };
  // Whether the part is the caller's to do.
  bool begin(size_t stage, int part) noexcept {
    std::atomic<bool>& begun = begun_[stage * static_cast<size_t>(num_parts_) + static_cast<size_t>(part)];
    return !begun.load(std::memory_order_relaxed) && !begun.exchange(true, std::memory_order_relaxed);
  }
  void end_part(size_t stage) noexcept;
  void wait(size_t stage) noexcept;

  const int num_parts_;
  std::vector<std::atomic<bool>> begun_;
  std::vector<Count> done_;
};

// What the workers do in one step. Nothing in it may throw.
class Job {
 public:
  // Worker 0 does this once; each other one at most once: not if all was done before it came.
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
  // Opens the job to all workers, does job.work(0), and returns when everybody who had come has left. One job at a time;
  // a second caller waits.
  void run(Job& job);

 private:
  void open(Job* job) noexcept;
  void stop() noexcept;
  void serve(int worker) noexcept;

  const int num_threads_;
  std::mutex one_job_;
  Job* job_ = nullptr;  // with the pool open: null says go home
  alignas(64) std::atomic<uint32_t> generation_{0};  // odd while a job is open
  alignas(64) std::atomic<uint32_t> inside_{0};      // workers that may touch the job
  std::vector<std::thread> threads_;
};

}  // namespace hokku
